"""Post-training quantization: the right recipe for the graph, the target's own integer format, and nothing heavy left float unseen."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

from compress.context import Skipped, Target
from compress.fusion import left_float
from compress.graph.reading import read
from compress.quantization import Parts, Samples, best_steps, parts, prepare
from compress.recurrent import dynamic_lstm
from compress.runtime import predictor
from compress.stages.fp16 import Fp16
from compress.stages.quantize import Quantize, badness
from rules.examples import Metric
from rules.problems import Problem
from tests.clipping_for_tests import clips, exact
from tests.small_graphs import (
    Attention,
    GlyphData,
    Mobile,
    Recurrent,
    built,
    context,
    exported,
    feeds,
    replaced,
    trained,
)

QUICK = Quantize(method="minmax", samples=32)
LINES, IMAGES = GlyphData((2,)), GlyphData((0,))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantize")
    return {
        "recurrent": exported(trained(built(Recurrent), LINES, steps=50), LINES, folder / "recurrent.onnx"),
        "mobile": exported(trained(built(Mobile), IMAGES, steps=60), IMAGES, folder / "mobile.onnx"),
        "attention": exported(built(Attention), LINES, folder / "attention.onnx"),
        "convolutional attention": exported(built(Attention, convolutions=True), LINES, folder / "mixed.onnx"),
    }


def data_of(name):
    return IMAGES if name == "mobile" else LINES


def quantized(graphs, name, folder, *, target=None, stage=QUICK):
    return stage.apply(graphs[name], context(folder / "quantize", data_of(name), target=target))


def weights_of(path):
    graph = read(path)
    return [graph.initializers[weight.name] for weight in graph.weights.values() if weight.product]


# -- recipes ---------------------------------------------------------------------------------------------------------


def test_a_recurrent_net_runs_in_integers_throughout(graphs, tmp_path):
    shipped = quantized(graphs, "recurrent", tmp_path)
    report = left_float(shipped)
    assert not report.float
    assert report.int8 == {"QLinearConv": 3, "MatMulIntegerToFloat": 1, "DynamicQuantizeLSTM": 2}
    assert shipped.stat().st_size < 0.4 * graphs["recurrent"].stat().st_size


def test_it_still_reads_what_the_float_net_reads(graphs, tmp_path):
    for name in ("recurrent", "mobile"):
        shipped = quantized(graphs, name, tmp_path / name, target=exact())
        scores = [data_of(name).score(predictor(path), "test").value for path in (graphs[name], shipped)]
        assert scores[0] < 0.6 and abs(scores[1] - scores[0]) < 0.03  # far from guessing (0.9), and close to each other


def test_attention_runs_constant_products_dynamically_and_leaves_products_of_activations_float(graphs, tmp_path):
    shipped = quantized(graphs, "attention", tmp_path)
    report = left_float(shipped)
    assert report.int8 == {"DynamicQuantizeMatMul": 5}
    products = [node for node in report.float if node.op in ("MatMul", "FusedMatMul")]
    assert {node.reason for node in products} == {"both operands are activations: left float"} and len(products) == 2
    assert [node.name for node in report.float if "Conv" in node.op] == ["/embed/Conv"]
    with pytest.raises(Skipped, match="dynamically"):
        parts(shipped)


def test_attention_with_convolutions_takes_the_faster_of_two_recipes_and_records_it(graphs, tmp_path):
    for faster in ("mixed", "dynamic"):
        ctx = context(tmp_path / faster / "quantize", LINES)
        ctx.latencies = Preferring(faster)
        shipped = QUICK.apply(graphs["convolutional attention"], ctx)
        assert ctx.journal["quantize/recipe"] == faster
        assert left_float(shipped).int8["QLinearConv"] == (2 if faster == "mixed" else 0)
        assert left_float(shipped).int8["DynamicQuantizeMatMul"] == 5


class Preferring:
    """Latencies of a recorded table: one name is fast."""

    def __init__(self, faster):
        self.faster = faster

    def paired(self, graphs, feeds, *, threads):
        return {name: 1.0 if name == self.faster else 2.0 for name in graphs}


class LastStep(nn.Module):
    """A recurrent classifier whose head is a Gemm beside the LSTM."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(16, 12), nn.Linear(12, 10)

    def forward(self, image):
        return self.head(self.lstm(image.squeeze(1).permute(2, 0, 1))[0][-1])


