"""How a training recording varies from epoch to epoch: pace, place, loudness, noise, and stretches of time or pitch left out.

Masks of time and of frequency are SpecAugment (Park et al. 2019, arXiv:1904.08779), applied to the waveform, because the spectrogram
is made inside the graph: a stretch of samples is silenced, a stretch of the mel scale is filtered away. Pace: Ko et al. 2015
(Interspeech, pages 3586-3589). All randomness comes from the generator given.
Shape: samples (n,) float32 → the same, or with `speed` of another length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Vary:
    """Settings. A 0 leaves that kind out."""

    speed: float = 0.1  # faster or slower by up to this share; the pitch moves with it
    shift: float = 0.1  # seconds a clip is moved by
    gain: float = 6.0  # decibels louder or softer
    noise: float = 0.5  # share of the recordings that get noise, 10 to 40 dB below them
    time_masks: int = 1  # stretches silenced
    time_mask: float = 0.1  # the longest, in seconds
    band_masks: int = 1  # stretches of the mel scale filtered away
    band_mask: float = 0.15  # the widest, as a share of the scale


LIMITS = {"speed": 0.5, "shift": 10.0, "gain": 60.0, "noise": 1.0, "time_masks": 20, "time_mask": 10.0, "band_masks": 20, "band_mask": 0.9}


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The randomness of one recording in one epoch."""
    return np.random.default_rng([seed, epoch, index, 16])


def paced(samples: Wave, vary: Vary, rng: np.random.Generator) -> Wave:
    """(n,) → (m,): said faster or slower."""
    factor = 1 + float(rng.uniform(-vary.speed, vary.speed))
    count = max(1, round(len(samples) / factor))
    if count == len(samples):
        return samples
    places = np.arange(count) * (len(samples) / count)
    found: Wave = np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
    return found


def placed(samples: Wave, wanted: int, vary: Vary, rng: np.random.Generator, *, rate: int) -> Wave:
    """(n,) → (wanted,): as the step `clip` cuts or fills it, but not quite from the middle."""
    spare = wanted - len(samples)
    moved = round(float(rng.uniform(-vary.shift, vary.shift)) * rate)
    middle = spare // 2 if spare > 0 else -(-spare // 2)
    first = int(np.clip(middle + moved, min(0, spare), max(0, spare)))
    if spare <= 0:
        return samples[-first : wanted - first]
    filled = np.zeros(wanted, np.float32)
    filled[first : first + len(samples)] = samples
    return filled


def coloured(samples: Wave, vary: Vary, rng: np.random.Generator, *, rate: int) -> Wave:
    """(n,) → (n,): another loudness, noise, masks."""
    sound = samples * np.float32(10 ** (float(rng.uniform(-vary.gain, vary.gain)) / 20))
    if rng.uniform() < vary.noise:
        below = 10 ** (-float(rng.uniform(10, 40)) / 20)
        sound = sound + np.float32(below * max(1e-4, float(sound.std()))) * rng.standard_normal(len(sound), dtype=np.float32)
    if vary.band_masks and vary.band_mask:
        sound = without_bands(sound, vary, rng, rate=rate)
    for _ in range(vary.time_masks):
        width = round(float(rng.uniform(0, vary.time_mask)) * rate)
        first = int(rng.integers(0, max(1, len(sound) - width)))
        sound[first : first + width] = 0
    found: Wave = np.clip(sound, -1, 1)
    return found


def without_bands(samples: Wave, vary: Vary, rng: np.random.Generator, *, rate: int) -> Wave:
    """Some stretches of the mel scale filtered away."""
    spectrum = np.fft.rfft(samples)
    scale = np.log10(1 + np.fft.rfftfreq(len(samples), 1 / rate) / 700)
    scale = scale / max(1e-9, float(scale[-1]))
    for _ in range(vary.band_masks):
        width = float(rng.uniform(0, vary.band_mask))
        first = float(rng.uniform(0, 1 - width))
        spectrum[(scale >= first) & (scale < first + width)] = 0
    found: Wave = np.fft.irfft(spectrum, len(samples)).astype(np.float32)
    return found


def checked(chosen: dict[str, Any], usual: Vary) -> Vary:
    """`usual`, but for what is chosen (None: as usual). Raises Problem (exit 2) for a value out of range."""
    from rules.problems import Problem

    values = {}
    for key, high in LIMITS.items():
        value = getattr(usual, key) if chosen.get(key) is None else chosen[key]
        kinds: Any = int if isinstance(high, int) else int | float
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value <= high:
            raise Problem(f"{key} is {value!r}, allowed: 0 to {high:g}{', a whole number' if isinstance(high, int) else ''}")
        values[key] = value
    return Vary(**values)
