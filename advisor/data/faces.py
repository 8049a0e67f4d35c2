"""The built-in faces: people who do not exist, drawn from a recorded generator, so that a face task runs without anybody's picture.

Idea: a person is two dozen numbers (proportions, colours, hair, beard), a picture is the person under other numbers: turned, nearer,
smiling, lit from one side, before another wall, sometimes with glasses. Same person, same numbers; nobody is in two splits.
They say whether training, export and compression work. They say nothing about real faces.
Shape: person, picture → (64, 64, 3) uint8. Needs Pillow and numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.corpus import SPLITS, Corpus, Line, Split

SIDE = 64
PEOPLE: Mapping[Split, int] = {"train": 160, "val": 40, "test": 60}
PICTURES = 8  # of each person
GENERATOR = 1  # its version: another one draws other people

Pixels = NDArray[np.uint8]
Person = Mapping[str, Any]
SKIN = ((255, 224, 196), (234, 192, 134), (198, 134, 66), (141, 85, 36), (88, 56, 36))
HAIR = ((20, 16, 14), (70, 44, 26), (130, 84, 40), (206, 168, 96), (150, 60, 30), (170, 170, 170))
EYES = ((60, 40, 24), (90, 66, 36), (70, 100, 70), (70, 110, 160))


def person(number: int) -> Person:
    """Everything about a person that stays: shares of the picture's side, colours, kinds."""
    rng = np.random.default_rng([GENERATOR, 1, number])
    u = rng.uniform
    first, second = (np.array(SKIN[k]) for k in rng.choice(len(SKIN), 2))
    return {
        "skin": first + (second - first) * u(0, 0.5),
        "hair": np.array(HAIR[int(rng.integers(len(HAIR)))]) + u(-12, 12, 3),
        "iris": np.array(EYES[int(rng.integers(len(EYES)))]) + u(-10, 10, 3),
        "style": int(rng.integers(5)),  # bald, short, fringe, long, parted
        "beard": int(rng.choice(4, p=(0.6, 0.15, 0.15, 0.1))),  # none, moustache, beard, both
        "glasses": bool(rng.random() < 0.15),
        "wide": u(0.52, 0.68),
        "high": u(0.70, 0.86),
        "jaw": u(0.70, 1.0),
        "line": u(0.16, 0.30),  # hairline
        "apart": u(0.11, 0.17),
        "eye": u(0.045, 0.075),
        "round": u(0.45, 0.8),
        "level": u(0.42, 0.48),
        "tilt": u(-0.02, 0.02),
        "brow": u(0.06, 0.10),
        "thick": u(0.010, 0.030),
        "slant": u(-0.03, 0.03),
        "nose": u(0.10, 0.18),
        "nostrils": u(0.03, 0.07),
        "mouth": u(0.09, 0.16),
        "lips": u(0.015, 0.04),
        "below": u(0.70, 0.76),
        "ears": u(0.03, 0.07),
    }


def draw(number: int, picture: int) -> Pixels:
    """Picture `picture` of person `number`."""
    from PIL import Image, ImageDraw, ImageFilter

    who, rng = person(number), np.random.default_rng([GENERATOR, 2, number, picture])
    wall = tuple(int(shade) for shade in rng.uniform(30, 230, 3))
    image = Image.new("RGB", (2 * SIDE, 2 * SIDE), wall)
    _face(ImageDraw.Draw(image), who, rng)
    angle, zoom = float(rng.uniform(-10, 10)), float(rng.uniform(0.92, 1.08))
    image = image.rotate(angle, Image.Resampling.BILINEAR, fillcolor=wall, translate=(int(rng.integers(-4, 5)), int(rng.integers(-4, 5))))
    edge = SIDE * (1 - 1 / zoom)
    image = image.resize((SIDE, SIDE), Image.Resampling.BOX, box=(edge, edge, 2 * SIDE - edge, 2 * SIDE - edge) if edge > 0 else None)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.2))))
    return _lit(np.asarray(image, dtype=np.float32), rng)


def _lit(pixels: NDArray[np.float32], rng: np.random.Generator) -> Pixels:
    """Light from one side, brightness, grain."""
    across = np.linspace(-1, 1, SIDE, dtype=np.float32)
    side, top = rng.uniform(-0.35, 0.35), rng.uniform(-0.2, 0.2)
    light = rng.uniform(0.7, 1.15) * (1 + side * across[None, :] + top * across[:, None])
    grain = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(0, 8))
    lit: Pixels = np.clip(pixels * light[..., None].astype(np.float32) + grain, 0, 255).astype(np.uint8)
    return lit