def test_making_an_lstm_dynamic_leaves_the_integer_gemm_beside_it_alone(tmp_path):
    graph = exported(built(LastStep), IMAGES, tmp_path / "float.onnx")
    shipped = QUICK.apply(graph, context(tmp_path / "quantize", IMAGES))
    assert left_float(shipped).int8 == {"DynamicQuantizeLSTM": 1, "QGemm": 1} and not left_float(shipped).float


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_dynamic_lstm_answers_as_the_float_one(tmp_path, direction):
    net = built(nn.LSTM, input_size=6, hidden_size=5, bidirectional=direction == "bidirectional")
    torch.onnx.export(net, (torch.zeros(4, 2, 6),), str(tmp_path / "lstm.onnx"), dynamo=False, opset_version=17, input_names=["x"])
    model = dynamic_lstm(onnx.load(tmp_path / "lstm.onnx"), reduced=clips())
    (tmp_path / "int8.onnx").write_bytes(model.SerializeToString())
    x = {"x": np.random.default_rng(0).standard_normal((4, 2, 6)).astype(np.float32)}
    expected, found = (next(iter(predictor(tmp_path / name)(x).values())) for name in ("lstm.onnx", "int8.onnx"))
    assert 0 < np.abs(expected - found).max() < 0.02


# -- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "kind", "low", "high"),
    [
        (Target(), np.int8, -127, 127),
        (Target(reduce_range=True), np.int8, -64, 64),
        (Target(weight="uint8", per_channel=False), np.uint8, 0, 255),
        (Target(weight_levels=16), np.int8, -8, 7),
        (Target(weight_levels=16, weight="uint8"), np.uint8, 120, 135),
    ],
)
def test_weights_use_the_levels_of_the_target_and_no_others(graphs, tmp_path, target, kind, low, high):
    found = weights_of(parts(quantized(graphs, "mobile", tmp_path, target=target)).static)
    assert len(found) == 12 and {value.dtype for value in found} == {np.dtype(kind)}
    assert min(value.min() for value in found) >= low and max(value.max() for value in found) <= high
    assert min(value.min() for value in found) <= low + 1 and max(value.max() for value in found) >= high - 1


def test_one_scale_a_tensor_or_one_a_channel_as_the_target_says(graphs, tmp_path):
    for per_channel in (True, False):
        graph = read(parts(quantized(graphs, "mobile", tmp_path / str(per_channel), target=Target(per_channel=per_channel))).static)
        sizes = {graph.initializers[weight.scale].size for weight in graph.weights.values() if weight.product}
        assert (sizes == {1}) != per_channel


def test_symmetric_integers_have_zero_points_of_zero_and_float_biases(graphs, tmp_path):
    graph = read(parts(quantized(graphs, "mobile", tmp_path, target=Target(activation="int8"))).static)
    points = [graph.initializers[node.inputs[2]] for node in graph.quantizers]
    points += [graph.initializers[weight.zero_point] for weight in graph.weights.values()]
    assert points and all(point.dtype == np.int8 and not point.any() for point in points)
    assert not graph.biases


@pytest.mark.parametrize("target", [Target(weight="uint8"), Target(reduce_range=True)])
def test_where_sums_saturate_lstm_weights_keep_to_seven_bits(graphs, tmp_path, target):
    model = onnx.load(quantized(graphs, "recurrent", tmp_path, target=target)).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.initializer}
    weights = [arrays[name] for node in model.node if node.op_type == "DynamicQuantizeLSTM" for name in node.input[1:3]]
    assert len(weights) == 4 and max(np.abs(value.astype(int)).max() for value in weights) == 64


def test_a_target_that_runs_no_integers_skips_the_stage(graphs, tmp_path):
    with pytest.raises(Skipped, match="fp16"):
        quantized(graphs, "mobile", tmp_path, target=Target(precision="fp16"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(-8, 7), (-2, 1), (-127, 127)]), st.sampled_from([None, 0, 1]))
def test_no_other_step_size_on_the_list_loses_less(seed, bounds, axis):
    value = np.random.default_rng(seed).standard_t(3, (3, 4)).astype(np.float32)
    found = best_steps(value, axis, bounds)
    columns = [value.reshape(-1)] if axis is None else list(np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1))
    for step, column in zip(found.reshape(-1), columns, strict=True):
        lost = [
            float(np.square(np.clip(np.round(column / s), *bounds) * s - column).sum()) for s in (step, np.abs(column).max() / bounds[1])
        ]
        assert lost[0] <= lost[1] * (1 + 1e-5) + 1e-12


