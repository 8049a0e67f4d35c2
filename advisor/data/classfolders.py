"""Folders of images where a folder's name is the class: `cats/…`, or `train/cats/…` beside `val` and `test`.

Images are found at any depth below their class; what does not end like an image is left out and counted. Without split folders, or
without some of them, the missing ones are drawn by a hash of the name, as for every source (`corpus.py`).
A folder in the wrong shape is refused in one line that names the place, exit 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from advisor.data import manifest
from advisor.data.corpus import SPLITS, Corpus, Line, Split, complete, complete_by_class
from advisor.data.manifest import ARCHIVES, NAMES, SINGLE, SUFFIXES
from rules.problems import Problem, bad_input

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pnm"})
SHAPE = "put images into one folder a class: cats/…, dogs/…, or train/cats/… and so on; or write train.tsv, one 'image<TAB>class' a line"


def has_list(folder: Path) -> bool:
    """Whether the folder says its labels in a list, so that `manifest` is to read it."""
    own = [folder / f"{name}{suffix}" for name in (*SINGLE, *NAMES) for suffix in SUFFIXES]
    inside = [folder / name / f"{single}{suffix}" for name in NAMES for single in (*SINGLE, name) for suffix in SUFFIXES]
    return any(file.is_file() for file in (*own, *inside))


def corpus(folder: Path, *, seed: int, training: bool = True, strangers: bool = False) -> Corpus:
    """The images of `folder` with their classes as texts; with `strangers` no class is in two splits.

    Raises Problem (exit 3) for whatever is in the wrong shape.
    """
    if not folder.is_dir():
        raise bad_input(f"no data folder {folder}", remedy="give a folder of images, or leave --data out for the built-in digits")
    places = splits_of(folder)
    parts: dict[Split, list[Line]] = {split: [] for split in SPLITS}
    skipped = 0
    for split, place in places.items() if places else [(SPLITS[0], folder)]:
        for name in classes_of(place, folder):
            found = list(_images(name, folder))
            parts[split] += [line for line in found if line is not None]
            skipped += found.count(None)
    if strangers:
        splits, how = complete_by_class(parts, seed=seed, source=str(folder), training=training)
    else:
        splits, how = complete(parts, seed=seed, source=str(folder), training=training, noun="images", remedy=SHAPE)
    facts = {"source": folder.resolve().name, "layout": "a folder a class", "licence": "not stated", "skipped": skipped, **how}
    return Corpus(splits, lambda line: _bytes(folder, line), facts)


def strangers(folder: Path, *, seed: int) -> Corpus:
    """The images of `folder` with their kinds as texts, by its lists where it has some, else by its folders; no kind is in two splits.

    Raises Problem (exit 3) for whatever is in the wrong shape, and for a line that names no kind.
    """
    if not (folder.is_dir() and has_list(folder)):
        return corpus(folder, seed=seed, training=False, strangers=True)
    found = manifest.corpus(folder, seed=seed, training=False, strangers=True)
    for line in (line for split in SPLITS for line in found.splits[split]):
        if not line.text.strip():
            raise bad_input(f"{line.where}: {line.id} is of no kind", remedy="write 'image<TAB>kind'")
    return found


def splits_of(folder: Path, *, remedy: str = SHAPE) -> dict[Split, Path]:
    """The split folders there are. Raises Problem for two of one split, and for classes beside them."""
    found: dict[Split, Path] = {}
    for name, split in NAMES.items():
        if (folder / name).is_dir():
            if split in found:
                raise bad_input(f"{folder} has {found[split].name} and {name} for the same split", remedy="keep one of them")
            found[split] = folder / name
    beside = [place.name for place in _folders(folder) if place not in found.values()] if found else []
    if beside:
        raise bad_input(f"{folder} has {beside[0]} beside {', '.join(place.name for place in found.values())}", remedy=remedy)
    return found


def classes_of(place: Path, folder: Path, *, remedy: str = SHAPE) -> list[Path]:
    """The folders of classes. Raises Problem (exit 3) where there are none."""
    found = _folders(place)
    if not found:
        raise _shapeless(place, folder, remedy)
    return found


def _folders(place: Path) -> list[Path]:
    return sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__MACOSX")))


def _shapeless(place: Path, folder: Path, remedy: str) -> Problem:
    packed = sorted(file.name for file in place.iterdir() if file.name.endswith(ARCHIVES))
    if packed:
        what = f"{place} has no class folders, but {', '.join(packed)}"
        return bad_input(what, remedy=f"unpack first: tar -C {place} -xf {place / packed[0]}")
    what = "is empty" if not any(place.iterdir()) else "has no class folders and no list of classes"
    return bad_input(f"{place if place == folder else place.relative_to(folder)} {what}", remedy=remedy)


def _images(place: Path, folder: Path) -> Iterator[Line | None]:
    """The images of one class; None for a file that does not end like one. Raises Problem where there is no image."""
    any_image = False
    for file in sorted(place.rglob("*")):
        if file.is_dir() or any(part.startswith(".") for part in file.relative_to(place).parts):
            continue
        if file.suffix.lower() not in ENDINGS:
            yield None
            continue
        any_image = True
        name = file.relative_to(folder).as_posix()
        yield Line(name, place.name, name)
    if not any_image:
        raise bad_input(f"class {place.relative_to(folder).as_posix()} has no image", remedy="add some, or remove the folder")


def _bytes(folder: Path, line: Line) -> bytes:
    try:
        return (folder / line.id).read_bytes()
    except OSError as error:
        raise bad_input(f"{line.where} cannot be read: {error.strerror}", remedy="check the file and its permissions") from None
