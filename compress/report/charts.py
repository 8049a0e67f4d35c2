"""The charts of the report: accuracy against latency, time by operator, training curves, an interval against its limit.

Each returns one SVG whose marks carry a `<title>`, so that pointing at a mark says its numbers without any script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from compress.report.figures import signed
from compress.report.svg import Scale, group, number, picture, polyline, round_steps, short, size, tag


@dataclass(frozen=True, slots=True)
class Mark:
    """One measured file in the scatter: where it lies, how big it is, what became of it."""

    label: str
    status: str  # "kept", "rolled back", "control"
    latency_ms: float
    value: float  # the metric as it is printed
    size_bytes: int
    ships: bool = False
    teacher: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """One operator of the shipped graph, in graph order."""

    op: str
    name: str
    ms: float
    kind: str  # "int8", "float", "glue"


@dataclass(frozen=True, slots=True)
class Curve:
    """One stage's training: (step, loss), (step, metric as printed), (step, learning rate)."""

    stage: str
    loss: tuple[tuple[float, float], ...]
    metric: tuple[tuple[float, float], ...] = ()
    rate: tuple[tuple[float, float], ...] = ()


# -- accuracy against latency ----------------------------------------------------------------------------------------------------


def pareto(marks: Sequence[Mark], *, metric: str, unit: str, better: str, probe: str) -> Markup:
    """The scatter of metric over latency; area is file size, the line joins the files that nothing beats in both."""
    width, height, left, right, top, bottom = 860, 430, 64, 24, 24, 56
    x = _latency_scale([mark.latency_ms for mark in marks], left, width - right)
    y = _metric_scale([mark.value for mark in marks], height - bottom, top)
    biggest = max(mark.size_bytes for mark in marks)
    place = {mark: (x(mark.latency_ms), y(mark.value), 5 + 21 * (mark.size_bytes / biggest) ** 0.5) for mark in marks}
    best = front(marks, better)
    parts = [
        _grid(x, y, width - right, height - bottom, unit=unit),
        tag(
            "text",
            f"latency, ms a call ({probe}{', log scale' if x.log else ''})",
            x=(left + width - right) / 2,
            y=height - 12,
            class_="axis",
            text_anchor="middle",
        ),
        tag(
            "text",
            f"{metric}, {unit}".rstrip(", "),
            x=14,
            y=(top + height - bottom) / 2,
            class_="axis",
            text_anchor="middle",
            transform=f"rotate(-90 14 {short((top + height - bottom) / 2)})",
        ),
        tag(
            "text",
            "better ↙" if better == "lower" else "better ↖",
            x=left + 8,
            y=height - bottom - 10 if better == "lower" else top + 14,
            class_="hint",
        ),
        polyline([place[mark][:2] for mark in best], class_="front") if len(best) > 1 else "",
        group(_mark(mark, *place[mark], mark in best, metric, unit) for mark in sorted(marks, key=lambda mark: -mark.size_bytes)),
        group(_labels(marks, place, [place[mark][:2] for mark in best], (left, width - right, top, height - bottom))),
    ]
    return picture(width, height, *parts, title=f"{metric} against latency for {len(marks)} measured files", id="pareto")


def front(marks: Sequence[Mark], better: str) -> list[Mark]:
    """The marks that no other mark beats in both latency and metric, fastest first. Controls are no candidates."""
    sign = 1 if better == "lower" else -1
    best: list[Mark] = []
    for mark in sorted((mark for mark in marks if mark.status != "control"), key=lambda mark: (mark.latency_ms, sign * mark.value)):
        if not best or sign * mark.value < sign * best[-1].value:
            best.append(mark)
    return best


def _latency_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """From zero; logarithmic where the slowest is so slow that the fast ones would lie on top of each other."""
    low, high = min(values), max(values)
    if low > 0 and high / low > 4:
        return Scale(low / 1.35, high * 1.35, start, end, log=True)
    return Scale(0, 1.12 * high, start, end)


