"""What a text is cut into for a net that writes: characters, or subwords by choice.

Idea: characters need no table but themselves and no text is beyond them; subwords make texts about a third as long and cost rows of a
table. Either way each sign knows how many characters it stands for, so that scores are told in nats a character and compare.
Shape: text → (n,) int64 below `size`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from advisor.data.subwords import LINE, SPACE, SPECIAL, Subwords
from rules.problems import Problem

OTHER = "\ufffd"  # stands for every character that is not known
MOST = 4096  # different characters; rarer ones are OTHER
Numbers = NDArray[np.int64]


class Signs(Protocol):
    """Either kind."""

    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def never(self) -> int:
        """The first signs, which are never written."""
        ...

    @property
    def space(self) -> str:
        """What stands for a space in a sign, where it is none itself."""
        ...

    def characters(self, before: Numbers, ids: Numbers) -> NDArray[np.float64]:
        """How many characters each of `ids` stands for, where `before` holds the sign before each."""
        ...

    def encode(self, text: str) -> Numbers: ...
    def decode(self, ids: Iterable[int]) -> str: ...
    def steps(self, length: int) -> Sequence[Mapping[str, Any]]:
        """The declared steps from a text file to its last `length` signs."""
        ...

    def reopen(self) -> Mapping[str, Any]:
        """The settings of the task that cut other texts alike."""
        ...


@dataclass(frozen=True)
class Characters:
    """The characters that are known, the first of them OTHER."""

    known: str
    never = 1
    space = ""

    @cached_property
    def labels(self) -> list[str]:
        return list(self.known)

    def characters(self, before: Numbers, ids: Numbers) -> NDArray[np.float64]:
        return np.ones(ids.shape)

    @cached_property
    def _table(self) -> tuple[Numbers, Numbers]:
        codes = np.array([ord(character) for character in self.known], dtype=np.int64)
        order = np.argsort(codes, kind="stable")
        return codes[order], order

    def encode(self, text: str) -> Numbers:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
        held, places = self._table
        at = np.minimum(np.searchsorted(held, codes), len(held) - 1)
        return np.where(held[at] == codes, places[at], 0)

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.known[place] for place in ids)

    def steps(self, length: int) -> Sequence[Mapping[str, Any]]:
        return ({"op": "characters", "known": self.known}, {"op": "last", "length": length})

    def reopen(self) -> Mapping[str, Any]:
        return {"signs": "characters", "known": self.known}


def characters(texts: Iterable[str]) -> Characters:
    """The characters of the training texts in the order of their codes, the most frequent where there are too many."""
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    for mark in (OTHER, "\ufeff"):  # the second may begin a file and say that it is UTF-8
        counts.pop(mark, None)
    often = sorted(counts, key=lambda character: (-counts[character], character))[: MOST - 1]
    return Characters(OTHER + "".join(sorted(often)))


def known_characters(value: Any) -> Characters:
    """The setting `known`. Raises Problem (exit 2) where it is none."""
    if not isinstance(value, str) or not value.startswith(OTHER) or len(set(value)) != len(value) or not 2 <= len(value) <= MOST:
        raise Problem("known is no set of characters: U+FFFD first, then others, each once", remedy="leave it out to learn it")
    return Characters(value)


@dataclass(frozen=True)
class Pieces:
    """Subwords (`subwords.py`), as signs."""

    subwords: Subwords
    never = len(SPECIAL)
    space = SPACE

    @cached_property
    def labels(self) -> list[str]:
        return list(self.subwords.pieces)

    @cached_property
    def _lengths(self) -> NDArray[np.float64]:
        return np.array([1.0 if place < len(SPECIAL) else len(piece) for place, piece in enumerate(self.subwords.pieces)])

    @cached_property
    def _spaced(self) -> NDArray[np.bool_]:
        return np.array([piece.startswith(SPACE) for piece in self.subwords.pieces])

    def characters(self, before: Numbers, ids: Numbers) -> NDArray[np.float64]:
        """The first word of a line has no space before it, although its subword says so."""
        lines = [place for place, piece in enumerate(self.subwords.pieces) if piece == LINE]
        found: NDArray[np.float64] = self._lengths[ids] - (np.isin(before, lines) & self._spaced[ids])
        return found

    def encode(self, text: str) -> Numbers:
        return np.array(self.subwords.encode(text), dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.subwords.pieces[place] for place in ids).replace(SPACE, " ").replace(LINE + " ", LINE).removeprefix(" ")

    def steps(self, length: int) -> Sequence[Mapping[str, Any]]:
        whole = self.subwords.step(length=2**31, multiple=1)
        return ({"op": "text"}, whole, {"op": "last", "length": length})

    def reopen(self) -> Mapping[str, Any]:
        return {"signs": "subwords", "subwords": self.subwords.plain()}
