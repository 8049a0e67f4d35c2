"""Folders as people have them: every format reads the same, every mistake is one line that says where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.data import manifest
from advisor.data.lines import png
from advisor.tasks.ocr import TASK
from rules.problems import Exit, Problem

WORDS = {"a.png": "TOTAL", "b.png": '5" NAIL', "c.png": "x, y", "d.png": "9.00"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in train/, val/ and test/, and no list yet."""
    for split in ("train", "val", "test"):
        (tmp_path / split).mkdir()
        for place, name in enumerate(WORDS):
            shades = np.random.default_rng(place).integers(0, 256, (20, 30 + 9 * place), dtype=np.uint8)
            (tmp_path / split / name).write_bytes(png(shades))
    return tmp_path


def tsv(rows: dict[str, str], split: str) -> str:
    return "".join(f"{split}/{name}\t{text}\n" for name, text in rows.items())


def comma(rows: dict[str, str], split: str) -> str:
    quoted = {name: text.replace('"', '""') for name, text in rows.items()}
    return "file_name,text\r\n" + "".join(f'{split}/{name},"{text}"\r\n' for name, text in quoted.items())


def objects(rows: dict[str, str], split: str) -> str:
    return "\n".join(json.dumps({"image": f"{split}/{name}", "label": text}) for name, text in rows.items())


FORMATS: dict[str, Callable[[dict[str, str], str], str]] = {"tsv": tsv, "csv": comma, "jsonl": objects, "txt": tsv}


def write(folder: Path, suffix: str) -> None:
    for split in ("train", "val", "test"):
        (folder / f"{split}.{suffix}").write_text(FORMATS[suffix](WORDS, split), encoding="utf-8", newline="")


def texts(folder: Path) -> dict[str, dict[str, str]]:
    return {split: {line.id: line.text for line in lines} for split, lines in manifest.corpus(folder, seed=0).splits.items()}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_reads_the_same_lines(folder: Path, suffix: str) -> None:
    write(folder, suffix)
    assert texts(folder) == {split: {f"{split}/{name}": text for name, text in WORDS.items()} for split in ("train", "val", "test")}


def test_lists_inside_the_split_folders_are_found(folder: Path) -> None:
    for split, name in (("train", "metadata.csv"), ("val", "gt.txt"), ("test", "labels.jsonl")):
        suffix = name.partition(".")[2]
        (folder / split / name).write_text(FORMATS[suffix](WORDS, "."), encoding="utf-8")
    assert texts(folder)["val"] == {f"val/{name}": text for name, text in WORDS.items()}


def test_one_list_may_say_the_split_itself(folder: Path) -> None:
    rows = [f"{split}/{name}\t{text}\t{split}" for split in ("train", "val", "test") for name, text in WORDS.items()]
    (folder / "labels.tsv").write_text("path\ttranscription\tsplit\n" + "\n".join(rows), encoding="utf-8")
    assert {split: len(lines) for split, lines in texts(folder).items()} == {"train": 4, "val": 4, "test": 4}


def test_a_byte_order_mark_and_windows_line_ends_are_not_part_of_a_text(folder: Path) -> None:
    write(folder, "tsv")
    (folder / "train.tsv").write_bytes(b"\xef\xbb\xbf" + tsv(WORDS, "train").replace("\n", "\r\n").encode())
    assert texts(folder)["train"] == {f"train/{name}": text for name, text in WORDS.items()}


def test_a_tab_in_a_text_without_a_header_belongs_to_the_text(folder: Path) -> None:
    write(folder, "tsv")
    (folder / "train.tsv").write_text("train/a.png\tA\tB\n", encoding="utf-8")
    assert texts(folder)["train"] == {"train/a.png": "A\tB"}


# -- splits --------------------------------------------------------------------------------------------------------------


def many(folder: Path, count: int) -> None:
    for index in range(count):
        (folder / f"{index}.png").write_bytes(b"")
    (folder / "labels.tsv").write_text("".join(f"{index}.png\tA{index}\n" for index in range(count)), encoding="utf-8")


