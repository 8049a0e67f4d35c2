"""Quantization-aware training of the shipped graph: it learns, stays the same graph, resumes exactly, and its control is honest."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest

from compress.context import Silent, Skipped, Target
from compress.fusion import left_float
from compress.graph.agreement import agreement
from compress.graph.module import load
from compress.graph.reading import read
from compress.quantization import Parts, parts
from compress.runtime import predictor
from compress.stages.qat import FloatControl, Qat, teacher_for
from compress.stages.quantize import Quantize
from rules.problems import Problem
from tests.small_graphs import Attention, GlyphData, Mobile, Plain, Recurrent, Squeeze, built, context, exported, feeds, replaced, trained

FEW = Target(weight_levels=16)
QUICK = Qat(steps=60, batch_size=16, evaluations=2, val_limit=64)
NETS = {"recurrent": (Recurrent, (2,), 60), "mobile": (Mobile, (0,), 120), "squeeze": (Squeeze, (0,), 60)}


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """Every network at 16 levels: (float file, quantized file, data)."""
    folder, made = tmp_path_factory.mktemp("qat"), {}
    for name, (kind, lengths, steps) in NETS.items():
        data = GlyphData(lengths)
        graph = exported(trained(built(kind), data, steps=steps), data, folder / name / "model.onnx")
        given = Quantize(method="minmax", samples=64).apply(graph, context(folder / name / "quantize", data, target=FEW))
        made[name] = (graph, given, data)
    return made


@pytest.fixture(scope="module")
def learned(quantized, tmp_path_factory):
    """The quantized files after training."""
    folder = tmp_path_factory.mktemp("learned")
    return {name: QUICK.apply(given, context(folder / name, data, target=FEW)) for name, (_, given, data) in quantized.items()}


def probabilities(path, feed):
    logits = predictor(path)(feed)["logits"].astype(np.float64)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def distance(path, graph, data):
    """Mean divergence of the answers from those of the float file."""
    pairs = [(probabilities(graph, feed), probabilities(path, feed)) for feed in feeds(data, "test")]
    return float(np.mean([(right * np.log(right / found)).sum(-1).mean() for right, found in pairs]))


@pytest.mark.parametrize("name", NETS)
def test_it_learns_to_answer_as_its_float_network(quantized, learned, name):
    graph, given, data = quantized[name]
    assert distance(learned[name], graph, data) < 0.7 * distance(given, graph, data)


def test_it_repairs_what_few_levels_broke(quantized, learned):
    graph, given, data = quantized["mobile"]
    errors = [data.score(predictor(path), "test").value for path in (graph, given, learned["mobile"])]
    assert errors[1] > errors[0] + 0.02 and errors[2] < errors[1] - 0.5 * (errors[1] - errors[0])


@pytest.mark.parametrize("name", NETS)
def test_the_node_list_and_the_kernels_are_those_of_the_quantized_file(quantized, learned, name):
    _, given, _ = quantized[name]
    for part in ("static", "shipped"):
        before, after = (onnx.load(getattr(parts(path), part)).graph.node for path in (given, learned[name]))
        assert list(before) == list(after)
    assert left_float(given) == left_float(learned[name])
    assert abs(learned[name].stat().st_size - given.stat().st_size) <= 16


@pytest.mark.parametrize("name", NETS)
def test_what_was_trained_is_what_ships(learned, quantized, name):
    """Simulation against runtime on the file with constant scales: decisions within 0.2 %, answers within two output steps."""
    static = parts(learned[name]).static
    found = agreement(load(static, levels=16), static, feeds(quantized[name][2], "test", limit=512 if name != "recurrent" else 256))
    assert found["decisions"] >= 512 and found["decisions_differ"] <= 0.002 and found["max_steps"] <= 2.0


def test_weights_biases_step_sizes_and_recurrent_layers_learn_and_zero_points_do_not(quantized, learned):
    _, given, _ = quantized["recurrent"]
    before, after = (read(parts(path).static) for path in (given, learned["recurrent"]))
    moved = {name for name, value in before.initializers.items() if not np.array_equal(value, after.initializers[name])}
    weights = {weight.name for weight in before.weights.values() if weight.product}
    scales = {weight.scale for weight in before.weights.values()} | {node.inputs[1] for node in before.quantizers}
    recurrent = {name for node in before.nodes if node.op == "LSTM" for name in node.inputs[1:4]}
    points = {node.inputs[2] for node in before.quantizers} | {weight.zero_point for weight in before.weights.values()}
    assert weights <= moved and scales <= moved and recurrent <= moved and len(recurrent) == 6
    assert not points & moved
    assert all(after.initializers[name].min() >= -8 and after.initializers[name].max() <= 7 for name in weights)


def test_the_loss_and_the_validation_score_are_reported(quantized, tmp_path):
    _, given, data = quantized["squeeze"]
    ctx = context(tmp_path / "qat", data, target=FEW)
    QUICK.apply(given, ctx)
    assert {point["stage"] for point in ctx.curves} == {"qat"} and ctx.curves[-1]["step"] == QUICK.steps
    assert len([point for point in ctx.curves if "val" in point]) == QUICK.evaluations


# -- resuming --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As a signal would end a run."""


