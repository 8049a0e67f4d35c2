"""Timing several things fairly: in rounds, in random order, on processor time, beside a copy of themselves.

Whatever disturbs the machine lasts longer than a round, so what is compared in one round is disturbed alike. A thread's own
processor time does not count the time others had the core; low quantiles do not count what neighbours left in the caches.
Many short rounds beat few long ones: beside two spinning processes and one that floods the memory, twelve A/A ratios of a 0.3 ms
net scattered by 13 % as medians of 40 rounds of 3 ms, by 1.6 % as quotients of low quantiles of 200 rounds of 0.4 ms (1.1 s each).
The copy (A/A) says how far two identical things appear apart: less than that is noise.
The clock is an argument, so the logic is tested without any time passing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Clock = Callable[[], tuple[float, float]]  # wall and processor time, seconds

WARMUP = 2  # the first call allocates, the second still settles
FEWEST_CALLS, MOST_CALLS = 3, 64  # in one block
LOW = 0.05  # the quantile of the rounds' fastest calls that stands for "undisturbed"
SHORTEST = 15  # rounds, whatever the budget says
RESAMPLES = 1000


def thread_clock() -> tuple[float, float]:
    """Wall time and this thread's processor time: right where the work runs on the calling thread alone."""
    return time.perf_counter(), time.thread_time()


def process_clock() -> tuple[float, float]:
    """Wall time and the whole process's processor time."""
    return time.perf_counter(), time.process_time()


@dataclass(frozen=True, slots=True)
class Timings:
    """Times of single calls in milliseconds, (rounds, calls of a block)."""

    wall_ms: np.ndarray
    cpu_ms: np.ndarray

    def judged(self, *, alone: bool) -> np.ndarray:
        """The clock that comparisons use: processor time where the calling thread works `alone`, else wall time."""
        return self.cpu_ms if alone else self.wall_ms


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 120,
    block_ms: float = 0.5,
    seconds: float = 6.0,
    seed: int = 0,
    clock: Clock = thread_clock,
    after_round: Callable[[int, int], None] | None = None,
) -> dict[str, Timings]:
    """Time every call in blocks, one of each a round, the order drawn anew each round.

    A block is the same number of calls for all, enough for the slowest to fill `block_ms`: the first call after another's finds
    its caches taken, so a fastest call out of one and a fastest out of several are not the same thing (6 % apart where this was
    learnt). Slow calls get fewer rounds, so that all of it takes about `seconds`.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    once = [_settled(call, clock) for call in calls.values()]
    repeats = max(FEWEST_CALLS, min(MOST_CALLS, math.ceil(block_ms / 1e3 / max(once))))
    rounds = min(rounds, max(SHORTEST, int(seconds / (sum(once) * repeats))))
    blocks: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(rounds):
        for index in generator.permutation(len(names)):
            name = names[index]
            blocks[name].append([_once(calls[name], clock) for _ in range(repeats)])
        if after_round is not None:
            after_round(number + 1, rounds)
    arrays = {name: np.array(block) * 1e3 for name, block in blocks.items()}  # (rounds, calls, 2)
    return {name: Timings(array[..., 0], array[..., 1]) for name, array in arrays.items()}


def _settled(call: Callable[[], object], clock: Clock) -> float:
    """Warm up, then the wall seconds of a call that was not disturbed."""
    for _ in range(WARMUP):
        call()
    return max(min(_once(call, clock)[0] for _ in range(WARMUP)), 1e-9)


def _once(call: Callable[[], object], clock: Clock) -> tuple[float, float]:
    wall, cpu = clock()
    call()
    wall_end, cpu_end = clock()
    return wall_end - wall, cpu_end - cpu


def low(times: np.ndarray) -> float:
    """Milliseconds of an undisturbed call: a low quantile of the rounds' fastest calls. `times` is (rounds, calls)."""
    return float(np.quantile(times.min(axis=1), LOW))


def summary(times: np.ndarray) -> dict[str, float]:
    """min, p10, p50, p90, p99 of all calls, milliseconds."""
    flat = np.ravel(times)
    return {"min": float(flat.min()), **{f"p{q}": float(np.quantile(flat, q / 100)) for q in (10, 50, 90, 99)}}


def ratio(after: np.ndarray, before: np.ndarray, *, level: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """`after / before` of interleaved timings (rounds, calls), as a quotient of low quantiles. Below 1 is faster.

    The interval is a percentile bootstrap over rounds, both sides drawn together.
    """
    above, below = after.min(axis=1), before.min(axis=1)
    generator = np.random.Generator(np.random.PCG64(seed))
    rows = generator.integers(0, above.size, (RESAMPLES, above.size))
    drawn = np.quantile(above[rows], LOW, axis=1) / np.quantile(below[rows], LOW, axis=1)
    edges = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return {"value": low(after) / low(before), "low": float(edges[0]), "high": float(edges[1]), "rounds": int(above.size)}


def noise(one: np.ndarray, same: np.ndarray, *, bound: float) -> dict[str, Any]:
    """The A/A control: how far two identical things appear apart, and whether that is too far to judge anything by.

    The spread is the farthest edge of the ratio's interval from 1; above `bound` the measurement is too noisy.
    """
    found = ratio(one, same)
    spread = max(abs(found["low"] - 1), abs(found["high"] - 1))
    return {"ratio": found, "spread": spread, "bound": bound, "too_noisy": bool(not spread <= bound)}