def _metric_scale(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = min(values), max(values)
    room = 0.22 * (high - low) or 0.1 * abs(high) or 1.0
    return Scale(max(0.0, low - room) if low >= 0 else low - room, high + room, start, end)


def _grid(x: Scale, y: Scale, right: float, bottom: float, *, unit: str = "") -> Markup:
    across = [tag("line", x1=x.start, x2=right, y1=y(tick), y2=y(tick), class_="grid") for tick in y.ticks(5)]
    digits = _digits(y.ticks(5))
    names = [tag("text", f"{tick:.{digits}f}", x=x.start - 8, y=y(tick) + 4, class_="tick", text_anchor="end") for tick in y.ticks(5)]
    under = [tag("text", number(tick, 3), x=x(tick), y=bottom + 18, class_="tick", text_anchor="middle") for tick in x.ticks(6)]
    return group([*across, *names, *under, tag("line", x1=x.start, x2=right, y1=bottom, y2=bottom, class_="base")])


def _digits(ticks: Sequence[float]) -> int:
    return next((digits for digits in range(4) if all(abs(tick - round(tick, digits)) < 1e-9 for tick in ticks)), 4)


def _mark(mark: Mark, x: float, y: float, radius: float, on_front: bool, metric: str, unit: str) -> Markup:
    title = f"{mark.label} ({mark.status}): {metric} {mark.value:.2f} {unit}, {number(mark.latency_ms)} ms, {size(mark.size_bytes)}"
    classes = f"mark {_class(mark.status)}{' ships' if mark.ships else ''}{'' if on_front or mark.ships else ' beaten'}"
    cross = [
        tag("line", x1=x - 4, x2=x + 4, y1=y - 4, y2=y + 4, class_="cross"),
        tag("line", x1=x - 4, x2=x + 4, y1=y + 4, y2=y - 4, class_="cross"),
    ]
    return tag(
        "g", tag("title", title), tag("circle", cx=x, cy=y, r=radius), *(cross if mark.status == "rolled back" else []), class_=classes
    )


def _class(status: str) -> str:
    return {"kept": "kept", "rolled back": "rolled", "control": "control"}.get(status, "other")


Box = tuple[float, float, float, float]


def _labels(
    marks: Sequence[Mark], place: dict[Mark, tuple[float, float, float]], line: Sequence[tuple[float, float]], frame: Box
) -> list[Markup]:
    """Names beside their marks, where they cover neither each other nor a mark nor the line; what ships is named first."""
    taken: list[Box] = [(x - radius, y - radius, x + radius, y + radius) for x, y, radius in place.values()]
    taken += [(x - 3, y - 3, x + 3, y + 3) for x, y in _along(line)]
    drawn = []
    for mark in sorted(marks, key=lambda mark: (not mark.ships, mark.status != "kept", mark.latency_ms)):
        text = f"{mark.label} – ships" if mark.ships else mark.label
        x, y, anchor, box = _spot(place[mark], 6.7 * len(text), taken, frame)
        taken.append(box)
        far = abs(y - 4 - place[mark][1]) > place[mark][2] + 18
        leader = tag("line", x1=place[mark][0], y1=place[mark][1], x2=x, y2=y - 4, class_="leader") if far else ""
        drawn.append(
            group(
                [
                    leader,
                    tag("text", text, x=x, y=y, text_anchor=anchor, class_=f"name {_class(mark.status)}{' ships' if mark.ships else ''}"),
                ]
            )
        )
    return drawn


def _along(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points every few pixels of a line."""
    steps = [index / 24 for index in range(25)]
    return [(ax + (bx - ax) * step, ay + (by - ay) * step) for (ax, ay), (bx, by) in pairwise(line) for step in steps]


def _spot(place: tuple[float, float, float], wide: float, taken: Sequence[Box], frame: Box) -> tuple[float, float, str, Box]:
    x, y, radius = place
    left, right, top, bottom = frame
    tries = []
    for lift in (0, -14, 14, -28, 28, -44, 44, -60, 60, -78, 78):
        tries += [(x + radius + 6, y + 4 + lift, "start"), (x - radius - 6, y + 4 + lift, "end")]
        if abs(lift) >= 28:
            tries.append((x, y + 4 + lift, "middle"))
    boxes = [(_box(*spot, wide), spot) for spot in tries]
    free = [(box, spot) for box, spot in boxes if box[0] >= left and box[2] <= right and box[1] >= top - 12 and box[3] <= bottom]
    box, spot = min(free or boxes, key=lambda pair: sum(_overlap(pair[0], other) for other in taken))
    return (*spot, box)


def _box(x: float, y: float, anchor: str, wide: float) -> Box:
    start = {"start": x, "end": x - wide, "middle": x - wide / 2}[anchor]
    return start, y - 11, start + wide, y + 3


def _overlap(one: Box, other: Box) -> float:
    return max(0.0, min(one[2], other[2]) - max(one[0], other[0])) * max(0.0, min(one[3], other[3]) - max(one[1], other[1]))


# -- time by operator ------------------------------------------------------------------------------------------------------------


def operators(bars: Sequence[Bar]) -> Markup:
    """One bar an operator, in the order the runtime runs them; each links to its row in the table below."""
    width, height, left, right, top, bottom = 860, 250, 52, 8, 14, 34
    y = Scale(0, 1.08 * max(bar.ms for bar in bars), height - bottom, top)
    pitch = (width - left - right) / len(bars)
    wide = min(38.0, 0.78 * pitch)
    grid = [tag("line", x1=left, x2=width - right, y1=y(tick), y2=y(tick), class_="grid") for tick in y.ticks(4)]
    names = [tag("text", number(tick), x=left - 8, y=y(tick) + 4, class_="tick", text_anchor="end") for tick in y.ticks(4)]
    drawn = []
    for index, bar in enumerate(bars):
        start = left + index * pitch + (pitch - wide) / 2
        block = tag("rect", x=start, y=y(bar.ms), width=wide, height=max(1.0, height - bottom - y(bar.ms)), rx=1.5)
        title = tag("title", f"{bar.op} {bar.name}: {number(bar.ms)} ms ({bar.kind})")
        drawn.append(tag("a", title, block, href=f"#op-{index}", class_=f"bar {bar.kind}", data_row=f"op-{index}"))
    parts = [
        *grid,
        *names,
        group(drawn),
        tag("line", x1=left, x2=width - right, y1=height - bottom, y2=height - bottom, class_="base"),
        tag("text", "input →", x=left, y=height - 10, class_="tick"),
        tag("text", "→ output", x=width - right, y=height - 10, class_="tick", text_anchor="end"),
        tag("text", "ms", x=left - 8, y=top - 2, class_="tick", text_anchor="end"),
    ]
    return picture(width, height, *parts, title=f"time of {len(bars)} operators in graph order", id="operators")


# -- training --------------------------------------------------------------------------------------------------------------------


def curve(entry: Curve, *, metric: str, unit: str, id: str) -> Markup:
    """Loss (log axis) over steps, the validation metric written at its dots, the learning rate as a thin strip below."""
    width, height, left, right, top, bottom = 420, 230, 46, 12, 14, 52
    losses = [loss for _, loss in entry.loss]
    log = min(losses) > 0 and max(losses) / min(losses) > 3
    x = Scale(0, max(step for step, _ in entry.loss) or 1, left, width - right)
    y = Scale(
        min(losses) if log else min(0.0, *losses), max(losses) if max(losses) > min(losses) else max(losses) + 1, height - bottom, top, log
    )
    parts = [
        *(tag("line", x1=left, x2=width - right, y1=y(tick), y2=y(tick), class_="grid") for tick in y.ticks(4)),
        *(tag("text", number(tick, 2), x=left - 7, y=y(tick) + 4, class_="tick", text_anchor="end") for tick in y.ticks(4)),
        *(tag("text", number(tick, 4), x=x(tick), y=height - 8, class_="tick", text_anchor="middle") for tick in round_steps(0, x.high, 4)),
        polyline([(x(step), y(loss)) for step, loss in entry.loss], class_="loss"),
        _rate(entry, x, height - bottom + 8, 14),
        *_dots(entry, x, y, metric, unit),
    ]
    return picture(
        width, height, *parts, title=f"training of {entry.stage}: loss over {number(x.high, 4)} steps", id=id, kind="chart small"
    )


def _rate(entry: Curve, x: Scale, top: float, tall: float) -> Markup | str:
    if not entry.rate or not (most := max(rate for _, rate in entry.rate)):
        return ""
    area = [(x(step), top + tall - tall * rate / most) for step, rate in entry.rate]
    closed = [(area[0][0], top + tall), *area, (area[-1][0], top + tall)]
    points = " ".join(f"{short(a)},{short(b)}" for a, b in closed)
    return tag("g", tag("title", f"learning rate, at most {number(most)}"), tag("polygon", points=points), class_="rate")


def _dots(entry: Curve, x: Scale, y: Scale, metric: str, unit: str) -> list[Markup]:
    """The validation metric at the height of the loss of its step, told by pointing."""
    texts = [(step, f"step {number(step, 5)}: {metric} {value:.2f} {unit}".strip()) for step, value in entry.metric]
    circles = [tag("circle", cx=x(step), cy=y(_loss_at(entry.loss, step)), r=3.2) for step, _ in texts]
    return [tag("g", tag("title", text), circle, class_="val") for (_, text), circle in zip(texts, circles, strict=True)]


def _loss_at(points: Sequence[tuple[float, float]], step: float) -> float:
    for (before, low), (after, high) in pairwise(points):
        if before <= step <= after:
            return low + (high - low) * ((step - before) / (after - before) if after > before else 0)
    return points[-1][1]


# -- an interval -----------------------------------------------------------------------------------------------------------------


def interval(value: float, low: float, high: float, *, limit: float | None, text: str, id: str) -> Markup:
    """A difference with its interval on a line through zero, and the limit it must stay under, where there is one."""
    width, height, left, right, middle = 420, 64, 10, 10, 24
    ends = [0.0, low, high, *([limit] if limit is not None else [])]
    room = 0.12 * (max(ends) - min(ends)) or 0.1
    x = Scale(min(ends) - room, max(ends) + room, left, width - right)
    parts = [
        tag("line", x1=left, x2=width - right, y1=middle, y2=middle, class_="base"),
        tag("line", x1=x(0), x2=x(0), y1=middle - 12, y2=middle + 12, class_="zero"),
        tag("text", "0", x=x(0), y=middle + 28, class_="tick", text_anchor="middle"),
        tag("line", x1=x(low), x2=x(high), y1=middle, y2=middle, class_="span"),
        tag("circle", cx=x(value), cy=middle, r=5, class_="dot"),
        tag("text", signed(value), x=x(value), y=middle - 11, class_="name", text_anchor="middle"),
    ]
    if limit is not None:
        parts += [
            tag("line", x1=x(limit), x2=x(limit), y1=middle - 14, y2=middle + 14, class_="limit"),
            tag(
                "text",
                f"limit {signed(limit)}",
                x=x(limit),
                y=middle + 28,
                class_="tick",
                text_anchor="middle" if x(limit) < width - 40 else "end",
            ),
        ]
    return picture(width, height, *parts, title=text, id=id, kind="chart strip")
