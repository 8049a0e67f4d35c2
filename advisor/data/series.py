"""Time series as people keep them: wide or long tables in CSV, TSV or Parquet files, one file or a folder of them.

Wide: a column of times, then one a variable. Long: time, series id, value (or several values). The time column is called time, date,
datetime, timestamp, ds or step; the id series, series_id, unique_id, item_id or id. Long series that share all their times become the
columns of one wide series. Times are ISO dates or numbers, in order and evenly spaced (days, hours … or whole months).

Nothing is guessed where it could be wrong: a cell that is no number, a time out of order, doubled or off the beat is refused with
the file and the line in it, exit 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from advisor.data.delimited import SUFFIXES, Cells, lines
from rules.problems import bad_input

TIMES = frozenset({"time", "date", "datetime", "timestamp", "ds", "step"})
IDS = frozenset({"series", "series_id", "unique_id", "item_id", "id"})
MARKS = frozenset({"label", "anomaly", "is_anomaly"})  # 0 or 1, where a task asks for them
TRUTHS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
LARGEST = 1e30  # of a value: what is larger does not survive float32
UNEVEN = 1e-6  # of a step: how far numeric times may be off the beat
EPOCH = datetime(1970, 1, 1)

Beat = Literal["refuse", "keep"]  # of times out of order or off the beat: refuse them, or take the rows as they come
BEATS: tuple[Beat, ...] = ("refuse", "keep")


@dataclass(frozen=True, slots=True)
class Series:
    """One series: `values` (n, columns) float64, `times` as they were written, `marks` (n,) bool where there are labels."""

    name: str
    where: str  # the file, as messages show it
    columns: tuple[str, ...]
    times: tuple[str, ...]
    values: NDArray[np.float64]
    marks: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file: where it is, its time as written and as a number, whose it is, its values, its label."""

    where: str
    time: str
    at: int | float | datetime
    series: str
    values: tuple[float, ...]
    mark: bool


def read(source: Path, *, marked: bool = False, beat: Beat = "refuse", time: str | None = None) -> list[Series]:
    """Every series at `source`, in the order of files and of first appearance.

    `marked`: a column of labels is known for what it is. `beat`: whether times out of order or off the beat are refused. `time` names the time column.
    Raises Problem: exit 3 for whatever is missing, damaged or doubled, exit 5 for Parquet without pyarrow.
    """
    found: list[Series] = []
    for file in files(source):
        shown = file.name if file == source else file.relative_to(source).as_posix()
        found += table(file, shown, marked=marked, beat=beat, time=time, alone=file == source)
    for series in found[1:]:
        if series.columns != found[0].columns:
            names = ", ".join(series.columns), ", ".join(found[0].columns)
            raise bad_input(
                f"{series.where} has the columns {names[0]}; {found[0].where} has {names[1]}", remedy="keep to one set of columns"
            )
    return found


def files(source: Path) -> list[Path]:
    """The tables of a file or folder, by name. Raises Problem (exit 3) where there are none."""
    if source.is_file():
        if source.suffix.lower() not in SUFFIXES:
            raise bad_input(f"{source} is none of {', '.join(SUFFIXES)}", remedy="write a CSV with a column of times and one a variable")
        return [source]
    if not source.is_dir():
        raise bad_input(f"no data at {source}", remedy="give a CSV file or a folder of them, or leave --data out for the built-in series")
    found = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not found:
        raise bad_input(f"{source} has no {', '.join(SUFFIXES)} file", remedy="write a CSV with a column of times and one a variable")
    return found


def table(file: Path, shown: str, *, marked: bool, beat: Beat, time: str | None, alone: bool) -> list[Series]:
    """The series of one file. Raises Problem (exit 3) naming `shown` and the line."""
    rows = lines(file, shown)
    head = next(rows, None)
    if head is None:
        raise bad_input(f"{shown} is empty", remedy="write a first line of column names")
    layout = Layout.of(head[1], head[0], marked=marked, time=time)
    groups: dict[str, list[Row]] = {}
    for where, cells in rows:
        row = layout.row(cells, where)
        groups.setdefault(row.series, []).append(row)
    if not groups:
        raise bad_input(f"{shown} has column names and no rows", remedy="write a row a time step")
    stem = "" if alone else shown.removesuffix(file.suffix)
    made = [_series(name, group, layout, shown, stem, beat) for name, group in groups.items()]
    return [_widened(made, stem)] if layout.ids is not None and _together(made) else made


