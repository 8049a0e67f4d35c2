"""Folders of images or recordings with a list that says what each says: TSV, CSV, JSONL, or the benchmarks' `gt.txt`.

A folder holds train, val and test lists (`train.tsv`, `val.csv`, `test.jsonl` …, or the same inside folders of those names), or one
list (`labels`, `gt`, `metadata`, `annotations`, `manifest`) with or without a split column. A list names an image, relative to
itself, and its text. A first line of known column names (image, file, path … and text, label …) is a header; without one the first
column is the image and the second the text. TSV and TXT take everything after the tab as it stands, CSV knows quotes, JSONL keys.

Nothing is guessed where it could be wrong: each refusal is one line that names the list and the line in it, exit 3.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from advisor.data.corpus import SPLITS, Corpus, Line, Split, complete, complete_by_class, unique
from advisor.data.text_files import text_of
from rules.problems import Problem, bad_input

NAMES: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
SINGLE = ("labels", "gt", "metadata", "annotations", "manifest")
SUFFIXES = (".tsv", ".csv", ".jsonl", ".txt")
IMAGE_COLUMNS = frozenset(
    {"image", "file", "path", "file_name", "filename", "image_path", "audio", "audio_filepath", "wav", "clip", "video"}
)
TEXT_COLUMNS = frozenset({"text", "label", "class", "transcription", "words", "mask", "caption", "person"})
SPLIT_COLUMNS = frozenset({"split", "set", "subset"})
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
LONGEST_TEXT = 1000
LONGEST_PATH = 1024

Row = tuple[int, str, str, str | None]  # line number, image, text, split


@dataclass(frozen=True, slots=True)
class List:
    """One list: the file, the folder its images are looked for in, and the split it is about (None: it says so itself)."""

    file: Path
    split: Split | None


def corpus(folder: Path, *, seed: int, training: bool = True, folders: bool = False, strangers: bool = False) -> Corpus:
    """The lines of `folder`; without `training` it may hold only lines to score. With `folders` a list may name folders as well as files.
    With `strangers` no text (a person, a kind) is in two splits.

    Raises Problem (exit 3) for whatever is missing, damaged, doubled or outside the folder.
    """
    lists = find(folder)
    parts: dict[Split, list[Line]] = {split: [] for split in SPLITS}
    places: dict[str, Path] = {}
    for entry in lists:
        for line, split, place in _lines(entry, folder, folders):
            parts[split or "train"].append(line)
            places.setdefault(line.id, place)
    unique(line for split in SPLITS for line in parts[split])
    divide = complete_by_class if strangers else complete
    splits, how = divide(parts, seed=seed, source=str(folder), training=training)
    facts = {
        "source": folder.resolve().name,
        "lists": [entry.file.relative_to(folder).as_posix() for entry in lists],
        "licence": "not stated",
        **how,
    }
    return Corpus(splits, lambda line: _image(places[line.id], line), facts)


def find(folder: Path) -> list[List]:
    """The lists of a folder. Raises Problem (exit 3) when there is no folder, none of them, or two for the same lines."""
    if not folder.is_dir():
        raise bad_input(f"no data folder {folder}", remedy="give a folder with train.tsv, or leave --data out for the built-in digits")
    named: dict[Split, list[Path]] = {}
    for name, split in NAMES.items():
        inside = [file for single in (*SINGLE, name) for file in _files(folder / name, single)]
        named.setdefault(split, []).extend([*_files(folder, name), *inside])
    single = [file for name in SINGLE for file in _files(folder, name)]
    for files in (*named.values(), single):
        if len(files) > 1:
            both = " and ".join(file.relative_to(folder).as_posix() for file in files[:2])
            raise bad_input(f"{folder} has {both} for the same lines", remedy="keep one of them")
    found = [List(files[0], split) for split, files in named.items() if files]
    if found and single and not any(entry.split == "train" for entry in found):
        found.append(List(single[0], "train"))
    if not found and not single:
        what = "is empty" if not any(folder.iterdir()) else "has no list of what its files say"
        raise bad_input(f"{folder} {what}", remedy="write train.tsv (and val.tsv, test.tsv), one 'file<TAB>text' a line")
    return found or [List(single[0], None)]


def _files(folder: Path, name: str) -> list[Path]:
    return [file for suffix in SUFFIXES if (file := folder / f"{name}{suffix}").is_file()]


def _lines(entry: List, folder: Path, folders: bool) -> Iterator[tuple[Line, Split | None, Path]]:
    """The list's lines, checked one by one: (line, its split, its image file)."""
    shown = entry.file.relative_to(folder).as_posix()
    inside = PurePosixPath(entry.file.parent.relative_to(folder).as_posix())
    for number, image, text, said in rows(entry.file, shown):
        where = f"{shown}:{number}"
        name = _inside(inside, image, folder, where)
        if len(text) > LONGEST_TEXT:
            raise bad_input(
                f"{where}: a text of {len(text):,} characters", remedy=f"a line has at most {LONGEST_TEXT:,}: is a quote left open?"
            )
        place = folder / name
        if not (place.is_file() or (folders and place.is_dir())):
            raise _missing(where, image, folder)
        yield Line(name, text, where), entry.split or _split(said, where), place


