"""Opening graphs: what is promised about sessions, and what is refused before it can hurt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compress.hostile import MOST_ELEMENTS, examine
from compress.runtime import check_graph, environment, predictor, session
from rules.problems import Exit, Problem


def model(nodes, *, inputs=(("x", ["batch", 4]),), outputs=("y",), initializer=()) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        initializer=list(initializer),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def linear() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w")
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], initializer=[weight])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.onnx"
    onnx.save(linear(), str(path))
    return path


def refused(path: Path, *, trusted: bool) -> Problem:
    with pytest.raises(Problem) as caught:
        check_graph(path, trusted=trusted)
    assert caught.value.code == Exit.INPUT
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
    return caught.value


# -- sessions ------------------------------------------------------------------------------------------------------------


def test_a_prediction_is_the_graphs_own_arithmetic_at_every_level(good: Path) -> None:
    x = np.ones((2, 4), np.float32)
    for level in ("all", "basic", "none"):
        np.testing.assert_allclose(predictor(good, level=level)({"x": x})["y"], x @ np.arange(12).reshape(4, 3))


def test_arrays_the_graph_does_not_ask_for_are_left_out(good: Path) -> None:
    assert predictor(good)({"x": np.ones((1, 4), np.float32), "lengths": np.ones(1)})["y"].shape == (1, 3)


def test_a_missing_input_is_named(good: Path) -> None:
    with pytest.raises(Problem, match="needs input 'x', got image"):
        predictor(good)({"image": np.ones((1, 4), np.float32)})


def test_an_input_that_does_not_fit_is_named_with_its_shape(good: Path) -> None:
    with pytest.raises(Problem, match=r"x float32\[1, 5\]") as caught:
        predictor(good)({"x": np.ones((1, 5), np.float32)})
    assert caught.value.code == Exit.INPUT


@pytest.mark.parametrize("threads", [1, 2])
def test_no_session_spins_its_threads(good: Path, threads: int) -> None:
    options = session(good, threads=threads).get_session_options()
    assert options.intra_op_num_threads == threads
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"


def test_a_provider_that_is_not_here_is_a_missing_device(good: Path) -> None:
    with pytest.raises(Problem, match="no TensorrtExecutionProvider here") as caught:
        session(good, provider="TensorrtExecutionProvider")
    assert caught.value.code == Exit.UNJUDGED


def test_environment_names_machine_and_versions() -> None:
    found = environment()
    assert found["cores"] >= 1 and found["cpu"] and found["onnxruntime"]
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_nothing_that_runs_a_graph_imports_torch() -> None:
    rooms = "compress.runtime, compress.hostile, compress.verify, compress.profile, compress.target, compress.cold"
    code = f"import sys, {rooms}; compress.runtime.environment(); raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=False).returncode == 0


# -- what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trusted", [True, False])
def test_a_good_graph_passes_and_shows_its_ports(good: Path, trusted: bool) -> None:
    found = check_graph(good, trusted=trusted)
    assert [(port.name, port.dtype, port.shape) for port in found.inputs] == [("x", "float32", ("batch", 4))]
    assert found.outputs[0].name == "y"


@pytest.mark.parametrize(
    ("content", "hint"),
    [(b"", "empty"), (b"no model at all, only words\n" * 20, "ONNX"), (b"PK\x03\x04" + b"\0" * 60, "zip"), (b"\x80\x02ctorch\n", "pickle")],
)
def test_what_is_no_onnx_is_refused_with_what_it_looks_like(tmp_path: Path, content: bytes, hint: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert hint in str(refused(path, trusted=False))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no model file" in str(refused(tmp_path / "none.onnx", trusted=False))


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_graph_is_refused(good: Path, keep: float) -> None:
    content = good.read_bytes()
    good.write_bytes(content[: int(keep * len(content))])
    refused(good, trusted=False)


def test_an_operator_the_runtime_does_not_know_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "custom.onnx"
    onnx.save(model([helper.make_node("Frobnicate", ["x"], ["y"])]), str(path))
    assert "Frobnicate" in str(refused(path, trusted=False))


def bombs() -> dict[str, onnx.ModelProto]:
    huge = numpy_helper.from_array(np.array([100_000, 100_000], np.int64), "shape")
    many = numpy_helper.from_array(np.array([1, 2 * MOST_ELEMENTS], np.int64), "many")
    ends = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("a", 0), ("b", 1e12), ("c", 1))]
    root = numpy_helper.from_array(np.array([100_000], np.int64), "root")
    chained = [
        helper.make_node("Mul", ["root", "root"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["z"]),
        helper.make_node("ReduceSum", ["z"], ["s"]),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    return {
        "ConstantOfShape": model([helper.make_node("ConstantOfShape", ["shape"], ["y"])], initializer=[huge]),
        "Expand": model([helper.make_node("Expand", ["x", "shape"], ["y"])], initializer=[huge]),
        "Tile": model([helper.make_node("Tile", ["x", "many"], ["y"])], initializer=[many]),
        "Range": model([helper.make_node("Range", ["a", "b", "c"], ["y"])], initializer=ends),
        "computed": model(chained, initializer=[root]),
    }


@pytest.mark.parametrize("kind", list(bombs()))
def test_a_graph_that_asks_for_absurd_memory_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bomb.onnx"
    onnx.save(bombs()[kind], str(path))
    with pytest.raises(Problem) as caught:
        examine(path)
    assert caught.value.code == Exit.INPUT
    assert kind in str(caught.value) or kind == "computed"


def test_a_bomb_that_only_running_reveals_stays_inside_the_child(tmp_path: Path) -> None:
    """The size depends on the input's values, so no examination can know it."""
    scale = numpy_helper.from_array(np.array([10**10], np.int64), "scale")
    one = numpy_helper.from_array(np.array([1.0], np.float32), "one")
    nodes = [
        helper.make_node("Shape", ["x"], ["dims"]),
        helper.make_node("ReduceProd", ["dims"], ["count"], keepdims=1),
        helper.make_node("Mul", ["count", "scale"], ["size"]),
        helper.make_node("Expand", ["one", "size"], ["z"]),
        helper.make_node("ReduceSum", ["z"], ["y"]),
    ]
    path = tmp_path / "hidden.onnx"
    onnx.save(model(nodes, initializer=[scale, one]), str(path))
    assert "memory" in str(refused(path, trusted=False))


