"""Examples that are decoded when first asked for, held while there is room, and known by a digest of the bytes they came from.

The digests go into the provenance: what was trained on can be checked, and an example that stands in two splits is found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Generic, TypeVar

from advisor.data.corpus import SPLITS, Line, Split

T = TypeVar("T")
MOST_MEMORY = 4 * 2**30  # bytes held; what is beyond is decoded again each time


@dataclass(frozen=True, slots=True)
class Decoded(Generic[T]):
    """An example, the bytes it was decoded from, and how many it takes up now."""

    value: T
    raw: bytes
    nbytes: int


class Holder(Generic[T]):
    """`lines` decoded one by one: `holder(split, index)` is what `decode` made of a line. Problems of `decode` are passed on."""

    def __init__(
        self, lines: Mapping[Split, Sequence[Line]], decode: Callable[[Split, int], Decoded[T]], *, most: int = MOST_MEMORY
    ) -> None:
        self._lines, self._decode, self._room = lines, decode, most
        self._held: dict[tuple[Split, int], T] = {}
        self._digests: dict[tuple[Split, int], str] = {}

    def __call__(self, split: Split, index: int) -> T:
        key = split, index
        if key in self._held:
            return self._held[key]
        found = self._decode(split, index)
        if key not in self._digests:
            self._digests[key] = hashlib.sha256(found.raw).hexdigest()
        if found.nbytes <= self._room:
            self._held[key] = found.value
            self._room -= found.nbytes
        return found.value

    def digest(self, split: Split, index: int) -> str:
        """SHA-256 of the bytes an example came from; decodes it where that was not done yet."""
        if (split, index) not in self._digests:
            self(split, index)
        return self._digests[split, index]

    def seal(self, split: Split, *, texts: bool = True) -> str:
        """SHA-256 over a split: ids, with `texts` what is said of them, and the digests, a line each."""
        told = hashlib.sha256()
        for index, line in enumerate(self._lines[split]):
            said = f"{line.text}\t" if texts else ""
            told.update(f"{line.id}\t{said}{self.digest(split, index)}\n".encode())
        return told.hexdigest()

    def doubles(self) -> Iterator[tuple[int, Split, Split]]:
        """How many examples are the same, byte for byte, in two splits, wherever there are any."""
        seen = {split: {self.digest(split, index) for index in range(len(self._lines[split]))} for split in SPLITS}
        for one, other in combinations(SPLITS, 2):
            if same := seen[one] & seen[other]:
                yield len(same), one, other
