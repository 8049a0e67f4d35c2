"""The reader in the bundle: it stands alone, does to an image exactly what the task does, and measures like our own profile."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import bundle_for_tests as small
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor import ctc
from advisor.data import lines
from compress.reader import reader
from compress.reader.reader import Refused

SOURCE = Path(reader.__file__)
KINDS = [
    ("L", "PNG"),
    ("RGB", "PNG"),
    ("RGB", "JPEG"),
    ("L", "BMP"),
    ("RGBA", "PNG"),
    ("LA", "PNG"),
    ("1", "PNG"),
    ("P", "GIF"),
    ("L", "PPM"),
    ("RGB", "TIFF"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write(tmp_path_factory.mktemp("made") / "bundle")


def run(bundle: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The reader as on a board: isolated from our code, from another folder, with onnxruntime, numpy and Pillow alone to be had."""
    command = [sys.executable, "-I", str(bundle / "reader.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


# -- alone on a board ------------------------------------------------------------------------------------------------------------


def test_it_imports_nothing_but_python_onnxruntime_numpy_and_pillow() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 8))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert foreign == {"numpy", "onnxruntime", "PIL"}


def test_it_reads_an_image_from_any_folder_and_prints_the_reading_alone(made: Path, tmp_path: Path) -> None:
    expected = json.loads((made / "golden" / "tolerances.json").read_text())["sets"][0]["reading"]
    shutil.copy(made / "golden" / "raw" / "0.png", tmp_path / "line.png")
    found = run(made, "line.png", cwd=tmp_path)
    assert (found.returncode, found.stdout, found.stderr) == (0, expected + "\n", "")


def test_it_answers_in_json_with_a_confidence(made: Path, tmp_path: Path) -> None:
    found = run(made, made / "golden" / "raw" / "1.png", made / "golden" / "raw" / "2.png", "--json", "--beam", cwd=tmp_path)
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    assert [answer["schema_version"] for answer in answers] == [1, 1] and all(0 < answer["confidence"] <= 1 for answer in answers)


