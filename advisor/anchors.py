"""Default boxes of a one-stage detector, what a net's numbers for them mean, and which of the boxes found are kept.

Idea: six grids, the first a sixteenth of the picture, each further one half of that; every cell has six boxes of fixed shapes. A net
gives for each box the classes' scores, the ground's first, and four numbers that move and stretch the box towards a thing. Those raw
numbers are what the graph ends in: turning them into boxes and dropping doubles is a step of its own, which changes with thresholds.
Source: SSD, Liu et al. 2015, arXiv:1512.02325; scales of SSDLite as in torchvision's DefaultBoxGenerator, clipped; numbers as coded by
Faster R-CNN, Ren et al. 2015, arXiv:1506.01497, with SSD's weights.
Shape: boxes (anchors, 4) left, top, right, bottom as shares of the picture; scores (anchors, 1 + classes); offsets (anchors, 4). Numpy.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAPS = 6
STRIDE = 16  # of the first grid
SCALES = (0.2, 0.95)  # of the boxes of the first and the last grid, shares of the side; the first may be chosen otherwise
SHAPES = 6  # a cell: two squares, and two ratios both ways
RATIOS = (2.0, 3.0)
WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # what a net's numbers are larger by: place, size
LARGEST = math.log(1000 / 16)  # of a stretch

Boxes = NDArray[np.float32]


def cells(side: int) -> list[int]:
    """How many cells each grid has along a side."""
    found = [-(-side // STRIDE)]
    while len(found) < MAPS:
        found.append(-(-found[-1] // 2))
    return found


def count(side: int) -> int:
    """How many default boxes there are."""
    return sum(SHAPES * size * size for size in cells(side))


@lru_cache(maxsize=8)
def anchors(side: int, smallest: float = SCALES[0]) -> Boxes:
    """(anchors, 4): middle x, middle y, width, height as shares of the picture; cell by cell, the shapes of a cell together.

    `smallest` is the scale of the first grid's boxes.
    """
    low, high = smallest, SCALES[1]
    scales = [low + (high - low) * k / (MAPS - 1) for k in range(MAPS)] + [1.0]
    found = []
    for k, size in enumerate(cells(side)):
        sides = [(scales[k], scales[k]), (math.sqrt(scales[k] * scales[k + 1]),) * 2]
        for ratio in RATIOS:
            wide, high_ = scales[k] * math.sqrt(ratio), scales[k] / math.sqrt(ratio)
            sides += [(wide, high_), (high_, wide)]
        rows, columns = np.mgrid[:size, :size]
        middles = (np.stack([columns.ravel(), rows.ravel()], 1) + 0.5) / size
        shapes = np.minimum(np.array(sides), 1.0)
        found.append(np.concatenate([np.repeat(middles, SHAPES, 0), np.tile(shapes, (size * size, 1))], 1))
    return np.concatenate(found).astype(np.float32)


def corners(boxes: NDArray[Any]) -> NDArray[Any]:
    """Middle and size → left, top, right, bottom."""
    return np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def decoded(offsets: NDArray[Any], side: int, smallest: float = SCALES[0]) -> Boxes:
    """A net's numbers (anchors, 4) → the boxes they mean, within the picture."""
    held = anchors(side, smallest)
    moved = offsets.astype(np.float32) / np.array(WEIGHTS, dtype=np.float32)
    middle = held[:, :2] + moved[:, :2] * held[:, 2:]
    size = held[:, 2:] * np.exp(np.minimum(moved[:, 2:], np.float32(LARGEST)))
    edges: Boxes = np.clip(corners(np.concatenate([middle, size], 1)), 0, 1).astype(np.float32)
    return edges


def probabilities(scores: NDArray[Any]) -> NDArray[np.float32]:
    """Raw scores (anchors, 1 + classes) → probabilities, float32."""
    odds = np.exp(scores.astype(np.float32) - scores.max(-1, keepdims=True).astype(np.float32))
    return np.asarray(odds / odds.sum(-1, keepdims=True), dtype=np.float32)


def found(
    scores: NDArray[Any],
    offsets: NDArray[Any],
    side: int,
    *,
    least: float,
    overlap: float,
    most: int,
    smallest: float = SCALES[0],
) -> tuple[Boxes, NDArray[np.int64], NDArray[np.float32]]:
    """Boxes (n, 4), their classes (n,) from 0 and probabilities (n,), falling: at least `least`, no two of a class over `overlap`."""
    boxes, chances = decoded(offsets, side, smallest), probabilities(scores)
    kept: list[tuple[float, int, int]] = []
    for label in range(1, chances.shape[1]):
        rows = np.flatnonzero(chances[:, label] > least)
        rows = rows[np.argsort(-chances[rows, label], kind="stable")][: 4 * most]
        kept += [(float(chances[row, label]), label - 1, int(row)) for row in rows[suppressed(boxes[rows], overlap)]]
    kept.sort(key=lambda item: (-item[0], item[1], item[2]))
    kept = kept[:most]
    rows = np.array([row for _, _, row in kept], dtype=np.int64)
    return boxes[rows], np.array([label for _, label, _ in kept], dtype=np.int64), np.array([chance for chance, _, _ in kept], np.float32)


def suppressed(boxes: Boxes, overlap: float) -> NDArray[np.int64]:
    """Which of the boxes, the best first, are kept: none that shares more than `overlap` with a better one."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left, kept = np.arange(len(boxes)), []
    while left.size:
        first, others = left[0], left[1:]
        kept.append(first)
        sides = np.minimum(boxes[first, 2:], boxes[others, 2:]) - np.maximum(boxes[first, :2], boxes[others, :2])
        shared = np.clip(sides, 0, None).prod(1)
        left = others[shared <= overlap * (areas[first] + areas[others] - shared)]
    return np.array(kept, dtype=np.int64)
