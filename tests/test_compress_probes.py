"""What a model is timed on: a bundle's own probes, or what the user says; never a guess about a dynamic axis."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compress.probes import model_file, probes_for
from rules.problems import Exit, Problem
from tests import bundle_for_tests


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_for_tests.write(tmp_path_factory.mktemp("probes") / "bundle")


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """image (batch, 1, 32, width), which fails on widths that are not a multiple of four only by giving fewer columns."""
    return bundle_for_tests.model(tmp_path / "model.onnx")


def two_inputs(path: Path) -> Path:
    """ids (batch, 4) int64 and mask (batch, 4) bool: picks the ids that the mask shows."""
    nodes = [helper.make_node("Where", ["mask", "ids", "nought"], ["y"])]
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 4]),
        helper.make_tensor_value_info("mask", TensorProto.BOOL, ["batch", 4]),
    ]
    nought = numpy_helper.from_array(np.zeros(1, np.int64), "nought")
    made = helper.make_graph(nodes, "two", inputs, [helper.make_tensor_value_info("y", TensorProto.INT64, ["batch", 4])], [nought])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def refused(path: Path, *shapes: str, code: Exit = Exit.USAGE, reference: Path | None = None) -> str:
    with pytest.raises(Problem) as caught:
        probes_for(path, shapes, reference=reference)
    assert caught.value.code == code, caught.value
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- a bundle ------------------------------------------------------------------------------------------------------------


def test_a_bundle_is_timed_on_the_probes_its_manifest_names(bundle: Path) -> None:
    named = json.loads((bundle / "manifest.json").read_text())["probes"]
    found = probes_for(bundle, ())
    assert {name: {key: list(array.shape) for key, array in feeds.items()} for name, feeds in found.items()} == named
    assert list(found) == list(named)


def test_a_bundles_probes_are_filled_with_its_golden_inputs(bundle: Path) -> None:
    golden = onnx.TensorProto.FromString((bundle / "golden" / "test_data_set_0" / "input_0.pb").read_bytes())
    values = numpy_helper.to_array(golden)
    for feeds in probes_for(bundle, ()).values():
        width = min(values.shape[3], feeds["image"].shape[3])
        np.testing.assert_array_equal(feeds["image"][..., :width], values[..., :width])


def test_a_folder_without_a_manifest_is_timed_on_its_golden_inputs(copied: Path) -> None:
    (copied / "manifest.json").unlink()
    found = probes_for(copied, ())
    shapes = {numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes())).shape for file in copied.glob("golden/*/input_0.pb")}
    assert {feeds["image"].shape for feeds in found.values()} == shapes


def test_a_bundle_without_golden_inputs_is_asked_for_a_shape(copied: Path) -> None:
    import shutil

    shutil.rmtree(copied / "golden")
    assert "'width' has no length of its own" in refused(copied)


def test_a_given_shape_overrides_a_bundles_probes(bundle: Path) -> None:
    assert list(probes_for(bundle, ("image=1x1x32x48",))) == ["1x1x32x48"]


@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff", b"no tensor at all"])
def test_a_golden_input_that_is_no_tensor_is_named(copied: Path, content: bytes) -> None:
    file = copied / "golden" / "test_data_set_0" / "input_0.pb"
    file.write_bytes(content)
    assert "test_data_set_0/input_0.pb" in refused(copied, code=Exit.INPUT)


def test_a_golden_input_that_points_to_another_file_is_refused(copied: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros((1, 1, 32, 64), np.float32), "image")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    (copied / "golden" / "test_data_set_0" / "input_0.pb").write_bytes(tensor.SerializeToString())
    assert "points to another file" in refused(copied, code=Exit.INPUT)


@pytest.mark.parametrize(
    "probes", [None, [], {"w": {}}, {"w": {"image": [1, 1, 32]}}, {"w": {"image": [1, 1, 32, -1]}}, {"w": {"image": [1, 1, 32, 2**40]}}]
)
def test_a_manifest_whose_probes_are_none_is_one_line(copied: Path, probes: object) -> None:
    path = copied / "manifest.json"
    value = json.loads(path.read_text())
    value["probes"] = probes
    path.write_text(json.dumps(value))
    assert str(path) in refused(copied, code=Exit.INPUT)


# -- a bare graph --------------------------------------------------------------------------------------------------------


def test_a_dynamic_axis_without_a_shape_is_one_line_that_shows_how(graph: Path) -> None:
    said = refused(graph)
    assert "axis 'width' has no length of its own" in said
    assert "--shape image=1x1x32xN" in said


def test_batch_is_one_unless_said(graph: Path) -> None:
    assert list(probes_for(graph, ("image=1x1x32x64",))) == ["1x1x32x64"]
    assert list(probes_for(graph, ("image=3x1x32x64",))) == ["3x1x32x64"]


def test_a_shape_needs_no_name_where_there_is_one_input(graph: Path) -> None:
    assert list(probes_for(graph, ("1x1x32x64",))) == ["1x1x32x64"]


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ("imag=1x1x32x64", "did you mean 'image'"),
        ("image=1x1x32", "got 1x1x32"),
        ("image=1x1x30x64", "has shape batchx1x32xwidth, got 1x1x30x64"),
        ("image=1x1x32xwide", "is no shape"),
        ("image=", "is no shape"),
        ("image=1x1x32x0", "sizes are from 1"),
        ("image=1x1x32x99999999999", "at most 2^26"),
        ("image=-1x-1x32x64", "sizes are from 1"),
    ],
)
def test_a_shape_that_does_not_fit_is_one_line(graph: Path, shape: str, said: str) -> None:
    assert said in refused(graph, shape)


def test_a_shape_given_twice_is_refused(graph: Path) -> None:
    assert "given twice" in refused(graph, "image=1x1x32x64", "image=1x1x32x128")


def test_a_shape_the_graph_fails_on_is_bad_input_and_not_our_bug(graph: Path) -> None:
    assert "failed on image" in refused(graph, "image=1x1x32x2", code=Exit.INPUT)


def test_a_reference_that_takes_something_else_is_named(graph: Path, tmp_path: Path) -> None:
    other = two_inputs(tmp_path / "other.onnx")
    assert "other.onnx needs input 'ids'" in refused(graph, "1x1x32x64", code=Exit.INPUT, reference=other)


def test_made_up_integers_are_valid_as_token_ids_and_masks(tmp_path: Path) -> None:
    (feeds,) = probes_for(two_inputs(tmp_path / "model.onnx"), ()).values()
    assert feeds["ids"].dtype == np.int64 and feeds["mask"].dtype == bool
    assert set(feeds["ids"].ravel()) <= {0, 1}


def test_the_same_seed_makes_the_same_inputs(graph: Path) -> None:
    first, again, other = (probes_for(graph, ("1x1x32x64",), seed=seed)["1x1x32x64"]["image"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@given(st.text(alphabet="image=x0123456789-,. ", max_size=24))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_given_as_a_shape_is_our_bug(graph: Path, text: str) -> None:
    try:
        found = probes_for(graph, (text,))
    except Problem as problem:
        assert problem.code in (Exit.USAGE, Exit.INPUT)
    else:
        assert all(feeds["image"].size <= 2**26 for feeds in found.values())


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(Problem, match="no model file") as caught:
            model_file(path)
        assert caught.value.code == Exit.INPUT
