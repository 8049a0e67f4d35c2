"""Text lines drawn with fonts, beside the real ones of a training split: for alphabets and words that few labelled lines show.

Idea: recognisers of this kind are trained on millions of drawn words before they see a real one. Here a line of a text file, or words
of the real lines in other company with other digits, is drawn in one of the fonts that have all its characters: ink, paper, size,
margins, weight and a slight turn differ; each epoch then varies them as it varies real lines. Validation and test are never drawn.
Source: Jaderberg et al. 2014, "Synthetic data and artificial neural networks for natural scene text recognition", arXiv:1406.2227.
Shape: text → (h, w) uint8, dark on light, h about 20 to 60. Needs Pillow with FreeType, as its wheels have it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.corpus import Corpus, Line
from advisor.data.lines import png
from advisor.data.text_files import text_of
from rules.problems import Problem, bad_environment, bad_input

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

SUFFIXES = (".ttf", ".otf", ".ttc")
LONGEST = 60  # characters of a drawn line; a longer text gives a stretch of its words
TRIES = 50  # texts drawn by lot until one can be drawn
MEASURED_AT = 32  # pixels: the size at which it is asked what a font has
SIZES = (20, 44)  # pixels, from and below
GENERATOR = 1  # its version: another one draws other lines
NOTHING = "\uffff"  # no character, so that every font shows what it shows for one it has not
JOINED = ("Mn", "Mc", "Me")  # marks that stand on their neighbours
LEFTWARDS = ("R", "AL", "AN")  # written from right to left, or shaped by neighbours: not drawn right letter by letter
STACKED = ((0x0900, 0x109F), (0x1780, 0x17FF))  # Indic scripts, Thai, Lao, Tibetan, Burmese and Khmer shape and stack their letters

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Font:
    """A font file; without one Pillow's own."""

    file: Path | None
    _seen: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    def at(self, size: int) -> FreeTypeFont:
        """The font in `size` pixels. Raises Problem (exit 3) for a file that is none."""
        from PIL import ImageFont

        try:
            if self.file is None:
                return ImageFont.load_default(size)  # type: ignore[return-value]
            return ImageFont.truetype(str(self.file), size, layout_engine=ImageFont.Layout.BASIC)
        except OSError as error:
            raise bad_input(f"{self.file} is no font that can be read: {error}", remedy="give .ttf or .otf files") from None

    def has(self, text: str) -> bool:
        """Whether every character can be drawn: the font has it, and it stands by itself from left to right."""
        for character in set(text) - self._seen.keys():
            self._seen[character] = character == " " or (_stands(character) and self._shape(character) != self._missing)
        return all(self._seen[character] for character in set(text))

    @cached_property
    def _measured(self) -> FreeTypeFont:
        return self.at(MEASURED_AT)

    @cached_property
    def _missing(self) -> tuple[tuple[int, int], bytes]:
        return self._shape(NOTHING)

    def _shape(self, character: str) -> tuple[tuple[int, int], bytes]:
        mask = self._measured.getmask(character, mode="L")
        return mask.size, bytes(mask)

    @cached_property
    def facts(self) -> dict[str, str]:
        """Its file, its own name, and its SHA-256: which font it was."""
        import hashlib

        name = " ".join(part for part in self._measured.getname() if part)
        if self.file is None:
            return {"file": "Pillow's own", "name": name}
        return {"file": self.file.name, "name": name, "sha256": hashlib.sha256(self.file.read_bytes()).hexdigest()}


def fonts(place: Path | None) -> list[Font]:
    """The fonts of a file or a folder, in the order of their paths; without one Pillow's own alone.

    Raises Problem: exit 3 for a place without fonts and a file that is none, exit 5 for a Pillow without FreeType.
    """
    from PIL import features

    if not features.check("freetype2"):
        raise bad_environment("this Pillow was built without FreeType and draws no fonts", remedy="pip install pillow brings one that does")
    if place is None:
        return [Font(None)]
    if not place.exists():
        raise bad_input(f"no fonts {place}", remedy="a .ttf or .otf file, or a folder of them")
    files = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise bad_input(f"{place} holds no fonts", remedy=f"allowed: {', '.join(SUFFIXES)}")
    found = [Font(file) for file in files]
    for font in found:
        font.at(MEASURED_AT)
    return found


def texts(file: Path) -> list[Line]:
    """The lines of a text file that say something, each with its place. Raises Problem (exit 3) for none, and for what is not UTF-8."""
    if not file.is_file():
        raise bad_input(f"no texts {file}", remedy="a UTF-8 file, a text a line")
    read = text_of(file, str(file)).splitlines()
    found = [Line(f"{file.name}:{number}", " ".join(text.split()), f"{file}:{number}") for number, text in enumerate(read, start=1)]
    said = [line for line in found if line.text]
    if not said:
        raise bad_input(f"{file} has no text", remedy="write a text a line")
    return said


