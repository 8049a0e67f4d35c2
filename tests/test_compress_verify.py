"""Agreement: what passes, what is reported, what fails and says why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tasks_for_tests import TASK, tiny_module

from compress.context import Predict, Target
from compress.export import export
from compress.training import predictor as of_module
from compress.verify import Agreement, _faults, agree, output_step, verify
from tests.clipping_for_tests import clips


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny_module(), TASK.open(), tmp_path_factory.mktemp("verify") / "model.onnx", target=Target())


def quantized(path: Path, folder: Path) -> Path:
    """The same graph in bytes that this processor adds up exactly, as onnxruntime's own quantizer writes it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Lines(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter([dict(batch.inputs) for batch in TASK.open().batches("train", batch_size=16, limit=32)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    out = folder / "int8.onnx"
    weights = QuantType.QUInt8 if clips() else QuantType.QInt8
    quantize_static(str(path), str(out), Lines(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8, weight_type=weights)
    return out


def shifted(predict: Predict, by: float) -> Predict:
    return lambda feeds: {name: array + np.float32(by) for name, array in predict(feeds).items()}


def test_a_faithful_export_passes_at_every_level_and_against_its_module(graph: Path) -> None:
    found = verify(graph, of_module(tiny_module(), TASK.open()), TASK.open(), limit=16)
    assert found["passed"] and found["faults"] == [] and found["samples"] == 16 and found["kind"] == "float"
    assert set(found["comparisons"]) == {f"{level} against the model" for level in ("all", "basic", "none")} | {
        "all against none",
        "basic against none",
    }
    assert json.loads(json.dumps(found)) == found


def test_another_models_outputs_fail_with_the_difference_and_the_bound(graph: Path) -> None:
    found = verify(graph, of_module(tiny_module(seed=1), TASK.open()), TASK.open(), limit=8)
    assert not found["passed"]
    assert any("against the model" in fault and "allowed 1e-04" in fault for fault in found["faults"])
    assert not any("against none" in fault for fault in found["faults"])


def test_the_tolerance_is_the_callers_where_it_is_given(graph: Path) -> None:
    data = TASK.open()
    off = shifted(of_module(tiny_module(), data), 0.01)
    assert not verify(graph, off, data, limit=8)["passed"]
    assert verify(graph, off, data, limit=8, tolerance=0.5)["passed"]


def test_verifying_on_no_examples_is_not_a_pass(graph: Path) -> None:
    assert not verify(graph, None, TASK.open(settings={"val": 0}))["passed"]


def test_an_integer_file_is_held_to_steps_of_its_output_and_only_compared_with_its_model(graph: Path, tmp_path: Path) -> None:
    data, int8 = TASK.open(), quantized(graph, tmp_path)
    step, integer = output_step(int8)
    assert integer and step is not None and step > 0
    found = verify(int8, of_module(tiny_module(), data), data, limit=16)
    assert found["passed"] and found["kind"] == "integer"
    assert found["comparisons"]["all against none"]["steps"] <= 2
    assert found["comparisons"]["all against the model"]["max_rel"] > 1e-4  # quantization shows, and is no fault
    assert not verify(int8, of_module(tiny_module(), data), data, limit=16, tolerance=1e-4)["passed"]


def test_a_float_file_has_no_output_step(graph: Path) -> None:
    assert output_step(graph) == (None, False)


def test_the_step_is_found_behind_layout_changes(tmp_path: Path) -> None:
    constants = [numpy_helper.from_array(np.array(value), name) for name, value in (("s", np.float32(0.25)), ("z", np.uint8(3)))]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Transpose", ["d"], ["y"], perm=[1, 0]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy"]
    path = tmp_path / "q.onnx"
    onnx.save(
        helper.make_model(
            helper.make_graph(nodes, "g", ends[:1], ends[1:], constants), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        ),
        str(path),
    )
    assert output_step(path) == (0.25, True)


# -- the comparison itself -----------------------------------------------------------------------------------------------


def compared(got: list[list[float]], wanted: list[list[float]], step: float | None = None) -> Agreement:
    pairs = [({}, {"y": np.array(wanted, np.float32)})]
    return agree(lambda _: {"y": np.array(got, np.float32)}, pairs, step=step)


def test_decisions_are_counted_by_the_largest_entry() -> None:
    found = compared([[1, 2], [5, 0], [0, 9]], [[2, 1], [5, 1], [0, 9]])
    assert (found.decisions, found.changed) == (3, 1)


@pytest.mark.parametrize(
    ("got", "fault"),
    [
        ([[1.0, float("nan")]], "not finite"),
        ([[1.0, 2.0, 3.0]], "expected [1, 2]"),
        ([[1.0, 3.0]], "1.0 output steps, allowed 0.5"),
        ([[3.0, 2.0]], "differs by"),
    ],
)
def test_each_fault_is_told_with_its_figures(got: list[list[float]], fault: str) -> None:
    assert any(fault in line for line in compared(got, [[1.0, 2.0]], step=1.0).faults(relative=0.1, steps=0.5, decisions=0))


def test_the_levels_of_an_integer_file_are_held_to_steps_whatever_the_models_tolerance() -> None:
    bounds = {"relative": 1e-9, "steps": 2.0, "decisions": 0.002}
    one_step = compared([[1.0, 2.5]], [[1.0, 2.0]], step=0.5)
    assert _faults(one_step, bounds, itself=True, integer=True) == []
    assert _faults(one_step, bounds, itself=False, integer=True) and _faults(one_step, bounds, itself=True, integer=False)


def test_a_missing_output_is_a_fault() -> None:
    assert agree(lambda _: {}, [({}, {"y": np.zeros(2)})]).faults(relative=1.0)


def test_one_changed_decision_in_a_few_is_allowed_and_two_are_not() -> None:
    few = [[1.0, 0.0]] * 9
    assert compared([[0.0, 1.0], *few], [[1.0, 0.0], *few]).faults(relative=None, decisions=0.002) == []
    assert compared([[0.0, 1.0]] * 2 + few, [[1.0, 0.0]] * 2 + few).faults(relative=None, decisions=0.002) != []
