"""Real handwriting without a download: lines of 3 to 8 digits, composed from the 1,797 scans that scikit-learn bundles.

Idea: each digit was written by a person; the line it stands in is put together here, dark on light, with its own spacing, size,
slant, baseline, ink and paper. The scans are divided first (7 : 1 : 2 within each digit), so no scan appears in two splits.
Validation and test lines never change; training lines follow the seed and, when augmenting, are new in every epoch.
Source: the test part of Optical Recognition of Handwritten Digits, Alpaydin & Kaynak 1998, UCI repository, 13 writers;
who wrote which scan is not published, so writers may be shared between splits.
Shape: scans (n, 8, 8) of 0 to 16 → lines (32, w) uint8, w about 60 to 260.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.corpus import SPLITS, Corpus, Line, Split
from advisor.data.lines import HEIGHT
from rules.problems import bad_environment

COUNTS: Mapping[Split, int] = {"train": 6000, "val": 500, "test": 1200}
SHARES: Mapping[Split, int] = {"train": 7, "val": 1, "test": 2}
SHORTEST, LONGEST = 3, 8
EDGE = 3  # columns of paper on either side

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Scans:
    """The scans of one split: `images` (n, 8, 8) with 0 paper to 16 ink, `digits` (n,), `indices` (n,) into the bundled set."""

    images: NDArray[Any]
    digits: NDArray[Any]
    indices: NDArray[Any]


@cache
def scans(split: Split) -> Scans:
    """The scans that lines of `split` are made of. Raises Problem (exit 5) without scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        remedy = "pip install 'edge-advisor[train]', or give a folder of your own with --data"
        raise bad_environment("the built-in handwriting needs scikit-learn, which is not installed", remedy=remedy) from None
    bundled = load_digits()
    indices = _division(bundled.target)[split]
    return Scans(bundled.images[indices], bundled.target[indices], indices)


def _division(digits: NDArray[Any]) -> dict[Split, NDArray[Any]]:
    """Which scan belongs to which split: the scans of each digit in a fixed random order, dealt out by `SHARES`."""
    deal = [split for split in SPLITS for _ in range(SHARES[split])]
    parts: dict[Split, list[int]] = {split: [] for split in SPLITS}
    for digit in range(10):
        own = np.random.default_rng([1998, digit]).permutation(np.flatnonzero(digits == digit))
        for place, index in enumerate(own.tolist()):
            parts[deal[place % len(deal)]].append(index)
    return {split: np.array(sorted(part)) for split, part in parts.items()}


def compose(split: Split, index: int, *, seed: int = 0, epoch: tuple[int, ...] = ()) -> tuple[Pixels, str]:
    """Line `index` of `split`: its pixels (32, w) uint8 and its text. Only training lines depend on `seed` and `epoch`."""
    rng, chosen = _choose(split, index, seed=seed, epoch=epoch)
    return draw([scans(split).images[k] for k in chosen], rng), _text(split, chosen)


def anew(seed: int) -> Callable[[tuple[int, ...], int], tuple[Pixels, str]]:
    """Training lines without end: (epoch, index) → a line's pixels and text, new in every epoch."""
    return lambda epoch, index: compose("train", index, seed=seed, epoch=epoch)


def _choose(split: Split, index: int, *, seed: int, epoch: tuple[int, ...] = ()) -> tuple[np.random.Generator, list[int]]:
    """The line's own randomness, and which scans it is made of."""
    rng = np.random.default_rng([SPLITS.index(split), *([seed, *epoch] if split == "train" else []), index])
    chosen = rng.integers(len(scans(split).digits), size=int(rng.integers(SHORTEST, LONGEST + 1)))
    return rng, [int(k) for k in chosen]


def _text(split: Split, chosen: list[int]) -> str:
    return "".join(str(scans(split).digits[k]) for k in chosen)


def draw(images: list[NDArray[Any]], rng: np.random.Generator) -> Pixels:
    """Write scans (8, 8) side by side: (32, w) uint8, dark on light. The size is the writer's, so one for the line."""
    from PIL import Image

    size, slant, gap = int(rng.integers(24, 31)), float(rng.uniform(-0.25, 0.25)), float(rng.uniform(-5, 5))
    boxes = []
    for image in images:
        high = int(np.clip(size + rng.integers(-2, 3), 22, HEIGHT))
        wide = round(high * float(rng.uniform(0.75, 1.0)))
        scan = Image.fromarray((image * (255 / 16)).astype(np.uint8)).resize((wide, high), Image.Resampling.BICUBIC)
        boxes.append(scan.transform(scan.size, Image.Transform.AFFINE, (1, slant, -slant * high / 2, 0, 1, 0), Image.Resampling.BILINEAR))
    ink = np.zeros((HEIGHT, EDGE * 2 + sum(box.width + 8 for box in boxes)), dtype=np.float32)
    left, end = EDGE, EDGE
    for box in boxes:
        top = int(rng.integers(0, HEIGHT - box.height + 1))
        window = ink[top : top + box.height, left : left + box.width]
        np.maximum(window, np.asarray(box, dtype=np.float32), out=window)
        end = max(end, left + box.width)
        left += max(box.width // 2, round(box.width + gap + float(rng.uniform(-2, 3))))
    return _print(ink[:, : end + EDGE] / np.float32(255), rng)


def _print(ink: NDArray[Any], rng: np.random.Generator) -> Pixels:
    """Ink 0 to 1 on paper: how dark, how light and how grainy is the line's own."""
    paper, dark = float(rng.uniform(200, 255)), float(rng.uniform(0, 110))
    grain = rng.standard_normal(ink.shape, dtype=np.float32) * np.float32(rng.uniform(0, 9))
    shades: Pixels = np.clip(paper - ink * np.float32(paper - dark) + grain, 0, 255).astype(np.uint8)
    return shades


def corpus(counts: Mapping[Split, int], *, seed: int) -> Corpus:
    """The built-in corpus: `counts` lines a split, each drawn when it is read."""

    def line(split: Split, index: int) -> Line:
        return Line(f"{split}/{index:05d}", _text(split, _choose(split, index, seed=seed)[1]), f"built-in digits, {split} line {index}")

    lines = {split: tuple(line(split, index) for index in range(counts[split])) for split in SPLITS}
    return Corpus(lines, lambda line: portable(_drawn(line.id, seed)), facts(seed))


def _drawn(name: str, seed: int) -> Pixels:
    split, _, index = name.partition("/")
    return compose(split, int(index), seed=seed)[0]  # type: ignore[arg-type]


def portable(row: Pixels) -> bytes:
    """Grey pixels (h, w) as a PGM file, the cheapest there is."""
    return b"P5 %d %d 255\n" % row.shape[::-1] + row.tobytes()


def facts(seed: int) -> dict[str, Any]:
    """Where the lines come from, for the provenance."""
    return {
        "source": "scikit-learn's bundled handwritten digits, composed into lines of 3 to 8",
        "original": "Optical Recognition of Handwritten Digits (test part), E. Alpaydin and C. Kaynak 1998, UCI Machine Learning Repository",
        "licence": "as bundled with scikit-learn (BSD-3-Clause); the original is in the UCI repository under the terms stated there",
        "split": "by scan: each digit's scans in a fixed random order, 7 : 1 : 2; no scan in two splits; writers may be shared",
        "scans": {split: len(scans(split).digits) for split in SPLITS},
        "seed": seed,
    }
