"""Plain text for a terminal and for pull requests: wrapping, columns, a little emphasis. No library, so that answers come at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from textwrap import wrap

WIDEST = 120
NARROWEST = 60
LONGEST_LABEL = 20  # beside which a text still has a line's worth of room


def width() -> int:
    """Columns to fill: the terminal's, at most 120; 100 where there is none."""
    try:
        columns = int(os.environ.get("COLUMNS", "")) if os.environ.get("COLUMNS", "").isdigit() else os.get_terminal_size().columns
    except (OSError, ValueError):
        columns = 100
    return max(NARROWEST, min(WIDEST, columns))


def coloured() -> bool:
    """Whether emphasis may be printed: a terminal, and nobody said NO_COLOR (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def bold(text: str) -> str:
    """Emphasis, on a terminal only."""
    return f"\x1b[1m{text}\x1b[0m" if coloured() else text


def paragraph(text: str, *, indent: int = 0, first: str = "") -> list[str]:
    """Wrapped lines; `first` is what the first line begins with, the others hang under its text."""
    head = " " * indent + first
    lines = wrap(text, max(20, width() - len(head)), break_on_hyphens=False, break_long_words=False) or [""]
    return [(head if number == 0 else " " * len(head)) + line for number, line in enumerate(lines)]


def columns(rows: Iterable[Sequence[str]], *, indent: int = 0, right: Sequence[int] = ()) -> list[str]:
    """Aligned columns; the last is wrapped into what is left of the width. `right` lists the columns set flush right."""
    rows = [tuple(row) for row in rows]
    if not rows:
        return []
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    lines: list[str] = []
    for row in rows:
        cells = [
            cell.rjust(wide) if place in right else cell.ljust(wide) for place, (cell, wide) in enumerate(zip(row, widths, strict=False))
        ]
        lines += paragraph(row[-1], indent=indent, first="".join(f"{cell}  " for cell in cells))
    return [line.rstrip() for line in lines]


def definitions(rows: Sequence[tuple[str, str]], *, indent: int = 2) -> list[str]:
    """Labels with their texts: side by side where the labels are short, else each text under its label."""
    widest = max((len(label) for label, _ in rows), default=0)
    if 0 < widest <= LONGEST_LABEL:
        return columns(rows, indent=indent)
    lines: list[str] = []
    for label, text in rows:
        lines += [" " * indent + label] if label else []
        lines += paragraph(text, indent=indent + (4 if label else 0))
    return lines


def md_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; pipes in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines]


def three(value: float) -> str:
    """Three significant digits without an exponent: 0.368, 1.62, 24,600."""
    if value == 0:
        return "0"
    digits = 2 - int(f"{abs(value):e}".partition("e")[2])
    return f"{value:,.{max(0, digits)}f}" if digits >= 0 else f"{round(value, digits):,.0f}"


def milliseconds(value: float) -> str:
    """1.62 ms"""
    return f"{three(value)} ms"


def megabytes(value: float) -> str:
    """0.368 MB of 10^6 bytes"""
    return f"{three(value / 1e6)} MB"
