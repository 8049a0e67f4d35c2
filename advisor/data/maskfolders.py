"""Folders of pictures with masks: one picture file, one PNG of the same name that says the class of each pixel by number.

Layouts: `images/` beside `masks/` (each may hold train, val and test folders); `train/images` beside `train/masks` and so on; SegNet's
`train` beside `trainannot`; or a list (TSV, CSV, JSONL: `manifest.py`) that names an image and its mask. The names of the classes
stand in `classes.txt`, one a line: the first is number 0. Missing splits are drawn by a hash of the name (`corpus.py`).
Nothing is guessed where it could be wrong: each refusal is one line that names the file, exit 3.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from advisor.data import classfolders, lines, manifest, text_files
from advisor.data.corpus import SPLITS, Corpus, Line, Split, complete
from rules.problems import Problem, bad_input

CLASSES = "classes.txt"
LONGEST_NAME = 100  # characters of a class
VOID = 255  # of a mask in hand: this pixel does not count
MOST_CLASSES = 255  # so that this number is left
IMAGES, MASKS, BESIDE = "images", "masks", "annot"
SHAPE = "put pictures into images/ and masks of the same names into masks/ (or train/images, train/masks …), class names into classes.txt"
MODES = ("1", "L", "P", "I;16", "I")

Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Masked:
    """Pictures in splits, the bytes of each one's mask, and the classes where the folder names them. A line's text is its mask's path."""

    corpus: Corpus
    mask: Callable[[Line], bytes]
    labels: tuple[str, ...] | None


def open_folder(folder: Path, *, seed: int, training: bool = True) -> Masked:
    """The pictures and masks of `folder`. Raises Problem (exit 3) naming what is missing, damaged, doubled or outside the folder."""
    if not folder.is_dir():
        raise bad_input(f"no data folder {folder}", remedy="give a folder with images/ and masks/, or leave --data out for drawn scenes")
    if classfolders.has_list(folder):
        held = manifest.corpus(folder, seed=seed, training=training)
        splits = {split: tuple(_named_in_list(line, folder) for line in held.splits[split]) for split in SPLITS}
        corpus = Corpus(splits, held.read, held.facts)
    else:
        parts: dict[Split, list[Line]] = {split: [] for split in SPLITS}
        for split, images, masks in _places(folder):
            parts[split] += _pairs(images, masks, folder)
        splits, how = complete(parts, seed=seed, source=str(folder), training=training, noun="pictures", remedy=SHAPE)
        facts = {"source": folder.resolve().name, "layout": "a mask of the same name a picture", "licence": "not stated", **how}
        corpus = Corpus(splits, lambda line: _bytes(folder / line.id, line.id), facts)
    names = folder / CLASSES
    return Masked(corpus, lambda line: _bytes(folder / line.text, line.text), read_names(names) if names.is_file() else None)


# -- what belongs together -------------------------------------------------------------------------------------------


def _places(folder: Path) -> Iterator[tuple[Split, Path, Path]]:
    """(split, folder of pictures, folder of masks). Raises Problem for a layout that is none of those known."""
    found: dict[Split, tuple[Path, Path]] = {}
    for name, split in manifest.NAMES.items():
        for images, masks in (
            (folder / IMAGES / name, folder / MASKS / name),
            (folder / name / IMAGES, folder / name / MASKS),
            (folder / name, folder / f"{name}{BESIDE}"),
        ):
            if images.is_dir() and masks.is_dir():
                if split in found:
                    both = f"{found[split][0].relative_to(folder)} and {images.relative_to(folder)}"
                    raise bad_input(f"{folder} has {both} for the same split", remedy="keep one of them")
                found[split] = images, masks
    if found:
        yield from ((split, *places) for split, places in found.items())
    elif (folder / IMAGES).is_dir() and (folder / MASKS).is_dir():
        yield SPLITS[0], folder / IMAGES, folder / MASKS
    else:
        raise _shapeless(folder)


def _shapeless(folder: Path) -> Problem:
    packed = sorted(file.name for file in folder.iterdir() if file.name.endswith(manifest.ARCHIVES))
    if packed:
        return bad_input(f"{folder} has no pictures with masks, but {', '.join(packed)}", remedy=f"unpack first: {packed[0]}")
    what = "is empty" if not any(folder.iterdir()) else "has no folders of pictures and masks and no list of them"
    return bad_input(f"{folder} {what}", remedy=SHAPE)


