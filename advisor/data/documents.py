"""Plain texts as people keep them: a text file, a folder of them, or JSONL with a text a line.

A file's split is the word train, val (valid, dev) or test in its name or its folder's; files without any are to be split. Texts are
UTF-8; ends of lines become one form. A JSONL line is a text, or an object with `text` and, where it likes, `id`. What cannot be read is
refused with the file and the line in it, exit 3.

Splits that are missing are drawn: of many texts by a hash of their names, of few by place, the last parts of each text. Either way the
rule is recorded and depends on nothing but names, lengths and the seed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.data import text_files
from advisor.data.corpus import HELD_OUT, SPLITS, Split, assign
from advisor.data.tables import WORDS
from rules.problems import bad_input

SUFFIXES = (".txt", ".text", ".md", ".jsonl")
MANY = 20  # texts from which whole ones are held out
WAYS = ("auto", "texts", "place")
REMEDY = "give a .txt file, a folder of them, or a .jsonl file"


@dataclass(frozen=True, slots=True)
class Text:
    """A text, or a part of one. `start` counts its characters from the beginning of the whole."""

    name: str
    text: str
    start: int = 0


Texts = Mapping[Split, Sequence[Text]]


def read(source: Path) -> dict[Split, list[Text]]:
    """The texts at `source` by split, those there are. Raises Problem (exit 3) for whatever is missing or damaged."""
    found: dict[Split, list[Text]] = {}
    for split, files in _by_split(source).items():
        found[split] = [
            text for file in files for text in _texts(file, file.name if file == source else file.relative_to(source).as_posix())
        ]
    seen: set[str] = set()
    for held in found.values():
        for text in held:
            if text.name in seen:
                raise bad_input(f"{text.name} is the name of two texts", remedy="name each once, or leave id out")
            seen.add(text.name)
    return found


def _by_split(source: Path) -> dict[Split, list[Path]]:
    if source.is_file():
        if source.suffix.lower() not in SUFFIXES:
            raise bad_input(f"{source} is none of {', '.join(SUFFIXES)}", remedy=REMEDY)
        own = _said(Path(source.name))
        return {own.pop() if len(own) == 1 else "train": [source]}
    if not source.is_dir():
        raise bad_input(f"no data at {source}", remedy=f"{REMEDY}, or leave --data out for the built-in text")
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file() and not _aside(file))
    if not files:
        raise bad_input(f"{source} has no {', '.join(SUFFIXES)} file", remedy=REMEDY)
    said = {file: _said(file.relative_to(source)) for file in files}
    if not any(said.values()):
        return {"train": files}
    for file, splits in said.items():
        if len(splits) != 1:
            what = f"{file.relative_to(source)} says {' and '.join(sorted(splits)) or 'no split'} in its name"
            raise bad_input(what, remedy="beside files that say one of train, val, test, every file must")
    return {split: held for split in SPLITS if (held := [file for file in files if said[file] == {split}])}


def _aside(file: Path) -> bool:
    """A file about the texts, none of them."""
    return file.stem.lower() in ("readme", "license", "licence") or file.name.startswith(".")


def _said(path: Path) -> set[Split]:
    words = re.split(r"[^a-z]+", path.with_suffix("").as_posix().lower())
    return {WORDS[word] for word in words if word in WORDS}


def _texts(file: Path, shown: str) -> Iterator[Text]:
    text = one_form(text_files.text_of(file, shown))
    if file.suffix.lower() != ".jsonl":
        if not text.strip():
            raise bad_input(f"{shown} is empty", remedy="leave it out")
        yield Text(shown, text)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _object(line, f"{shown}:{number}")


def decoded(raw: bytes, shown: str) -> str:
    """UTF-8 bytes as text, its lines ended in one form. Raises Problem (exit 3) naming the line that is none."""
    return one_form(text_files.decoded(raw, shown))


def one_form(text: str) -> str:
    """Ends of lines as "\\n", whichever system they are from."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _object(line: str, where: str) -> Text:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise bad_input(f"{where}: no JSON: {str(error)[:80]}", remedy='write {"text": "…"} on every line') from error
    held = {"text": value} if isinstance(value, str) else value
    if not isinstance(held, dict) or not isinstance(held.get("text"), str) or not isinstance(held.get("id", ""), str | int):
        raise bad_input(f"{where}: no text", remedy='write {"text": "…"} on every line')
    text = one_form(held["text"].encode("utf-8", "replace").decode("utf-8"))
    if not text.strip() or "\0" in text:
        raise bad_input(f"{where}: {'a zero byte' if text.strip() else 'an empty text'}", remedy="leave the line out")
    return Text(str(held["id"]) if "id" in held else where, text)


# -- splits --------------------------------------------------------------------------------------------------------------


def complete(
    found: Texts, *, seed: int, way: str, shares: Mapping[Split, float] = HELD_OUT, source: str, training: bool = True
) -> tuple[dict[Split, list[Text]], dict[str, Any]]:
    """All three splits, a missing val or test drawn from the training texts, and how it was done.

    `way`: "texts" (whole ones), "place" (the last parts of each), or "auto": whole texts where there are many. `shares` are those of val
    and test. Raises Problem (exit 3) where there is nothing to train on, unless `training` is not asked for.
    """
    parts = {split: list(found.get(split, ())) for split in SPLITS}
    if not parts["train"] and training:
        raise bad_input(f"{source} has no training text", remedy="write it to train.txt")
    missing = {split: share for split, share in shares.items() if not parts[split] and parts["train"]}
    if not missing:
        return parts, {"split": "as given", "seed": None}
    texts, parts["train"] = parts["train"], []
    said = ", ".join(f"{share:.0%} {split}" for split, share in missing.items())
    if way == "texts" or (way == "auto" and len(texts) >= MANY):
        for text in texts:
            parts[assign(text.name, missing, seed=seed)].append(text)
        return parts, {"split": f"sha256('{seed}:' + name of the text) as a fraction of 1: {said}, the rest train", "seed": seed}
    for text in texts:
        for split, part in _cut(text, missing):
            parts[split].append(part)
    return parts, {"split": f"by place, the last parts of each text: {said}, in this order", "seed": None}


def _cut(text: Text, shares: Mapping[Split, float]) -> Iterator[tuple[Split, Text]]:
    """A text in parts, one after another; the training part first. A text is cut between characters, wherever that is."""
    start = round(len(text.text) * (1 - sum(shares.values())))
    yield "train", Text(text.name, text.text[:start])
    for split, share in shares.items():
        last = split == list(shares)[-1]
        end = len(text.text) if last else start + round(len(text.text) * share)
        yield split, Text(text.name, text.text[start:end], start)
        start = end
