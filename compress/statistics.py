"""How sure a difference is: paired bootstrap intervals, the same for the same numbers on every machine.

Two models read the same examples, so the examples are drawn together: what both find hard cancels out. The same holds for latency,
where one round times both files and a busy moment hits both.
Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13 (percentile interval); paired draws for systems
scored on one test set as in Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation", aclanthology W04-3250.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rules.examples import Score

RESAMPLES = 2000
WHOLE = 400  # resamples of a metric that must be computed anew for each
LEVEL = 0.95
AT_ONCE = 2_000_000  # drawn indices held at once: 16 MB
TINY = 1e-12  # a draw of weightless examples only divides by this instead of by nothing


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its bootstrap interval. `samples` is how many examples or rounds stand behind it."""

    value: float
    low: float
    high: float
    samples: int


def difference(after: Score, before: Score, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> Interval:
    """`after - before` of two scores on the same examples, in the metric's own unit (a fraction).

    Raises ValueError when the scores are not paired: different lengths, or different weights (another truth, another order).
    """
    errors_a, weights = _column(after.errors), _column(after.weights)
    errors_b, weights_b = _column(before.errors), _column(before.weights)
    if not errors_a.size == errors_b.size == weights.size == weights_b.size > 0:
        raise ValueError(f"scores do not pair up: {errors_a.size} and {errors_b.size} examples")
    if not np.array_equal(weights, weights_b):
        raise ValueError("scores do not pair up: the weights differ, so these are not the same examples in the same order")
    if weights.sum() <= 0:
        raise ValueError("the examples weigh nothing")
    if after.over is not None and before.over is not None:
        return _whole(after.over, before.over, errors_a.size, resamples=min(resamples, WHOLE), level=level, seed=seed)
    change = errors_a - errors_b
    drawn = [change[rows].sum(axis=1) / np.maximum(weights[rows].sum(axis=1), TINY) for rows in _draws(change.size, resamples, seed)]
    return _interval(float(change.sum() / weights.sum()), np.concatenate(drawn), level, change.size)


def _whole(
    after: Callable[[NDArray[np.int64]], float],
    before: Callable[[NDArray[np.int64]], float],
    count: int,
    *,
    resamples: int,
    level: float,
    seed: int,
) -> Interval:
    """The difference of a metric that is no sum over examples: computed anew over every draw, both over the same one."""
    everyone = np.arange(count)
    drawn = [after(rows) - before(rows) for block in _draws(count, resamples, seed) for rows in block]
    return _interval(after(everyone) - before(everyone), np.asarray(drawn), level, count)


def drop(after: Score, before: Score, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> Interval:
    """How much of the metric was lost: positive is worse, whichever direction the metric has."""
    found = difference(after, before, resamples=resamples, level=level, seed=seed)
    if after.metric.better == "lower":
        return found
    return Interval(-found.value, -found.high, -found.low, found.samples)


def paired_interval(after: Score, before: Score, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> tuple[float, float]:
    """The interval of `after - before` alone, for records that keep it as `[low, high]`."""
    found = difference(after, before, resamples=resamples, level=level, seed=seed)
    return found.low, found.high


def ratio(after: Sequence[float], before: Sequence[float], *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> Interval:
    """The median of the per-round ratios `after / before` of interleaved timings, with its interval. Below 1 is faster.

    Raises ValueError when the rounds do not pair up or a time is not positive.
    """
    top, bottom = np.asarray(after, dtype=np.float64), np.asarray(before, dtype=np.float64)
    if top.shape != bottom.shape or top.ndim != 1 or top.size == 0:
        raise ValueError(f"timings do not pair up: {top.size} and {bottom.size} rounds")
    if not (np.all(top > 0) and np.all(bottom > 0)):
        raise ValueError("a timing is not positive")
    rounds = top / bottom
    drawn = [np.median(rounds[rows], axis=1) for rows in _draws(rounds.size, resamples, seed)]
    return _interval(float(np.median(rounds)), np.concatenate(drawn), level, rounds.size)


def _column(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(-1)


def _draws(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Rows of `count` drawn indices, in blocks that fit the memory; the same for the same count and seed."""
    generator = np.random.Generator(np.random.PCG64(seed))
    step = max(1, AT_ONCE // count)
    for start in range(0, resamples, step):
        yield generator.integers(0, count, size=(min(step, resamples - start), count))


def _interval(value: float, drawn: NDArray[np.float64], level: float, samples: int) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), samples)