def _pairs(images: Path, masks: Path, folder: Path) -> Iterator[Line]:
    """Each picture with its mask. Raises Problem naming a picture without a mask, a mask without a picture, and two of one name."""
    pictures = _stems(images, classfolders.ENDINGS, folder)
    drawn = _stems(masks, frozenset({".png"}), folder)
    for stem, file in pictures.items():
        if stem not in drawn:
            wanted = (masks / f"{stem}.png").relative_to(folder).as_posix()
            raise bad_input(
                f"{file.relative_to(folder).as_posix()} has no mask: there is no {wanted}", remedy="add it, or leave the picture out"
            )
    for stem, file in drawn.items():
        if stem not in pictures:
            raise bad_input(f"{file.relative_to(folder).as_posix()} has no picture of its name", remedy="add it, or leave the mask out")
    if not pictures:
        raise bad_input(f"{images.relative_to(folder)} has no picture", remedy=SHAPE)
    for stem, file in pictures.items():
        name = file.relative_to(folder).as_posix()
        yield Line(name, drawn[stem].relative_to(folder).as_posix(), name)


def _stems(place: Path, endings: frozenset[str], folder: Path) -> dict[str, Path]:
    """The files below a folder by their name without its ending, in order."""
    found: dict[str, Path] = {}
    for file in sorted(place.rglob("*")):
        inside = file.relative_to(place)
        if file.suffix.lower() in endings and file.is_file() and not any(part.startswith(".") for part in inside.parts):
            stem = inside.with_suffix("").as_posix()
            if stem in found:
                both = f"{found[stem].relative_to(folder).as_posix()} and {file.relative_to(folder).as_posix()}"
                raise bad_input(f"{both} have one name", remedy="keep one of them")
            found[stem] = file
    return found


def _named_in_list(line: Line, folder: Path) -> Line:
    """The line with its mask's path relative to the data folder. Raises Problem where it leads out of it, or to nothing."""
    base = PurePosixPath(line.where.rpartition(":")[0]).parent
    path = os.path.normpath(str(base / line.text.strip().replace("\\", "/")))
    if not line.text.strip() or path.startswith(("..", "/")):
        what = f"{line.text!r} leads out of the data folder" if line.text.strip() else "no mask is named"
        raise bad_input(f"{line.where}: {what}", remedy="write 'image<TAB>mask', paths relative to the list")
    if not (folder / path).is_file():
        raise bad_input(f"{line.where}: there is no mask {line.text.strip()}", remedy="mend the list; paths are relative to it")
    return Line(line.id, path, line.where)


def _bytes(path: Path, name: str) -> bytes:
    try:
        if path.stat().st_size > lines.MOST_BYTES:
            raise bad_input(f"{name} is larger than {lines.MOST_BYTES >> 20} MB", remedy="is this an image file?")
        return path.read_bytes()
    except OSError as error:
        raise bad_input(f"{name} cannot be read: {error.strerror}", remedy="check the file and its permissions") from None


# -- names and masks -------------------------------------------------------------------------------------------------


def read_names(file: Path) -> tuple[str, ...]:
    """The names of the classes, number 0 first. Raises Problem (exit 3) naming the line of an empty, doubled or endless one."""
    text = text_files.text_of(file, file.name)
    rows = text.removesuffix("\n").split("\n") if text.strip() else []
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        name = row.strip()
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise bad_input(f"{file.name}:{number}: no class name: {row[:40]!r}", remedy="one name a line, the first is number 0")
        if name in seen:
            raise bad_input(f"{file.name}:{number}: {name!r} is already on line {seen[name]}", remedy="name each class once")
        seen[name] = number
    if not 2 <= len(seen) <= MOST_CLASSES:
        raise bad_input(
            f"{file.name} names {len(seen)} classes, allowed: 2 to {MOST_CLASSES}", remedy="one name a line, the first is number 0"
        )
    return tuple(seen)


def decode_mask(raw: bytes, *, name: str, classes: int, ignore: Sequence[int]) -> Mask:
    """A mask file → (h, w) uint8 of class numbers, `VOID` where a pixel does not count.

    Raises Problem (exit 3) naming `name`, for a mask of colours, and with row and column for a value that is no class.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = lines.MOST_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(raw), formats=("PNG",))
            image.load()
    except Exception as error:
        raise bad_input(f"{name} is no PNG that can be read: {error or type(error).__name__}", remedy="masks are PNG files") from None
    if image.mode not in MODES:
        raise bad_input(f"{name} is a mask of colours ({image.mode})", remedy="a mask has one channel: the number of each pixel's class")
    values = np.asarray(image).astype(np.int64)
    known = (values >= 0) & (values < classes)
    void = np.isin(values, list(ignore))
    if not (known | void).all():
        row, column = (int(place[0]) for place in np.nonzero(~(known | void)))
        left_out = f" nor left out ({', '.join(map(str, ignore))})" if ignore else ""
        raise bad_input(
            f"{name}: {values[row, column]} in row {row}, column {column} is none of the {classes} classes, 0 to {classes - 1},{left_out}",
            remedy=f"mend the mask or {CLASSES}, or name the value in the setting ignore",
        )
    return np.where(void, VOID, values).astype(np.uint8)
