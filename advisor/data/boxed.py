"""Folders of pictures with boxes: COCO's JSON, or Pascal VOC's XML files.

COCO: `train.json` (and `val.json`, `test.json`; `instances_train.json` and the like in `annotations/` too), pictures beside it, in
`images/`, or in a folder of the split's name. VOC: `Annotations/*.xml` beside `JPEGImages/`, splits in `ImageSets/Main/train.txt` and so
on. Missing splits are drawn by a hash of the name (`corpus.py`).
Boxes become left, top, right, bottom in pixels from the picture's corner: COCO's are left, top, width, height; VOC's count pixels from
one, both ends included. What VOC calls difficult and COCO a crowd is neither learnt nor scored.
Nothing is guessed where it could be wrong: each refusal is one line that names the file and the object in it, exit 3.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard
from xml.etree import ElementTree

from advisor.data import classfolders, manifest, text_files
from advisor.data.corpus import SPLITS, Corpus, Line, Split, complete
from rules.problems import Problem, bad_input

SHAPE = "write COCO's train.json beside images/, or Pascal VOC's Annotations/*.xml beside JPEGImages/"
MOST_XML = 4 * 2**20  # bytes
MOST_JSON = 2**30
LONGEST_NAME = 100  # characters of a class
SLACK = 1.0  # pixels a box may reach over its picture's edge: rounding, and the two ways of counting from nought and from one

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: its class, its box, whether it is left out of learning and scoring, and where it is said."""

    name: str
    box: Box
    aside: bool
    where: str


@dataclass(frozen=True, slots=True)
class Marked:
    """Pictures in splits with their objects by id; `sizes` are (width, height) as the annotations say, where they do."""

    corpus: Corpus
    things: Mapping[str, Sequence[Thing]]
    sizes: Mapping[str, tuple[int, int]]
    labels: tuple[str, ...] | None = None  # in the source's own order, where it has one


