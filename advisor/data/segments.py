"""From class scores on a coarse grid to a class for every pixel, and what that says of a picture in words.

A net answers on a grid four to sixteen times coarser than its input, classes last; the scores are spread out bilinearly and the best
class of each pixel is taken. That step is outside the graph: at full size it writes more numbers than the net itself.
Shape: logits (rows, columns, classes) float32 → classes (height, width) uint8. Numpy; a bundle's reader computes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

PART = 20  # a reading tells of a class in whole twentieths of the picture


@lru_cache(maxsize=64)
def shares(size: int, cells: int) -> NDArray[np.float32]:
    """(size, cells): how much each of `size` pixels takes from each of `cells` cells, centres half a step in, edges repeated."""
    place = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, cells - 1)
    found = np.zeros((size, cells), dtype=np.float32)
    np.add.at(found, (np.arange(size), low), (1 - (place - low)).astype(np.float32))
    np.add.at(found, (np.arange(size), high), (place - low).astype(np.float32))
    return found


def spread_out(logits: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    """Scores (rows, columns, classes) → (height, width, classes)."""
    rows, columns, classes = logits.shape
    tall = shares(height, rows) @ logits.astype(np.float32).reshape(rows, columns * classes)
    wide: NDArray[np.float32] = np.matmul(shares(width, columns), tall.reshape(height, columns, classes))
    return wide


def classes_of(logits: NDArray[Any], height: int, width: int) -> NDArray[np.uint8]:
    """The best class of each pixel, (height, width)."""
    found: NDArray[np.uint8] = spread_out(logits, height, width).argmax(-1).astype(np.uint8)
    return found


def said(logits: NDArray[Any], labels: Sequence[str], height: int, width: int) -> str:
    """The classes that take a twentieth of the picture or more, in the order of their numbers: `sky 25 %, road 40 %`."""
    found = np.bincount(classes_of(logits, height, width).ravel(), minlength=len(labels)) / (height * width)
    parts = np.floor(PART * found + 0.5).astype(int)
    return (
        ", ".join(f"{label} {100 * part // PART} %" for label, part in zip(labels, parts.tolist(), strict=True) if part) or "nothing large"
    )
