"""Scenes drawn by a rule, without a download: a few flat shapes on a textured ground, and what is where, pixel by pixel and as boxes.

Idea: a shape is told by its outline alone. Its colours, stripes, size and turn are its own, the ground has a texture of the same make,
and light and grain lie over both, so that no colour gives a class away. Validation and test scenes never change; training scenes
follow the seed and, when augmenting, are new in every epoch.
Source: this generator; the numbers of a scene come from numpy's PCG64 seeded with (split, seed, epoch, index).
Shape: (height, width, 3) uint8; classes of pixels (height, width) uint8, 0 for the ground; boxes (n, 4) float32, left top right bottom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.corpus import SPLITS, Split
from advisor.data.pictures import Pixels

KINDS = ("disc", "square", "triangle", "star")
FINE = 4  # shapes are drawn this much larger and scaled down, so that their edges are smooth
MOST = 4  # shapes a scene
TRIES = 12  # for a place where a shape does not cover another
LEAST = 12  # pixels: no shape is smaller


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture and what is on it. `kinds` (n,) of the shapes, 1 for the first of `KINDS`; `boxes` (n, 4) around them."""

    picture: Pixels
    classes: NDArray[np.uint8]
    kinds: NDArray[np.int64]
    boxes: NDArray[np.float32]


def scene(split: Split, index: int, *, size: tuple[int, int], seed: int = 0, epoch: tuple[int, ...] = ()) -> Scene:
    """Scene `index` of `split`, `size` as (height, width). Only training scenes depend on `seed` and `epoch`."""
    rng = np.random.default_rng([11, SPLITS.index(split), *([seed, *epoch] if split == "train" else []), index])
    return draw(rng, size)


def draw(rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """One scene of one to four shapes that hardly cover each other."""
    picture, classes = texture(rng, size), np.zeros(size, dtype=np.uint8)
    kinds: list[int] = []
    boxes: list[NDArray[np.float32]] = []
    for _ in range(int(rng.integers(1, MOST + 1))):
        kind = int(rng.integers(1, len(KINDS) + 1))
        cover = _placed(kind, rng, size, boxes)
        if cover is None:
            continue
        fill = texture(rng, size)
        shade = cover[:, :, None]
        picture = picture * (1 - shade) + fill * shade
        classes[cover >= 0.5] = kind
        kinds.append(kind)
        boxes.append(around(cover >= 0.5))
    light = np.linspace(-1, 1, size[1], dtype=np.float32)[None, :, None] * np.float32(rng.uniform(-30, 30))
    picture = picture + light + rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(rng.uniform(0, 10))
    held = np.stack(boxes) if boxes else np.zeros((0, 4), dtype=np.float32)
    return Scene(np.clip(picture, 0, 255).astype(np.uint8), classes, np.array(kinds, dtype=np.int64), held)


def texture(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """A ground of two colours in soft blotches, half of the time with stripes: (h, w, 3) float32."""
    from PIL import Image

    height, width = size
    coarse = rng.random((int(rng.integers(2, 7)), int(rng.integers(2, 7))), dtype=np.float32)
    blotches = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    if rng.random() < 0.5:
        turn, pace = rng.uniform(0, np.pi), rng.uniform(0.4, 1.6)
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        blotches = 0.6 * blotches + 0.4 * (0.5 + 0.5 * np.sin(pace * (np.cos(turn) * columns + np.sin(turn) * rows)).astype(np.float32))
    one, other = (rng.uniform(0, 255, 3).astype(np.float32) for _ in range(2))
    other = one + (other - one) * np.float32(0.35)
    return np.asarray(one + (other - one) * np.clip(blotches, 0, 1)[:, :, None], dtype=np.float32)


def _placed(kind: int, rng: np.random.Generator, size: tuple[int, int], taken: list[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    """How much of each pixel the shape covers, (h, w) from 0 to 1, wholly inside the scene; None where there is no room left."""
    height, width = size
    largest = 0.28 * min(height, width)
    for _ in range(TRIES):
        radius = float(rng.uniform(max(LEAST / 2, 0.45 * largest), largest))
        middle = float(rng.uniform(radius + 1, width - radius - 1)), float(rng.uniform(radius + 1, height - radius - 1))
        turn = float(rng.uniform(0, 2 * np.pi))
        own = np.array([middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius], dtype=np.float32)
        if all(_shared(own, box) < 0.08 for box in taken):
            return _covered(outline(kind, middle, radius, turn), size)
    return None


def outline(kind: int, middle: tuple[float, float], radius: float, turn: float) -> NDArray[Any]:
    """The corners (n, 2) of a shape, x and y."""
    count, inner = {1: (40, 1.0), 2: (4, 1.0), 3: (3, 1.0), 4: (10, 0.45)}[kind]
    angles = turn + np.arange(count) * 2 * np.pi / count
    lengths = radius * np.where(np.arange(count) % 2, inner, 1.0)
    return np.stack([middle[0] + lengths * np.cos(angles), middle[1] + lengths * np.sin(angles)], axis=1)


def _covered(corners: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    from PIL import Image, ImageDraw

    height, width = size
    fine = Image.new("L", (width * FINE, height * FINE))
    ImageDraw.Draw(fine).polygon([tuple(corner) for corner in (corners * FINE).tolist()], fill=255)
    return np.asarray(fine.reduce(FINE), dtype=np.float32) / np.float32(255)


def around(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The box around the true pixels: left, top, right, bottom, the last two exclusive."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)


def _shared(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Intersection over union of two boxes."""
    sides = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None)
    both = float(sides.prod())
    areas = float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod())
    return both / (areas - both)


def facts(seed: int) -> dict[str, Any]:
    """What the provenance says of these scenes."""
    return {
        "source": "scenes of flat shapes on textured grounds, drawn by a rule",
        "licence": "as the project's",
        "split": "validation and test scenes are fixed; training scenes follow the seed",
        "seed": seed,
    }
