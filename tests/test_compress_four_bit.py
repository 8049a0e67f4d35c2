"""Weights in four bits: packed exactly as the runtime reads them, rounded so that what was asked for is answered, kept for size alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compress import payoff
from compress.context import Skipped, Target
from compress.nbits import Blocks, gptq, grid, rounded
from compress.points import Point
from compress.runtime import predictor
from compress.stages.four_bit import FourBit, products, replaced
from compress.stages.quantize import Quantize
from rules.examples import Metric
from tests.small_graphs import Attention, GlyphData, Mobile, built, context, exported

NATS = Metric("nats", "lower", "")


def product(path: Path, weights: np.ndarray) -> Path:
    """x (n, inputs) → x · weights."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in zip("xy", weights.shape, strict=True)]
    graph = helper.make_graph(nodes, "one", ports[:1], ports[1:], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def drawn(inputs: int, outputs: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((inputs, outputs)).astype(np.float32)


# -- numbers -------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 100), st.integers(1, 40), st.sampled_from([16, 32, 64]), st.integers(0, 2**31))
def test_the_runtime_computes_with_exactly_the_weights_that_were_packed(inputs: int, outputs: int, size: int, seed: int) -> None:
    import tempfile

    weights, x = drawn(inputs, outputs, seed=seed), drawn(5, inputs, seed=seed + 1)
    held = rounded(weights, size=size)
    with tempfile.TemporaryDirectory() as folder:
        path = product(Path(folder) / "one.onnx", weights)
        model = replaced(onnx.load(str(path)), {"y": held})
        next(item for item in model.graph.node[0].attribute if item.name == "accuracy_level").i = 1  # sums in float: to the bit
        onnx.save(model, str(path))
        got = predictor(path)({"x": x})["y"]
    wanted = x.astype(np.float64) @ held.values()
    assert np.abs(got - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 80), st.integers(1, 12), st.integers(0, 2**31), st.floats(1e-6, 1e6))
def test_no_weight_is_further_off_than_half_a_step_of_its_block(inputs: int, outputs: int, seed: int, loud: float) -> None:
    weights = drawn(inputs, outputs, seed=seed) * np.float32(loud)
    held = rounded(weights, size=16)
    steps = np.repeat(held.scales, 16, 1)[:, :inputs].T
    assert (np.abs(held.values() - weights) <= 1.001 * steps).all()
    assert held.numbers.max() <= 15 and held.zeros.max() <= 15


def test_a_block_of_one_value_is_that_value() -> None:
    for value in (0.0, 3.0, -2.0):
        assert np.allclose(rounded(np.full((32, 2), value, np.float32), size=32).values(), value)


def test_rounding_is_that_of_onnxruntime() -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, DefaultWeightOnlyQuantizer

    weights = drawn(96, 24)
    quantizer = DefaultWeightOnlyQuantizer(DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=False, bits=4))
    packed, scales, zeros = quantizer.qbits_block_quant(weights)
    numbers = np.stack([packed & 15, packed >> 4], -1).reshape(24, 96)
    both = np.stack([zeros & 15, zeros >> 4], -1).reshape(24, -1)[:, :3]
    theirs = Blocks(numbers, scales.reshape(24, 3), both, 32).values()
    ours = rounded(weights, size=32).values()
    assert np.square(ours - weights).mean() <= 1.02 * np.square(theirs - weights).mean()


def test_gptq_answers_its_inputs_better_than_rounding_does() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 8)) @ rng.standard_normal((8, 64)) + 0.1 * rng.standard_normal((400, 64))  # inputs that go together
    weights = drawn(64, 32)
    off = [np.square(x @ (held.values() - weights)).mean() for held in (rounded(weights, size=32), gptq(weights, x.T @ x, size=32))]
    assert off[1] < 0.5 * off[0]


def test_an_input_that_is_never_heard_does_no_harm() -> None:
    x = np.random.default_rng(0).standard_normal((50, 32))
    x[:, 5] = 0.0
    assert np.isfinite(gptq(drawn(32, 8), x.T @ x, size=16).values()).all()


def test_every_grid_holds_nothing() -> None:
    scale, zero = grid(np.array([[1.0, 2.0], [-3.0, -1.0], [-1.0, 4.0]]))
    assert np.allclose((zero - np.round(zero)), 0) and (zero >= 0).all() and (zero <= 15).all() and (scale > 0).all()


# -- the stage -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def attention(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, data = tmp_path_factory.mktemp("attention"), GlyphData((2,))
    return exported(built(Attention), data, folder / "model.onnx"), data


def test_products_with_weights_are_packed_and_products_of_activations_are_not(attention: Any, tmp_path: Path) -> None:
    from compress.graph.reading import read

    graph, data = attention
    made = FourBit(method="round").apply(graph, context(tmp_path / "stage", data))
    kinds = [node.op_type for node in onnx.load(str(made)).graph.node]
    assert kinds.count("MatMulNBits") == len(products(read(tmp_path / "stage" / "prepared.onnx"))) > 2
    assert "MatMul" in kinds and made.stat().st_size < 0.5 * graph.stat().st_size


def test_the_better_method_by_validation_is_kept_and_recorded(attention: Any, tmp_path: Path) -> None:
    graph, data = attention
    held = context(tmp_path / "stage", data)
    made = FourBit(samples=32, examples=32).apply(graph, held)
    facts = {key.rpartition("/")[2]: value for key, value in held.journal.items()}
    assert {"round", "gptq", "method"} <= set(facts)
    assert made.read_bytes() == (tmp_path / "stage" / facts["method"] / "model.onnx").read_bytes()


def test_what_has_nothing_for_it_is_left_alone(attention: Any, tmp_path: Path) -> None:
    graph, data = attention
    done = Quantize(method="minmax", samples=16).apply(graph, context(tmp_path / "int8", data))
    with pytest.raises(Skipped, match="already"):
        FourBit().apply(done, context(tmp_path / "again", data))
    with pytest.raises(Skipped, match="kernel"):
        FourBit().apply(graph, context(tmp_path / "gpu", data, target=Target(provider="CUDAExecutionProvider")))
    plain = GlyphData((0,))
    with pytest.raises(Skipped, match="no matrix product"):
        FourBit().apply(exported(built(Mobile), plain, tmp_path / "mobile.onnx"), context(tmp_path / "none", plain))


def test_a_wrong_block_is_refused() -> None:
    with pytest.raises(ValueError, match="16, 32, 64, 128"):
        FourBit(block=31)


# -- what it must pay ----------------------------------------------------------------------------------------------------


def point(size: int, metric: float, ms: float) -> Point:
    return Point("model.onnx", "", size, metric, 10, "val", {"1": ms})


def test_it_is_kept_for_size_whatever_its_time_and_dropped_for_a_loss() -> None:
    float_point, int8 = point(4000, 1.5, 10.0), point(1100, 1.501, 6.0)
    small = point(700, 1.503, 12.0)
    assert payoff.compact(NATS, float_point, int8, small, max_drop=0.005).status == "kept"
    assert payoff.compact(NATS, float_point, int8, point(1099, 1.5, 1.0), max_drop=0.005).status == "rolled back"
    assert payoff.compact(NATS, float_point, None, point(700, 1.52, 1.0), max_drop=0.005).status == "rolled back"
    assert payoff.ships(NATS, float_point, small, max_drop=0.005).status == "rolled back"
    assert payoff.ships(NATS, float_point, small, max_drop=0.005, by_size=True).status == "kept"
