"""What each column of a table is, and how a row becomes the numbers and indices that a net takes.

Idea: columns whose every cell is a number are numeric, the others categories; the settings may say otherwise. A numeric column gives
a number, in deviations from its mean, and the index of the bin it falls into; a column of categories, or several crossed, the index
of its text. All indices are rows of one embedding table, each column its own part of it. The plan of it is one declared step, made
from the training rows alone, which the bundle's reader executes to the same bits (`compress/reader/steps_table.py`).
Source: bins beside numbers, Gorishniy et al. 2022, arXiv:2203.05556 (there as piecewise linear codes); hashing, Weinberger et al. 2009,
arXiv:0902.2206.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.tables import Table
from rules.problems import Problem, bad_input, unknown

LIMIT = 10.0  # deviations from the mean: what is further is taken for that far
LARGEST = 1e30  # of a value
NUMBERS = 0.9  # share of numbers from which on a cell that is none is a mistake, not a category
BETWEEN = " | "  # the texts of a cross

Step = Mapping[str, Any]  # the declared step: {"op": "table", "missing", "limit", "numeric": […], "categorical": […]}


@dataclass(frozen=True, slots=True)
class Kinds:
    """The columns that are looked at: numbers, categories, and crosses of categories."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    crosses: tuple[tuple[str, ...], ...] = ()


def kinds(
    table: Table,
    *,
    label: str,
    missing: frozenset[str],
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    crosses: Sequence[Sequence[str]] = (),
) -> Kinds:
    """From the training rows and what the settings say.

    Raises Problem: exit 2 for a setting that names no column, exit 3 for a column that is neither numbers nor categories.
    """
    for name in (*numeric, *categorical, *drop, *(name for cross in crosses for name in cross)):
        if name not in table.columns:
            raise unknown("column", name, table.columns)
    left = [name for name in table.columns if name != label and name not in drop]
    found = {name: _kind(table, name, missing) for name in left if name not in numeric and name not in categorical}
    numbers = tuple(name for name in left if name in numeric or found.get(name) == "numeric")
    texts = tuple(name for name in left if name not in numbers)
    if odd := next((name for cross in crosses for name in cross if name not in texts), None):
        raise bad_input(f"a cross of {odd!r}, which is no column of categories", remedy=f'categorical = ["{odd}"] in [settings]')
    if not left:
        raise bad_input(f"{table.where[0]}: there is no column beside the label {label!r}")
    return Kinds(numbers, texts, tuple(map(tuple, crosses)))


def _kind(table: Table, name: str, missing: frozenset[str]) -> str:
    """Whether a column is numbers or categories. Raises Problem (exit 3) where a few cells speak against all others."""
    said = [(cell, place) for cell, place in zip(table.columns[name], table.where, strict=True) if cell not in missing]
    odd = [(cell, place) for cell, place in said if number(cell) is None]
    if not said:
        raise bad_input(f"{table.where[0]}: {name} is missing on every training row", remedy=f'drop = ["{name}"] in [settings]')
    if not odd:
        return "numeric"
    if len(said) - len(odd) >= NUMBERS * len(said):
        what = f"{odd[0][1]}: {name} is {odd[0][0][:40]!r}, where {len(said) - len(odd):,} of {len(said):,} rows have a number"
        raise bad_input(what, remedy=f'mend it, or say what it is in [settings]: missing = ["…"] or categorical = ["{name}"]')
    return "categorical"


def number(cell: str) -> float | None:
    """A cell's number; None where it is none, or no finite one."""
    try:
        value = math.nan if "_" in cell else float(cell)
    except ValueError:
        return None
    return value if abs(value) < LARGEST else None


def numbers(table: Table, name: str, missing: frozenset[str]) -> NDArray[np.float64]:
    """The values of a numeric column, NaN where one is missing. Raises Problem (exit 3) naming the row of a cell that is no number."""
    values = np.empty(len(table.where))
    for place, cell in enumerate(table.columns[name]):
        value = math.nan if cell in missing else number(cell)
        if value is None:
            remedy = f'mend it, or say what it is in [settings]: missing = ["…"] or categorical = ["{name}"]'
            raise bad_input(f"{table.where[place]}: {name} is {cell[:40]!r}, which is no number", remedy=remedy)
        values[place] = value
    return values


def texts(table: Table, names: Sequence[str], missing: frozenset[str]) -> list[str]:
    """The category of every row: the cell, of several columns their cells together; a missing one is the empty text."""
    columns = [["" if cell in missing else cell for cell in table.columns[name]] for name in names]
    return list(columns[0]) if len(columns) == 1 else [BETWEEN.join(cells) for cells in zip(*columns, strict=True)]


# -- the step, from the training rows --------------------------------------------------------------------------------------


