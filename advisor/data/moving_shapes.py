"""Clips without a download in which only the motion tells the class: shapes that drift, circle, swing or rest.

Idea: a few shapes of any look are strewn over a field whose edges meet, so what leaves on one side comes back on the other. All of
them move alike, and how they move is the class. One frame shows shapes at random places whatever the class is, and so do all frames in
any order: whoever forgets the order is left to guess. A scene that stands still, grain and flicker are no help either.
Source: generated here; the question it asks is that of Something-Something, Goyal et al. 2017, arXiv:1706.04261, where order decides.
Shape: (frames, side, side, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.corpus import SPLITS, Corpus, Line, Split
from advisor.data.frames import Film, packed

COUNTS: Mapping[Split, int] = {"train": 1200, "val": 240, "test": 480}
SIDE, FRAMES = 32, 8
LABELS = ("circling left", "circling right", "down", "left", "resting", "right", "swinging", "up")
HEADINGS = {"right": 0.0, "down": 0.5, "left": 1.0, "up": 1.5}  # in half turns, rows counted downwards
SLOWEST, FASTEST = 0.06, 0.11  # of the side, a frame

Path = NDArray[np.float64]


def label(index: int) -> str:
    """The class of a clip, in turn."""
    return LABELS[index % len(LABELS)]


def compose(split: Split, index: int, *, seed: int = 0, epoch: tuple[int, ...] = ()) -> Film:
    """Clip `index` of `split`. Only training clips depend on `seed` and `epoch`."""
    rng = np.random.default_rng([13, SPLITS.index(split), *([seed, *epoch] if split == "train" else []), index])
    return draw(path(label(index), rng), rng)


def anew(seed: int) -> Callable[[tuple[int, ...], int], Film]:
    """Training clips without end: (epoch, index) → a clip of the class of `index`, new in every epoch."""
    return lambda epoch, index: compose("train", index, seed=seed, epoch=epoch)


def path(kind: str, rng: np.random.Generator) -> Path:
    """Where the shapes have moved to, (frames, 2): right and down, in shares of the side."""
    speed = float(rng.uniform(SLOWEST, FASTEST))
    if kind == "resting":
        return np.zeros((FRAMES, 2))
    if kind in HEADINGS:
        heading = np.pi * (HEADINGS[kind] + float(rng.uniform(-0.1, 0.1)))
        return np.outer(np.arange(FRAMES) * speed, [np.cos(heading), np.sin(heading)])
    if kind == "swinging":
        axis, start = np.pi * rng.uniform(0, 2, 2)
        return np.outer(speed * np.sin(start + np.pi / 2 * np.arange(FRAMES)), [np.cos(axis), np.sin(axis)])
    turn = float(rng.uniform(0.2, 0.3)) * np.pi * (1 if kind == "circling right" else -1)  # a frame
    angles = 2 * np.pi * float(rng.uniform()) + turn * np.arange(FRAMES)
    circle: Path = speed / (2 * abs(np.sin(turn / 2))) * np.stack([np.cos(angles), np.sin(angles)], 1)
    return circle


def draw(moved: Path, rng: np.random.Generator) -> Film:
    """A clip of shapes that move along `moved` before a scene that rests."""
    along = np.linspace(-1, 1, SIDE, dtype=np.float32)
    tilt = rng.uniform(-25, 25, 2).astype(np.float32)
    ground = rng.uniform(60, 200, 3).astype(np.float32) + (tilt[0] * along[None, :] + tilt[1] * along[:, None])[:, :, None]
    ground = ground + rng.normal(0, 6, (SIDE, SIDE, 1)).astype(np.float32)
    film = np.repeat(ground[None], len(moved), 0)
    for number in range(int(rng.integers(3, 6))):
        start, size = rng.uniform(0, 1, 2), float(rng.uniform(0.09, 0.18))
        places = start + (moved if number else 0 * moved)  # the first belongs to the scene
        ink = _shape(places, size, int(rng.integers(len(KINDS))))[..., None]
        film += (_unlike(ground.mean((0, 1)), rng) - film) * ink
    film += rng.uniform(-6, 6, (len(moved), 1, 1, 1)) + rng.normal(0, 4, film.shape)
    found: Film = np.clip(film, 0, 255).astype(np.uint8)
    return found


def _shape(places: Path, size: float, kind: int) -> NDArray[np.float32]:
    """How much of each pixel a shape covers, (frames, side, side), 0 to 1, on a field whose edges meet."""
    grid = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    across, down = (np.abs((grid - places[:, axis : axis + 1] + 0.5) % 1 - 0.5).astype(np.float32) for axis in (0, 1))
    far = KINDS[kind](across[:, None, :], down[:, :, None])
    covered: NDArray[np.float32] = np.clip((size - far) * SIDE + 0.5, 0, 1)
    return covered


KINDS: tuple[Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]], ...] = (
    lambda x, y: np.sqrt(x * x + y * y),  # disc
    lambda x, y: np.maximum(x, y) * np.float32(1.13),  # square
    lambda x, y: (x + y) * np.float32(0.8),  # diamond
    lambda x, y: np.minimum(x + 3 * y, 3 * x + y) * np.float32(0.5),  # cross
)


def _unlike(ground: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
    """A colour that stands out from `ground`."""
    colour = rng.uniform(0, 255, 3)
    apart = colour - ground
    far = float(np.abs(apart).max())
    return np.asarray(np.clip(ground + apart * max(1.0, 90 / max(far, 1.0)), 0, 255), dtype=np.float32)


def corpus(counts: Mapping[Split, int], *, seed: int) -> Corpus:
    """The built-in corpus: `counts` clips a split, each drawn when it is read."""

    def line(split: Split, index: int) -> Line:
        return Line(f"{split}/{index:05d}", label(index), f"built-in clips, {split} clip {index}")

    lines = {split: tuple(line(split, index) for index in range(counts[split])) for split in SPLITS}
    told = {
        "source": "shapes that move by a rule, drawn here: nothing was filmed",
        "generator": "advisor.data.moving_shapes:compose",
        "licence": "Apache-2.0, as this package",
        "split": "drawn apart: clips of one split are made from its own random numbers",
        "seed": seed,
    }
    return Corpus(lines, lambda line: packed(list(_drawn(line.id, seed))), told)


def _drawn(name: str, seed: int) -> Film:
    split, _, index = name.partition("/")
    return compose(split, int(index), seed=seed)  # type: ignore[arg-type]
