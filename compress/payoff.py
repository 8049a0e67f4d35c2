"""Does a stage pay? Pure judgements over measured points: kept, or rolled back with the reason.

A stage that makes a model smaller or faster must do so by measurement; one that repairs accuracy must do so by score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compress.points import Point, ratio
from rules.examples import Metric

Status = Literal["kept", "rolled back", "skipped", "control"]
WORTH = 0.97  # a paired latency ratio must fall below this to count as faster; the noise of A/A runs is smaller


@dataclass(frozen=True, slots=True)
class Payoff:
    """The judgement of one stage and its reason, in one line."""

    status: Status
    reason: str


def drop(metric: Metric, before: float, after: float) -> float:
    """How much of the metric was lost: positive is worse, whichever direction the metric has.

    Of a metric in percent the points; of any other, whose size depends on the data, the share of what it was before.
    """
    lost = after - before if metric.better == "lower" else before - after
    return lost if metric.unit == "%" else lost / (abs(before) or 1.0)


def show(metric: Metric, value: float) -> str:
    """`1.93 %`."""
    return f"{100 * value:.2f} %" if metric.unit == "%" else f"{value:.4g} {metric.unit}".strip()


def show_drop(metric: Metric, lost: float) -> str:
    """A loss, or the loss allowed: `0.50 %`, or `0.50 % of it` where it is a share of the metric's value."""
    return f"{100 * lost:.2f} %" + ("" if metric.unit == "%" else " of it")


def trained(metric: Metric, after: Point) -> Payoff:
    """Training has nothing to be compared with: it is kept, and its score says what it is worth."""
    return Payoff("kept", f"{metric.name} {show(metric, after.metric)} on {after.samples} {after.split} examples")


def smaller(metric: Metric, before: Point, after: Point, *, max_drop: float) -> Payoff:
    """Distilled or pruned: must be faster by measurement and lose no more than allowed."""
    lost, faster = drop(metric, before.metric, after.metric), ratio(after.latency_ms, before.latency_ms)
    change = f"{metric.name} {show(metric, before.metric)} → {show(metric, after.metric)}, latency ×{faster:.2f}"
    if lost > max_drop:
        return Payoff("rolled back", f"{change}: it lost more than the {show_drop(metric, max_drop)} allowed")
    if faster >= WORTH:
        return Payoff("rolled back", f"{change}: it is not faster here")
    return Payoff("kept", change)


def repaired(metric: Metric, best: Point, after: Point) -> Payoff:
    """A stage on the quantized graph: kept when its file scores better than the best one so far."""
    change = f"{metric.name} {show(metric, best.metric)} → {show(metric, after.metric)}"
    if drop(metric, best.metric, after.metric) < 0:
        return Payoff("kept", change)
    return Payoff("rolled back", f"{change}: no better than the file it started from")


def quantized(metric: Metric, float_point: Point, after: Point, *, max_drop: float, repairs: bool) -> Payoff:
    """Post-training quantization: must be faster; a loss beyond the plan's is tolerated only when a later stage may repair it."""
    faster = ratio(after.latency_ms, float_point.latency_ms)
    lost = drop(metric, float_point.metric, after.metric)
    change = f"{metric.name} {show(metric, float_point.metric)} → {show(metric, after.metric)}, latency ×{faster:.2f}"
    if faster >= WORTH:
        return Payoff("rolled back", f"{change}: int8 is not faster here, kept float")
    if lost > max_drop and not repairs:
        return Payoff("rolled back", f"{change}: it lost more than the {show_drop(metric, max_drop)} allowed, kept float")
    return Payoff("kept", change)


def compact(metric: Metric, float_point: Point, best: Point | None, after: Point, *, max_drop: float) -> Payoff:
    """Made small for its size's sake: must be smaller than every file so far, and lose no more than the plan allows; slower it may be."""
    least = min(float_point.size_bytes, best.size_bytes if best else float_point.size_bytes)
    lost, share = drop(metric, float_point.metric, after.metric), after.size_bytes / least
    change = f"{metric.name} {show(metric, float_point.metric)} → {show(metric, after.metric)}, size ×{share:.2f} of the smallest so far"
    if share >= WORTH:
        return Payoff("rolled back", f"{change}: it is not smaller")
    if lost > max_drop:
        return Payoff("rolled back", f"{change}: it lost more than the {show_drop(metric, max_drop)} allowed")
    return Payoff("kept", f"{change}, latency ×{ratio(after.latency_ms, float_point.latency_ms):.2f} of float")


def ships(metric: Metric, float_point: Point, best: Point | None, *, max_drop: float, by_size: bool = False) -> Payoff:
    """Whether the best quantized file ships instead of the float one; `by_size`: it was made for that, and need not be faster."""
    if best is None:
        return Payoff("rolled back", "no quantized file paid: the float file ships")
    faster = ratio(best.latency_ms, float_point.latency_ms)
    lost = drop(metric, float_point.metric, best.metric)
    if faster >= WORTH and not by_size:
        return Payoff("rolled back", f"quantized latency ×{faster:.2f} of float: not faster here, the float file ships")
    if lost > max_drop:
        return Payoff(
            "rolled back",
            f"the best quantized file loses {show_drop(metric, lost)}, more than the {show_drop(metric, max_drop)} allowed: the float file ships",
        )
    return Payoff("kept", f"latency ×{faster:.2f} of float, {metric.name} {show(metric, float_point.metric)} → {show(metric, best.metric)}")