def learn(table: Table, kinds: Kinds, *, missing: frozenset[str], bins: int, least: int, vocabulary: int) -> dict[str, Any]:
    """The declared step that turns a row into a net's inputs.

    `bins`: of a numeric column, about (0: none, only whether it is missing). `least`: rows a category needs for a place of its own.
    `vocabulary`: places of a column; of more categories than that each gets one by its hash, and shares it.
    """
    scaled, indexed, start = [], [], 0
    for name in kinds.numeric:
        values = numbers(table, name, missing)
        there = values[~np.isnan(values)]
        if not len(there):
            raise bad_input(f"{table.where[0]}: {name} is missing on every training row", remedy=f'drop = ["{name}"] in [settings]')
        std = float(there.std())
        scaled.append({"column": name, "mean": float(there.mean()), "std": std if std > 0 else 1.0})
        if bins or len(there) < len(values):
            indexed.append({"column": name, "edges": edges(there, bins), "start": start})
            start += size(indexed[-1])
    for names in (*((name,) for name in kinds.categorical), *kinds.crosses):
        counted = Counter(texts(table, names, missing))
        kept = sorted(text for text, count in counted.items() if count >= least)
        places = {"values": kept} if len(kept) <= vocabulary else {"buckets": vocabulary}
        indexed.append({"columns": list(names), **places, "start": start})
        start += size(indexed[-1])
    return {"op": "table", "missing": sorted(missing), "limit": LIMIT, "numeric": scaled, "categorical": indexed}


def edges(values: NDArray[np.float64], bins: int) -> list[float]:
    """Where bins begin: at quantiles of the rows, and of the different values, so that rare large ones are told apart too."""
    if not bins:
        return []
    shares = np.linspace(0, 1, bins + 1)[1:-1]
    found = [np.quantile(part, shares, method="higher") for part in (values, np.unique(values))]
    return [float(edge) for edge in np.unique(np.concatenate(found)) if edge > values.min()]


def size(entry: Mapping[str, Any]) -> int:
    """Rows of the embedding table that an indexed column has: one for what is missing or unseen, then its own."""
    if "edges" in entry:
        return len(entry["edges"]) + 2
    return 1 + (entry["buckets"] if "buckets" in entry else len(entry["values"]))


def check(step: Any) -> Step:
    """A declared step that somebody hands in. Raises Problem (exit 2) where it is none."""
    try:
        sound = step["op"] == "table" and isinstance(step["missing"], list | tuple) and 0 < step["limit"] < LARGEST and _entries(step)
    except (KeyError, TypeError, IndexError, AttributeError):
        sound = False
    if not sound:
        raise Problem("step is no declared step of a table", remedy="leave it out: it is made from the training rows")
    return dict(step)


def _entries(step: Step) -> bool:
    """Whether every column has what it takes, and the indexed ones follow each other in the embedding table."""
    known, start = {entry["column"] for entry in step["numeric"]}, 0
    for entry in step["categorical"]:
        named = entry["column"] in known if "edges" in entry else all(isinstance(name, str) for name in entry["columns"])
        if not named or entry["start"] != start:
            return False
        start += size(entry)
    return all(abs(entry["mean"]) < LARGEST and 0 < entry["std"] < LARGEST for entry in step["numeric"])


def rows(step: Step) -> int:
    """Rows of the embedding table, at least one."""
    return max(1, sum(size(entry) for entry in step["categorical"]))


# -- rows to arrays ------------------------------------------------------------------------------------------------------------


def encode(table: Table, step: Step) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(numeric (rows, n), categorical (rows, m)). Raises Problem (exit 3) naming the row of a cell that is no number."""
    missing, count = frozenset(step["missing"]), len(table.where)
    held = {entry["column"]: numbers(table, entry["column"], missing) for entry in step["numeric"]}
    scaled = [scale(held[entry["column"]], entry, step["limit"]) for entry in step["numeric"]]
    indexed = [
        binned(held[entry["column"]], entry) if "edges" in entry else placed(texts(table, entry["columns"], missing), entry)
        for entry in step["categorical"]
    ]
    return (
        np.stack(scaled, 1) if scaled else np.zeros((count, 0), np.float32),
        np.stack(indexed, 1) if indexed else np.zeros((count, 0), np.int64),
    )


def scale(values: NDArray[np.float64], entry: Mapping[str, Any], limit: float) -> NDArray[np.float32]:
    """In deviations from the mean, at most `limit`; a missing one is the mean, 0."""
    scaled = np.clip((values - entry["mean"]) / entry["std"], -limit, limit)
    return np.where(np.isnan(values), 0.0, scaled).astype(np.float32)


def binned(values: NDArray[np.float64], entry: Mapping[str, Any]) -> NDArray[np.int64]:
    """The bin a value falls into, from its lower edge on; the first place is for a missing one."""
    places = 1 + np.searchsorted(np.array(entry["edges"], np.float64), values, side="right")
    return np.asarray(entry["start"] + np.where(np.isnan(values), 0, places), np.int64)


def placed(found: Sequence[str], entry: Mapping[str, Any]) -> NDArray[np.int64]:
    """The place of a text; the first place is for one that is not known, or of a hashed column for a missing one."""
    if "buckets" in entry:
        own = {text: 1 + zlib.crc32(text.encode()) % entry["buckets"] if text else 0 for text in set(found)}
    else:
        own = {text: place for place, text in enumerate(entry["values"], 1)}
    return np.array([entry["start"] + own.get(text, 0) for text in found], np.int64)
