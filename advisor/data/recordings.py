"""Recordings with a word or a text each, as people keep them: lists, or a folder a word.

Lists are those of `manifest.py` (TSV, CSV, JSONL; a file, and its label or text). A folder a word may have `train`, `val` and `test`
around it, or the lists of Speech Commands beside it (`validation_list.txt`, `testing_list.txt`: a path a line; folders that begin with
an underscore are no words there). Missing splits are drawn by a hash of the name.
Whatever is in the wrong shape is refused in one line that names the place, exit 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from advisor.data import manifest, text_files
from advisor.data.audio import ENDINGS
from advisor.data.corpus import SPLITS, Corpus, Line, Split, complete
from advisor.data.manifest import ARCHIVES, NAMES, SINGLE, SUFFIXES
from rules.problems import bad_input

LISTED: Mapping[str, Split] = {"validation_list.txt": "val", "testing_list.txt": "test"}  # of Speech Commands
SHAPE = "one folder a word: yes/…, no/…, or train/yes/… and so on; or train.tsv, one 'file<TAB>label' a line"


def corpus(folder: Path, *, seed: int, training: bool = True, labelled: bool = True) -> Corpus:
    """The recordings of `folder` with their labels or texts; `labelled`: a folder's name may be the label.

    Raises Problem (exit 3) for whatever is missing, damaged, doubled, outside the folder or in another shape.
    """
    if not folder.is_dir():
        raise bad_input(f"no data folder {folder}", remedy="give a folder of recordings, or leave --data out for the built-in set")
    if has_list(folder) or not labelled:
        return _one_text(manifest.corpus(folder, seed=seed, training=training))
    return _folders(folder, seed=seed, training=training)


def has_list(folder: Path) -> bool:
    """Whether the folder says its labels in a list."""
    own = [folder / f"{name}{suffix}" for name in (*SINGLE, *NAMES) for suffix in SUFFIXES]
    inside = [folder / name / f"{single}{suffix}" for name in NAMES for single in (*SINGLE, name) for suffix in SUFFIXES]
    return any(file.is_file() for file in (*own, *inside))


def _one_text(found: Corpus) -> Corpus:
    """A recording says no tab: refuse a third column that nothing names (Problem, exit 3), which would be learnt as text."""
    for split in SPLITS:
        for line in found.splits[split]:
            if "\t" in line.text:
                raise bad_input(
                    f"{line.where}: a tab in the text {line.text[:60]!r}",
                    remedy="name the columns in a first line: file<TAB>text<TAB>seconds",
                )
    return found


def _folders(folder: Path, *, seed: int, training: bool) -> Corpus:
    places = {split: folder / name for name, split in NAMES.items() if (folder / name).is_dir()}
    said = _speech_commands(folder)
    parts: dict[Split, list[Line]] = {split: [] for split in SPLITS}
    for split, place in places.items() or {SPLITS[0]: folder}.items():
        words = _words(place, folder)
        for word in words:
            for line in _recordings(word, folder):
                parts[said.pop(line.id, split)].append(line)
    if said:
        name, split = next(iter(said.items()))
        raise bad_input(f"the list of {split} names {name}, which is not there", remedy="unpack the whole set, or remove the lists")
    splits, how = complete(parts, seed=seed, source=str(folder), training=training, noun="recordings", remedy=SHAPE)
    facts = {"source": folder.resolve().name, "layout": "a folder a word", "licence": "not stated", **how}
    return Corpus(splits, lambda line: _bytes(folder / line.id, line), facts)


def _speech_commands(folder: Path) -> dict[str, Split]:
    """Which recordings are for validation and for the test, where the set's own lists say so."""
    found: dict[str, Split] = {}
    for name, split in LISTED.items():
        if (folder / name).is_file():
            text = text_files.text_of(folder / name, name)
            for number, line in enumerate(text.splitlines(), 1):
                if line.strip() and PurePosixPath(line.strip()).suffix.lower() not in ENDINGS:
                    raise bad_input(f"{name}:{number}: {line.strip()[:60]!r} is no recording", remedy="one path a line: word/file.wav")
                if line.strip():
                    found[line.strip()] = split
    return found


def _words(place: Path, folder: Path) -> list[Path]:
    """The folders of words. Raises Problem where there are none."""
    found = sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith((".", "_")))
    if found:
        return found
    packed = sorted(file.name for file in place.iterdir() if file.name.endswith(ARCHIVES))
    if packed:
        raise bad_input(f"{place} has no folders of words, but {packed[0]}", remedy=f"unpack first: tar -C {place} -xf {place / packed[0]}")
    what = "is empty" if not any(place.iterdir()) else "has no folders of words and no list"
    raise bad_input(f"{place if place == folder else place.relative_to(folder)} {what}", remedy=SHAPE)


def _recordings(word: Path, folder: Path) -> Iterator[Line]:
    """The recordings of one word. Raises Problem where there is none."""
    files = sorted(file for file in word.rglob("*") if file.suffix.lower() in ENDINGS and not file.name.startswith("."))
    if not files:
        raise bad_input(f"the folder {word.relative_to(folder).as_posix()} has no recording", remedy="add some, or remove it")
    for file in files:
        name = file.relative_to(folder).as_posix()
        yield Line(name, word.name, name)


def _bytes(place: Path, line: Line) -> bytes:
    try:
        return place.read_bytes()
    except OSError as error:
        raise bad_input(f"{line.where} cannot be read: {error.strerror}", remedy="check the file and its permissions") from None
