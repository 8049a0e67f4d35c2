"""Parallel text as people keep it: two files side by side, a line a pair; TSV with two columns; JSONL.

Two files: `train.en` and `train.de`, with `.gz` behind it or not; what stands before the language says the split (train, val, dev, valid,
test). Several may say the same split (`test_2016.en`, `test_2017.en`): name the one that is meant. TSV: source<TAB>target, a header
"source<TAB>target" by choice. JSONL: {"source": …, "target": …}. Texts are UTF-8. What cannot be read is refused with file and line, exit 3.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from advisor.data.corpus import SPLITS, Split
from advisor.data.documents import decoded
from advisor.data.tables import WORDS
from rules.problems import bad_input

LISTS = (".tsv", ".jsonl")
MOST_BYTES = 2**30
REMEDY = "give train.SOURCE and train.TARGET, a .tsv of two columns, or a .jsonl with source and target"


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and its translation. `where` is the place to look when something is wrong with it."""

    source: str
    target: str
    where: str


Pairs = Mapping[Split, Sequence[Pair]]
Found = TypeVar("Found")


def read(folder: Path, *, source: str | None, target: str | None, named: Mapping[Split, str | None]) -> dict[Split, list[Pair]]:
    """The pairs at `folder` (or of one list file) by split, those there are.

    `source` and `target` are the endings of two files side by side, "en" and "de"; `named` says which of several files a split is.
    Raises Problem (exit 3) for whatever is missing or damaged.
    """
    if folder.is_file():
        return {_said(folder.name) or "train": list(_listed(folder))}
    if not folder.is_dir():
        raise bad_input(f"no data at {folder}", remedy=f"{REMEDY}, or leave --data out for the built-in pairs")
    lists = sorted(path for path in folder.iterdir() if path.suffix in LISTS and path.is_file())
    sides = _sides(folder)
    if lists and not (source and target):
        return {split: list(_listed(path)) for split, path in _one_each({path.stem: path for path in lists}, named, folder).items()}
    if not (source and target):
        found = ", ".join(sorted({ending for endings in sides.values() for ending in endings}))
        raise bad_input(
            f"{folder} has files in {found or 'no language'}", remedy='say source = "en" and target = "de" in the plan\'s [settings]'
        )
    both = {stem: endings for stem, endings in sides.items() if source in endings and target in endings}
    if not both:
        raise bad_input(f"{folder} has no pair of files .{source} and .{target}", remedy=REMEDY)
    chosen = _one_each({stem: stem for stem in both}, named, folder)
    return {split: list(_beside(both[stem][source], both[stem][target])) for split, stem in chosen.items()}


def _sides(folder: Path) -> dict[str, dict[str, Path]]:
    """Files named STEM.LANGUAGE or STEM.LANGUAGE.gz whose stem says a split: by stem, then by language."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(".gz")
        stem, dot, ending = name.rpartition(".")
        if path.is_file() and dot and _said(stem) and f".{ending}" not in (*LISTS, ".txt", ".md"):
            found.setdefault(stem, {})[ending] = path
    return found


def _one_each(found: Mapping[str, Found], named: Mapping[Split, str | None], folder: Path) -> dict[Split, Found]:
    """The file of each split. Raises Problem (exit 3) where several say the same and none is named."""
    chosen: dict[Split, Found] = {}
    for split in SPLITS:
        wanted = named.get(split)
        names = [wanted] if wanted else [name for name in found if _said(name) == split]
        if wanted and wanted not in found:
            raise bad_input(f"{folder} has no {wanted}, it has {', '.join(found)}", remedy=f"name the {split} file as it is")
        if len(names) > 1:
            raise bad_input(
                f"{folder} has {' and '.join(names)} for {split}", remedy=f'say which: {split}_file = "{names[0]}" in [settings]'
            )
        if names:
            chosen[split] = found[names[0]]
    return chosen


def _said(name: str) -> Split | None:
    """The split a file name says; None where it says none."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((WORDS[word] for word in words if word in WORDS), None)


def _lines(path: Path) -> list[str]:
    """The lines of a text file, packed or not."""
    try:
        with path.open("rb") as file:
            packed = path.suffix == ".gz"
            raw = gzip.GzipFile(fileobj=file).read(MOST_BYTES + 1) if packed else file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise bad_input(f"{path.name} cannot be read: {error}") from error
    if len(raw) > MOST_BYTES:
        raise bad_input(f"{path.name} has more than {MOST_BYTES:,} bytes", remedy="give less of it")
    lines = decoded(raw, path.name).split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


def _beside(source: Path, target: Path) -> Iterator[Pair]:
    """Two files, a line a pair. Lines that are empty on both sides are left out."""
    one, other = _lines(source), _lines(target)
    if len(one) != len(other):
        raise bad_input(
            f"{source.name} has {len(one):,} lines and {target.name} {len(other):,}", remedy="a line must be the other's translation"
        )
    for number, (text, translation) in enumerate(zip(one, other, strict=True), 1):
        if text.strip() or translation.strip():
            yield _pair(text, translation, f"{source.name}:{number}")


def _listed(path: Path) -> Iterator[Pair]:
    """A TSV or JSONL file, a pair a line."""
    if path.suffix not in LISTS:
        raise bad_input(f"{path} is none of {', '.join(LISTS)}", remedy=REMEDY)
    for number, line in enumerate(_lines(path), 1):
        where = f"{path.name}:{number}"
        if not line.strip() or (number == 1 and line.lower().split("\t") == ["source", "target"]):
            continue
        yield _object(line, where) if path.suffix == ".jsonl" else _columns(line, where)


def _columns(line: str, where: str) -> Pair:
    cells = line.split("\t")
    if len(cells) != 2:
        raise bad_input(f"{where}: {len(cells)} columns, expected 2", remedy="write source<TAB>target")
    return _pair(cells[0], cells[1], where)


def _object(line: str, where: str) -> Pair:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise bad_input(f"{where}: no JSON: {str(error)[:80]}", remedy='write {"source": "…", "target": "…"}') from error
    if not isinstance(value, dict) or not isinstance(value.get("source"), str) or not isinstance(value.get("target"), str):
        raise bad_input(f"{where}: no source and target", remedy='write {"source": "…", "target": "…"}')
    texts = [value[key].encode("utf-8", "replace").decode("utf-8") for key in ("source", "target")]
    return _pair(texts[0], texts[1], where)


def _pair(source: str, target: str, where: str) -> Pair:
    if not source.strip() or not target.strip():
        raise bad_input(f"{where}: the {'source' if target.strip() else 'target'} is empty", remedy="leave the pair out")
    return Pair(source.strip(), target.strip(), where)
