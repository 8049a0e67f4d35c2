"""Steps of tables over time: a CSV file -> the window a model reads; a forecast, or a score, -> text. Python 3.8, numpy only.

A window file has a first line of column names and a row a time step, the oldest first; of more rows than the model reads the last
are taken, and columns it does not know are left alone.
"""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import numpy as np

SERIES = ("series", "series_id", "unique_id", "item_id", "id")


def window(
    raw: bytes, length: int, columns: list[str], mean: Any = None, std: Any = None, scales: Any = None, largest: float = 1e30
) -> np.ndarray:
    """CSV file -> (1, length, columns) float32: the last `length` rows, each value in deviations `std` from its `mean`.

    With `scales` ({series: {"mean", "std"}}) the file's column of series ids says whose scale it is.
    """
    rows = _rows(raw)
    names = [name.strip() for name in rows[0][1]] if rows else []
    places = []
    for column in columns:
        if names.count(column) != 1:
            raise ValueError(f"the first line has no column {column!r}, or two: {', '.join(names)[:80]}")
        places.append(names.index(column))
    last = rows[1:][-length:]
    if len(last) < length:
        raise ValueError(f"{len(last)} rows, {length} are needed")
    if scales is not None:
        chosen = scales[_series(names, last, scales)]
        mean, std = chosen["mean"], chosen["std"]
    values = [[_number(cells, place, names, line, largest) for place in places] for line, cells in last]
    scaled = (np.array(values, np.float64) - np.array(mean)) / np.array(std)
    return np.asarray(scaled, np.float32)[None]


def _rows(raw: bytes) -> list[tuple[int, list[str]]]:
    try:
        reader = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"this is no CSV file that can be read: {error}") from None


def _series(names: list[str], rows: list[tuple[int, list[str]]], scales: Any) -> str:
    place = next((place for place, name in enumerate(names) if name.lower() in SERIES), None)
    found = {cells[place].strip() for _, cells in rows if place is not None and place < len(cells)}
    if len(found) != 1:
        raise ValueError("a column 'series' must name one series, the same on every row")
    name = found.pop()
    if name not in scales:
        raise ValueError(f"there is no series {name!r}, only {', '.join(sorted(scales))[:200]}")
    return name


def _number(cells: list[str], place: int, names: list[str], line: int, largest: float) -> float:
    cell = cells[place] if place < len(cells) else ""
    try:
        value = math.nan if "_" in cell else float(cell)
    except ValueError:
        value = math.nan
    if not abs(value) < largest:
        raise ValueError(f"line {line}: {names[place]} is {cell[:40]!r}, which is no number")
    return value


def forecast(output: np.ndarray, labels: list[str], mean: Any, std: Any) -> tuple[str, float]:
    """(1, horizon, columns) -> every column's coming values in its own unit: "load: 1.2 1.3; oil: 30.1 30.4". No confidence is claimed: 0."""
    values = np.asarray(output[0], np.float64) * np.array(std) + np.array(mean)
    return "; ".join(f"{name}: {' '.join(f'{value:.4g}' for value in values[:, at])}" for at, name in enumerate(labels)), 0.0


def score(output: np.ndarray, labels: list[str]) -> tuple[str, float]:
    """(1,) -> how far the window is from normal, larger is further; where the alarm begins is the user's to say. No confidence: 0."""
    return f"{float(output.reshape(-1)[0]):.4g}", 0.0


PREPROCESS = {"window": window}
POSTPROCESS = {"forecast": forecast, "score": score}