# -- calibration -----------------------------------------------------------------------------------------------------


def test_two_calibrations_are_scored_and_the_better_is_kept_and_recorded(graphs, tmp_path):
    ctx = context(tmp_path / "quantize", LINES)
    shipped = replace(QUICK, method="auto", examples=64).apply(graphs["recurrent"], ctx)
    scores = {method: ctx.journal[f"quantize/calibration/{method}"] for method in ("minmax", "percentile")}
    kept = ctx.journal["quantize/calibration/kept"]
    assert set(scores) == {"minmax", "percentile"} and scores[kept] == min(scores.values())
    assert shipped.read_bytes() == Parts(ctx.folder / f"static-{kept}").shipped.read_bytes()


@pytest.mark.parametrize("better", ["minmax", "percentile"])
def test_of_two_scores_the_better_decides(graphs, tmp_path, better):
    ctx = context(tmp_path / "quantize", LINES)
    for method in ("minmax", "percentile"):
        ctx.journal.record(f"quantize/calibration/{method}", 0.1 if method == better else 0.2)
    replace(QUICK, method="auto").apply(graphs["recurrent"], ctx)
    assert ctx.journal["quantize/calibration/kept"] == better


def test_a_recorded_choice_is_taken_again_whatever_would_be_measured_now(graphs, tmp_path):
    ctx = context(tmp_path / "quantize", LINES)
    for key, value in {"minmax": 0.0, "percentile": 1.0, "kept": "percentile"}.items():
        ctx.journal.record(f"quantize/calibration/{key}", value)
    shipped = replace(QUICK, method="auto").apply(graphs["recurrent"], ctx)
    assert shipped.read_bytes() == Parts(ctx.folder / "static-percentile").shipped.read_bytes()
    assert shipped.read_bytes() != Parts(ctx.folder / "static-minmax").shipped.read_bytes()


@pytest.mark.parametrize(("better", "expected"), [("lower", 0.1), ("higher", 0.3)])
def test_better_follows_the_direction_of_the_metric(better, expected):
    metric = Metric("m", better)
    assert min([0.1, 0.3, float("nan")], key=lambda value: badness(metric, value)) == expected


def test_calibration_sees_as_many_varied_examples_as_asked_sixteen_at_a_time():
    samples = Samples(GlyphData((2, 3)), 40, seed=0)
    assert len(samples) == 32 and samples.stride == 16
    seen, widths = [], set()
    for start in range(0, len(samples), samples.stride):
        samples.set_range(start, start + samples.stride)
        while (feed := samples.get_next()) is not None:
            seen.append(feed["image"].tobytes())
            widths.add(feed["image"].shape)
        assert len(seen) == start + 16  # no more than a stride is read before the runtime has digested it
    assert len(set(seen)) == 32 and len(widths) == 2


def test_labels_are_not_needed(graphs, tmp_path):
    blind = replaced(LINES, labelled=False)
    found = QUICK.apply(graphs["recurrent"], context(tmp_path / "quantize", blind))
    assert found.read_bytes() == quantized(graphs, "recurrent", tmp_path / "seen").read_bytes()


# -- files -----------------------------------------------------------------------------------------------------------


def test_the_same_call_gives_the_same_bytes_and_says_nothing_on_stdout(graphs, tmp_path, capfd):
    stage = replace(QUICK, method="percentile")
    first, second = (quantized(graphs, "recurrent", tmp_path / name, stage=stage) for name in "ab")
    for name in ("float.onnx", "static.onnx", "model.onnx"):
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()
    assert capfd.readouterr().out == ""


