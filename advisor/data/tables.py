"""Tables with a label a row, as people keep them: CSV, TSV or Parquet, one file or a folder with one or more a split.

A file's split is the word train, val (valid, dev) or test in its name or its folder's; files without any are training rows, and what
is missing is drawn from them: by a hash of the place of the row, or the last rows in their order. The first line names the columns,
unless the settings do. A row with too few or too many cells is refused with the file and the line in it, exit 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.data.corpus import HELD_OUT, SPLITS, Split, assign, spread
from advisor.data.delimited import SUFFIXES, Cells, lines
from rules.problems import bad_input

WORDS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
WAYS = ("random", "order")  # how missing splits are drawn


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one split: `columns` holds each column's cells without blanks around them, `where` the place of every row."""

    where: tuple[str, ...]
    columns: Mapping[str, Sequence[str]]

    def rows(self, chosen: Sequence[int]) -> Table:
        """Some of the rows, in this order."""
        return Table(tuple(self.where[k] for k in chosen), {name: [cells[k] for k in chosen] for name, cells in self.columns.items()})


def read(source: Path, *, names: Sequence[str] | None = None) -> dict[Split, Table]:
    """The tables at `source` by split, those there are. `names` are the columns' where the files do not say so in their first line.

    Raises Problem: exit 3 for whatever is missing or damaged, exit 5 for Parquet without pyarrow.
    """
    found: dict[Split, Table] = {}
    for split, files in _by_split(source).items():
        tables = [_table(file, file.name if file == source else file.relative_to(source).as_posix(), names) for file in files]
        found[split] = _joined(tables)
    first = next(iter(found.values()))
    for table in found.values():
        _same(first, table)
    return found


def _by_split(source: Path) -> dict[Split, list[Path]]:
    if source.is_file():
        if source.suffix.lower() not in SUFFIXES:
            raise bad_input(f"{source} is none of {', '.join(SUFFIXES)}", remedy="write a CSV file, a first line of column names")
        return {"train": [source]}
    if not source.is_dir():
        raise bad_input(f"no data at {source}", remedy="give a table or a folder of them, or leave --data out for the built-in one")
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise bad_input(f"{source} has no {', '.join(SUFFIXES)} file", remedy="write train.csv, a first line of column names")
    said = {file: _said(file.relative_to(source)) for file in files}
    if not any(said.values()):
        return {"train": files}
    for file, splits in said.items():
        if len(splits) != 1:
            what = f"{file.relative_to(source)} says {' and '.join(sorted(splits)) or 'no split'} in its name"
            raise bad_input(what, remedy="beside files that say one of train, val, test, every file must")
    return {split: held for split in SPLITS if (held := [file for file in files if said[file] == {split}])}


def _said(path: Path) -> set[Split]:
    words = re.split(r"[^a-z]+", path.with_suffix("").as_posix().lower())
    return {WORDS[word] for word in words if word in WORDS}


def _table(file: Path, shown: str, names: Sequence[str] | None) -> Table:
    """One file. Raises Problem (exit 3) naming it and the line."""
    rows = lines(file, shown)
    parquet = file.suffix.lower() == ".parquet"
    if names is None or parquet:
        head = next(rows, None)
        if head is None:
            raise bad_input(f"{shown} is empty", remedy="write a first line of column names")
        held = _names(head[1], head[0])
        if names is not None and list(names) != held:
            raise bad_input(f"{head[0]}: {', '.join(held)[:80]}", remedy="the setting columns says otherwise: leave it out for Parquet")
        names = held
    where, cells = [], []
    for place, row in rows:
        if len(row) != len(names):
            raise bad_input(f"{place}: {len(row)} columns, {len(names)} are named", remedy="write every column on every line")
        where.append(place)
        cells.append(row)
    if not cells:
        raise bad_input(f"{shown} has no rows", remedy="write a row an example")
    known: dict[str, str] = {}  # a text that comes often is held once
    return Table(tuple(where), {name: [known.setdefault(text := row[k].strip(), text) for row in cells] for k, name in enumerate(names)})


def _names(cells: Cells, where: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    if "" in names or len(set(names)) != len(names):
        remedy = 'name every column once; without such a line: columns = ["…"] in the plan\'s [settings]'
        raise bad_input(f"{where}: a column has no name or another's: {', '.join(names)[:80]}", remedy=remedy)
    return names


def _same(one: Table, other: Table) -> None:
    """Raises Problem (exit 3) where two tables have not the same columns."""
    if set(one.columns) != set(other.columns):
        odd = ", ".join(sorted(set(one.columns) ^ set(other.columns)))[:80]
        files = [table.where[0].split(":")[0].split(",")[0] for table in (one, other)]
        raise bad_input(f"{files[1]} and {files[0]} have not the same columns: {odd}", remedy="keep to one set of columns")


def _joined(tables: Sequence[Table]) -> Table:
    for table in tables[1:]:
        _same(tables[0], table)
    if len(tables) == 1:
        return tables[0]
    columns = {name: [cell for table in tables for cell in table.columns[name]] for name in tables[0].columns}
    return Table(tuple(place for table in tables for place in table.where), columns)


def complete(
    found: Mapping[Split, Table], *, seed: int, way: str, limits: Mapping[Split, int | None], source: str, training: bool = True
) -> tuple[dict[Split, Table], dict[str, Any]]:
    """All three splits, a missing val or test drawn from the training rows, and how it was done.

    `limits`: how many rows of each to use, spread over it. Raises Problem (exit 3) where there is nothing to train on, unless
    `training` is not asked for, and where there is too little to draw from.
    """
    parts = dict(found)
    missing = {split: share for split, share in HELD_OUT.items() if split not in parts}
    if "train" not in parts and training:
        raise bad_input(f"{source} has no training rows", remedy="write them to train.csv")
    if "train" in parts and missing:
        parts |= _drawn(parts["train"], missing, seed=seed, way=way)
    shares = ", ".join(f"{share:.0%} {split}" for split, share in missing.items())
    how = {
        "random": f"sha256('{seed}:' + place of the row) as a fraction of 1: {shares}, the rest train",
        "order": f"the last rows: {shares}",
    }
    drawn = bool(missing) and "train" in parts
    kept = {split: parts[split].rows(spread(len(parts[split].where), limits.get(split))) for split in SPLITS if split in parts}
    empty = next((split for split, table in kept.items() if not table.where), None)
    if empty:
        raise bad_input(f"{source}: the rows are too few to draw a {empty} split from", remedy=f"give more rows, or {empty}.csv")
    rule = how[way] if drawn else "as given"
    return {**{split: _none(kept) for split in SPLITS}, **kept}, {"split": rule, "seed": seed if drawn and way == "random" else None}


def _none(kept: Mapping[Split, Table]) -> Table:
    """No rows of the same columns."""
    return next(iter(kept.values())).rows([])


def _drawn(table: Table, missing: Mapping[Split, float], *, seed: int, way: str) -> dict[Split, Table]:
    if way == "random":
        homes = [assign(place, missing, seed=seed) for place in table.where]
    else:
        count = len(table.where)
        ends = {split: round(count * share) for split, share in missing.items()}
        homes = ["train"] * (count - sum(ends.values()))
        for split, share in ends.items():
            homes += [split] * share
    chosen: dict[Split, list[int]] = {"train": [], **{split: [] for split in missing}}
    for place, home in enumerate(homes):
        chosen[home].append(place)
    return {split: table.rows(places) for split, places in chosen.items()}
