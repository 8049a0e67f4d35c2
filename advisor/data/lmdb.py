"""The LMDB layout of the deep-text-recognition benchmarks: num-samples, and image-%09d with label-%09d from 1 on.

A source is one such database, or a folder with one each in train, val (or validation, valid) and test (or evaluation).
Source of the layout: clovaai/deep-text-recognition-benchmark, create_lmdb_dataset.py. Needs the lmdb package.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from advisor.data.corpus import SPLITS, Corpus, Line, Split, complete
from rules.problems import bad_environment, bad_input

FOLDERS: Mapping[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid"),
    "test": ("test", "evaluation"),
}
MOST_LINES = 20_000_000


def holds(source: Path) -> bool:
    """Whether `source` is such a database, or a folder of them."""
    return is_database(source) or any(is_database(source / name) for names in FOLDERS.values() for name in names)


def is_database(folder: Path) -> bool:
    return (folder / "data.mdb").is_file()


def corpus(source: Path, *, seed: int, training: bool = True) -> Corpus:
    """The lines of the database(s) at `source`; without `training` they may be only some to score. Raises Problem: exit 3 for a damaged one, exit 5 without the lmdb package."""
    places: dict[Split, Path] = {"train": source}
    if not is_database(source):
        places = {split: source / name for split in SPLITS for name in FOLDERS[split] if is_database(source / name)}
    found: dict[Split, list[Line]] = {split: _lines(place, split if len(places) > 1 else "") for split, place in places.items()}
    splits, how = complete(found, seed=seed, source=str(source), training=training)
    homes = {line.id: places[split] for split, lines in found.items() for line in lines}
    facts = {"source": source.resolve().name, "layout": "deep-text-recognition LMDB", "licence": "not stated", **how}
    return Corpus(splits, lambda line: _get(homes[line.id], line.id.rpartition("/")[2], line.where), facts)


@cache
def _open(folder: Path) -> Any:
    try:
        import lmdb
    except ImportError:
        raise bad_environment(
            f"{folder} is an LMDB, and the lmdb package is not installed", remedy="pip install 'edge-advisor[train]'"
        ) from None
    try:
        return lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise bad_input(
            f"{folder} cannot be opened as an LMDB: {' '.join(str(error).split())}", remedy="make it again, or give the images with a list"
        ) from None


def _get(folder: Path, key: str, where: str) -> bytes:
    environment = _open(folder)
    import lmdb

    try:
        with environment.begin() as transaction:
            value = transaction.get(key.encode("ascii"))
    except lmdb.Error as error:
        raise bad_input(f"{where} cannot be read: {error}", remedy="make the database again") from None
    if value is None:
        raise bad_input(f"{where} is missing", remedy="num-samples says it is there: make the database again")
    return bytes(value)


def _count(folder: Path) -> int:
    raw = _get(folder, "num-samples", f"{folder}: num-samples")
    if not raw.isdigit() or int(raw) > MOST_LINES:
        raise bad_input(f"{folder}: num-samples is {raw[:20]!r}", remedy=f"it must be a number, at most {MOST_LINES:,}")
    return int(raw)


def _lines(folder: Path, prefix: str) -> list[Line]:
    """The labels of a database; images stay where they are."""
    lines = []
    for number in range(1, _count(folder) + 1):
        where = f"{folder}: label-{number:09d}"
        raw = _get(folder, f"label-{number:09d}", where)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise bad_input(f"{where} is not UTF-8", remedy="write labels as UTF-8") from None
        name = f"image-{number:09d}"
        lines.append(Line(f"{prefix}/{name}" if prefix else name, text, f"{folder}: {name}"))
    return lines
