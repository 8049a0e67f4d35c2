"""Folders of clips where a folder's name is the class, and lists that name clips.

A clip is a folder of its frames as pictures (`wave/clip-01/001.png` …), a video file, or an animated picture (`frames.py`). Folders:
`wave/…`, or `train/wave/…` beside `val` and `test`; lists as everywhere (`manifest.py`: TSV, CSV, JSONL; a clip and its class), whose
clips may be folders. Missing splits are drawn by a hash of the clip's name.
Whatever is in the wrong shape is refused in one line that names the place, exit 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from advisor.data import classfolders, manifest
from advisor.data.corpus import SPLITS, Corpus, Line, Split, complete
from advisor.data.frames import ANIMATIONS, MOST_BYTES, PICTURES, VIDEOS, check, in_order, zipped
from rules.problems import bad_input

SHAPE = "put clips into one folder a class: wave/one.mp4, or wave/one/001.png …; or write train.tsv, one 'clip<TAB>class' a line"


def corpus(folder: Path, *, seed: int, training: bool = True) -> Corpus:
    """The clips of `folder` with their classes as texts. Raises Problem (exit 3) for whatever is in the wrong shape."""
    if not folder.is_dir():
        raise bad_input(f"no data folder {folder}", remedy="give a folder of clips, or leave --data out for the built-in ones")
    if classfolders.has_list(folder):
        found = manifest.corpus(folder, seed=seed, training=training, folders=True)
        return Corpus(found.splits, lambda line: _bytes(folder / line.id, line), found.facts)
    places = classfolders.splits_of(folder, remedy=SHAPE) or {SPLITS[0]: folder}
    parts: dict[Split, list[Line]] = {split: [] for split in SPLITS}
    skipped = 0
    for split, place in places.items():
        for name in classfolders.classes_of(place, folder, remedy=SHAPE):
            clips = list(_clips(name, folder))
            parts[split] += [line for line in clips if line is not None]
            skipped += clips.count(None)
    splits, how = complete(parts, seed=seed, source=str(folder), training=training, noun="clips", remedy=SHAPE)
    facts = {"source": folder.resolve().name, "layout": "a folder a class", "licence": "not stated", "skipped": skipped, **how}
    return Corpus(splits, lambda line: _bytes(folder / line.id, line), facts)


def _clips(place: Path, folder: Path) -> Iterator[Line | None]:
    """The clips of one class; None for a file that is none. Raises Problem where there is no clip, and for pictures beside folders."""
    any_clip = False
    for entry in sorted(place.iterdir(), key=lambda entry: in_order(entry.name)):
        if entry.name.startswith((".", "__MACOSX")):
            continue
        suffix = entry.suffix.lower()
        if not entry.is_dir() and suffix in PICTURES - ANIMATIONS:
            what = f"{entry.relative_to(folder).as_posix()} is a frame of no clip"
            raise bad_input(what, remedy=f"put the frames of a clip into a folder of their own: {place.name}/clip-1/{entry.name}")
        if not entry.is_dir() and suffix not in VIDEOS | ANIMATIONS:
            yield None
            continue
        any_clip = True
        name = entry.relative_to(folder).as_posix()
        yield Line(name, place.name, name)
    if not any_clip:
        raise bad_input(f"class {place.relative_to(folder).as_posix()} has no clip", remedy="add some, or remove the folder")


def _bytes(place: Path, line: Line) -> bytes:
    """The clip as one file: itself, or of a folder its frames in a zip file."""
    try:
        if not place.is_dir():
            return place.read_bytes()
        files = sorted((file for file in place.iterdir() if file.suffix.lower() in PICTURES), key=lambda file: in_order(file.name))
        files = [file for file in files if not file.name.startswith(".")]
        check(len(files), line.where)
        if sum(file.stat().st_size for file in files) > MOST_BYTES:
            raise bad_input(f"{line.where} has more than {MOST_BYTES >> 20} MB of frames", remedy="cut it into clips, or reduce the frames")
        return zipped((file.name, file.read_bytes()) for file in files)
    except OSError as error:
        raise bad_input(f"{line.where} cannot be read: {error.strerror}", remedy="check the files and their permissions") from None