class KillAt(Silent):
    def __init__(self, step):
        self.at = step

    def step(self, done, note=""):
        if done == self.at:
            raise Killed


def test_a_resumed_training_equals_an_unbroken_one_to_the_byte(quantized, tmp_path, monkeypatch):
    import compress.training

    fit = compress.training.fit
    monkeypatch.setattr(compress.training, "fit", lambda *a, **k: fit(*a, checkpoint_seconds=0.0, **k))  # a checkpoint every step
    _, given, data = quantized["recurrent"]
    short = dataclasses.replace(QUICK, steps=20)
    unbroken = short.apply(given, context(tmp_path / "a" / "qat", data, target=FEW))
    ctx = context(tmp_path / "b" / "qat", data, target=FEW)
    for at in (7, 13):
        ctx.progress = KillAt(at)
        with pytest.raises(Killed):
            short.apply(given, ctx)
    ctx.progress = Silent()
    resumed = short.apply(given, ctx)
    for name in ("static.onnx", "model.onnx"):
        assert (resumed.parent / name).read_bytes() == (unbroken.parent / name).read_bytes()


def test_another_seed_is_another_training(quantized, tmp_path):
    _, given, data = quantized["squeeze"]
    short = dataclasses.replace(QUICK, steps=5, evaluations=1)
    files = [short.apply(given, context(tmp_path / str(seed), data, target=FEW, seed=seed)) for seed in (0, 1)]
    assert files[0].read_bytes() != files[1].read_bytes()


# -- teacher and labels ----------------------------------------------------------------------------------------------


def test_labels_are_not_needed(quantized, tmp_path):
    _, given, data = quantized["squeeze"]
    short = dataclasses.replace(QUICK, steps=5, evaluations=1)
    files = [
        short.apply(given, context(tmp_path / str(labelled), replaced(data, labelled=labelled), target=FEW)) for labelled in (True, False)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_runs_teacher_is_asked_where_its_answers_fit(quantized, tmp_path):
    graph, given, data = quantized["squeeze"]
    other = exported(built(Plain), data, tmp_path / "teacher.onnx")
    wrong = exported(built(Recurrent), GlyphData((2,)), tmp_path / "wrong.onnx")
    probe = feeds(data, limit=16)[0]
    for teacher, prefer, expected in (
        (other, "teacher", other),
        (other, "float", graph),
        (wrong, "teacher", graph),
        (None, "teacher", graph),
    ):
        ask = teacher_for(parts(given).float, context(tmp_path / "c", data, teacher_graph=teacher), prefer=prefer)
        assert np.allclose(ask(probe)["logits"], predictor(expected)(probe)["logits"], atol=1e-4)


def test_a_loss_that_is_no_number_stops_the_stage_and_names_the_batch(quantized, tmp_path):
    _, given, data = quantized["squeeze"]
    ctx = context(tmp_path / "qat", data, target=FEW)

    class Diverging(type(ctx.task)):
        def distil_loss(self, student, teacher, targets, *, temperature):
            return student.sum() * float("nan")

    ctx.task = Diverging()
    with pytest.raises(Problem, match=r"qat: the loss is nan at step 1, on the batch of train-"):
        QUICK.apply(given, ctx)
    assert not Parts(ctx.folder).shipped.exists()


# -- what it does not touch ------------------------------------------------------------------------------------------


def test_what_is_quantized_dynamically_is_skipped(tmp_path):
    data = GlyphData((2,))
    graph = exported(built(Attention), data, tmp_path / "model.onnx")
    given = Quantize(method="minmax", samples=16).apply(graph, context(tmp_path / "quantize", data))
    with pytest.raises(Skipped, match="dynamically"):
        QUICK.apply(given, context(tmp_path / "qat", data))


# -- the control -----------------------------------------------------------------------------------------------------


def test_the_control_trains_the_float_graph_as_long_and_quantizes_it_the_same_way(quantized, tmp_path):
    graph, given, data = quantized["squeeze"]
    control = FloatControl.like(QUICK)
    assert (control.steps, control.batch_size, control.lr) == (QUICK.steps, QUICK.batch_size, QUICK.lr)
    ctx = context(tmp_path / "control", data, target=FEW)
    found = control.apply(graph, ctx)
    assert [node.op for node in read(found).nodes] == [node.op for node in read(given).nodes]
    losses = [point["loss"] for point in ctx.curves if point["stage"] == "float control"]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    tuned, before = predictor(parts(found).float), predictor(graph)
    assert data.score(tuned, "test").value < data.score(before, "test").value  # an under-trained network gains from labels


def test_a_control_that_learns_from_itself_without_labels_changes_nothing_much(quantized, tmp_path):
    graph, _, data = quantized["squeeze"]
    found = FloatControl(steps=10, evaluations=1).apply(graph, context(tmp_path / "control", replaced(data, labelled=False), target=FEW))
    probe = feeds(data, limit=16)[0]
    assert np.allclose(predictor(parts(found).float)(probe)["logits"], predictor(graph)(probe)["logits"], atol=0.3)


def test_settings_outside_their_range_are_refused():
    for wrong in ({"steps": 0}, {"lr": 0.0}, {"temperature": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Qat(**wrong)
