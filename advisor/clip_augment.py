"""Makes a clip look filmed a little differently each epoch: all its frames are moved, mirrored and lit alike.

What tells actions apart is how things move between frames, so a clip is never varied frame by frame; in time only which frame of each
equal part is taken changes. Mirrored clips are off by default: a wave to the left becomes one to the right.
Source: as `picture_augment.py`; a random frame of each segment, Wang et al. 2016, arXiv:1608.00859.
Shape: (frames · parts, side, side, 3) uint8 → (frames, side, side, 3) uint8. All randomness is the caller's generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advisor.picture_augment import shifted, toned

PARTS = 3  # frames held of each equal part; the middle one is what is scored

Film = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Filmed:
    """How training clips vary. `shift` is a share of the side, `tone` of full brightness."""

    jitter: bool = False  # any of the frames of each part, instead of its middle one
    flip: bool = False  # left and right change places, half the time
    shift: float = 0.0
    tone: float = 0.0


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The randomness of one clip in one epoch."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, index, 8])))


def varied(held: Film, rng: np.random.Generator, how: Filmed) -> Film:
    """One clip, seen a little differently."""
    clip = taken(held, rng) if how.jitter else held
    frames, side = clip.shape[:2]
    together = clip.transpose(1, 2, 0, 3).reshape(side, side, -1)
    if how.shift > 0:
        together = shifted(together, rng, most=round(how.shift * side))
    if how.flip and rng.random() < 0.5:
        together = together[:, ::-1]
    if how.tone > 0:
        together = toned(together, rng, most=how.tone)
    return np.ascontiguousarray(together.reshape(side, side, frames, 3).transpose(2, 0, 1, 3))


def taken(held: Film, rng: np.random.Generator) -> Film:
    """Any one frame of each part."""
    count = len(held) // PARTS
    found: Film = held[PARTS * np.arange(count) + rng.integers(0, PARTS, count)]
    return found


def middle(held: Film) -> Film:
    """The middle frame of each part."""
    return held[PARTS // 2 :: PARTS]