@dataclass(slots=True)
class Found:
    """What is collected while a source is read."""

    parts: dict[Split, list[Line]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    things: dict[str, list[Thing]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    skipped: int = 0


def open_folder(folder: Path, *, seed: int, training: bool = True, empty: str = "refuse") -> Marked:
    """The pictures and boxes of `folder`; boxes without any area are refused, or with `empty = "skip"` left out and counted.

    Raises Problem (exit 3) naming what is missing, damaged, doubled or outside.
    """
    if not folder.is_dir():
        raise bad_input(f"no data folder {folder}", remedy="give a folder of pictures with boxes, or leave --data out for drawn scenes")
    files = dict(_coco_files(folder))
    found = Found()
    if files:
        for split, file in files.items():
            _coco(file, split, folder, found, skip=empty == "skip")
        layout = "COCO JSON"
    elif (folder / "Annotations").is_dir():
        _voc(folder, found, skip=empty == "skip")
        layout = "Pascal VOC XML"
    else:
        raise _shapeless(folder)
    splits, how = complete(found.parts, seed=seed, source=str(folder), training=training, noun="pictures", remedy=SHAPE)
    facts = {"source": folder.resolve().name, "layout": layout, "licence": "not stated", "skipped_boxes": found.skipped, **how}
    corpus = Corpus(splits, lambda line: _bytes(folder / line.id, line), facts)
    return Marked(corpus, found.things, found.sizes, tuple(found.labels) or None)


def _shapeless(folder: Path) -> Problem:
    packed = sorted(file.name for file in folder.iterdir() if file.name.endswith(manifest.ARCHIVES))
    if packed:
        return bad_input(f"{folder} has no boxes, but {', '.join(packed)}", remedy=f"unpack first: {packed[0]}")
    what = "is empty" if not any(folder.iterdir()) else "has neither COCO's JSON nor Pascal VOC's Annotations"
    return bad_input(f"{folder} {what}", remedy=SHAPE)


def _bytes(path: Path, line: Line) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise bad_input(f"{line.where}: {line.id} cannot be read: {error.strerror}", remedy="check the file and its permissions") from None


# -- COCO ----------------------------------------------------------------------------------------------------------------


def _coco_files(folder: Path) -> Iterator[tuple[Split, Path]]:
    """The file of each split. Raises Problem for two of one."""
    found: dict[Split, Path] = {}
    for name, split in manifest.NAMES.items():
        places = [folder / f"{name}.json", folder / name / "_annotations.coco.json"]
        for stem in (name, f"instances_{name}", f"instances_{name}2017"):
            places.append(folder / "annotations" / f"{stem}.json")
        for file in places:
            if file.is_file():
                if split in found:
                    both = f"{found[split].relative_to(folder)} and {file.relative_to(folder)}"
                    raise bad_input(f"{folder} has {both} for the same split", remedy="keep one of them")
                found[split] = file
    yield from found.items()


def _coco(file: Path, split: Split, folder: Path, found: Found, *, skip: bool) -> None:
    shown = file.relative_to(folder).as_posix()
    held = _json(file, shown)
    images, annotations, categories = (_rows(held, key, shown) for key in ("images", "annotations", "categories"))
    names = dict(_categories(categories, shown))
    found.labels += [name for name in names.values() if name not in found.labels]
    ids: dict[int, str] = {}
    for row in images:
        where = f"{shown}: image {row.get('id')!r}"
        number, name = row.get("id"), row.get("file_name")
        if not _whole(number) or not isinstance(name, str) or not name:
            raise bad_input(f"{where} needs an id (a whole number) and a file_name")
        if number in ids:
            raise bad_input(f"{where} is there twice", remedy="ids are given once each")
        line = Line(_picture(name, split, file, folder, where), name, where)
        if line.id in found.things:
            raise bad_input(f"{where}: {line.id} is already named", remedy="name each picture once, in one split")
        ids[number] = line.id
        found.parts[split].append(line)
        found.things[line.id] = []
        if _whole(row.get("width")) and _whole(row.get("height")):
            found.sizes[line.id] = int(row["width"]), int(row["height"])
    for row in annotations:
        where = f"{shown}: annotation {row.get('id')!r}"
        if not _whole(row.get("image_id")) or row["image_id"] not in ids:
            raise bad_input(f"{where} is of image {row.get('image_id')!r}, which is not in images")
        if not _whole(row.get("category_id")) or row["category_id"] not in names:
            raise bad_input(f"{where} is of category {row.get('category_id')!r}, which is not in categories")
        box = _numbers(row.get("bbox"), where)
        thing = Thing(names[row["category_id"]], (box[0], box[1], box[0] + box[2], box[1] + box[3]), bool(row.get("iscrowd", 0)), where)
        _keep(thing, ids[row["image_id"]], found, skip=skip)


def _json(file: Path, shown: str) -> Mapping[str, Any]:
    try:
        if file.stat().st_size > MOST_JSON:
            raise bad_input(f"{shown} is larger than {MOST_JSON >> 30} GB", remedy="is this COCO's JSON?")
        held = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise bad_input(f"{shown}:{error.lineno}: not JSON: {error.msg}", remedy=SHAPE) from None
    except (OSError, ValueError, RecursionError) as error:
        raise bad_input(f"{shown} cannot be read: {error}", remedy=SHAPE) from None
    if not isinstance(held, dict):
        raise bad_input(f"{shown} holds no object", remedy='COCO\'s JSON is {"images": […], "annotations": […], "categories": […]}')
    return held


def _rows(held: Mapping[str, Any], key: str, shown: str) -> list[dict[str, Any]]:
    rows = held.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise bad_input(
            f"{shown} has no list {key!r} of objects", remedy='COCO\'s JSON is {"images": […], "annotations": […], "categories": […]}'
        )
    return rows


def _categories(rows: Sequence[Mapping[str, Any]], shown: str) -> Iterator[tuple[int, str]]:
    seen: set[object] = set()
    for row in sorted(rows, key=lambda row: row["id"] if _whole(row.get("id")) else -1):
        where, number = f"{shown}: category {row.get('id')!r}", row.get("id")
        if not _whole(number) or number in seen:
            raise bad_input(f"{where} needs an id of its own, a whole number")
        name = _name(row.get("name"), where)
        if name in seen:
            raise bad_input(f"{where}: the name {name!r} is there twice")
        seen |= {number, name}
        yield number, name


def _numbers(value: Any, where: str) -> tuple[float, float, float, float]:
    if not isinstance(value, list) or len(value) != 4 or not all(_finite(number) for number in value):
        raise bad_input(f"{where}: bbox is {str(value)[:60]}, expected four numbers: left, top, width, height")
    return float(value[0]), float(value[1]), float(value[2]), float(value[3])


def _picture(name: str, split: Split, file: Path, folder: Path, where: str) -> str:
    """A picture's path relative to the data folder. Raises Problem where it leads out or there is none."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or len(name) > manifest.LONGEST_PATH or "\0" in name:
        raise bad_input(f"{where}: {name[:80]!r} leads out of the data folder", remedy="keep the files inside it")
    named = [key for key, value in manifest.NAMES.items() if value == split]
    for place in (
        file.parent,
        folder,
        folder / "images",
        *(folder / part / key for key in named for part in (".", "images")),
        *(folder / f"{key}2017" for key in named),
    ):
        if (place / path).is_file():
            return (place / path).relative_to(folder).as_posix()
    raise bad_input(
        f"{where}: there is no picture {name}", remedy="pictures stand beside the JSON, in images/, or in a folder of the split's name"
    )


# -- Pascal VOC ----------------------------------------------------------------------------------------------------------


def _voc(folder: Path, found: Found, *, skip: bool) -> None:
    lists = folder / "ImageSets" / "Main"
    named = {name: lists / f"{name}.txt" for name in manifest.NAMES if (lists / f"{name}.txt").is_file()}
    seen: dict[str, str] = {}
    if not named:
        names = sorted(file.stem for file in (folder / "Annotations").glob("*.xml"))
        if not names:
            raise bad_input(f"{folder / 'Annotations'} has no XML file", remedy=SHAPE)
        for name in names:
            _voc_picture(name, f"Annotations/{name}.xml", SPLITS[0], folder, found, skip=skip)
    for key, file in named.items():
        shown = file.relative_to(folder).as_posix()
        for number, row in enumerate(text_files.text_of(file, shown).split("\n"), 1):
            name = row.strip()
            if not name:
                continue
            where = f"{shown}:{number}"
            if name in seen:
                raise bad_input(f"{where}: {name} is already named at {seen[name]}", remedy="name each picture once, in one split")
            seen[name] = where
            _voc_picture(name, where, manifest.NAMES[key], folder, found, skip=skip)
    found.labels.sort()


def _voc_picture(name: str, where: str, split: Split, folder: Path, found: Found, *, skip: bool) -> None:
    if "/" in name or "\\" in name or name.startswith(".") or len(name) > manifest.LONGEST_PATH:
        raise bad_input(f"{where}: {name[:80]!r} is no name of a picture", remedy="a list names one picture a line, without its ending")
    file = folder / "Annotations" / f"{name}.xml"
    if not file.is_file():
        raise bad_input(f"{where}: there is no Annotations/{name}.xml", remedy="add it, or mend the list")
    shown = f"Annotations/{name}.xml"
    root = _xml(file, shown)
    image = next((place for ending in sorted(classfolders.ENDINGS) if (place := folder / "JPEGImages" / f"{name}{ending}").is_file()), None)
    if image is None:
        raise bad_input(f"{shown}: there is no picture JPEGImages/{name}", remedy="pictures have the names of their XML files")
    line = Line(image.relative_to(folder).as_posix(), name, shown)
    found.parts[split].append(line)
    found.things[line.id] = []
    size = root.find("size")
    if size is not None:
        found.sizes[line.id] = int(_number(size, "width", shown)), int(_number(size, "height", shown))
    for number, item in enumerate(root.iter("object"), 1):
        label = _name((item.findtext("name") or "").strip(), f"{shown}: object {number}")
        told = f"{shown}: object {number} ({label})"
        box = item.find("bndbox")
        if box is None:
            raise bad_input(f"{told} has no bndbox", remedy=SHAPE)
        left, top, right, bottom = (_number(box, key, told) for key in ("xmin", "ymin", "xmax", "ymax"))
        ends = (max(0.0, left - 1), max(0.0, top - 1), right, bottom) if right > left and bottom > top else (left, top, right, bottom)
        _keep(Thing(label, ends, (item.findtext("difficult") or "0").strip() == "1", told), line.id, found, skip=skip)
        if label not in found.labels:
            found.labels.append(label)


def _xml(file: Path, shown: str) -> ElementTree.Element:
    """The root of an XML file. Declarations of types and entities are refused: no annotation needs them, and they can be bombs."""
    try:
        if file.stat().st_size > MOST_XML:
            raise bad_input(f"{shown} is larger than {MOST_XML >> 20} MB", remedy="is this an annotation?")
        raw = file.read_bytes()
    except OSError as error:
        raise bad_input(f"{shown} cannot be read: {error.strerror}", remedy="check the file and its permissions") from None
    return parse_xml(raw, shown)


def parse_xml(raw: bytes, shown: str) -> ElementTree.Element:
    """The root element. Raises Problem (exit 3) with the line where it is no XML."""
    plain = raw.replace(b"\0", b"").upper()  # UTF-16 hides behind zeros
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise bad_input(f"{shown} declares a document type or entities", remedy="an annotation needs neither: remove them")
    try:
        return ElementTree.fromstring(raw)  # no entities are left to expand
    except ElementTree.ParseError as error:
        raise bad_input(f"{shown}:{error.position[0]}: not XML: {error}", remedy=SHAPE) from None
    except (ValueError, LookupError, RecursionError) as error:
        raise bad_input(f"{shown}: not XML: {error}", remedy=SHAPE) from None


def _number(parent: ElementTree.Element, key: str, where: str) -> float:
    text = (parent.findtext(key) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not _finite(value) or len(text) > 40:
        raise bad_input(f"{where}: {key} is {text[:40]!r}, expected a number")
    return value


# -- what both ask -------------------------------------------------------------------------------------------------------


def _keep(thing: Thing, name: str, found: Found, *, skip: bool) -> None:
    left, top, right, bottom = thing.box
    if not (right > left and bottom > top):
        if not skip:
            raise bad_input(f"{thing.where}: the box {_shown(thing.box)} has no area", remedy='mend it, or settings empty = "skip"')
        found.skipped += 1
        return
    found.things[name].append(thing)


def inside(thing: Thing, width: int, height: int) -> Box:
    """The box within its picture. Raises Problem (exit 3) for one that reaches more than a pixel over an edge."""
    left, top, right, bottom = thing.box
    if left < -SLACK or top < -SLACK or right > width + SLACK or bottom > height + SLACK:
        raise bad_input(
            f"{thing.where}: the box {_shown(thing.box)} reaches out of its picture of {width} × {height}", remedy="mend the box"
        )
    return max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)


def _shown(box: Box) -> str:
    return ", ".join(f"{number:g}" for number in box)


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_NAME or not value.isprintable():
        raise bad_input(f"{where}: no name of a class: {str(value)[:40]!r}")
    return value.strip()


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
