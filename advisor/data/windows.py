"""Windows over series: which steps belong to training, validation and test, by time, and how values are scaled.

Idea: each series is cut at two moments. Training windows lie wholly before the first. A later split's windows are told apart by what
is asked of them: of a forecast the future must lie in the split, its past may reach back over the border, as it would in use; of a
detector the whole window must. Mean and deviation are those of the training steps alone.
Ratios and their rounding as in the code of Zhou et al. 2021 (Informer, arXiv:2012.07436) and those after it: the train and test shares
are rounded down, validation is the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.corpus import SPLITS, Split
from advisor.data.series import BEATS, Series
from rules.examples import Batch
from rules.problems import Problem, bad_input, unknown

Array = NDArray[Any]
Borders = Mapping[Split, tuple[int, int]]  # first step, and the step after the last


@dataclass(frozen=True, slots=True)
class Place:
    """One window: which series, and its first step."""

    series: int
    start: int


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and deviation of every column, as a bundle carries them."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, values: Array) -> NDArray[np.float32]:
        """Raw values (…, columns) → float32 in deviations from the mean. The bundle's reader does the same, to the bit."""
        return np.asarray((np.asarray(values, np.float64) - np.array(self.mean)) / np.array(self.std), np.float32)

    def undo(self, values: Array) -> NDArray[np.float64]:
        """The raw values of scaled ones."""
        return np.asarray(np.asarray(values, np.float64) * np.array(self.std) + np.array(self.mean))


def scale_of(parts: Sequence[Array]) -> Scale:
    """The scale of training steps (n, columns) each; a column that never moves keeps its unit."""
    steps = np.concatenate(parts)
    std = steps.std(0)
    return Scale(tuple(map(float, steps.mean(0))), tuple(float(value) if value > 0 else 1.0 for value in std))


def borders(count: int, shares: Sequence[int | float]) -> Borders:
    """Where the splits of a series of `count` steps lie, by `shares`: three numbers of steps, or three fractions."""
    if isinstance(shares[0], int):
        train, val, test = (int(share) for share in shares)
    else:
        train, test = int(count * shares[0]), int(count * shares[2])
        whole = sum(shares) > 1 - 1e-9
        val = count - train - test if whole else int(count * shares[1])
    return {"train": (0, train), "val": (train, train + val), "test": (train + val, min(count, train + val + test))}


def check_shares(value: Any) -> tuple[int | float, ...]:
    """The setting `split`. Raises Problem (exit 2) where it is none: three fractions of 1 together, or three numbers of steps."""
    remedy = "split = [0.7, 0.1, 0.2], or numbers of steps: [8640, 2880, 2880]"
    if not isinstance(value, list | tuple) or len(value) != 3 or any(isinstance(share, bool) for share in value):
        raise Problem(f"split is {value!r}, allowed: three fractions or three numbers of steps", remedy=remedy)
    steps = all(isinstance(share, int) and share > 0 for share in value)
    fractions = all(isinstance(share, float) and 0 < share < 1 for share in value) and sum(value) < 1 + 1e-9
    if not (steps or fractions):
        raise Problem(f"split is {value!r}, allowed: three fractions of at most 1 in all, or three numbers of steps", remedy=remedy)
    return tuple(value)


def choose(settings: Mapping[str, Any], defaults: Mapping[str, Any], *, task: str) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one, and for a value of the two that are words."""
    for key in settings:
        if key not in defaults:
            raise unknown(f"setting of the {task} task", key, defaults)
    chosen = {**defaults, **settings}
    if chosen["irregular"] not in BEATS:
        raise unknown("irregular", str(chosen["irregular"]), BEATS)
    if chosen["time"] is not None and not isinstance(chosen["time"], str):
        raise Problem(f"time is {chosen['time']!r}, allowed: the name of a column")
    return chosen


def check_scale(settings: Mapping[str, Any], *, columns: Sequence[str]) -> Scale | None:
    """The settings `mean` and `std`, where they are given. Raises Problem (exit 2) unless each has a number for every column."""
    given = [settings["mean"], settings["std"]]
    if given == [None, None]:
        return None
    for key, values in zip(("mean", "std"), given, strict=True):
        numbers = isinstance(values, list | tuple) and all(isinstance(value, int | float) and math.isfinite(value) for value in values)
        if not numbers or len(values) != len(columns):
            raise Problem(f"{key} is {str(values)[:60]}, allowed: {len(columns)} numbers, one for each of {', '.join(columns)[:80]}")
    if min(settings["std"]) <= 0:
        raise Problem(f"std is {str(settings['std'])[:60]}, allowed: numbers above 0")
    return Scale(tuple(map(float, settings["mean"])), tuple(map(float, settings["std"])))


def whole(settings: Mapping[str, Any], key: str, *, least: int = 1, most: int = 100_000) -> int:
    """A setting that is a whole number. Raises Problem (exit 2) where it is none, or out of bounds."""
    value = settings[key]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Problem(f"{key} is {value!r}, allowed: {least} to {most:,}")
    return value


def places(series: Sequence[Series], shares: Sequence[int | float], *, past: int, asked: int, stride: int) -> dict[Split, list[Place]]:
    """Every window of each split: `past` steps that may lie before it, then `asked` steps that must lie in it.

    Training windows lie in the training steps wholly. Raises Problem (exit 3) for a split without any.
    """
    found: dict[Split, list[Place]] = {split: [] for split in SPLITS}
    for number, one in enumerate(series):
        for split, (low, high) in borders(len(one.values), shares).items():
            first = max(0, low - past) if split != "train" else low
            found[split] += [Place(number, start) for start in range(first, min(high, len(one.values)) - past - asked + 1, stride)]
    for split in SPLITS:
        if not found[split]:
            longest = max(series, key=lambda one: len(one.values))
            steps = past + asked if split == "train" else asked
            low, high = borders(len(longest.values), shares)[split]
            what = (
                f"{longest.where}: the {split} split has {max(0, high - low):,} of {len(longest.values):,} steps, a window takes {steps:,}"
            )
            raise bad_input(what, remedy="give longer series, a shorter length, or another split in the plan's [settings]")
    return found


# -- batches -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WindowBatches:
    """The batches of one pass, made while they are asked for."""

    chosen: Sequence[int]
    size: int
    make: Callable[[Sequence[int]], Batch]

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.chosen), self.size):
            yield self.make(self.chosen[start : start + self.size])

    def __len__(self) -> int:
        return -(-len(self.chosen) // self.size)


def drawn(count: int, *, limit: int | None, shuffle: bool, seed: int, epoch: int) -> list[int]:
    """Which windows a pass sees: in order and spread over the split, or at random by (seed, epoch)."""
    few = count if limit is None else min(limit, count)
    if shuffle:
        order: list[int] = np.random.default_rng([seed, epoch, 0]).permutation(count)[:few].tolist()
        return order
    return [place * count // few for place in range(few)]