def test_it_replays_the_golden_vectors(made: Path, tmp_path: Path) -> None:
    assert "every golden vector is reproduced" in run(made, "--self-test", cwd=tmp_path).stdout


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "golden/raw/0.png", "SHA256SUMS", "reader.py"])
def test_it_refuses_a_bundle_that_was_changed_before_it_opens_anything(made: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "bundle"))
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data.replace(b"0", b"1", 1) if name != "reader.py" else data + b"\n")
    found = run(copy, made / "golden" / "raw" / "0.png", cwd=tmp_path)
    assert found.returncode == 3 and "not as it was made" in found.stderr and len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize("content", [None, b"", b"no image", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_image_is_refused_in_one_line(made: Path, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    found = run(made, "x.png", cwd=tmp_path)
    assert found.returncode == 3 and "x.png" in found.stderr and len(found.stderr.splitlines()) == 1


def test_no_arguments_are_a_usage_error(made: Path, tmp_path: Path) -> None:
    assert run(made, cwd=tmp_path).returncode == 2
    assert run(made, "x.png", "--threads", "0", cwd=tmp_path).returncode == 2


def test_a_provider_that_is_not_here_is_refused_and_not_replaced(made: Path, tmp_path: Path) -> None:
    found = run(made, "--self-test", "--provider", "NoSuchExecutionProvider", cwd=tmp_path)
    assert found.returncode == 3 and "has no NoSuchExecutionProvider here" in found.stderr


# -- a profile made on a board ---------------------------------------------------------------------------------------------------


def test_its_profile_has_the_shape_of_ours_and_the_gate_accepts_it(made: Path, tmp_path: Path) -> None:
    from compress.limits import read_profile
    from compress.profile import profile

    other = small.model(tmp_path / "other.onnx", seed=3)
    assert run(made, "--profile", "out.json", "--reference", other, cwd=tmp_path).returncode == 0
    theirs = read_profile(tmp_path / "out.json")
    ours = profile(made / "model.onnx", small.Digits().probes(), reference=other, rounds=4)
    assert theirs["probes"].keys() == ours["probes"].keys() and theirs["headline"] == ours["headline"] == "w64"
    assert theirs["file"]["sha256"] == ours["file"]["sha256"] and theirs["reference"]["sha256"] == ours["reference"]["sha256"]
    for key in ("wall_ms", "cpu_ms", "ratio", "noise", "shapes"):
        assert theirs["probes"]["w64"][key].keys() == ours["probes"]["w64"][key].keys()
    assert theirs.keys() - ours.keys() == {"kind", "made_by"} and {"headline", "threads", "provider", "level"} <= theirs.keys()


def test_it_names_this_machine_as_our_profile_does() -> None:
    from compress.profile import fingerprint
    from compress.runtime import environment

    ours, theirs = environment(), reader.device()
    assert theirs["fingerprint"] == fingerprint(ours)
    assert all(ours[key] == theirs[key] for key in theirs.keys() - {"fingerprint"})


# -- the same image, the same array, the same reading ----------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "kind"), KINDS)
def test_fifty_and_more_images_become_the_very_array_the_task_makes_of_them(mode: str, kind: str) -> None:
    """Conformance: 10 kinds of file × 6 sizes, bit for bit."""
    for index, (width, height) in enumerate([(90, 32), (300, 48), (17, 40), (1500, 20), (33, 32), (640, 97)]):
        raw = small.image(index, width=width, height=height, mode=mode, kind=kind)
        ours, theirs = lines.apply(lines.STEPS, raw), reader.apply(raw, json.loads(json.dumps(lines.STEPS)))
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


def test_a_transparent_line_stands_on_paper() -> None:
    array = reader.apply(small.image(0, mode="RGBA"), [{"op": "decode"}, {"op": "array"}])
    assert array.shape == (1, 1, 32, 90)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(1, 12),
    classes=st.integers(2, 8),
    sharp=st.sampled_from([0.3, 1.0, 4.0]),
    blank=st.booleans(),
)
def test_it_decodes_as_the_task_does_greedily_and_with_a_beam(seed: int, steps: int, classes: int, sharp: float, blank: bool) -> None:
    logits = (sharp * np.random.default_rng(seed).standard_normal((1, steps, classes))).astype(np.float32)
    at = classes - 1 if blank else 0
    scores = reader.log_softmax(logits[0])
    assert tuple(reader.greedy(scores, at)) == ctc.greedy(logits, blank=at)[0]
    for width in (1, 2, 5):
        assert tuple(reader.beam_search(scores, at, width)) == ctc.beam(logits, width=width, blank=at)[0]


def test_a_beam_finds_what_greedy_reading_misses() -> None:
    """Two paths of `a` outweigh the one best path, which is empty: 0.6 · 0.6 < 0.4 · 0.6 + 0.6 · 0.4 + 0.4 · 0.4."""
    scores = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))
    assert reader.greedy(scores, 0) == [] and reader.beam_search(scores, 0) == [1]


def test_labels_skip_the_blank_wherever_it_is() -> None:
    logits = np.full((1, 3, 4), -9.0)
    logits[0, [0, 1, 2], [3, 1, 0]] = 9.0
    assert reader.ctc(logits, ["a", "b", "c"], blank=1)[0] == "ca"


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_image_and_no_crash(raw: bytes) -> None:
    with pytest.raises(Refused):
        reader.apply(raw, lines.STEPS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.int32, np.uint8, np.int8, np.bool_])
def test_it_reads_tensors_as_onnx_writes_them(dtype: Any) -> None:
    array = (np.random.default_rng(0).random((2, 3, 5)) * 4).astype(dtype)
    name, found = reader.read_tensor(onnx.numpy_helper.from_array(array, "x").SerializeToString())
    assert name == "x" and found.dtype == dtype and np.array_equal(found, array)
    assert reader.read_tensor(onnx.numpy_helper.from_array(np.array(3.0, np.float32), "s").SerializeToString())[1].shape == ()


@pytest.mark.parametrize("steps", [[{"op": "format-disk"}], [{}], [{"op": "decode", "colour": "grey"}]])
def test_a_step_it_does_not_know_is_refused_by_name(steps: list[dict[str, Any]]) -> None:
    with pytest.raises(Refused, match=r"does not know|does not fit"):
        reader.apply(small.image(0), steps)
