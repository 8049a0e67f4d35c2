"""Makes a picture and its boxes look photographed a little differently each epoch, both in the same way.

Idea: how near a thing is seen, left and right, light and contrast are varied. A part of the picture is scaled to the whole; a thing
stays where its middle is still seen, its box cut at the edges.
Source: the random crops of SSD, Liu et al. 2015, arXiv:1512.02325, section 2.2, without the search for an overlap.
Shape: (side, side, 3) uint8 and boxes (n, 4) as shares of the picture → the same, and which boxes stayed. Randomness is the caller's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from advisor.mask_augment import View
from advisor.picture_augment import Pixels, toned

Boxes = NDArray[np.float32]


def viewed(picture: Pixels, boxes: Boxes, rng: np.random.Generator, view: View) -> tuple[Pixels, Boxes, NDArray[np.bool_]]:
    """Both, seen a little differently; boxes that are gone are told of, not dropped."""
    stayed = np.ones(len(boxes), dtype=bool)
    if view.zoom < 1 and rng.random() < 0.7:
        picture, boxes, stayed = _nearer(picture, boxes, rng, least=view.zoom)
    if view.flip and rng.random() < 0.5:
        picture, boxes = picture[:, ::-1], np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)
    return toned(picture, rng, most=view.tone) if view.tone > 0 else picture, boxes, stayed


def _nearer(picture: Pixels, boxes: Boxes, rng: np.random.Generator, *, least: float) -> tuple[Pixels, Boxes, NDArray[np.bool_]]:
    from PIL import Image

    side = len(picture)
    wide, high = (float(rng.uniform(least, 1)) for _ in range(2))
    left, top = float(rng.uniform(0, 1 - wide)), float(rng.uniform(0, 1 - high))
    window = (left * side, top * side, min(side, (left + wide) * side), min(side, (top + high) * side))
    seen = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR, box=window)
    start, size = np.array([left, top] * 2, dtype=np.float32), np.array([wide, high] * 2, dtype=np.float32)
    moved = (boxes - start) / size
    middle = (moved[:, :2] + moved[:, 2:]) / 2
    stayed = np.asarray(((middle > 0) & (middle < 1)).all(1), dtype=bool)
    return np.asarray(seen, dtype=np.uint8), np.asarray(np.clip(moved, 0, 1), dtype=np.float32), stayed
