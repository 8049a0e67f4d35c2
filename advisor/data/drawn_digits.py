"""Real handwriting as small colour pictures, without a download: one digit a picture, from the scans that scikit-learn bundles.

Idea: each digit was written by a person; its size, slant, place, colours, paper and dirt are the picture's own. The scans are
divided first (`digits.py`), so no scan appears in two splits. Validation and test pictures never change; training pictures follow
the seed and, when augmenting, are new in every epoch.
Source: as `digits.py` says. Shape: scans (8, 8) of 0 to 16 → pictures (32, 32, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.corpus import SPLITS, Corpus, Line, Split
from advisor.data.digits import facts, scans
from advisor.data.pictures import Pixels, png

COUNTS: Mapping[Split, int] = {"train": 2400, "val": 500, "test": 1200}
SIDE = 32
LABELS = tuple("0123456789")


def compose(split: Split, index: int, *, seed: int = 0, epoch: tuple[int, ...] = ()) -> tuple[Pixels, str]:
    """Picture `index` of `split`: (32, 32, 3) uint8 and its class. Only training pictures depend on `seed` and `epoch`."""
    rng, chosen = _choose(split, index, seed=seed, epoch=epoch)
    return draw(scans(split).images[chosen], rng), str(scans(split).digits[chosen])


def anew(seed: int) -> Callable[[tuple[int, ...], int], tuple[Pixels, str]]:
    """Training pictures without end: (epoch, index) → a picture and its class, new in every epoch."""
    return lambda epoch, index: compose("train", index, seed=seed, epoch=epoch)


def _choose(split: Split, index: int, *, seed: int, epoch: tuple[int, ...] = ()) -> tuple[np.random.Generator, int]:
    """The picture's own randomness, and the scan it shows: every scan in turn before one comes again."""
    rng = np.random.default_rng([9, SPLITS.index(split), *([seed, *epoch] if split == "train" else []), index])
    return rng, (index * 7919) % len(scans(split).digits)


def draw(scan: NDArray[Any], rng: np.random.Generator) -> Pixels:
    """One scan (8, 8) as a small picture (32, 32, 3): written in a colour on coloured paper, with dirt."""
    from PIL import Image

    high = int(rng.integers(22, 32))
    wide = max(12, min(SIDE, round(high * float(rng.uniform(0.7, 1.05)))))
    small = Image.fromarray((scan * (255 / 16)).astype(np.uint8)).resize((wide, high), Image.Resampling.BICUBIC)
    place = Image.new("L", (SIDE, SIDE))
    place.paste(small, (int(rng.integers(0, SIDE - wide + 1)), int(rng.integers(0, SIDE - high + 1))))
    slant, turn = float(rng.uniform(-0.2, 0.2)), float(rng.uniform(-10, 10))
    place = place.transform(place.size, Image.Transform.AFFINE, (1, slant, -slant * SIDE / 2, 0, 1, 0), Image.Resampling.BILINEAR)
    ink = np.asarray(place.rotate(turn, Image.Resampling.BILINEAR), dtype=np.float32) / np.float32(255)
    return _coloured(ink, rng)


def _coloured(ink: NDArray[np.float32], rng: np.random.Generator) -> Pixels:
    """Ink 0 to 1 → a picture: a dark colour on a light one, paper that darkens to one side, now and then a stray stroke, grain."""
    paper, pen = rng.uniform(150, 255, 3).astype(np.float32), rng.uniform(0, 110, 3).astype(np.float32)
    along = np.linspace(-1, 1, SIDE, dtype=np.float32)
    shade = np.float32(rng.uniform(-25, 25)) * along[None, :, None] + np.float32(rng.uniform(-25, 25)) * along[:, None, None]
    ground = paper + shade
    if rng.random() < 0.15:  # a line across, in any colour
        row, slope = float(rng.uniform(0, SIDE)), float(rng.uniform(-1, 1))
        near = np.abs(np.arange(SIDE)[:, None] - row - slope * np.arange(SIDE)[None, :]) < rng.uniform(0.5, 1.5)
        ground = np.where(near[:, :, None], rng.uniform(0, 255, 3).astype(np.float32), ground)
    picture = ground + (pen - ground) * ink[:, :, None]
    picture = picture + rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(rng.uniform(0, 12))
    shades: Pixels = np.clip(picture, 0, 255).astype(np.uint8)
    return shades


def corpus(counts: Mapping[Split, int], *, seed: int) -> Corpus:
    """The built-in corpus: `counts` pictures a split, each drawn when it is read."""

    def line(split: Split, index: int) -> Line:
        chosen = _choose(split, index, seed=seed)[1]
        return Line(f"{split}/{index:05d}", str(scans(split).digits[chosen]), f"built-in digits, {split} picture {index}")

    lines = {split: tuple(line(split, index) for index in range(counts[split])) for split in SPLITS}
    told = {**facts(seed), "source": "scikit-learn's bundled handwritten digits, one a picture, drawn in colour on coloured paper"}
    return Corpus(lines, lambda line: png(_drawn(line.id, seed)), told)


def _drawn(name: str, seed: int) -> Pixels:
    split, _, index = name.partition("/")
    return compose(split, int(index), seed=seed)[0]  # type: ignore[arg-type]
