"""A device as a file: the text that `advisor calibrate` writes, and the part of it that only a calibrated machine has.

[kernels]                      # beside what every device file says
cpu = "…"
runtime = "1.32.0"
date = "2026-01-31"
graphs = 700
caches = "1048576 33554432"    # bytes, from the second level on
floor = 0.05
[kernels.spread]               # 90 % interval, by precision: multiples of the standard below and above
fp32 = [-1.5, 1.6]
[kernels.prices]               # seconds a unit: of the full fit, then of each fit that lacks a group of nets
"conv.macs" = [1.5e-11, 1.5e-11, 1.6e-11]
"""

from __future__ import annotations

from typing import Any

from rules.facts import Device, Kernels, Rate
from rules.problems import Problem
from rules.tables import Table, shown

MOST_PRICES = 5_000
MOST_FITS = 32
HIGHEST_PRICE = 1.0  # a second for one of anything: no kernel of any machine
WIDEST = 1e3


def kernels(table: Table) -> Kernels:
    """The table [kernels] of a device file. Raises Problem (exit 2) on whatever no measurement could have written."""
    spread = table.table("spread", required=True)
    prices = table.table("prices", required=True)
    found = Kernels(
        cpu=table.text("cpu"),
        runtime=table.text("runtime"),
        date=table.text("date"),
        graphs=table.whole("graphs", low=1, high=10**7),
        caches=_caches(table),
        floor=table.number("floor", low=1e-4, high=10.0),
        spread=spread.each(_spread),
        prices=prices.each(_prices),
    )
    table.done()
    if "fp32" not in found.spread:
        raise Problem(f"{table.where}: spread: fp32 is missing")
    if not 1 <= len(found.prices) <= MOST_PRICES:
        raise Problem(f"{table.where}: {len(found.prices)} prices, expected 1 to {MOST_PRICES}")
    if len({len(price) for price in found.prices.values()}) > 1:
        raise Problem(f"{table.where}: prices: every one has as many figures as there were fits")
    return found


def _caches(table: Table) -> tuple[int, ...]:
    text = table.text("caches", "")
    if not all(word.isascii() and word.isdigit() and len(word) < 14 for word in text.split()):
        raise Problem(f"{table.where}: caches is {shown(text)}, expected sizes in bytes")
    sizes = tuple(int(word) for word in text.split())
    if len(sizes) > 4 or any(size < 1024 for size in sizes):
        raise Problem(f"{table.where}: caches is {shown(text)}, expected at most four sizes of a kilobyte and more")
    return sizes


def _spread(table: Table, key: str) -> tuple[float, float]:
    low, high = _numbers(table, key, least=2, most=2, low=-WIDEST, high=WIDEST)
    if not low < 0 < high:
        raise Problem(f"{table.where}: {shown(key)} is {shown([low, high])}, expected one figure below 0 and one above")
    return low, high


def _prices(table: Table, key: str) -> tuple[float, ...]:
    return _numbers(table, key, least=1, most=MOST_FITS, low=0.0, high=HIGHEST_PRICE)


def _numbers(table: Table, key: str, *, least: int, most: int, low: float, high: float) -> tuple[float, ...]:
    value: Any = table.plain(key)
    sound = isinstance(value, list) and least <= len(value) <= most
    if not sound or not all(type(item) in (int, float) and low <= item <= high for item in value):
        raise Problem(f"{table.where}: {shown(key)} is {shown(value)}, expected {least} to {most} numbers from {low:g} to {high:g}")
    return tuple(float(item) for item in value)


# -- writing ---------------------------------------------------------------------------------------------------------


def text(device: Device) -> str:
    """The file of a device, as `rules.reading.device` reads it."""
    head: dict[str, Any] = {
        name: getattr(device, name)
        for name in (
            "name",
            "title",
            "kind",
            "isa",
            "cores",
            "ram_bytes",
            "runtimes",
            "precisions",
            "integer_format",
            "align",
            "opset",
            "ir_version",
        )
    }
    lines = [f"{key} = {_literal(value)}" for key, value in (head | {"source": device.source, "notes": device.notes}).items()]
    for name, rate in device.rates.items():
        lines += ["", f"[rates.{name}]", *_rate(rate)]
    return "\n".join([*lines, *(_kernels(device.kernels) if device.kernels else [])]) + "\n"


def _rate(rate: Rate) -> list[str]:
    return [f"{key} = {_literal(getattr(rate, key))}" for key in ("value", "unit", "source", "kind")]


def _kernels(found: Kernels) -> list[str]:
    lines = ["", "[kernels]"]
    lines += [f"{key} = {_literal(getattr(found, key))}" for key in ("cpu", "runtime", "date", "graphs", "floor")]
    lines.append(f"caches = {_literal(' '.join(map(str, found.caches)))}")
    lines += ["", "[kernels.spread]", *(f"{_literal(key)} = {_literal(value)}" for key, value in found.spread.items())]
    return [*lines, "", "[kernels.prices]", *(f"{_literal(key)} = {_literal(value)}" for key, value in found.prices.items())]


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, str):
        escaped = "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in value.replace("\\", "\\\\").replace('"', '\\"'))
        return f'"{escaped}"'
    return repr(value)
