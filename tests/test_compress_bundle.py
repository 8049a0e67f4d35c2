"""Bundles: whole or not there, every byte accounted for, and never a traceback however hostile the folder."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bundle_for_tests as small
import jsonschema
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compress import bundle, card, golden, manifest, schema
from compress.bundle import MANIFEST, SUMS, integrity, verify
from compress.card import cell
from rules.problems import Exit, Problem

WRITES = 21  # files a small bundle is made of
SCHEMA = json.loads(manifest.SCHEMA.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write(tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def scratch(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("scratch") / "bundle"))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def said(folder: Path) -> str:
    return "\n".join(map(str, verify(folder)))


def resum(folder: Path) -> None:
    """Make the checksums right again, as somebody who means harm would: manifest entries first, then SHA256SUMS."""
    path = folder / MANIFEST
    value = json.loads(path.read_text(encoding="utf-8"))
    for entry in value["files"]:
        file = folder / entry["path"]
        if len(entry["path"]) < 250 and file.is_file():
            entry |= {"size_bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    path.write_text(json.dumps(value), encoding="utf-8")
    (folder / SUMS).write_text(bundle.sums(folder), encoding="utf-8")


def edit(folder: Path, change: Callable[[dict[str, Any]], object], name: str = MANIFEST) -> None:
    """Change a JSON file of the bundle and make the checksums right again."""
    value = json.loads((folder / name).read_text(encoding="utf-8"))
    change(value)
    (folder / name).write_text(json.dumps(value), encoding="utf-8")
    resum(folder)


# -- writing ---------------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_sound(made: Path) -> None:
    assert verify(made) == []


def test_a_bundle_holds_what_the_edge_team_needs(made: Path) -> None:
    names = {path.relative_to(made).as_posix() for path in files(made)}
    assert len(names) == WRITES
    assert names >= {"model.onnx", "labels.txt", "README.md", "report.html", "reader.py", "LICENSE", MANIFEST, SUMS}
    assert names >= {
        "golden/tolerances.json",
        "golden/raw/0.png",
        "golden/test_data_set_0/input_0.pb",
        "golden/test_data_set_0/output_0.pb",
    }


def test_the_same_run_gives_the_same_bytes_but_for_its_timings(made: Path, tmp_path: Path) -> None:
    again = small.write(tmp_path / "bundle")
    assert {path.relative_to(made): path.read_bytes() for path in files(made)} == {
        path.relative_to(again): path.read_bytes() for path in files(again)
    }


def test_the_manifest_obeys_its_published_schema(made: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads((made / MANIFEST).read_text(encoding="utf-8")), SCHEMA)


def test_the_manifest_says_how_far_the_latency_is_to_be_trusted(made: Path) -> None:
    value = bundle.read_manifest(made)
    assert value["latency"]["note"] == "not measured on the target (raspberry-pi-4)" and value["latency"]["measured_on_target"] is False
    assert value["graphs"][0]["inputs"][0]["ranges"]["width"] == {"min": 32, "max": 1024, "multiple": 16}
    assert [stage["status"] for stage in value["metrics"]["stages"]].count("rolled back") == 1
    assert all(stage["after"] is None or stage["after"]["samples"] == 1000 for stage in value["metrics"]["stages"])


def test_the_oldest_runtime_follows_from_opset_and_ir_version(tmp_path: Path) -> None:
    graph = small.model(tmp_path / "model.onnx")
    assert manifest.min_runtime(graph, tested="9.9")["onnxruntime"] == "1.12"
    proto = onnx.load(graph)
    proto.opset_import[0].version = 23
    onnx.save(proto, graph)
    assert manifest.min_runtime(graph, tested="9.9")["onnxruntime"] == "9.9"


def test_golden_tensors_are_plain_onnx(made: Path) -> None:
    tensor = onnx.TensorProto.FromString((made / "golden" / "test_data_set_1" / "input_0.pb").read_bytes())
    assert tensor.name == "image" and onnx.numpy_helper.to_array(tensor).dtype == np.float32


def test_nothing_but_a_bundle_is_ever_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(Problem, match="is no bundle") as caught:
        small.write(folder)
    assert caught.value.code == Exit.USAGE and (folder / "photo.jpg").read_bytes() == b"precious"


def test_an_older_bundle_is_replaced_whole(copy: Path) -> None:
    (copy / "stale.txt").write_text("from before")
    small.write(copy, seed=1)
    assert integrity(copy) == [] and not (copy / "stale.txt").exists()
    assert [path.name for path in copy.parent.iterdir() if path.is_dir()] == ["bundle"]


@pytest.mark.parametrize("broken", range(WRITES))
def test_a_failure_at_any_write_leaves_the_old_bundle_or_the_new_one(
    made: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    import compress.files

    calls, whole = iter(range(10_000)), compress.files.publish

    def publish(path: Path, write: Callable[[Path], object]) -> Path:
        if next(calls) == broken:
            raise compress.files.explain(OSError(28, "No space left on device"), path)
        return whole(path, write)

    monkeypatch.setattr(compress.files, "publish", publish)
    with pytest.raises(Problem, match="no space left") as caught:
        small.write(copy, seed=1)
    assert caught.value.code == Exit.ENVIRONMENT
    assert [(path.relative_to(copy), path.read_bytes()) for path in files(copy)] == [
        (path.relative_to(made), path.read_bytes()) for path in files(made)
    ]
    assert [path.name for path in copy.parent.iterdir() if path.is_dir()] == ["bundle"]


def test_a_task_whose_steps_have_no_name_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="without an"):
        small.write(tmp_path / "bundle", data=small.Digits(preprocess=({"step": "grey"},)))


def test_steps_the_reader_does_not_know_are_not_claimed_to_be_checked(tmp_path: Path) -> None:
    folder = small.write(tmp_path / "bundle", data=Unknown())
    checks = [entry["checks"] for entry in json.loads((folder / "golden" / "tolerances.json").read_text())["sets"]]
    assert verify(folder) == [] and checks == [["output", "raw"]] * 4


class Unknown(small.Digits):
    """A task with its own way of reading an output."""

    def __init__(self) -> None:
        super().__init__(postprocess=({"op": "own-decoder"},))

    def read(self, outputs: Any) -> list[str]:
        return ["?" for _ in outputs["logits"]]


# -- verifying -------------------------------------------------------------------------------------------------------------------


def test_two_hundred_flips_removals_and_additions_are_all_found(copy: Path) -> None:
    """Single bits in every file, files taken away, files put in: none may pass."""
    chance = random.Random(7)
    everything = files(copy)
    for trial in range(200):
        path = everything[trial % len(everything)]
        before = path.read_bytes()
        kind = "flip" if trial < 140 else "remove" if trial < 165 else "truncate" if trial < 175 else "add"
        extra = copy / chance.choice(["extra.txt", "golden/raw/9.png", ".hidden", "golden/more/x"])
        if kind == "flip":
            place = chance.randrange(len(before))
            path.write_bytes(before[:place] + bytes([before[place] ^ (1 << chance.randrange(8))]) + before[place + 1 :])
        elif kind == "remove":
            path.unlink()
        elif kind == "truncate":
            path.write_bytes(before[: chance.randrange(len(before))])
        else:
            extra.parent.mkdir(exist_ok=True)
            extra.write_bytes(b"")
        assert integrity(copy), f"{kind} of {path.relative_to(copy)} was not found"
        path.write_bytes(before)
        extra.unlink(missing_ok=True)
        shutil.rmtree(copy / "golden" / "more", ignore_errors=True)
    assert integrity(copy) == []


def test_a_changed_file_is_named(copy: Path) -> None:
    (copy / "golden" / "raw" / "2.png").write_bytes(b"")
    assert f"golden/raw/2.png: does not match its checksum in {SUMS}" in said(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "".join(reversed(text.splitlines(keepends=True))),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + "\n",
        lambda text: text + text.splitlines(keepends=True)[0],
        lambda text: text.upper(),
        lambda text: text.replace("  ", " *"),
        lambda text: "",
    ],
)
def test_checksums_written_in_any_other_way_are_found(copy: Path, change: Callable[[str], str]) -> None:
    path = copy / SUMS
    path.write_bytes(change(path.read_text(encoding="utf-8")).encode())
    assert integrity(copy)


def test_the_model_is_replayed_within_bounds(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "MEMORY_BYTES", 2**24)  # far too little to load a runtime in
    assert golden.replay(copy)


def test_a_changed_bundle_is_not_run(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "labels.txt").write_text("x\n")
    monkeypatch.setattr("compress.golden.replay", lambda folder: pytest.fail("the model was run"))
    assert "was not run" in said(copy)


def test_every_kind_of_foreign_entry_is_found(copy: Path) -> None:
    (copy / "twin.onnx").symlink_to("model.onnx")
    os.mkfifo(copy / "pipe")
    (copy / "bell\a.txt").write_text("")
    assert all(
        word in said(copy)
        for word in ("twin.onnx: is a symbolic link", "pipe: is no regular file", "bell\\x07.txt: has control characters")
    )


@pytest.mark.parametrize("name", [SUMS, MANIFEST, "model.onnx"])
def test_a_link_in_the_place_of_a_file_is_found_and_not_followed(copy: Path, tmp_path: Path, name: str) -> None:
    shutil.move(copy / name, tmp_path / "elsewhere")
    (copy / name).symlink_to(tmp_path / "elsewhere")
    assert f"{name}: is a symbolic link" in said(copy)


@pytest.mark.parametrize("change", [b"", b"\xff\xfe", b"[]", b"{}", b'{"schema_version": NaN}', b"[" * 100_000, b'{"a":1,"a":2}'])
def test_a_manifest_that_is_none_is_a_finding(copy: Path, change: bytes) -> None:
    (copy / MANIFEST).write_bytes(change)
    (copy / SUMS).write_text(bundle.sums(copy), encoding="utf-8")
    assert MANIFEST in said(copy)


@pytest.mark.parametrize("path", ["../escape", "/etc/passwd", "a/../../b", "a/..", ".", "a\\b", "C:x", "a\n", "x" * 300])
def test_a_path_that_leads_out_is_refused_by_the_schema(copy: Path, path: str) -> None:
    edit(copy, lambda value: value["files"][0].update(path=path))
    assert "does not have the form" in said(copy) or "characters, at most" in said(copy)


def test_what_the_manifest_says_of_the_files_must_be_so(copy: Path) -> None:
    value = json.loads((copy / MANIFEST).read_text())
    del value["files"][0]
    value["files"].append({**value["files"][0], "path": "nowhere.txt"})
    (copy / MANIFEST).write_text(json.dumps(value))
    (copy / SUMS).write_text(bundle.sums(copy))
    assert "lists nowhere.txt, which is missing" in said(copy) and "does not list LICENSE" in said(copy)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda value: value["labels"].reverse(), "labels.txt: differs"),
        (lambda value: value["graphs"][0].update(file="reader.py"), "names reader.py as a graph"),
        (lambda value: value["graphs"][0]["inputs"][0].update(dtype="uint8"), "model.onnx: has inputs"),
        (lambda value: value["graphs"][0]["outputs"][0].update(name="other"), "model.onnx: has outputs"),
        (lambda value: value["preprocess"][1].update(height=16), "cannot be replayed|made from raw|has shape"),
        (lambda value: value["preprocess"][1].update(height=10**9), "golden: replaying asks for more memory"),
        (lambda value: value["preprocess"].insert(0, {"op": "format-disk"}), "does not know"),
        (lambda value: value["postprocess"][0].update(blank=3), "reads '|cannot be replayed"),
    ],
)
def test_a_manifest_that_contradicts_the_files_is_found_though_every_checksum_is_right(copy: Path, change: Any, expected: str) -> None:
    import re

    edit(copy, change)
    assert re.search(expected, said(copy)), said(copy)


def test_another_model_with_right_checksums_fails_its_golden_vectors(copy: Path) -> None:
    small.model(copy / "model.onnx", seed=1)
    resum(copy)
    found = said(copy)
    assert "differs by up to" in found and "reads '" in found


def test_a_golden_file_that_leads_out_is_not_followed(copy: Path) -> None:
    edit(copy, lambda value: value["sets"][0].update(raw="../../../etc/passwd"), "golden/tolerances.json")
    assert "which is outside" in said(copy)


@pytest.mark.parametrize("content", [b"", b"not onnx", b"PK\x03\x04", b"\x08\x08"])
def test_a_model_that_is_none_is_a_finding(copy: Path, content: bytes) -> None:
    (copy / "model.onnx").write_bytes(content)
    resum(copy)
    assert "model.onnx" in said(copy)


def test_a_model_that_asks_for_gigabytes_is_a_finding(copy: Path) -> None:
    node = onnx.helper.make_node("ConstantOfShape", ["shape"], ["image_out"])
    graph = onnx.helper.make_graph(
        [node],
        "bomb",
        [onnx.helper.make_tensor_value_info("shape", onnx.TensorProto.INT64, [1])],
        [onnx.helper.make_tensor_value_info("image_out", onnx.TensorProto.FLOAT, ["n"])],
        [onnx.numpy_helper.from_array(np.array([10**10], np.int64), "shape")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), copy / "model.onnx")
    resum(copy)
    assert "model.onnx" in said(copy)


def test_no_folder_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(Problem) as caught:
        verify(tmp_path / "nowhere")
    assert caught.value.code == Exit.INPUT


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200), name=st.sampled_from([MANIFEST, SUMS, "golden/tolerances.json", "golden/test_data_set_0/input_0.pb"])
)
def test_arbitrary_bytes_anywhere_are_findings_and_never_a_crash(scratch: Path, content: bytes, name: str) -> None:
    before = (scratch / name).read_bytes()
    (scratch / name).write_bytes(content)
    if name != SUMS:
        (scratch / SUMS).write_text(bundle.sums(scratch), encoding="utf-8")
    assert integrity(scratch)
    if name not in (SUMS, MANIFEST):
        assert golden.faults(scratch)
    (scratch / name).write_bytes(before)
    (scratch / SUMS).write_text(bundle.sums(scratch), encoding="utf-8")


# -- the schema checker ----------------------------------------------------------------------------------------------------------


def mutations(value: Any, chance: random.Random) -> Any:
    """The value with one thing in it changed: a key gone, a type swapped, a number negative, a stranger added."""
    value = json.loads(json.dumps(value))
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []:
            places.append((node, key))
            walk(node[key])

    walk(value)
    node, key = chance.choice(places)
    swap = chance.choice([None, True, -1, 1.5, 2.0, "", "text/..", [], {}, {"stranger": 1}, "remove", "x" * 5000])
    if swap == "remove":
        del node[key]
    else:
        node[key] = swap
    return value


def test_our_checker_agrees_with_jsonschema_on_damaged_manifests(made: Path) -> None:
    value = json.loads((made / MANIFEST).read_text(encoding="utf-8"))
    slim = {**value, "plan": {}, "latency": {**value["latency"], "profile": {}}, "data": {}}
    reference, chance = jsonschema.Draft202012Validator(SCHEMA), random.Random(3)
    wrong = 0
    for _ in range(150):
        damaged = mutations(slim, chance)
        ours = bool(schema.faults(damaged, SCHEMA))
        assert ours == (not reference.is_valid(damaged)), damaged
        wrong += ours
    assert 40 < wrong < 150


def test_a_rule_the_checker_does_not_know_is_not_skipped() -> None:
    with pytest.raises(KeyError):
        schema.faults({}, {"oneOf": []})


# -- the card --------------------------------------------------------------------------------------------------------------------


def test_the_card_has_front_matter_the_hub_reads(made: Path) -> None:
    text = (made / "README.md").read_text(encoding="utf-8")
    front = text.split("---\n")[1]
    assert "library_name: onnxruntime" in front and "pipeline_tag: image-to-text" in front and "value: 2.34" in front
    assert "**not measured on the target**" in text and "10 characters and no other: 0123456789" in text


@pytest.mark.parametrize("missing", ["note", "controls", "recommendation", "teacher"])
def test_a_card_needs_no_more_than_a_run_always_records(missing: str) -> None:
    record = small.record()
    record.pop(missing)
    for key in ("cpu", "onnxruntime"):
        record["environment"].pop(key)
    assert card.render(record, small.Digits()).startswith("---\n")


def test_a_card_of_unlabelled_inputs_does_not_say_what_its_net_was_trained_on() -> None:
    record = small.record()
    assert "It was trained on" in card.render(record, small.Digits())
    record["data"]["labels"] = "none"
    text = card.render(record, small.Digits())
    assert "It was trained on" not in text and "What it was trained on is not known here" in text


@given(st.text(max_size=60))
def test_a_cell_keeps_its_row(text: str) -> None:
    found = cell(text)
    assert "\n" not in found and "\r" not in found and "<" not in found
    assert all(found[place - 1] == "\\" for place, letter in enumerate(found) if letter in "|`[")