def _inside(base: PurePosixPath, image: str, folder: Path, where: str) -> str:
    """The image's path relative to the data folder. Raises Problem when it leads out of it."""
    if not image or len(image) > LONGEST_PATH:
        raise bad_input(f"{where}: {'no file is named' if not image else 'the path is too long'}", remedy="write 'file<TAB>text'")
    path = image.replace("\\", "/")
    absolute = PurePosixPath(path).is_absolute()
    joined = os.path.normpath(path) if absolute else os.path.normpath(str(base / path))
    joined = os.path.relpath(joined, folder.resolve()) if absolute else joined
    if joined == ".." or joined.startswith("../"):
        raise bad_input(f"{where}: {image!r} leads out of the data folder", remedy="keep the files inside it")
    return joined


def _split(said: str | None, where: str) -> Split | None:
    if said is None:
        return None
    if (name := said.strip().lower()) not in NAMES:
        raise bad_input(f"{where}: unknown split {said!r}", remedy="write train, val or test")
    return NAMES[name]


def _missing(where: str, image: str, folder: Path) -> Problem:
    packed = sorted(file.name for file in folder.iterdir() if file.name.endswith(ARCHIVES))
    if packed:
        return bad_input(
            f"{where}: there is no {image}, but {folder} has {', '.join(packed)}",
            remedy=f"unpack first: tar -C {folder} -xf {folder / packed[0]}",
        )
    return bad_input(f"{where}: there is no {image}", remedy="mend the list; paths are relative to it")


def _image(place: Path, line: Line) -> bytes:
    try:
        return place.read_bytes()
    except OSError as error:
        raise bad_input(f"{line.where}: {line.id} cannot be read: {error.strerror}", remedy="check the file and its permissions") from None


# -- the formats ---------------------------------------------------------------------------------------------------------


def rows(file: Path, shown: str) -> list[Row]:
    """The rows of a list: (line number, image, text, split or None). Raises Problem (exit 3) naming `shown` and the line."""
    text = text_of(file, shown)
    found = _FORMATS[file.suffix](text, shown)
    if not found:
        raise bad_input(f"{shown} names no file", remedy="write one 'file<TAB>text' a line")
    return found


def _tabbed(text: str, shown: str) -> list[Row]:
    """image TAB text, nothing quoted. A third column is kept only when a header names it, else it is part of the text."""
    numbered = [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    columns = _header(numbered[0][1].split("\t")) if numbered else None
    found = []
    for number, line in numbered[1:] if columns else numbered:
        cells = line.split("\t") if columns else line.split("\t", 1)
        if len(cells) < 2:
            raise bad_input(f"{shown}:{number}: no tab between file and text: {line[:60]!r}", remedy="write 'file<TAB>text'")
        found.append(_pick(cells, columns or (0, 1, None), f"{shown}:{number}", number))
    return found


def _comma(text: str, shown: str) -> list[Row]:
    """image, text with CSV's quotes."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[Row] = []
    columns: tuple[int, int, int | None] | None = None
    try:
        for cells in reader:
            if not any(cells):
                continue
            if not found and columns is None and (columns := _header(cells)):
                continue
            found.append(_pick(cells, columns or (0, 1, None), f"{shown}:{reader.line_num}", reader.line_num))
    except csv.Error as error:
        raise bad_input(f"{shown}:{reader.line_num}: {error}", remedy="is a quote left open?") from None
    return found


def _json(text: str, shown: str) -> list[Row]:
    """One object a line."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            found.append(_object(line, f"{shown}:{number}", number))
    return found


def _object(line: str, where: str, number: int) -> Row:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise bad_input(f"{where}: not JSON: {line[:60]!r}", remedy='write {"file": …, "text": …}, one object a line') from None
    keys = {str(key).lower(): value for key, value in entry.items()} if isinstance(entry, dict) else {}
    image, text, split = (
        next((keys[key] for key in sorted(names) if key in keys), None) for names in (IMAGE_COLUMNS, TEXT_COLUMNS, SPLIT_COLUMNS)
    )
    if not isinstance(image, str) or not isinstance(text, str) or not isinstance(split, str | None):
        raise bad_input(f"{where}: a file and a text are needed, both strings: {line[:60]!r}", remedy='write {"file": …, "text": …}')
    return number, image, text, split


def _header(cells: Sequence[str]) -> tuple[int, int, int | None] | None:
    """Where image, text and split stand, when the cells are column names."""
    names = [cell.strip().lower() for cell in cells]
    at = [
        next((place for place, name in enumerate(names) if name in wanted), None) for wanted in (IMAGE_COLUMNS, TEXT_COLUMNS, SPLIT_COLUMNS)
    ]
    image, text, split = at
    return None if image is None or text is None else (image, text, split)


def _pick(cells: Sequence[str], columns: tuple[int, int, int | None], where: str, number: int) -> Row:
    image, text, split = columns
    last = max(place for place in columns if place is not None)
    if len(cells) <= last:
        raise bad_input(f"{where}: {len(cells)} columns, {last + 1} are needed", remedy="write a file and a text on every line")
    return number, cells[image].strip(), cells[text], cells[split] if split is not None else None


_FORMATS: Mapping[str, Callable[[str, str], list[Row]]] = {".tsv": _tabbed, ".txt": _tabbed, ".csv": _comma, ".jsonl": _json}
