"""The built-in pictures with captions: one or two coloured shapes, and a sentence that says which, how large and where.

Idea: a caption is drawn first, then a picture that it fits: "a large red star left of a small blue ring". Words are few, sentences are
many: half of the test split's were never said in training and have to be understood from their words.
Source: this generator. Shape: split, index → (48, 48, 3) uint8 and a text. Needs Pillow and numpy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.corpus import SPLITS, Corpus, Line, Split

SIDE = 48
COUNTS: Mapping[Split, int] = {"train": 2400, "val": 300, "test": 300}
GENERATOR = 1  # its version: another one draws other pictures
COLOURS = {
    "red": (214, 40, 40),
    "green": (44, 160, 60),
    "blue": (40, 80, 210),
    "yellow": (240, 210, 50),
    "purple": (140, 60, 170),
    "orange": (240, 130, 30),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
SIZES = {"small": 0.11, "large": 0.19}
WHERE = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}

Pixels = NDArray[np.uint8]
Thing = tuple[str, str, str]  # size, colour, shape


def scene(split: Split, index: int) -> tuple[tuple[Thing, ...], str]:
    """What is on picture `index` of `split`: one thing or two, and how the second lies to the first."""
    rng = np.random.default_rng([GENERATOR, 5, SPLITS.index(split), index])
    things = tuple(_thing(rng) for _ in range(int(rng.integers(1, 3))))
    return things, str(rng.choice(list(WHERE))) if len(things) > 1 else ""


def _thing(rng: np.random.Generator) -> Thing:
    return str(rng.choice(list(SIZES))), str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES))


def caption(split: Split, index: int) -> str:
    """The sentence of a picture."""
    things, where = scene(split, index)
    return f" {where} ".join("a " + " ".join(thing) for thing in things)


def draw(split: Split, index: int) -> Pixels:
    """The picture: where on it, on which ground and how turned is its own."""
    from PIL import Image, ImageDraw

    things, where = scene(split, index)
    rng = np.random.default_rng([GENERATOR, 6, SPLITS.index(split), index])
    image = Image.new("RGB", (2 * SIDE, 2 * SIDE), tuple(int(shade) for shade in rng.uniform(90, 200) + rng.uniform(-25, 25, 3)))
    pen = ImageDraw.Draw(image)
    for thing, (x, y) in zip(things, _places(where, rng), strict=True):
        _shape(pen, thing, x, y, float(rng.uniform(-0.3, 0.3)))
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
    grain = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(0, 8))
    drawn: Pixels = np.clip(pixels * np.float32(rng.uniform(0.8, 1.1)) + grain, 0, 255).astype(np.uint8)
    return drawn


def _places(where: str, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Middles, as shares of the side."""
    if not where:
        return [(float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.3, 0.7)))]
    across, down = WHERE[where]
    middle, apart, aside = rng.uniform(0.46, 0.54, 2), rng.uniform(0.22, 0.26), rng.uniform(-0.1, 0.1, 2)
    first = (middle[0] + across * apart + aside[0] * abs(down), middle[1] + down * apart + aside[0] * abs(across))
    second = (middle[0] - across * apart + aside[1] * abs(down), middle[1] - down * apart + aside[1] * abs(across))
    return [(float(first[0]), float(first[1])), (float(second[0]), float(second[1]))]


def _shape(pen: Any, thing: Thing, x: float, y: float, turn: float) -> None:
    size, colour, shape = SIZES[thing[0]], COLOURS[thing[1]], thing[2]
    if shape in ("circle", "ring"):
        box = [2 * SIDE * (x - size), 2 * SIDE * (y - size), 2 * SIDE * (x + size), 2 * SIDE * (y + size)]
        pen.ellipse(box, fill=colour if shape == "circle" else None, outline=colour, width=1 if shape == "circle" else round(size * 38))
        return
    corners = _corners(shape, turn)
    pen.polygon([(2 * SIDE * (x + size * a), 2 * SIDE * (y + size * b)) for a, b in corners], fill=colour)


def _corners(shape: str, turn: float) -> list[tuple[float, float]]:
    """The outline in a circle of radius one, turned by `turn` radians."""
    if shape == "cross":
        arm = [(0.3, 1.0), (0.3, 0.3), (1.0, 0.3)]
        points = [(a * s, b * t) for s, t, order in ((1, 1, 1), (1, -1, -1), (-1, -1, 1), (-1, 1, -1)) for a, b in arm[::order]]
        radii = [(math.hypot(a, b), math.atan2(b, a)) for a, b in points]
    else:
        count, inner = {"square": (4, 0.0), "triangle": (3, 0.0), "star": (5, 0.42)}[shape]
        steps = count * (2 if inner else 1)
        start = math.pi / 4 if shape == "square" else -math.pi / 2
        radii = [(inner if inner and step % 2 else 1.0, start + 2 * math.pi * step / steps) for step in range(steps)]
    return [(radius * math.cos(angle + turn), radius * math.sin(angle + turn)) for radius, angle in radii]


def corpus(counts: Mapping[Split, int], *, seed: int) -> Corpus:
    """The built-in pictures, `counts` a split, each drawn when it is read. They are the same for every seed."""
    lines = {split: tuple(_line(split, index) for index in range(counts[split])) for split in SPLITS}
    facts = {
        "source": f"drawn shapes and sentences about them, generator {GENERATOR} of this package",
        "licence": "Apache-2.0, as this package",
        "split": "by picture; a sentence may be in two splits, a picture is not",
        "generated": "what is reached on them says nothing about photographs",
        "seed": seed,
    }
    return Corpus(lines, _read, facts)


def _line(split: Split, index: int) -> Line:
    return Line(f"{split}/{index:05d}", caption(split, index), f"built-in shapes, {split} picture {index}")


def _read(line: Line) -> bytes:
    split, _, index = line.id.partition("/")
    return b"P6 %d %d 255\n" % (SIDE, SIDE) + draw(split, int(index)).tobytes()  # type: ignore[arg-type]