def _face(pen: Any, who: Person, rng: np.random.Generator) -> None:
    """The head from back to front. `turn` moves the features sideways, as a head does that looks away."""
    turn, smile, open_ = rng.uniform(-0.05, 0.05), rng.uniform(-1, 1), rng.uniform(0.5, 1.0)
    skin, hair, dark = _shade(who["skin"]), _shade(who["hair"]), _shade(who["skin"] * 0.72)
    wide, high, middle = who["wide"] / 2, who["high"] / 2, 0.52
    if who["style"] == 3:
        _oval(pen, 0.5, middle + 0.06, wide + 0.07, high + 0.05, hair)
    for side in (-1, 1):
        _oval(pen, 0.5 + side * wide, middle, who["ears"], 0.08, skin)
    _oval(pen, 0.5, middle, wide, high, skin)
    _oval(pen, 0.5, middle + 0.12, wide * who["jaw"], high - 0.10, skin)
    _hair(pen, who, hair, wide, middle - high)
    for side in (-1, 1):
        _eye(pen, who, 0.5 + turn + side * who["apart"], who["level"] + side * who["tilt"], open_, hair, side)
    nose = who["level"] + who["nose"]
    _line(pen, [(0.5 + turn, who["level"] + 0.02), (0.5 + 1.3 * turn - who["nostrils"] / 2, nose)], 0.012, dark)
    _oval(pen, 0.5 + 1.3 * turn, nose, who["nostrils"], 0.018, dark)
    _mouth(pen, who, turn, smile, hair)
    if who["glasses"] != (rng.random() < 0.08):
        for side in (-1, 1):
            _ring(pen, 0.5 + turn + side * who["apart"], who["level"], 0.085, 0.065)
        _line(pen, [(0.5 + turn - who["apart"] + 0.08, who["level"]), (0.5 + turn + who["apart"] - 0.08, who["level"])], 0.01, (20, 20, 20))


def _hair(pen: Any, who: Person, hair: Any, wide: float, top: float) -> None:
    if who["style"] == 0:
        return
    line = top + who["line"]
    box = [_at(0.5 - wide - 0.02), _at(top - 0.04), _at(0.5 + wide + 0.02), _at(2 * line - top + 0.08)]
    pen.chord(box, 180, 360, fill=hair)
    if who["style"] == 2:
        pen.rectangle([_at(0.5 - wide * 0.7), _at(line - 0.02), _at(0.5 + wide * 0.7), _at(line + 0.05)], fill=hair)
    if who["style"] == 4:
        pen.polygon([(_at(0.5 - wide), _at(line)), (_at(0.62), _at(top)), (_at(0.5 - wide * 0.6), _at(line + 0.12))], fill=hair)


def _eye(pen: Any, who: Person, x: float, y: float, open_: float, hair: Any, side: int) -> None:
    size, tall = who["eye"], who["eye"] * who["round"] * open_
    _oval(pen, x, y, size, tall, (245, 245, 245))
    _oval(pen, x, y, tall * 0.8, tall * 0.95, _shade(who["iris"]))
    _oval(pen, x, y, tall * 0.35, tall * 0.45, (10, 10, 10))
    brow = y - who["brow"]
    ends = [(x - size * 1.2, brow + side * who["slant"]), (x + size * 1.2, brow - side * who["slant"])]
    _line(pen, ends, who["thick"], hair)


def _mouth(pen: Any, who: Person, turn: float, smile: float, hair: Any) -> None:
    x, y, half = 0.5 + turn, who["below"], who["mouth"]
    if who["beard"] in (2, 3):
        _oval(pen, x, y + 0.07, half * 1.5, 0.12, hair)
    if who["beard"] in (1, 3):
        _oval(pen, x, y - 0.05, half * 1.1, 0.025, hair)
    bend = 0.035 * smile
    points = [(x - half, y - bend), (x - half / 2, y + bend * 0.5), (x, y + bend), (x + half / 2, y + bend * 0.5), (x + half, y - bend)]
    _line(pen, points, who["lips"], _shade(who["skin"] * (0.75, 0.45, 0.45)))


def _at(share: float) -> float:
    return 2 * SIDE * share


def _oval(pen: Any, x: float, y: float, wide: float, high: float, fill: Any) -> None:
    wide, high = max(wide, 0.004), max(high, 0.004)
    pen.ellipse([_at(x - wide), _at(y - high), _at(x + wide), _at(y + high)], fill=fill)


def _ring(pen: Any, x: float, y: float, wide: float, high: float) -> None:
    pen.ellipse([_at(x - wide), _at(y - high), _at(x + wide), _at(y + high)], outline=(20, 20, 20), width=2)


def _line(pen: Any, points: list[tuple[float, float]], thick: float, fill: Any) -> None:
    pen.line([(_at(x), _at(y)) for x, y in points], fill=fill, width=max(1, round(_at(thick))), joint="curve")


def _shade(colour: Any) -> tuple[int, ...]:
    return tuple(int(np.clip(shade, 0, 255)) for shade in colour)


# -- as a corpus ---------------------------------------------------------------------------------------------------------


def corpus(seed: int) -> Corpus:
    """The built-in pictures, each drawn when it is read. The people are the same for every seed."""
    lines, first = {}, 0
    for split in SPLITS:
        numbers = range(first, first + PEOPLE[split])
        lines[split] = tuple(_line_of(number, picture) for number in numbers for picture in range(PICTURES))
        first += PEOPLE[split]
    return Corpus(lines, _read, facts(seed))


def _line_of(number: int, picture: int) -> Line:
    name = f"person{number:04d}/{picture:02d}"
    return Line(name, f"person{number:04d}", f"built-in faces, {name}")


def _read(line: Line) -> bytes:
    name, _, picture = line.id.partition("/")
    return b"P6 %d %d 255\n" % (SIDE, SIDE) + draw(int(name.removeprefix("person")), int(picture)).tobytes()


def facts(seed: int) -> dict[str, Any]:
    """Where the pictures come from, for the provenance."""
    return {
        "source": f"drawn faces of people who do not exist, generator {GENERATOR} of this package",
        "licence": "Apache-2.0, as this package",
        "split": "by person: no person in two splits",
        "generated": "what is reached on them says nothing about real faces",
        "seed": seed,
    }
