"""Figures as people read them: the metric in its unit, points of difference, factors, and the label of where a number comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.report.svg import number

MINUS = "−"
NARROW = "\u00a0"  # a space that does not break, before a unit


def printed(metric: Mapping[str, Any], value: float) -> float:
    """A stored fraction in the unit the metric is printed in."""
    return 100 * value if metric.get("unit", "%") == "%" else value


def shown(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its metric's name as people write it: a short one is an abbreviation."""
    name = str(record["metric"]["name"])
    return {**record, "metric": {**record["metric"], "name": name.upper() if len(name) <= 4 else name}}


def figure(metric: Mapping[str, Any], value: float | None) -> str:
    """`2.34 %`."""
    if value is None:
        return "–"
    unit = metric.get("unit", "%")
    return f"{100 * value:.2f}{NARROW}%" if unit == "%" else f"{number(value, 4)} {unit}".strip()


def points(metric: Mapping[str, Any], value: float) -> str:
    """A difference with its sign: `+0.38 points`."""
    if metric.get("unit", "%") == "%":
        return f"{signed(100 * value)} points"
    return f"{signed(value)} {metric.get('unit', '')}".strip()


def signed(value: float) -> str:
    """Two decimals with a sign; nothing is `±0.00`."""
    text = f"{value:+.2f}"
    return "±0.00" if text in ("+0.00", "-0.00") else text.replace("-", MINUS)


def faster(ratio: float) -> str:
    """A latency ratio as a factor: `9.0× as fast`."""
    return f"{1 / ratio:.1f}× as fast"


def share(part: float, whole: float) -> str:
    """A size against a larger one: `1/20`; near one: `0.87 of`."""
    return f"1/{whole / part:.0f}" if whole >= 1.95 * part else f"{part / whole:.2f}"


def count(value: int) -> str:
    """`1,200`."""
    return f"{value:,}"


def joined(values: Mapping[str, Any]) -> str:
    """Settings or decisions in one line: `steps 600 · lr 0.0002`."""
    return " · ".join(f"{key} {plain(value)}" for key, value in values.items())


def plain(value: Any) -> str:
    """One value, short."""
    if isinstance(value, float):
        return number(value, 4)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {plain(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(plain, value)) + "]"
    return {None: "–", True: "yes", False: "no"}.get(value, str(value)) if value is None or isinstance(value, bool) else str(value)
