"""Makes a text line look printed, scanned and cropped a little differently each epoch.

Idea: what varies between receipts, forms and photographs of the same words is width, slant, place in the crop, stroke weight,
sharpness, ink and paper, grain and specks; each is varied a little, each seldom enough that most lines stay plain.
Shape: (32, w) uint8 → (32, w') uint8, dark on light; w' is the caller's, so that lines can be put into batches by width beforehand.
All randomness is the caller's generator: the same (seed, epoch, index) gives the same bytes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

STRETCH = 0.15  # widths change by up to this share
SHEAR = 0.15  # columns per row
SHIFT = 2.0  # rows up or down
TALLER = 0.08  # heights change by up to this share
NOISE_BANK = 1 << 20


def stretches(count: int, *, seed: int, epoch: int) -> NDArray[np.float64]:
    """How much wider each of `count` lines is drawn in this epoch; the first n do not depend on how many follow."""
    return 1 + np.random.default_rng([seed, epoch, 1]).uniform(-STRETCH, STRETCH, size=count)


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The randomness of one line in one epoch."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, index, 2])))


def augment(row: Pixels, rng: np.random.Generator, *, width: int) -> Pixels:
    """One line, drawn `width` wide."""
    chance = rng.random(8)
    paper = int(np.percentile(row[::8], 90))
    if chance[0] < 0.15:
        row = coarsen(row, rng)
    row = warp(row, rng, width=width, paper=paper)
    if chance[1] < 0.2:
        row = reweigh(row, bolder=bool(chance[2] < 0.5))
    if chance[3] < 0.2:
        row = blur(row)
    if chance[4] < 0.15:
        row = speck(row, rng, paper=paper)
    return tone(row, rng, grain=bool(chance[5] < 0.3), paper=paper)


def warp(row: Pixels, rng: np.random.Generator, *, width: int, paper: int) -> Pixels:
    """Stretch to `width`, slant, move and scale up and down, in one resampling. What comes into view is paper."""
    from PIL import Image

    height, before = row.shape
    across = before / width
    shear = rng.uniform(-SHEAR, SHEAR) * across
    down = 1 + rng.uniform(-TALLER, TALLER)
    top = (1 - down) * height / 2 + rng.uniform(-SHIFT, SHIFT)
    back = (across, shear, -shear * height / 2, 0.0, down, top)  # output (x, y) → input
    image = Image.fromarray(row).transform((width, height), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR, fillcolor=paper)
    return np.asarray(image)


def coarsen(row: Pixels, rng: np.random.Generator) -> Pixels:
    """As if scanned at a lower resolution: fewer rows and columns, and back."""
    from PIL import Image

    height, width = row.shape
    share = rng.uniform(0.45, 0.8)
    small = Image.fromarray(row).resize((max(1, round(width * share)), max(1, round(height * share))), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def reweigh(row: Pixels, *, bolder: bool) -> Pixels:
    """Thicker or thinner strokes: each pixel takes half of its darker, or lighter, neighbour's shade."""
    neighbour = np.roll(row, 1, axis=1)
    neighbour[:, 0] = row[:, 0]
    other = np.minimum(row, neighbour) if bolder else np.maximum(row, neighbour)
    mean: Pixels = ((row.astype(np.uint16) + other) >> 1).astype(np.uint8)
    return mean


def blur(row: Pixels) -> Pixels:
    """Out of focus: the mean of five neighbours."""
    wide = np.pad(row, 1, mode="edge").astype(np.uint16)
    total = 4 * wide[1:-1, 1:-1] + wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    mean: Pixels = (total >> 3).astype(np.uint8)
    return mean


def speck(row: Pixels, rng: np.random.Generator, *, paper: int) -> Pixels:
    """One to three spots of at most 4 by 4 pixels: lost ink or dirt."""
    row = row.copy()
    height, width = row.shape
    for _ in range(int(rng.integers(1, 4))):
        top, left = int(rng.integers(height)), int(rng.integers(width))
        high, wide = rng.integers(1, 5, size=2)
        row[top : top + high, left : left + wide] = paper if rng.random() < 0.5 else int(rng.integers(40, 200))
    return row


def tone(row: Pixels, rng: np.random.Generator, *, grain: bool, paper: int) -> Pixels:
    """Another contrast and brightness, by a table; grain on top."""
    contrast, light = rng.uniform(0.6, 1.15), rng.uniform(-30, 15)
    table = paper + (np.arange(256) - paper) * contrast + light
    if not grain:
        toned: Pixels = np.clip(table, 0, 255).astype(np.uint8)[row]
        return toned
    noise = _bank()
    start = int(rng.integers(0, NOISE_BANK - row.size))
    shaken = table.astype(np.float32)[row] + noise[start : start + row.size].reshape(row.shape) * np.float32(rng.uniform(2, 12))
    return np.clip(shaken, 0, 255).astype(np.uint8)


@cache
def _bank() -> NDArray[Any]:
    """A long stretch of noise that grain is cut from: drawing it anew for every line would cost more than all the rest."""
    return np.random.default_rng(5).standard_normal(NOISE_BANK, dtype=np.float32)