def test_a_folder_without_splits_gets_a_recorded_one_that_repeats(tmp_path: Path) -> None:
    many(tmp_path, 300)
    once, again, other = (manifest.corpus(tmp_path, seed=seed) for seed in (0, 0, 1))
    assert once.splits == again.splits != other.splits
    assert 15 <= len(once.splits["val"]) <= 50 and 15 <= len(once.splits["test"]) <= 50
    assert sum(map(len, once.splits.values())) == len({line.id for lines in once.splits.values() for line in lines}) == 300
    assert once.facts["split"].startswith("sha256") and once.facts["seed"] == 0


def test_a_new_line_leaves_the_others_in_their_splits(tmp_path: Path) -> None:
    many(tmp_path, 200)
    before = {line.id: split for split, lines in manifest.corpus(tmp_path, seed=0).splits.items() for line in lines}
    many(tmp_path, 201)
    after = {line.id: split for split, lines in manifest.corpus(tmp_path, seed=0).splits.items() for line in lines}
    assert before.items() < after.items()


def test_only_the_missing_split_is_drawn_from_training(folder: Path) -> None:
    many(folder, 100)
    (folder / "labels.tsv").rename(folder / "train.tsv")
    (folder / "test.tsv").write_text(tsv(WORDS, "test"), encoding="utf-8")
    found = manifest.corpus(folder, seed=0)
    assert {line.id for line in found.splits["test"]} == {f"test/{name}" for name in WORDS}
    assert len(found.splits["train"]) + len(found.splits["val"]) == 100
    assert "val" in found.facts["split"] and "test" not in found.facts["split"]


def test_too_few_lines_to_split_are_refused(tmp_path: Path) -> None:
    many(tmp_path, 2)
    with pytest.raises(Problem, match="2 lines are too few to draw a val split from"):
        manifest.corpus(tmp_path, seed=0)