def beside(given: Corpus, *, count: int, drawn_with: Sequence[Font], of: Sequence[Line] | None, seed: int) -> Corpus:
    """The corpus with `count` drawn training lines behind the real ones, each drawn when it is read: the same for the same seed.

    `of`: what to write; without it words of the real training lines. Raises Problem: exit 2 where neither says anything, exit 3 where
    no font has the characters.
    """
    real = given.splits["train"]
    source = _Texts(of or [line for line in real if line.text.strip()], anew=of is None)
    if not source.lines:
        raise Problem("there is no text to draw: no training line, and no texts", remedy="set texts to a file with a text a line")
    made = {line.id: (line, font, number) for number, (line, font) in enumerate(_drawn(source, drawn_with, count, seed))}

    def read(line: Line) -> bytes:
        if line.id not in made:
            return given.read(line)
        _, font, number = made[line.id]
        return png(draw(line.text, font, np.random.default_rng([GENERATOR, seed, number, 1])))

    facts: dict[str, Any] = {
        "lines": count,
        "generator": GENERATOR,
        "texts": "words of the training lines" if of is None else of[0].where.rpartition(":")[0],
        "fonts": [font.facts for font in drawn_with],
    }
    train = (*real, *(line for line, _, _ in made.values()))
    return Corpus({**given.splits, "train": train}, read, {**given.facts, "rendered": facts})


@dataclass(frozen=True)
class _Texts:
    """What to write. `anew`: words of several lines together, each digit another one, so that no line's text is only drawn again."""

    lines: Sequence[Line]
    anew: bool

    @cached_property
    def _words(self) -> list[str]:
        return [word for line in self.lines for word in line.text.split()]

    def pick(self, rng: np.random.Generator) -> Line:
        line = self.lines[int(rng.integers(len(self.lines)))]
        if not self.anew:
            return replace(line, text=_stretch(line.text.split(), rng))
        picked = rng.integers(len(self._words), size=len(line.text.split()))
        words = [self._words[place] for place in picked.tolist()]
        fresh = ["".join(str(rng.integers(10)) if "0" <= letter <= "9" else letter for letter in word) for word in words]
        return replace(line, text=_stretch(fresh, rng))


def _stretch(words: Sequence[str], rng: np.random.Generator) -> str:
    """Words in a row, from a random one on where all together are too long; a word that is too long alone is cut."""
    if len(" ".join(words)) <= LONGEST:
        return " ".join(words)
    start = int(rng.integers(len(words)))
    text = words[start][:LONGEST]
    for word in words[start + 1 :]:
        if len(text) + 1 + len(word) > LONGEST:
            break
        text = f"{text} {word}"
    return text


def _drawn(source: _Texts, drawn_with: Sequence[Font], count: int, seed: int) -> Iterator[tuple[Line, Font]]:
    """Lines with new ids, and the font of each: one that has all its characters."""
    for number in range(count):
        rng = np.random.default_rng([GENERATOR, seed, number, 0])
        for _ in range(TRIES):
            line = source.pick(rng)
            able = [font for font in drawn_with if font.has(line.text)]
            if able:
                break
        else:
            what = f"{TRIES} texts in a row, {line.text!r} at {line.where} the last, have characters that no font here can draw"
            raise bad_input(
                what, remedy="give fonts that have them; what is written from right to left or joins its neighbours is not drawn"
            )
        name = f"rendered/{number:07d}"
        yield Line(name, line.text, f"{name}, after {line.where}"), able[int(rng.integers(len(able)))]


def draw(text: str, font: Font, rng: np.random.Generator) -> Pixels:
    """A text as a picture of one line."""
    from PIL import Image, ImageDraw

    shape = font.at(int(rng.integers(*SIZES)))
    bold = int(rng.random() < 0.1)
    left, top, right, bottom = shape.getbbox(text, stroke_width=bold)
    if rng.random() < 0.5:  # cut by the line instead of by its letters
        above, below = shape.getmetrics()
        top, bottom = min(top, 0), max(bottom, above + below)
    side, over, under = (int(rng.integers(1, 2 + round(share * shape.size))) for share in (0.35, 0.2, 0.2))
    paper, ink = int(rng.integers(200, 256)), int(rng.integers(0, 110))
    size = (max(1, round(right - left)) + 2 * side, max(1, round(bottom - top)) + over + under)
    image = Image.new("L", size, paper)
    ImageDraw.Draw(image).text((side - left, over - top), text, fill=ink, font=shape, stroke_width=bold)
    turned = image.rotate(float(rng.normal(0, 0.5)), Image.Resampling.BILINEAR, fillcolor=paper)
    return np.asarray(turned, dtype=np.uint8)


def _stands(character: str) -> bool:
    """Whether a character is drawn right without looking at its neighbours."""
    return (
        character.isprintable()
        and unicodedata.category(character) not in JOINED
        and unicodedata.bidirectional(character) not in LEFTWARDS
        and not any(first <= ord(character) <= last for first, last in STACKED)
    )
