"""Cross-layer equalization: it changes how channels share their range, never what the float network says."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from compress.context import Skipped, Target
from compress.graph.reading import read
from compress.graph.writing import patch
from compress.quantization import parts, prepare
from compress.runtime import predictor
from compress.stages.equalize import Equalize, equalized, pairs, without_caps
from compress.stages.quantize import Quantize
from tests.small_graphs import Attention, GlyphData, Mobile, Plain, Recurrent, Squeeze, built, context, exported, feeds, trained

DATA = GlyphData((0,))
QUICK = Equalize(method="minmax", samples=32)
PER_TENSOR = Target(per_channel=False)


def skewed(path, *, seed=0):
    """The same function with badly balanced channels: every pair's channels scaled by up to 30 and its readers back."""
    graph, rng = read(path), np.random.default_rng(seed)
    model = onnx.load(path)
    arrays = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in model.graph.initializer}
    for pair in pairs(graph):
        scale = 10 ** rng.uniform(-1.5, 1.5, arrays[pair.first.inputs[1]].shape[0]).astype(np.float32)
        for name in pair.first.inputs[1:]:
            arrays[name] = arrays[name] * scale.reshape([-1] + [1] * (arrays[name].ndim - 1))
        weight = arrays[pair.second.inputs[1]]
        if pair.second.op == "Gemm":
            arrays[pair.second.inputs[1]] = weight / scale
        elif pair.second.attributes.get("group", 1) > 1:
            arrays[pair.second.inputs[1]] = weight / scale.reshape(-1, 1, 1, 1)
        else:
            arrays[pair.second.inputs[1]] = weight / scale.reshape(1, -1, 1, 1)
    return patch(path, path, arrays)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("equalize")


@pytest.fixture(scope="module")
def mobile(folder):
    return exported(trained(built(Mobile), DATA, steps=80), DATA, folder / "mobile.onnx")


def difference(first, second, data):
    sides = [[predictor(path)(feed)["logits"] for feed in feeds(data, limit=64)] for path in (first, second)]
    return max(np.abs(a - b).max() / np.abs(a).max() for a, b in zip(*sides, strict=True))


@pytest.mark.parametrize(("kind", "lengths", "count"), [(Plain, (0,), 3), (Recurrent, (2,), 2), (Squeeze, (0,), 1), (Mobile, (0,), 7)])
def test_the_float_network_says_the_same_afterwards(tmp_path, kind, lengths, count):
    data = GlyphData(lengths)
    base = prepare(exported(built(kind), data, tmp_path / "model.onnx"), tmp_path / "float.onnx")
    base = without_caps(base, tmp_path / "relu.onnx") or base
    found = list(pairs(read(base)))
    assert len(found) == count
    changed = patch(base, tmp_path / "equalized.onnx", equalized(read(base), found, sweeps=5))
    assert changed.read_bytes() != base.read_bytes()
    assert difference(base, changed, data) < 1e-5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_neighbours_have_the_same_range_in_every_channel_afterwards(mobile, tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("ranges")
    base = without_caps(prepare(mobile, folder / "float.onnx"), folder / "relu.onnx")
    graph = read(skewed(base, seed=seed))
    alone = [pair for pair in pairs(graph) if "features.1" in pair.first.name]  # a chain of three: expand, depthwise, project
    assert len(alone) == 2
    values = equalized(graph, alone, sweeps=30)
    expand, depthwise, project = (values[name] for name in (alone[0].first.inputs[1], alone[0].second.inputs[1], alone[1].second.inputs[1]))
    ranges = [np.abs(expand).max(axis=(1, 2, 3)), np.abs(depthwise).max(axis=(1, 2, 3)), np.abs(project).max(axis=(0, 2, 3))]
    assert np.allclose(ranges[0], ranges[1], rtol=1e-3) and np.allclose(ranges[1], ranges[2], rtol=1e-3)


def test_a_badly_balanced_network_recovers_at_one_scale_a_tensor(mobile, folder, tmp_path):
    base = without_caps(prepare(mobile, folder / "clean.onnx"), folder / "skewed.onnx")
    skewed(base)
    given_ = Quantize(method="minmax", samples=64).apply(base, context(tmp_path / "quantize", DATA, target=PER_TENSOR))
    repaired = Equalize(method="minmax", samples=64).apply(given_, context(tmp_path / "equalize", DATA, target=PER_TENSOR))
    errors = [DATA.score(predictor(path), "test").value for path in (base, given_, repaired)]
    assert errors[1] > errors[0] + 0.2 and errors[2] < errors[0] + 0.03


def test_relu6_is_removed_where_float_holds_and_only_there(mobile, tmp_path):
    given_ = Quantize(method="minmax", samples=32).apply(mobile, context(tmp_path / "quantize", DATA))
    ctx = context(tmp_path / "held" / "equalize", DATA)
    repaired = Equalize(method="minmax", samples=32, relu6_loss=1.0).apply(given_, ctx)
    assert ctx.journal["equalize/relu6/removed"] is True and set(ctx.journal["equalize/relu6"]) == {"relu", "relu6"}
    assert "Clip" not in {node.op for node in read(parts(repaired).float).nodes}
    ctx = context(tmp_path / "lost" / "equalize", DATA)
    with pytest.raises(Skipped, match="ReLU6 stays"):
        Equalize(method="minmax", samples=32, relu6_loss=-1.0).apply(given_, ctx)
    assert ctx.journal["equalize/relu6/removed"] is False


def test_a_network_without_neighbours_is_skipped_with_the_reason(tmp_path):
    data = GlyphData((2,))
    graph = exported(built(Attention, convolutions=True), data, tmp_path / "model.onnx")
    ctx = context(tmp_path / "quantize", data)
    ctx.latencies = type("Mixed", (), {"paired": lambda self, graphs, feeds, threads: {"mixed": 1.0, "dynamic": 2.0}})()
    given_ = Quantize(method="minmax", samples=16).apply(graph, ctx)
    base = parts(given_).float
    if list(pairs(read(base))):  # stem and patch embedding are neighbours; take the stem's ReLU away
        model = onnx.load(base)
        next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Sigmoid"
        base.write_bytes(model.SerializeToString())
    with pytest.raises(Skipped, match="no convolution of this graph feeds another"):
        QUICK.apply(given_, context(tmp_path / "equalize", data))


def test_a_channel_that_two_layers_read_is_left_alone(tmp_path):
    base = prepare(exported(built(Mobile), DATA, tmp_path / "model.onnx"), tmp_path / "float.onnx")
    base = without_caps(base, tmp_path / "relu.onnx")
    firsts = {pair.first.name for pair in pairs(read(base))}
    assert "/features/features.0/features.0.0/Conv" not in firsts  # read by the next layer and by a residual sum
    assert not any("body.2" in name for name in firsts)  # projections go into sums
