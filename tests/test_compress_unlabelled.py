"""A bare graph and a folder of arrays: what is read, what is refused, and what "stays close" means."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compress.runtime import predictor
from compress.unlabelled import FEWEST, MAX_DROP, TASK, Inputs, default_plan, open_inputs
from rules.problems import Exit, Problem


def saved(path: Path, nodes, inputs, outputs, constants=()) -> Path:
    infos = [[helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in side] for side in (inputs, outputs)]
    made = helper.make_graph(nodes, "g", *infos, [numpy_helper.from_array(value, name) for name, value in constants])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def linear(path: Path, *, batch: int | str = "batch", scale: float = 1.0) -> Path:
    """y = x w: x (batch, 4) → y (batch, 3)."""
    weight = np.arange(12, dtype=np.float32).reshape(4, 3) * scale
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return saved(path, [node], [("x", TensorProto.FLOAT, [batch, 4])], [("y", TensorProto.FLOAT, [batch, 3])], [("w", weight)])


def running_sum(path: Path) -> Path:
    """y = cumulative sum along the first axis, which is time: x (time, 4) → y (time, 4)."""
    node = helper.make_node("CumSum", ["x", "axis"], ["y"])
    shape = ["time", 4]
    return saved(path, [node], [("x", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, shape)], [("axis", np.array(0, np.int64))])


def difference(path: Path) -> Path:
    """y = a - b: two inputs (batch, width)."""
    node = helper.make_node("Sub", ["a", "b"], ["y"])
    shape = ["batch", "width"]
    return saved(path, [node], [(name, TensorProto.FLOAT, shape) for name in "ab"], [("y", TensorProto.FLOAT, shape)])


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return linear(tmp_path / "model.onnx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "inputs"
    made.mkdir()
    return made


def fill(folder: Path, count: int, shape=(1, 4), dtype="float32") -> Path:
    generator = np.random.default_rng(0)
    for index in range(count):
        np.save(folder / f"{index:03d}.npy", generator.standard_normal(shape).astype(dtype))
    return folder


def refused(graph: Path, folder: Path) -> str:
    with pytest.raises(Problem) as caught:
        open_inputs(graph, folder)
    assert caught.value.code == Exit.INPUT
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- what is refused -----------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_refused(graph: Path, tmp_path: Path) -> None:
    assert "no folder" in refused(graph, tmp_path / "nowhere")


@pytest.mark.parametrize("count", [0, 1, FEWEST - 1])
def test_fewer_than_eight_examples_are_refused(graph: Path, folder: Path, count: int) -> None:
    assert f"has {count} examples" in refused(graph, fill(folder, count))


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.write_text, (self.marker, "code ran"))


@pytest.mark.parametrize("kind", ["npy", "npz", "bare pickle"])
def test_a_pickled_array_is_refused_and_does_not_run(graph: Path, folder: Path, tmp_path: Path, kind: str) -> None:
    fill(folder, FEWEST)
    marker = tmp_path / "marker"
    objects = np.array([Payload(marker)], dtype=object)
    if kind == "npy":
        np.save(folder / "bad.npy", objects, allow_pickle=True)
    elif kind == "npz":
        np.savez(folder / "bad.npz", x=objects)
    else:
        (folder / "bad.npy").write_bytes(pickle.dumps(Payload(marker)))
    assert "bad.np" in refused(graph, folder)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_damaged_file_is_named(graph: Path, folder: Path, content: bytes, suffix: str) -> None:
    fill(folder, FEWEST)
    (folder / f"bad.{suffix}").write_bytes(content)
    assert f"bad.{suffix} is no plain array file" in refused(graph, folder)


def test_a_header_that_claims_more_than_the_file_holds_is_refused_at_once(graph: Path, folder: Path) -> None:
    fill(folder, FEWEST)
    header = np.lib.format
    with (folder / "bad.npy").open("wb") as file:
        header.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 4)})
    assert "bad.npy is no plain array file" in refused(graph, folder)


def test_an_archive_that_unpacks_to_gigabytes_is_refused_unopened(graph: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.unlabelled.MOST_BYTES", 2**16)
    np.savez_compressed(folder / "bomb.npz", x=np.zeros((2**16, 4), np.float32))
    assert (folder / "bomb.npz").stat().st_size < 2**16
    assert "unpacks to more" in refused(graph, folder)


def test_more_inputs_than_memory_was_set_aside_for_are_refused(graph: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.unlabelled.MOST_BYTES", 100)
    assert "GiB of inputs" in refused(graph, fill(folder, FEWEST))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((1, 5), np.float32), "x has shape 1x5, the graph takes batchx4"),
        (np.zeros((1, 1, 4), np.float32), "x has shape 1x1x4"),
        (np.zeros((0, 4), np.float32), "x has shape 0x4"),
        (np.array(1.0, np.float32), "x has shape"),
        (np.full((1, 4), np.nan, np.float32), "not finite"),
        (np.full((1, 4), 1e300), "not finite"),
        (np.zeros((1, 4), np.complex64), "x is complex64, the graph takes float32"),
        (np.array([["a", "b", "c", "d"]]), "the graph takes float32"),
    ],
)
def test_an_array_that_does_not_fit_is_named_with_both_shapes(graph: Path, folder: Path, array: np.ndarray, said: str) -> None:
    fill(folder, FEWEST)
    np.save(folder / "bad.npy", array)
    found = refused(graph, folder)
    assert said in found and "bad.npy" in found


def test_fractions_are_not_cut_to_token_ids(tmp_path: Path, folder: Path) -> None:
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    info = [("ids", TensorProto.INT64, ["batch", 4])], [("y", TensorProto.FLOAT, ["batch", 4])]
    graph = saved(tmp_path / "model.onnx", [node], *info, [("table", np.arange(9, dtype=np.float32))])
    assert "ids is float32, the graph takes int64" in refused(graph, fill(folder, FEWEST))


def test_inputs_of_other_names_are_refused_with_both_lists(tmp_path: Path, folder: Path) -> None:
    graph = difference(tmp_path / "model.onnx")
    for index in range(FEWEST):
        np.savez(folder / f"{index}.npz", a=np.zeros((1, 3), np.float32), c=np.zeros((1, 3), np.float32))
    assert "has a, c, the graph takes a, b" in refused(graph, folder)


def test_a_graph_that_answers_with_what_is_no_number_is_refused(tmp_path: Path, folder: Path) -> None:
    node = helper.make_node("Log", ["x"], ["y"])
    shape = ["batch", 4]
    graph = saved(tmp_path / "model.onnx", [node], [("x", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, shape)])
    assert "not finite, in output 'y'" in refused(graph, fill(folder, FEWEST))


# -- what is read --------------------------------------------------------------------------------------------------------


def test_other_number_types_are_converted_where_nothing_is_lost(graph: Path, folder: Path) -> None:
    fill(folder, FEWEST, dtype="float64")
    np.save(folder / "bytes.npy", np.arange(4, dtype=np.uint8)[None])
    found = open_inputs(graph, folder)
    assert {batch.inputs["x"].dtype for split in ("train", "val") for batch in found.batches(split, batch_size=4)} == {np.dtype("float32")}


def test_a_missing_batch_axis_is_added(graph: Path, folder: Path) -> None:
    found = open_inputs(graph, fill(folder, FEWEST, shape=(4,)))
    assert next(iter(found.batches("train", batch_size=1))).inputs["x"].shape == (1, 4)


def test_every_row_of_a_stacked_file_is_an_example(graph: Path, folder: Path) -> None:
    stacked = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    np.save(folder / "all.npy", stacked)
    found = open_inputs(graph, folder)
    assert found.count("train") + found.count("val") == 20
    seen = {
        name: row
        for split in ("train", "val")
        for batch in found.batches(split, batch_size=8)
        for name, row in zip(batch.ids, batch.inputs["x"], strict=True)
    }
    np.testing.assert_array_equal([seen[f"all.npy[{row}]"] for row in range(20)], stacked)


def test_rows_along_time_are_one_example(tmp_path: Path, folder: Path) -> None:
    graph = running_sum(tmp_path / "model.onnx")
    found = open_inputs(graph, fill(folder, 10, shape=(6, 4)))
    assert found.count("train") + found.count("val") == 10
    assert all(len(batch.ids) == 1 and batch.inputs["x"].shape == (6, 4) for batch in found.batches("train", batch_size=8))


def test_a_fixed_batch_is_fed_as_it_is(tmp_path: Path, folder: Path) -> None:
    graph = linear(tmp_path / "model.onnx", batch=2)
    found = open_inputs(graph, fill(folder, FEWEST, shape=(2, 4)))
    assert {batch.inputs["x"].shape for batch in found.batches("train", batch_size=8)} == {(2, 4)}
    assert found.score(predictor(graph), "val").value == 0


def test_examples_of_one_shape_are_batched_and_others_are_not_mixed_in(tmp_path: Path, folder: Path) -> None:
    graph = difference(tmp_path / "model.onnx")
    generator = np.random.default_rng(0)
    for index in range(20):
        shape = (1, 3 + index % 2)
        np.savez(
            folder / f"{index:02d}.npz", a=generator.standard_normal(shape, np.float32), b=generator.standard_normal(shape, np.float32)
        )
    found = open_inputs(graph, folder)
    batches = list(found.batches("train", batch_size=4))
    assert sorted(name for batch in batches for name in batch.ids) == sorted(found._names[i] for i in found._split["train"])
    assert max(len(batch.ids) for batch in batches) == 4
    assert list(found.probes()) == ["1x3,1x3", "1x4,1x4"]


def test_no_example_judges_what_it_calibrated(graph: Path, folder: Path) -> None:
    found = open_inputs(graph, fill(folder, 24))
    train, val = ({name for batch in found.batches(split, batch_size=5) for name in batch.ids} for split in ("train", "val"))
    assert not train & val and len(train | val) == 24
    assert {split: found.count(split) for split in ("train", "val", "test")} == found.provenance["splits"]


@given(st.integers(FEWEST, 300))
@settings(max_examples=60, deadline=None)
def test_a_fifth_evenly_spread_is_held_out(count: int) -> None:
    from compress.unlabelled import _spread

    held = _spread(count, max(2, count // 5))
    assert held == sorted(set(held)) and held[0] >= 0 and held[-1] < count
    assert len(held) == max(2, count // 5)
    gaps = np.diff([-1, *held, count])
    assert gaps.max() <= 7


def test_the_same_call_gives_the_same_batches(graph: Path, folder: Path) -> None:
    found = open_inputs(graph, fill(folder, 24))

    def order(**how: int) -> list[tuple[str, ...]]:
        return [batch.ids for batch in found.batches("train", batch_size=4, shuffle=True, **how)]

    assert order(seed=1, epoch=2) == order(seed=1, epoch=2)
    assert order(seed=1, epoch=2) != order(seed=1, epoch=3)
    assert sum(map(len, order(limit=6))) == 6


def test_another_graph_or_other_numbers_are_told_apart_in_the_provenance(tmp_path: Path, folder: Path) -> None:
    """So that a run's folder is never continued with another model under the same file names."""
    first, second = linear(tmp_path / "a.onnx"), linear(tmp_path / "b.onnx", scale=2)
    fill(folder, FEWEST)
    known = open_inputs(first, folder).provenance
    assert open_inputs(first, folder).provenance == known
    assert open_inputs(second, folder).provenance != known
    np.save(folder / "000.npy", np.ones((1, 4), np.float32))
    assert open_inputs(first, folder).provenance != known


