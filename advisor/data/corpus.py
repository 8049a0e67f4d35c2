"""Labelled text lines, wherever they came from: three splits of (id, text, where it is said) and a way to read each image.

A source without splits, or without some of them, gets its missing ones from a rule that depends on nothing but the ids and the
seed, so that it can be repeated and checked; the rule and the counts are recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rules.problems import bad_input

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
HELD_OUT: Mapping[Split, float] = {"val": 0.1, "test": 0.1}


@dataclass(frozen=True, slots=True)
class Line:
    """One labelled image. `id` is unique; `where` is the place to look when something is wrong with it."""

    id: str
    text: str
    where: str

    @property
    def named(self) -> str:
        """What a message calls it: the place, and the id where that does not tell it."""
        return self.where if self.id in self.where else f"{self.id} ({self.where})"


@dataclass(frozen=True, slots=True)
class Corpus:
    """Lines in three splits. `read` gives the bytes of an image file; `facts` goes into the provenance."""

    splits: Mapping[Split, tuple[Line, ...]]
    read: Callable[[Line], bytes]
    facts: Mapping[str, Any] = field(default_factory=dict)


def complete(
    found: Mapping[Split, Sequence[Line]],
    *,
    seed: int,
    source: str,
    training: bool = True,
    noun: str = "lines",
    remedy: str = "name them in train.tsv, one 'image<TAB>text' a line",
) -> tuple[dict[Split, tuple[Line, ...]], dict[str, Any]]:
    """All three splits: those given as they are, a missing val or test drawn from train. Returns them and how it was done.

    Raises Problem (exit 3) when a drawn split comes out empty, or when there is nothing to train on, unless `training` is not asked for.
    """
    train = list(found.get("train", ()))
    parts: dict[Split, list[Line]] = {split: list(found.get(split, ())) for split in SPLITS}
    if not train and not training and any(parts.values()):
        return {split: tuple(parts[split]) for split in SPLITS}, {"split": "as given, nothing to train on", "seed": None}
    if not train:
        raise bad_input(f"{source} has no training {noun}", remedy=remedy)
    missing = {split: share for split, share in HELD_OUT.items() if not found.get(split)}
    parts["train"] = []
    for line in train:
        parts[assign(line.id, missing, seed=seed)].append(line)
    for split in SPLITS:
        if not parts[split]:
            what = f"{source}: {len(train)} {noun} are too few to draw a {split} split from"
            raise bad_input(what, remedy=f"give more {noun}, or a {split} {'list' if noun == 'lines' else 'folder'}")
    shares = ", ".join(f"{share:.0%} {split}" for split, share in missing.items())
    rule = f"sha256('{seed}:' + id) as a fraction of 1: {shares}, the rest train"
    return {split: tuple(parts[split]) for split in SPLITS}, {"split": rule if missing else "as given", "seed": seed if missing else None}


def complete_by_class(
    found: Mapping[Split, Sequence[Line]], *, seed: int, source: str, training: bool = True, noun: str = "people"
) -> tuple[dict[Split, tuple[Line, ...]], dict[str, Any]]:
    """As `complete`, where the classes of one split are to be strangers to the others: whole classes are drawn, a tenth each.

    Raises Problem (exit 3) for a class that is named in two splits, and where there are too few to draw from.
    """
    parts: dict[Split, list[Line]] = {split: list(found.get(split, ())) for split in SPLITS}
    homes: dict[str, Line] = {}
    for split in SPLITS:
        for name, line in {line.text: line for line in reversed(parts[split])}.items():
            if homes.setdefault(name, line) is not line:
                raise bad_input(
                    f"{name!r} is in two splits: {homes[name].where}, {line.where}", remedy=f"{noun} of one split are in no other"
                )
    if not parts["train"] and not training and any(parts.values()):
        return {split: tuple(parts[split]) for split in SPLITS}, {"split": "as given, nothing to train on", "seed": None}
    missing = [split for split in HELD_OUT if not parts[split]]
    names = sorted({line.text for line in parts["train"]}, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    each = max(2, round(len(names) * HELD_OUT["val"]))
    if len(names) < (len(missing) + 1) * (each if missing else 1) or len(names) < 2:
        raise bad_input(
            f"{source}: {len(names)} {noun} are too few to train on{' and to draw ' + ' and '.join(missing) if missing else ''}"
        )
    for split in missing:
        drawn, names = set(names[:each]), names[each:]
        parts[split] = [line for line in parts["train"] if line.text in drawn]
        parts["train"] = [line for line in parts["train"] if line.text not in drawn]
    rule = f"by {noun}: in the order of sha256('{seed}:' + name), {each} each for {' and '.join(missing)}, the rest train"
    return {split: tuple(parts[split]) for split in SPLITS}, {"split": rule if missing else "as given", "seed": seed if missing else None}


def assign(name: str, shares: Mapping[Split, float], *, seed: int) -> Split:
    """The split of `name`, by its own hash: adding or removing others does not move it."""
    position = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") / 2**64
    for split, share in shares.items():
        if position < share:
            return split
        position -= share
    return "train"


def unique(lines: Iterable[Line]) -> list[Line]:
    """The same lines. Raises Problem (exit 3) naming both places when an image is named twice."""
    seen: dict[str, Line] = {}
    for line in lines:
        first = seen.setdefault(line.id, line)
        if first is not line:
            same = "the same text" if first.text == line.text else f"another text ({first.text!r}, {line.text!r})"
            raise bad_input(f"{line.where}: {line.id} is already named at {first.where}, with {same}", remedy="name each image once")
    return list(seen.values())


def spread(count: int, limit: int | None) -> list[int]:
    """`limit` indices spread evenly over `count`: a fair sample of lines that are stored page by page."""
    if limit is None or limit >= count:
        return list(range(count))
    return [place * count // limit for place in range(limit)]