def test_external_data_inside_the_folder_is_read(tmp_path: Path) -> None:
    path = tmp_path / "with-data.onnx"
    onnx.save(linear(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert check_graph(path).inputs[0].name == "x"


@pytest.mark.parametrize(
    "how", ["above", "absolute", "symlink", "symlink inside", "hard link", "missing", "too short", "offset that is no number"]
)
def test_external_data_elsewhere_is_refused(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path, inside, outside = folder / "m.onnx", folder / "weights.bin", tmp_path / "secret.bin"
    graph = linear()
    onnx.save(graph, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    outside.write_bytes(inside.read_bytes())
    graph = onnx.load(str(path), load_external_data=False)
    if how in ("above", "absolute"):
        graph.graph.initializer[0].external_data[0].value = "../secret.bin" if how == "above" else str(outside)
        path.write_bytes(graph.SerializeToString())
    elif how == "too short":
        inside.write_bytes(b"\0")
    elif how == "offset that is no number":
        graph.graph.initializer[0].external_data.add(key="offset", value="zero")
        path.write_bytes(graph.SerializeToString())
    elif how == "symlink inside":
        inside.rename(folder / "other.bin")
        inside.symlink_to(folder / "other.bin")
    else:
        inside.unlink()
        if how == "symlink":
            inside.symlink_to(outside)
        elif how == "hard link":
            os.link(outside, inside)
    with pytest.raises(Problem, match=r"secret\.bin|weights\.bin") as caught:
        examine(path)
    assert caught.value.code == Exit.INPUT


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_examining_damaged_bytes_passes_or_refuses_and_never_fails_otherwise(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(linear().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.onnx"
    path.write_bytes(bytes(content))
    try:
        examine(path)
    except Problem as problem:
        assert problem.code == Exit.INPUT
