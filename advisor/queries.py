"""What a detector answers that is asked a fixed number of times, and what is found in it: nothing is dropped for being near another.

Idea: each query says of one box how sure it is of each class, and where the box is. Training has taught the queries not to repeat each
other, so that reading them is a threshold: no default boxes, no suppression, the same time whatever is on the picture.
Source: Carion et al. 2020, arXiv:2005.12872 (boxes as a set); Lv et al. 2023, arXiv:2304.08069, whose queries are the likeliest cells of
three maps, and whose chances stand each for itself.
Shape: scores (queries, classes), raw; boxes (queries, 4) middle x, middle y, width, height as shares of the picture. Numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor import anchors

STRIDES = (8, 16, 32)  # of the maps that queries are chosen from
USUAL = 300  # queries, as published
MOST = 1000


def count(side: int, wanted: int) -> int:
    """How many queries a net at `side` pixels has: as many as wanted, or as there are cells."""
    return min(wanted, sum((side // stride) ** 2 for stride in STRIDES))


def answered(rows: int) -> bool:
    """Whether so many rows are queries and not the default boxes of any side: the two forms are told apart by it."""
    return rows not in ANCHORED


ANCHORED = frozenset(anchors.count(side) for side in range(64, 1025, 32))  # the sides that the task takes


def found(
    scores: NDArray[Any], boxes: NDArray[Any], *, least: float, most: int
) -> tuple[anchors.Boxes, NDArray[np.int64], NDArray[np.float32]]:
    """Boxes (n, 4) left, top, right, bottom, their classes (n,) from 0 and chances (n,), falling: those of more than `least`."""
    chances = np.asarray(1 / (1 + np.exp(-np.clip(scores.astype(np.float32), -50, 50))), dtype=np.float32)
    rows, kinds = np.nonzero(chances > least)
    order = np.lexsort((rows, kinds, -chances[rows, kinds]))[:most]
    rows, kinds = rows[order], kinds[order]
    return np.clip(anchors.corners(boxes.astype(np.float32)[rows]), 0, 1), kinds.astype(np.int64), chances[rows, kinds]
