"""AdaRound on the deployed graph: rounding is chosen so that layers answer as in float; only integers and biases move."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from compress.context import Skipped, Target
from compress.graph.agreement import agreement
from compress.graph.module import load
from compress.graph.reading import read
from compress.quantization import parts
from compress.runtime import predictor
from compress.stages.adaround import AdaRound, _answers, _gather, _patches, layers_of
from compress.stages.quantize import Quantize
from tests.small_graphs import Attention, GlyphData, Mobile, Recurrent, Squeeze, built, context, exported, feeds, replaced, trained

FEW = Target(weight_levels=16)
QUICK = AdaRound(samples=128, patches=2048, iterations=120)
NETS = {"recurrent": (Recurrent, (2,), 60), "mobile": (Mobile, (0,), 120), "squeeze": (Squeeze, (0,), 60)}


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """Every network at 16 levels: (float file, quantized file, data)."""
    folder, made = tmp_path_factory.mktemp("adaround"), {}
    for name, (kind, lengths, steps) in NETS.items():
        data = GlyphData(lengths)
        graph = exported(trained(built(kind), data, steps=steps), data, folder / name / "model.onnx")
        given = Quantize(method="minmax", samples=64).apply(graph, context(folder / name / "quantize", data, target=FEW))
        made[name] = (graph, given, data)
    return made


def repair(quantized, name, folder, **changes):
    _, given, data = quantized[name]
    return QUICK.apply(given, context(folder / "adaround", replaced(data, **changes), target=FEW))


@pytest.fixture(scope="module")
def repaired(quantized, tmp_path_factory):
    """Every network after the stage."""
    return {name: repair(quantized, name, tmp_path_factory.mktemp(name)) for name in NETS}


@pytest.mark.parametrize("name", NETS)
def test_answers_come_closer_to_the_float_network(quantized, repaired, name):
    graph, given, data = quantized[name]
    found = repaired[name]
    expected = [predictor(graph)(feed)["logits"] for feed in feeds(data, "test")]
    errors = [
        sum(
            float(np.square(predictor(path)(feed)["logits"] - right).sum())
            for feed, right in zip(feeds(data, "test"), expected, strict=True)
        )
        for path in (given, found)
    ]
    assert errors[1] < 0.8 * errors[0]


def test_a_network_that_few_levels_broke_decides_as_the_float_one_again(quantized, repaired):
    """Held against the float network's own decisions: what a short training happens to score differs from machine to machine."""
    graph, given, data = quantized["mobile"]
    float_says, given_says, repaired_says = (
        np.concatenate([predictor(path)(feed)["logits"].argmax(-1).ravel() for feed in feeds(data, "test")])
        for path in (graph, given, repaired["mobile"])
    )
    broken, left = (float(np.mean(says != float_says)) for says in (given_says, repaired_says))
    assert broken > 0.02  # there is something to repair
    assert left < 0.5 * broken


def test_only_weights_and_biases_move_and_weights_by_one_level_at_most(quantized, repaired):
    _, given, _ = quantized["mobile"]
    before, after = read(parts(given).static), read(parts(repaired["mobile"]).static)
    assert before.nodes == after.nodes
    weights, biases = ({item.name for item in group.values()} for group in (before.weights, before.biases))
    moved = {name for name, value in before.initializers.items() if not np.array_equal(value, after.initializers[name])}
    assert moved & weights and moved <= weights | biases
    for name in moved & weights:
        change = after.initializers[name].astype(int) - before.initializers[name]
        assert np.abs(change).max() == 1 and after.initializers[name].min() >= -8 and after.initializers[name].max() <= 7


def test_the_repaired_simulation_still_says_what_the_runtime_says(quantized, repaired):
    for name in NETS:
        static = parts(repaired[name]).static
        found = agreement(load(static, levels=16), static, feeds(quantized[name][2], "test"))
        assert found["decisions_differ"] <= 0.002 and found["max_steps"] <= 2.0


def test_labels_are_not_looked_at_and_the_same_call_gives_the_same_bytes(quantized, repaired, tmp_path):
    seen, blind = repaired["squeeze"], repair(quantized, "squeeze", tmp_path, labelled=False)
    assert seen.read_bytes() == blind.read_bytes()
    assert parts(seen).float.read_bytes() == parts(quantized["squeeze"][1]).float.read_bytes()


@pytest.mark.parametrize("name", NETS)
def test_a_layers_patches_times_its_weights_are_its_answers(quantized, name):
    """The matrix product that is optimised is the layer: padding, stride, groups and all."""
    _, given, data = quantized[name]
    floats = load(parts(given).float)
    module, per = load(parts(given).static, floats=parts(given).float, levels=16), 5
    feed = {"image": torch.from_numpy(feeds(data, limit=16)[0]["image"])}
    layers = list(layers_of(module, floats))
    assert len(layers) == {"recurrent": 4, "mobile": 12, "squeeze": 6}[name]
    for layer in layers:
        twin = next(node for node in floats.graph.nodes if node.name == layer.node.name)
        with torch.no_grad():
            values = floats(feed, until={twin.inputs[0], layer.output})
            rows = _patches(layer, module, values[twin.inputs[0]], per, 3)
            weight = layer._arranged(floats.tensors[floats.places[twin.inputs[1]]])
            bias = floats.tensors[floats.places[twin.inputs[2]]].reshape(layer.groups, -1) if layer.has_bias else 0.0
            found = torch.einsum("pgk,gok->pgo", rows, weight) + bias
            expected = _answers(layer, values[layer.output], per, 3)
        assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


def test_inputs_are_what_the_quantized_graph_feeds_a_layer(quantized):
    _, given, data = quantized["mobile"]
    module = load(parts(given).static, floats=parts(given).float, levels=16)
    layer = list(layers_of(module, load(parts(given).float)))[1]
    rows = _gather(module, layer, layer.node.inputs[0], feeds(data, limit=16), 5, 0)
    maker = module.graph.makers()[layer.node.inputs[0]]
    step = float(module.graph.initializers[maker.inputs[1]])
    assert torch.allclose(rows / step, (rows / step).round(), atol=1e-3)  # on the grid of its quantizer


def test_what_has_no_constant_scales_is_skipped(tmp_path):
    data = GlyphData((2,))
    graph = exported(built(Attention), data, tmp_path / "model.onnx")
    given = Quantize(method="minmax", samples=16).apply(graph, context(tmp_path / "quantize", data))
    with pytest.raises(Skipped, match="dynamically"):
        QUICK.apply(given, context(tmp_path / "adaround", data))


def test_an_operator_outside_the_table_skips_the_stage_and_is_named(quantized, tmp_path):
    _, given, data = quantized["squeeze"]
    found = parts(given)
    folder = tmp_path / "odd"
    folder.mkdir()
    for path in (found.float, found.static, found.shipped):
        model = onnx.load(path)
        for node in model.graph.node:
            if node.op_type in ("HardSwish", "HardSigmoid"):
                node.op_type = "Softsign"
        (folder / path.name).write_bytes(model.SerializeToString())
    with pytest.raises(Skipped, match="operator Softsign"):
        QUICK.apply(folder / "model.onnx", context(tmp_path / "adaround", data, target=FEW))