# -- what "stays close" means --------------------------------------------------------------------------------------------


@pytest.fixture
def inputs(graph: Path, folder: Path) -> Inputs:
    return open_inputs(graph, fill(folder, 24))


def test_the_float_graph_strays_by_nothing(inputs: Inputs, graph: Path) -> None:
    assert inputs.score(predictor(graph), "val").value == 0


@pytest.mark.parametrize("off", [0.01, 0.5, 2.0])
def test_answers_off_by_a_share_score_that_share(inputs: Inputs, tmp_path: Path, off: float) -> None:
    other = predictor(linear(tmp_path / "other.onnx", scale=1 + off))
    score = inputs.score(other, "val")
    assert score.value == pytest.approx(off, rel=1e-4)
    assert score.value == pytest.approx(score.errors.sum() / score.weights.sum())
    assert len(score.errors) == inputs.count("val")


def test_the_task_itself_has_no_data_and_no_labels() -> None:
    for call in (lambda: TASK.open(None), lambda: TASK.loss(None, {})):  # type: ignore[arg-type,return-value]
        with pytest.raises(Problem) as caught:
            call()
        assert caught.value.code == Exit.INPUT


def test_distillation_is_relative_to_the_teachers_power() -> None:
    import torch

    teacher = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    small, large = (TASK.distil_loss(1.1 * scale * teacher, scale * teacher, None, temperature=2.0) for scale in (1e-3, 1e3))
    assert float(small) == pytest.approx(0.01, rel=1e-3) and float(large) == pytest.approx(0.01, rel=1e-3)


def test_the_default_plan_has_every_graph_stage_and_limits_of_a_relative_error() -> None:
    plan = default_plan()
    assert [step.name for step in plan.steps] == ["quantize", "equalize", "adaround", "qat"]
    assert plan.max_drop == MAX_DROP
    assert all(getattr(step.settings, "max_loss", 0.01) == 0.01 for step in plan.steps)


def test_reading_arrays_costs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, compress.unlabelled, compress.probes; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=False).returncode == 0