# -- rows ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column is what: places in a row."""

    width: int
    time: int
    ids: int | None
    mark: int | None
    names: tuple[str, ...]
    values: tuple[int, ...]

    @classmethod
    def of(cls, cells: Cells, where: str, *, marked: bool, time: str | None) -> Layout:
        """From the first line. Raises Problem (exit 3) where it names no time or nothing beside it."""
        names = [cell.strip() for cell in cells]
        low = [name.lower() for name in names]
        if "" in names or len(set(names)) != len(names):
            raise bad_input(f"{where}: a column has no name or another's: {', '.join(names)[:80]}", remedy="name every column once")
        at = [place for place, name in enumerate(names) if (name == time if time else low[place] in TIMES)]
        if len(at) != 1:
            what = f"no column {time!r}" if time else f"{'two' if at else 'no'} columns of times ({', '.join(sorted(TIMES))})"
            raise bad_input(f"{where}: {what} among {', '.join(names)[:80]}", remedy='name it: time = "…" in the plan\'s [settings]')
        ids = next((place for place, name in enumerate(low) if name in IDS), None)
        mark = next((place for place, name in enumerate(low) if name in MARKS), None) if marked else None
        values = tuple(place for place in range(len(names)) if place not in (at[0], ids, mark))
        if not values:
            raise bad_input(f"{where}: no column of values beside {names[at[0]]!r}", remedy="write one column a variable")
        return cls(len(names), at[0], ids, mark, tuple(names[place] for place in values), values)

    def row(self, cells: Cells, where: str) -> Row:
        """One line. Raises Problem (exit 3) naming it where a cell is not what its column says."""
        if len(cells) != self.width:
            raise bad_input(f"{where}: {len(cells)} columns, the first line names {self.width}", remedy="write every column on every line")
        values = tuple(number(cells[place], name, where) for place, name in zip(self.values, self.names, strict=True))
        series = cells[self.ids].strip() if self.ids is not None else ""
        if self.ids is not None and not series:
            raise bad_input(f"{where}: no series is named", remedy="write the series' id on every line")
        time = cells[self.time].strip()
        return Row(where, time, instant(time, where), series, values, self._mark(cells, where))

    def _mark(self, cells: Cells, where: str) -> bool:
        if self.mark is None:
            return False
        said = cells[self.mark].strip().lower()
        if said not in TRUTHS:
            raise bad_input(f"{where}: the label is {cells[self.mark][:40]!r}", remedy="write 0 or 1")
        return TRUTHS[said]


def number(cell: str, column: str, where: str) -> float:
    """A cell's number. Raises Problem (exit 3) where it is none, or no finite one."""
    try:
        value = math.nan if "_" in cell else float(cell)
    except ValueError:
        value = math.nan
    if not abs(value) < LARGEST:
        raise bad_input(
            f"{where}: {column} is {cell[:40]!r}, which is no number to learn from", remedy="mend or fill it, or drop the column"
        )
    return value


def instant(time: str, where: str) -> int | float | datetime:
    """A cell's time: a number, or an ISO date (with a zone: in UTC). Raises Problem (exit 3) where it is neither."""
    try:
        return int(time)
    except ValueError:
        pass
    try:
        value = float(time)
        if math.isfinite(value):
            return value
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(time)
        return moment.replace(tzinfo=None) - (moment.utcoffset() or timedelta())
    except (ValueError, OverflowError):
        raise bad_input(f"{where}: {time[:40]!r} is no time", remedy="write 2016-07-01 00:00:00, or a number") from None


# -- series --------------------------------------------------------------------------------------------------------------


def _series(name: str, rows: Sequence[Row], layout: Layout, shown: str, stem: str, beat: Beat) -> Series:
    _check_order(rows, strict=beat == "refuse")
    if beat == "refuse":
        _check_beat(rows)
    values = np.array([row.values for row in rows], dtype=np.float64)
    marks = np.array([row.mark for row in rows]) if layout.mark is not None else None
    full = "/".join(part for part in (stem, name) if part)
    return Series(full, shown, layout.names, tuple(row.time for row in rows), values, marks)


