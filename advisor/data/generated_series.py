"""Series made by a rule: a day, a week, a trend and noise that lingers; and a machine's, with faults put in where they are known.

Everything follows from the seed and the step, so that the same seed gives the same bytes; nothing is downloaded, and what a model can
at best reach is known: the noise is the only part of a forecast that cannot be foreseen.
Shape: forecasting (6000, 3) hourly; anomalies (24000, 2) a step a second, labels (24000,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.series import Series

HOURS, DAY, WEEK = 6000, 24, 168
SECONDS, TURN = 24_000, 25  # steps of the machine, and of one turn of it
NORMAL = 0.5  # of the machine's steps, from the start: without a fault
LINGERS = 0.7  # share of the noise that goes on in the next step
LICENCE = "CC0-1.0 (made by a rule)"

Array = NDArray[np.float64]
Fault = Callable[[Array, np.random.Generator], Array]


def demand(seed: int) -> Series:
    """Hourly load, a second place an hour behind it, and the temperature they follow: (6000, 3)."""
    rng = np.random.default_rng([2022, seed])
    hours = np.arange(HOURS)
    day, week = 2 * np.pi * hours / DAY, 2 * np.pi * hours / WEEK
    warm = 12 + 6 * np.sin(2 * np.pi * hours / HOURS) + 4 * np.sin(day - 2.0) + 1.5 * _lingering(rng)
    shape = 10 * np.sin(day) + 4 * np.sin(2 * day + 1.0) + 6 * np.sin(week) - 3 * np.cos(2 * week)
    load = 80 + 0.002 * hours + shape * (1 + 0.15 * np.sin(week)) + 0.6 * warm + 2.5 * _lingering(rng)
    behind = 0.5 * np.roll(load, 1) + 15 + 1.5 * _lingering(rng)
    behind[0] = behind[1]
    start = datetime(2020, 1, 6)
    times = tuple(str(start + timedelta(hours=int(hour))) for hour in hours)
    return Series("", "built-in series", ("load", "behind", "warmth"), times, np.stack([load, behind, warm], 1))


def _lingering(rng: np.random.Generator) -> Array:
    """Noise of deviation 1 of which a share goes on from step to step."""
    fresh = rng.standard_normal(HOURS) * np.sqrt(1 - LINGERS**2)
    found = np.empty(HOURS)
    now = 0.0
    for step in range(HOURS):
        now = LINGERS * now + fresh[step]
        found[step] = now
    return found


def machine(seed: int) -> Series:
    """Vibration and current of a turning machine, (24000, 2), with a fault of 40 to 120 steps every 300 or so after the first half."""
    rng = np.random.default_rng([2021, seed])
    steps = np.arange(SECONDS)
    load = 1 + 0.3 * np.sin(2 * np.pi * steps / 3000) + 0.1 * np.sin(2 * np.pi * steps / 700)
    turn = 2 * np.pi * steps / TURN
    vibration = load * (np.sin(turn) + 0.4 * np.sin(2 * turn + 0.7) + 0.2 * np.sin(5 * turn)) + 0.25 * rng.standard_normal(SECONDS)
    current = 5 + 2 * load + 0.3 * np.cos(turn) + 0.15 * rng.standard_normal(SECONDS)
    values = np.stack([vibration, current], 1)
    marks = np.zeros(SECONDS, dtype=np.bool_)
    at, kinds = int(NORMAL * SECONDS) + 150, list(FAULTS.values())
    while at < SECONDS - 300:
        length = int(rng.integers(40, 121))
        kind = kinds[int(rng.integers(len(kinds)))]
        values[at : at + length] = kind(values[at : at + length], rng)
        marks[at : at + length] = True
        at += length + int(rng.integers(120, 420))
    return Series("", "built-in machine", ("vibration", "current"), tuple(map(str, steps.tolist())), values, marks)


def _knock(part: Array, rng: np.random.Generator) -> Array:
    """A blow every turn."""
    blows = np.arange(len(part)) % TURN < 2
    return np.asarray(part + blows[:, None] * np.array([1.5, 0.3]) * rng.uniform(0.7, 1.5))


def _shift(part: Array, rng: np.random.Generator) -> Array:
    """More current than before."""
    return np.asarray(part + np.array([0.0, rng.uniform(0.5, 1.2)]))


def _rough(part: Array, rng: np.random.Generator) -> Array:
    """Noise on the vibration."""
    return np.asarray(part + np.array([rng.uniform(0.35, 0.8), 0.05]) * rng.standard_normal(part.shape))


def _stuck(part: Array, rng: np.random.Generator) -> Array:
    """A sensor that gives its last value on and on."""
    found = part.copy()
    found[:, int(rng.integers(2))] = part[0, int(rng.integers(1))]
    return found


def _slip(part: Array, rng: np.random.Generator) -> Array:
    """The machine turns at another speed than its drive."""
    places = np.linspace(0, len(part) * rng.uniform(0.6, 0.85), len(part))
    vibration = np.interp(places, np.arange(len(part)), part[:, 0])
    return np.stack([vibration, part[:, 1]], 1)


FAULTS: Mapping[str, Fault] = {"knock": _knock, "shift": _shift, "rough": _rough, "stuck": _stuck, "slip": _slip}


def facts(what: str, seed: int) -> dict[str, Any]:
    """Where the values come from, for the provenance."""
    return {"source": what, "licence": LICENCE, "seed": seed}