def test_ports_and_dynamic_axes_stay(graphs, tmp_path):
    shipped = onnx.load(quantized(graphs, "recurrent", tmp_path)).graph
    given_ = onnx.load(graphs["recurrent"]).graph
    assert list(shipped.input) == list(given_.input) and [port.name for port in shipped.output] == ["logits"]
    predict = predictor(quantized(graphs, "recurrent", tmp_path / "again"))
    for batch, width in ((1, 16), (3, 48)):
        assert predict({"image": np.zeros((batch, 1, 16, width), np.float32)})["logits"].shape == (batch, width // 4, 10)


def test_versions_do_not_rise(graphs, tmp_path):
    given_, shipped = onnx.load(graphs["mobile"]), onnx.load(quantized(graphs, "mobile", tmp_path))
    assert shipped.ir_version <= given_.ir_version
    assert {entry.domain: entry.version for entry in shipped.opset_import} == {"": 17}


def test_a_quantized_file_is_not_quantized_again(graphs, tmp_path):
    shipped = quantized(graphs, "mobile", tmp_path)
    with pytest.raises(Skipped, match="quantized already"):
        QUICK.apply(shipped, context(tmp_path / "twice", IMAGES))


def test_a_file_without_its_float_beside_it_is_not_repaired(graphs):
    with pytest.raises(Skipped, match="not quantized here"):
        parts(graphs["mobile"])


def test_preparing_folds_batch_norms_and_keeps_the_answers(graphs, tmp_path):
    base = prepare(graphs["mobile"], tmp_path / "float.onnx")
    assert "BatchNormalization" not in {node.op for node in read(base).nodes}
    feed = feeds(IMAGES, limit=16)[0]
    assert np.allclose(predictor(base)(feed)["logits"], predictor(graphs["mobile"])(feed)["logits"], atol=1e-4)


WITHOUT_TORCH = """
import importlib.util, sys
import numpy as np
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else found(name, *more)
sys.modules["torch"] = sys.modules["sympy"] = None  # any import of them fails
from pathlib import Path
from types import SimpleNamespace
from compress.context import Target
from compress.fusion import left_float
from compress.quantization import Samples, finish, prepare, quantize_static
from compress.stages.quantize import Quantize
from rules.examples import Batch
image = np.random.default_rng(0).standard_normal((1, 1, 16, 16)).astype(np.float32)
data = SimpleNamespace(count=lambda split: 1, signature=SimpleNamespace(inputs=()), batches=lambda split, **how: [Batch({"image": image}, {}, ("a",))])
folder = Path(sys.argv[2])
base = prepare(Path(sys.argv[1]), folder / "float.onnx")
static = quantize_static(
    base, folder / "static.onnx", Samples(data, 1, seed=0), recipe="static", method="minmax", percentile=99.99, format=Target()
)
print(left_float(finish(static, folder / "model.onnx", recipe="static", format=Target())).int8["QLinearConv"])
"""


def test_quantizing_needs_no_torch(graphs, tmp_path):
    command = [sys.executable, "-c", WITHOUT_TORCH, str(graphs["mobile"]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "11", done.stderr


# -- what stayed float -----------------------------------------------------------------------------------------------


def test_every_heavy_operator_of_a_float_file_is_listed_as_float(graphs):
    report = left_float(graphs["mobile"])
    assert not report.int8 and report.boundaries == 0
    assert len(report.float) == 12 and {node.reason for node in report.float} == {"weight not quantized"}
    assert sum(node.weights for node in report.float) > 1000


def test_a_float_lstm_is_listed_with_its_reason(graphs, tmp_path):
    report = left_float(parts(quantized(graphs, "recurrent", tmp_path)).static)
    assert [(node.op, node.reason) for node in report.float] == [("LSTM", "the recurrent layer was not made dynamic int8")] * 2


def test_formats_without_a_fused_kernel_are_listed_with_the_reason(graphs, tmp_path):
    report = left_float(quantized(graphs, "mobile", tmp_path, target=Target(activation="int8")))
    assert any("no fused kernel for these integer formats" in node.reason for node in report.float)


def test_a_convolution_without_an_activation_quantizer_is_listed_with_its_reason(graphs, tmp_path):
    static = parts(quantized(graphs, "mobile", tmp_path)).static
    model = onnx.load(static)
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    first.input[0] = "image"  # straight from the input, past its quantizer
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    report = left_float(tmp_path / "odd.onnx")
    assert [(node.name, node.reason) for node in report.float] == [(first.name, "activation quantizer missing")]


# -- half precision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["recurrent", "mobile", "attention"])
def test_half_precision_is_half_the_weights_and_says_the_same(graphs, tmp_path, name):
    data = data_of(name)
    half = Fp16().apply(graphs[name], context(tmp_path / "fp16", data, target=Target(precision="fp16")))
    floats = [tensor for tensor in onnx.load(half).graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert sum(numpy_helper.to_array(tensor).size for tensor in floats) < 10
    feed = feeds(data, limit=16)[0]
    expected, found = predictor(graphs[name])(feed)["logits"], predictor(half)(feed)["logits"]
    assert found.dtype == np.float32 and np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_half_precision_that_strays_is_refused(graphs, tmp_path):
    with pytest.raises(Problem, match="strays"):
        Fp16(tolerance=0.0).apply(graphs["mobile"], context(tmp_path / "fp16", IMAGES, target=Target(precision="fp16")))