# -- what is refused -----------------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[str, bytes, str]] = {
    "an image that is not there": ("train.tsv", b"train/a.png\tA\ntrain/z.png\tB\n", r"train\.tsv:2: there is no train/z\.png"),
    "an image named twice": (
        "train.tsv",
        b"train/a.png\tA\ntrain/./a.png\tA\n",
        r"train\.tsv:2: train/a\.png is already named at train\.tsv:1",
    ),
    "an image in two splits": ("train.tsv", b"val/a.png\tTOTAL\n", r"val\.tsv:1: val/a\.png is already named at train\.tsv:1"),
    "a way out of the folder": ("train.tsv", b"train/../../secret.png\tA\n", r"train\.tsv:1: '.*secret\.png' leads out of the data folder"),
    "an absolute path": ("train.tsv", b"/etc/passwd\tA\n", r"train\.tsv:1: '/etc/passwd' leads out"),
    "a Windows way out": ("train.tsv", b"..\\..\\secret.png\tA\n", r"train\.tsv:1: .* leads out"),
    "a line without a tab": ("train.tsv", b"train/a.png\tA\ntrain/b.png B\n", r"train\.tsv:2: no tab between file and text"),
    "another encoding": ("train.tsv", "train/a.png\tA\ntrain/b.png\tCAFÉ\n".encode("latin-1"), r"train\.tsv:2: not UTF-8"),
    "UTF-16": ("train.tsv", "train/a.png\tA\n".encode("utf-16"), r"train\.tsv:1: not UTF-8"),
    "a NUL byte": ("train.tsv", b"train/a.png\tA\ntrain/b.png\tB\0C\n", r"train\.tsv:2: a NUL byte"),
    "a text of a million characters": ("train.tsv", b"train/a.png\t" + b"A" * 10**6, r"train\.tsv:1: a text of 1,000,000 characters"),
    "an endless path": ("train.tsv", b"a/" * 4000 + b"\tA\n", r"train\.tsv:1: the path is too long"),
    "an empty list": ("train.tsv", b"\n\n", r"train\.tsv names no file"),
    "an open quote": ("train.csv", b'train/a.png,"A\ntrain/b.png,B\n', r"train\.csv:2: unexpected end of data"),
    "a huge CSV field": ("train.csv", b"train/a.png," + b"A" * 200_000, r"train\.csv:1: field larger"),
    "one CSV column": ("train.csv", b"image,text\ntrain/a.png\n", r"train\.csv:2: 1 columns, 2 are needed"),
    "no image in a row": ("train.csv", b"image,text\n,A\n", r"train\.csv:2: no file is named"),
    "no JSON": ("train.jsonl", b'{"image": "train/a.png", "text": "A"}\n{oops\n', r"train\.jsonl:2: not JSON"),
    "deep JSON": ("train.jsonl", b"[" * 100_000, r"train\.jsonl:1: "),
    "JSON without a text": ("train.jsonl", b'{"image": "train/a.png"}', r"train\.jsonl:1: a file and a text are needed"),
    "a JSON number for a text": ("train.jsonl", b'{"image": "train/a.png", "text": 5}', r"train\.jsonl:1: .* both strings"),
    "an unknown split": ("labels.csv", b"image,text,split\ntrain/a.png,A,trian\n", r"labels\.csv:2: unknown split 'trian'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_list_is_refused_with_its_line(folder: Path, case: str) -> None:
    name, data, reason = BROKEN[case]
    if not name.startswith("labels"):
        (folder / "val.tsv").write_text(tsv(WORDS, "val"), encoding="utf-8")
    (folder / name).write_bytes(data)
    with pytest.raises(Problem, match=reason) as refused:
        manifest.corpus(folder, seed=0)
    assert refused.value.code == Exit.INPUT and "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_a_folder_that_is_missing_empty_or_unlabelled_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place, reason in ((tmp_path / "none", "no data folder"), (tmp_path / "empty", "is empty"), (folder, "has no list")):
        with pytest.raises(Problem, match=reason) as refused:
            TASK.open(place)
        assert refused.value.code == Exit.INPUT


def test_two_lists_for_one_split_are_refused(folder: Path) -> None:
    write(folder, "tsv")
    (folder / "val" / "gt.txt").write_text("a.png\tA\n", encoding="utf-8")
    with pytest.raises(Problem, match=r"val\.tsv and val/gt\.txt for the same lines"):
        manifest.corpus(folder, seed=0)


def test_images_that_are_still_packed_are_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("train/1.jpg\tA\n", encoding="utf-8")
    (tmp_path / "train.tar.xz").write_bytes(b"")
    with pytest.raises(Problem, match=r"has train\.tar\.xz \(unpack first: tar "):
        manifest.corpus(tmp_path, seed=0)


def test_a_broken_image_is_named_with_its_line_in_the_list(folder: Path) -> None:
    write(folder, "tsv")
    (folder / "val" / "b.png").write_bytes(b"no image")
    data = TASK.open(folder)
    with pytest.raises(Problem, match=r"val/b\.png \(val\.tsv:2\) cannot be read: it is no image") as refused:
        data.provenance  # noqa: B018
    assert refused.value.code == Exit.INPUT


# -- properties ----------------------------------------------------------------------------------------------------------

CELL = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(0, 30), CELL, min_size=1, max_size=6), st.sampled_from(["tsv", "csv", "jsonl"]))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: dict[int, str], suffix: str) -> None:
    file = tmp_path_factory.mktemp("list") / f"train.{suffix}"
    file.write_text(FORMATS[suffix]({f"{name}.png": text for name, text in rows.items()}, "d"), encoding="utf-8", newline="")
    assert {image: text for _, image, text, _ in manifest.rows(file, "list")} == {f"d/{name}.png": text for name, text in rows.items()}


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200) | st.text(alphabet='ab\t\n\r,"{}:/.\\', max_size=80).map(str.encode),
    st.sampled_from(["tsv", "csv", "jsonl", "txt"]),
)
def test_any_bytes_are_read_or_refused_and_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str) -> None:
    file = tmp_path_factory.mktemp("list") / f"train.{suffix}"
    file.write_bytes(data)
    try:
        assert manifest.rows(file, "list")
    except Problem as problem:
        assert problem.code == Exit.INPUT and str(problem).startswith("list")