def _check_order(rows: Sequence[Row], *, strict: bool) -> None:
    """One kind of time and, where `strict`, each later than the one before. Raises Problem (exit 3) at the first that is not."""
    for before, row in pairwise(rows):
        if isinstance(before.at, datetime) != isinstance(row.at, datetime):
            raise bad_input(f"{row.where}: {row.time[:40]!r} after {before.time[:40]!r}", remedy="write dates or numbers, not both")
        if strict and not before.at < row.at:  # type: ignore[operator]  # both are dates, or both numbers
            what = "is there twice" if before.at == row.at else f"comes after {before.time[:40]!r}"
            raise bad_input(
                f"{row.where}: the time {row.time[:40]!r} {what}",
                remedy='sort the rows by time, one row a time, or take them as they come: irregular = "keep" in [settings]',
            )


def _check_beat(rows: Sequence[Row]) -> None:
    """Every step as long as the first, or every one as many whole months. Raises Problem (exit 3) at the first that is not."""
    odd = _uneven(rows)
    months = [_month(row.at) for row in rows]
    if odd is None or (all(month is not None for month in months) and _even_months(months)):
        return
    first, before, row = rows[1], rows[odd - 1], rows[odd]
    what = f"{before.time[:40]!r} to {row.time[:40]!r} is not the step of {rows[0].time[:40]!r} to {first.time[:40]!r}"
    raise bad_input(f"{row.where}: {what}", remedy='fill the gap, or take rows as they come: irregular = "keep" in [settings]')


def _uneven(rows: Sequence[Row]) -> int | None:
    """The first row that does not follow the one before it by the first step."""
    if len(rows) < 3:
        return None
    step: Any = rows[1].at - rows[0].at  # type: ignore[operator]
    room = timedelta() if isinstance(step, timedelta) else UNEVEN * step
    return next((place for place in range(2, len(rows)) if abs(rows[place].at - rows[place - 1].at - step) > room), None)  # type: ignore[operator]


def _month(at: int | float | datetime) -> tuple[int, timedelta] | None:
    """Which month, counted, and how far into it; None for a number."""
    if not isinstance(at, datetime):
        return None
    return 12 * at.year + at.month, at - datetime(at.year, at.month, 1)


def _even_months(months: Sequence[Any]) -> bool:
    steps = {later[0] - sooner[0] for sooner, later in pairwise(months)}
    return len(steps) == 1 and len({into for _, into in months}) == 1


def _together(made: Sequence[Series]) -> bool:
    """Whether long series are the columns of one table: one value each, no labels, all at the same times."""
    return len(made[0].columns) == 1 and made[0].marks is None and all(series.times == made[0].times for series in made)


def _widened(made: Sequence[Series], stem: str) -> Series:
    names = tuple(series.name.removeprefix(f"{stem}/") for series in made)
    return replace(made[0], name=stem, columns=names, values=np.concatenate([series.values for series in made], axis=1))


def marked_by(series: Sequence[Series], intervals: Mapping[str, Sequence[tuple[str, str]]], where: str) -> list[Series]:
    """The series with labels from intervals of times by series name (first and last step included), instead of a column.

    Raises Problem (exit 3) for an interval of a series that is not there, and one that begins after it ends.
    """
    known = {one.name: one for one in series}
    for name, found in intervals.items():
        if name not in known:
            raise bad_input(f"{where} has labels of {name!r}, which is none of the series", remedy="name them by file, without its ending")
        for start, end in found:
            if not instant(start, where) <= instant(end, where):  # type: ignore[operator]
                raise bad_input(f"{where}: {name}: {start[:40]!r} is after {end[:40]!r}", remedy="write the first and the last time")
    return [replace(one, marks=_within(one, intervals.get(one.name, ()), where)) for one in series]


def _within(series: Series, intervals: Sequence[tuple[str, str]], where: str) -> NDArray[np.bool_]:
    at = [instant(time, series.where) for time in series.times]
    marks = np.zeros(len(at), dtype=np.bool_)
    for start, end in intervals:
        first, last = instant(start, where), instant(end, where)
        if at and isinstance(at[0], datetime) != isinstance(first, datetime):
            raise bad_input(f"{where}: {start[:40]!r} is no time like those of {series.where}", remedy="write times as the series does")
        marks |= np.array([first <= moment <= last for moment in at])  # type: ignore[operator]
    return marks
