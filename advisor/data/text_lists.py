"""Texts with a label each, as people keep them: CSV, TSV or JSON lines with named columns, in one file or one a split.

A folder holds train, val and test lists (`train.csv`, `dev.tsv`, `test.jsonl` …) or one list; a file is a list of its own. The first line
of CSV and TSV names the columns: one of text, sentence, … and one of label, category, …; a column split (or a key) may say train, val or
test. TSV takes what is between tabs as it stands, CSV knows quotes. Missing splits are drawn by a hash of the text, so that adding texts
moves no other and a text that stands twice stands in one split.
Whatever is in the wrong shape is refused in one line that names the file and the line in it, exit 3.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from advisor.data.corpus import SPLITS, Corpus, Line, Split, complete
from advisor.data.manifest import NAMES, SPLIT_COLUMNS
from advisor.data.text_files import text_of
from rules.problems import bad_input

TEXT_COLUMNS = ("text", "sentence", "utterance", "query", "question", "content", "review", "message")
LABEL_COLUMNS = ("label", "category", "class", "intent", "sentiment", "topic")
SUFFIXES = (".csv", ".tsv", ".jsonl")
LONGEST_TEXT = 100_000
LONGEST_LABEL = 200
SHAPE = "columns 'text' and 'label', named in the first line; or {\"text\": …, \"label\": …}, one object a line"

Row = tuple[str, str, str, str]  # where, text, label, split ("" where nothing is said)
Columns = tuple[int, int, int | None]


def corpus(source: Path, *, seed: int, training: bool = True) -> Corpus:
    """The texts at `source`, a folder or a file. A line's text is its label; reading it gives the text in UTF-8.

    Raises Problem (exit 3) for whatever is missing, damaged or in another shape.
    """
    parts: dict[Split, list[tuple[Line, str]]] = {split: [] for split in SPLITS}
    lists = find(source)
    for file, split in lists:
        for where, text, label, said in rows(file, file.name):
            _check(where, text, label)
            parts[split or _split(said, where)].append((Line("", label, where), text))
    lines, texts = _named(parts)
    splits, how = _completed(lines, texts, seed=seed, source=str(source), training=training)
    facts = {"source": source.resolve().name, "lists": [file.name for file, _ in lists], "licence": "not stated", **how}
    return Corpus(splits, lambda line: texts[line.id].encode(), facts)


def find(source: Path) -> list[tuple[Path, Split | None]]:
    """The lists at `source`, each with the split it is about. Raises Problem (exit 3) for none, and for two of one split."""
    if source.is_file():
        if source.suffix.lower() not in SUFFIXES:
            raise bad_input(
                f"{source.name} is no list of texts: its name ends in {source.suffix or 'nothing'}",
                remedy=f"{', '.join(SUFFIXES)}; {SHAPE}",
            )
        return [(source, None)]
    if not source.is_dir():
        raise bad_input(
            f"no data at {source}", remedy="give a folder with train.csv, a file, or leave --data out for the built-in sentences"
        )
    held = sorted(file for file in source.iterdir() if file.is_file() and file.suffix.lower() in SUFFIXES)
    found: list[tuple[Path, Split | None]] = [(file, NAMES[file.stem.lower()]) for file in held if file.stem.lower() in NAMES]
    if not found and len(held) == 1:
        return [(held[0], None)]
    for split in SPLITS:
        if len(same := [file.name for file, name in found if name == split]) > 1:
            raise bad_input(f"{source} has {same[0]} and {same[1]} for the same texts", remedy="keep one of them")
    if not found:
        what = f"has {len(held)} lists and none is called train" if held else "has no list of texts"
        raise bad_input(f"{source} {what}", remedy=f"write train.csv (and val.csv, test.csv): {SHAPE}")
    return found


def _check(where: str, text: str, label: str) -> None:
    """Refuse a text or a label that cannot be meant."""
    if not text.strip():
        raise bad_input(f"{where}: the text is empty", remedy="write one, or leave the line out")
    if len(text) > LONGEST_TEXT:
        raise bad_input(f"{where}: a text of {len(text):,} characters", remedy=f"at most {LONGEST_TEXT:,}: is a quote left open?")
    if not label.strip():
        raise bad_input(f"{where}: the label is empty", remedy="write one, or leave the line out")
    if len(label) > LONGEST_LABEL or not label.isprintable():
        raise bad_input(f"{where}: {label[:60]!r} is no label", remedy=f"a name of at most {LONGEST_LABEL} characters on one line")


def _split(said: str, where: str) -> Split:
    if said and said.strip().lower() not in NAMES:
        raise bad_input(f"{where}: the split {said[:40]!r} is not known", remedy="train, val or test")
    return NAMES[said.strip().lower()] if said else "train"


def _named(parts: Mapping[Split, Sequence[tuple[Line, str]]]) -> tuple[dict[Split, list[Line]], dict[str, str]]:
    """The lines with their ids, a hash of the text (numbered where a text stands again), and the texts by id."""
    texts: dict[str, str] = {}
    times: dict[str, int] = {}
    lines: dict[Split, list[Line]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        for line, text in parts[split]:
            name = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
            times[name] = times.get(name, 0) + 1
            found = Line(name if times[name] == 1 else f"{name}-{times[name]}", line.text.strip(), line.where)
            lines[split].append(found)
            texts[found.id] = text.encode("utf-8", "replace").decode()  # half a surrogate, which JSON may hold, is no text
    return lines, texts


def _completed(
    lines: Mapping[Split, Sequence[Line]], texts: Mapping[str, str], *, seed: int, source: str, training: bool
) -> tuple[dict[Split, tuple[Line, ...]], dict[str, object]]:
    """All three splits. A text that stands again goes where it stood first."""
    first = {split: [line for line in lines[split] if split != "train" or "-" not in line.id] for split in SPLITS}
    splits, how = complete(first, seed=seed, source=source, training=training, noun="texts", remedy=SHAPE)
    home = {line.id: split for split in SPLITS for line in splits[split]}
    found: dict[Split, list[Line]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        for line in lines[split]:
            found[home[line.id.partition("-")[0]] if split == "train" else split].append(line)
    return {split: tuple(found[split]) for split in SPLITS}, how


# -- the formats ---------------------------------------------------------------------------------------------------------


def rows(file: Path, shown: str) -> Iterator[Row]:
    """(where, text, label, split) of a list. Raises Problem (exit 3) naming `shown` and the line."""
    text = text_of(file, shown)
    if not text.strip():
        raise bad_input(f"{shown} is empty", remedy=SHAPE)
    if file.suffix.lower() == ".jsonl":
        yield from _objects(text, shown)
        return
    lines = _tabbed(text, shown) if file.suffix.lower() == ".tsv" else _commas(text, shown)
    where, names = next(lines, (shown, []))
    columns, count = _columns(names, where), len(names)
    held = False
    for where, cells in lines:
        if len(cells) != count:
            raise bad_input(
                f"{where}: {len(cells)} columns where the first line names {count}", remedy="quote a text that has the separator in it"
            )
        text_at, label_at, split_at = columns
        yield where, cells[text_at], cells[label_at], cells[split_at] if split_at is not None else ""
        held = True
    if not held:
        raise bad_input(f"{shown} has no line below its column names", remedy=SHAPE)


def _tabbed(text: str, shown: str) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{shown}:{number}", line.removesuffix("\r").split("\t")


def _commas(text: str, shown: str) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield f"{shown}:{reader.line_num}", cells
    except csv.Error as error:
        raise bad_input(f"{shown}:{reader.line_num}: {error}", remedy="is a quote left open?") from None


def _columns(names: Sequence[str], where: str) -> Columns:
    """Where text, label and split stand. Raises Problem (exit 3) where the first line does not say, or says it twice."""
    known = [name.strip().lower() for name in names]
    found: list[int | None] = []
    for kind, wanted in (("text", TEXT_COLUMNS), ("label", LABEL_COLUMNS), ("split", tuple(SPLIT_COLUMNS))):
        at = [place for name in wanted for place, given in enumerate(known) if given == name]
        if not at and kind != "split":
            shown = ", ".join(repr(name[:40]) for name in names[:6])
            raise bad_input(f"{where}: no column is called {kind}, only {shown}", remedy=SHAPE)
        if len(at) > 1:
            raise bad_input(f"{where}: {names[at[0]]!r} and {names[at[1]]!r} may both be the {kind}", remedy="rename the one that is not")
        found.append(at[0] if at else None)
    assert found[0] is not None and found[1] is not None
    return found[0], found[1], found[2]


def _objects(text: str, shown: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _object(line, f"{shown}:{number}")


def _object(line: str, where: str) -> Row:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise bad_input(f"{where}: not JSON: {line[:60]!r}", remedy=SHAPE) from None
    keys = {str(key).lower(): value for key, value in entry.items()} if isinstance(entry, dict) else {}
    text, label, split = (
        next((keys[key] for key in names if key in keys), None) for names in (TEXT_COLUMNS, LABEL_COLUMNS, sorted(SPLIT_COLUMNS))
    )
    label = str(label) if isinstance(label, int) and not isinstance(label, bool) else label
    if not isinstance(text, str) or not isinstance(label, str) or not isinstance(split, str | None):
        raise bad_input(f"{where}: a text and a label are needed, both strings: {line[:60]!r}", remedy=SHAPE)
    return where, text, label, split or ""
