"""The built-in characters: alphabets that do not exist, each character a few strokes, each drawing of it by another hand.

Idea: as Omniglot asks, many kinds with few drawings each. A character is two to four curves, drawn each time a little differently:
shaken, slanted, nearer, thicker. Nobody's handwriting; nothing is downloaded. `turned` makes four kinds of one by quarter turns.
Source: the layout of Omniglot, Lake et al. 2015, doi:10.1126/science.aab3050; quarter turns as new kinds, Santoro et al. 2016, arXiv:1605.06065.
Shape: character, drawing → (56, 56) uint8, dark on light. Needs Pillow and numpy.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.corpus import SPLITS, Corpus, Line, Split

SIDE = 56
CHARACTERS: Mapping[Split, int] = {"train": 120, "val": 30, "test": 60}
DRAWINGS = 12  # of each character
GENERATOR = 1  # its version: another one draws other characters
TURNS = (0, 90, 180, 270)

Pixels = NDArray[np.uint8]


def draw(number: int, drawing: int) -> Pixels:
    """Drawing `drawing` of character `number`."""
    from PIL import Image, ImageDraw

    hand = np.random.default_rng([GENERATOR, 4, number, drawing])
    angle, slant, zoom = hand.uniform(-0.2, 0.2), hand.uniform(-0.2, 0.2), hand.uniform(0.8, 1.05)
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle) + slant], [np.sin(angle), np.cos(angle)]])
    middle = 0.5 + hand.uniform(-0.05, 0.05, 2)
    image = Image.new("L", (2 * SIDE, 2 * SIDE), 255)
    pen, thick = ImageDraw.Draw(image), int(hand.integers(3, 7))
    for stroke in _strokes(number):
        shaken = (stroke + hand.normal(0, 0.025, stroke.shape) - 0.5) @ turn.T + middle
        points = [(float(x), float(y)) for x, y in 2 * SIDE * _curve(shaken)]
        pen.line(points, fill=0, width=thick, joint="curve")
    drawn: Pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.uint8)
    return drawn


def _strokes(number: int) -> list[NDArray[np.float64]]:
    """Two to four curves, each by four points in the unit square; a curve often begins where another has passed."""
    rng = np.random.default_rng([GENERATOR, 3, number])
    found: list[NDArray[np.float64]] = []
    for _ in range(int(rng.integers(2, 5))):
        points = rng.uniform(0.15, 0.85, (4, 2))
        if found and rng.random() < 0.6:
            points[0] = found[int(rng.integers(len(found)))][int(rng.integers(4))]
        found.append(points)
    return found


def _curve(points: NDArray[np.float64], steps: int = 16) -> NDArray[np.float64]:
    """A Bézier curve through its ends: (4, 2) → (steps, 2)."""
    t = np.linspace(0, 1, steps)[:, None]
    weights = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    curve: NDArray[np.float64] = weights @ points
    return curve


def corpus(seed: int) -> Corpus:
    """The built-in drawings, each made when it is read. The characters are the same for every seed."""
    lines, first = {}, 0
    for split in SPLITS:
        numbers = range(first, first + CHARACTERS[split])
        lines[split] = tuple(_line(number, drawing) for number in numbers for drawing in range(DRAWINGS))
        first += CHARACTERS[split]
    facts = {
        "source": f"drawn characters of no alphabet, generator {GENERATOR} of this package",
        "licence": "Apache-2.0, as this package",
        "split": "by character: no character in two splits",
        "generated": "what is reached on them says nothing about real handwriting",
        "seed": seed,
    }
    return Corpus(lines, _read, facts)


def _line(number: int, drawing: int) -> Line:
    name = f"character{number:04d}/{drawing:02d}"
    return Line(name, f"character{number:04d}", f"built-in characters, {name}")


def _read(line: Line) -> bytes:
    name, _, drawing = line.id.partition("/")
    return b"P5 %d %d 255\n" % (SIDE, SIDE) + draw(int(name.removeprefix("character")), int(drawing)).tobytes()


def turned(given: Corpus) -> Corpus:
    """The same with four times as many kinds to train on: each training picture also turned by a quarter, a half and three quarters."""
    upright = {line.id: line for split in SPLITS for line in given.splits[split]}
    more = tuple(Line(f"{line.id}@{turn}", f"{line.text}@{turn}", line.where) for line in given.splits["train"] for turn in TURNS)

    def read(line: Line) -> bytes:
        name, _, turn = line.id.rpartition("@")
        return _turned(given.read(upright[name]), int(turn), line.where) if name in upright else given.read(line)

    facts: dict[str, Any] = {**given.facts, "turned": "training kinds also turned by 90, 180 and 270 degrees, as kinds of their own"}
    return Corpus({**given.splits, "train": more}, read, facts)


def _turned(raw: bytes, turn: int, name: str) -> bytes:
    from advisor.data.pictures import decode

    file = io.BytesIO()
    decode(raw, name=name).rotate(turn, expand=True).save(file, "PPM")
    return file.getvalue()
