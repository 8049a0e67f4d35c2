"""Makes a picture and its mask look photographed a little differently each epoch, both in the same way.

Idea: what a class does not depend on is varied: how near it is seen, left and right, light and contrast. A part of the picture is
scaled to the whole, its mask by nearest pixels, for a class has no middle.
Source: random scale, crop and mirror as for DeepLab, Chen et al. 2017, arXiv:1706.05587.
Shape: (h, w, 3) uint8 and (h, w) uint8 → the same. All randomness is the caller's generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advisor.picture_augment import Pixels, toned


@dataclass(frozen=True, slots=True)
class View:
    """How training pictures and their masks vary."""

    flip: bool = False  # left and right change places, half the time
    zoom: float = 1.0  # at least this share of each side is seen, scaled up; 1: all of it
    tone: float = 0.0  # contrast and brightness change by up to this share


def viewed(picture: Pixels, mask: NDArray[np.uint8], rng: np.random.Generator, view: View) -> tuple[Pixels, NDArray[np.uint8]]:
    """Both, seen a little differently."""
    if view.zoom < 1:
        picture, mask = _nearer(picture, mask, rng, least=view.zoom)
    if view.flip and rng.random() < 0.5:
        picture, mask = picture[:, ::-1], mask[:, ::-1]
    return toned(picture, rng, most=view.tone) if view.tone > 0 else picture, mask


def _nearer(picture: Pixels, mask: NDArray[np.uint8], rng: np.random.Generator, *, least: float) -> tuple[Pixels, NDArray[np.uint8]]:
    from PIL import Image

    height, width = mask.shape
    share = float(rng.uniform(least, 1))
    wide, high = share * width, share * height
    left, top = float(rng.uniform(0, width - wide)), float(rng.uniform(0, height - high))
    box = (left, top, min(width, left + wide), min(height, top + high))
    seen = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, box=box)
    drawn = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST, box=box)
    return np.asarray(seen, dtype=np.uint8), np.asarray(drawn, dtype=np.uint8)
