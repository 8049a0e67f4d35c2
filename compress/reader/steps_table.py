"""Steps of tables: a row as a JSON file -> the numbers and indices a model reads; a logit -> text. Python 3.8, numpy only.

A row file is one JSON object, a key a column: a number or a text, null where it is missing. Keys that the model does not know are
left alone; one that it knows must be there.
"""

from __future__ import annotations

import json
import math
import zlib
from typing import Any

import numpy as np

LARGEST = 1e30  # of a value
BETWEEN = " | "  # the texts of a cross


def table(raw: bytes, numeric: Any, categorical: Any, missing: Any = ("",), limit: float = 10.0) -> dict[str, Any]:
    """JSON row -> {"numeric": (1, n) float32, "categorical": (1, m) int64}, those there are.

    A number is taken in deviations `std` from its `mean`, at most `limit`. An index is `start` plus 0 for what is missing or not known,
    else 1 plus the bin by `edges` (from its lower edge on), the place in `values`, or crc32 modulo `buckets`.
    """
    row = _row(raw)
    values = {entry["column"]: _number(row, entry["column"], missing) for entry in numeric}
    scaled = [_scaled(values[entry["column"]], entry, limit) for entry in numeric]
    indexed = [
        _bin(values[entry["column"]], entry) if "edges" in entry else _place(_texts(row, entry["columns"], missing), entry)
        for entry in categorical
    ]
    made: dict[str, Any] = {"numeric": np.array([scaled], np.float32), "categorical": np.array([indexed], np.int64)}
    return {name: array for name, array in made.items() if array.size}


def _row(raw: bytes) -> dict[str, Any]:
    try:
        row = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is no JSON file that can be read: {error}") from None
    if not isinstance(row, dict):
        raise ValueError('this JSON file holds no row: write {"column": value, ...}')
    return row


def _text(row: dict[str, Any], column: str) -> str:
    if column not in row:
        raise ValueError(f"the row has no {column!r}: null says that it is missing")
    value = row[column]
    if isinstance(value, (dict, list)):
        raise ValueError(f"{column} is {str(value)[:40]}, which is neither a number nor a text")
    return "" if value is None else str(value).strip()


def _number(row: dict[str, Any], column: str, missing: Any) -> float:
    """NaN where it is missing."""
    text = _text(row, column)
    if text in missing:
        return math.nan
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < LARGEST:
        raise ValueError(f"{column} is {text[:40]!r}, which is no number")
    return value


def _texts(row: dict[str, Any], columns: Any, missing: Any) -> str:
    found = [_text(row, column) for column in columns]
    return BETWEEN.join("" if text in missing else text for text in found)


def _scaled(value: float, entry: dict[str, Any], limit: float) -> float:
    return 0.0 if math.isnan(value) else float(np.clip((value - entry["mean"]) / entry["std"], -limit, limit))


def _bin(value: float, entry: dict[str, Any]) -> int:
    return int(entry["start"] + (0 if math.isnan(value) else 1 + np.searchsorted(entry["edges"], value, side="right")))


def _place(text: str, entry: dict[str, Any]) -> int:
    if "buckets" in entry:
        return int(entry["start"] + (1 + zlib.crc32(text.encode()) % entry["buckets"] if text else 0))
    return int(entry["start"] + (1 + entry["values"].index(text) if text in entry["values"] else 0))


def chance(output: np.ndarray, labels: Any) -> tuple[str, float]:
    """(1,) logit -> ("label: its chance", the chance of what is likelier). The chance is that of the second label."""
    share = 1 / (1 + math.exp(-max(-700.0, float(output.reshape(-1)[0]))))
    return f"{labels[1]}: {share:.4f}", max(share, 1 - share)


PREPROCESS = {"table": table}
POSTPROCESS = {"chance": chance}
