"""Puts text lines into batches of one padded width each, the same way every time it is asked.

In order, a batch holds lines of exactly one padded width, so each is padded as it would be alone. Shuffled, lines of about one width
stand together and the narrower are padded further: every batch but one is full, and how many there are is known beforehand.
All randomness comes from (seed, epoch, index).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from advisor.augment import augment, generator, stretches
from advisor.data.lines import WIDEST, padded, stack
from rules.examples import Batch

Pixels = NDArray[np.uint8]
Row = tuple[Pixels, str]  # a line's pixels (32, w) and its text
NARROW = 4  # pixels: no line is squeezed below


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of one pass, made while they are asked for. `len` costs nothing where `known` is given."""

    plan: Callable[[], Iterator[tuple[list[int], int]]]  # which lines stand together, and how wide
    make: Callable[[list[int], int], Batch]
    known: int | None = None

    def __iter__(self) -> Iterator[Batch]:
        for members, width in self.plan():
            yield self.make(members, width)

    def __len__(self) -> int:
        return sum(1 for _ in self.plan()) if self.known is None else self.known


class Pass:
    """Lines as they look in one epoch: `vary` draws each a little differently, `rows` are fetched when first needed."""

    def __init__(
        self, rows: Callable[[], list[Row]], ids: Sequence[str], encode: Callable[[str], list[int]], *, seed: int, epoch: int, vary: bool
    ) -> None:
        self._fetch, self._ids, self._encode = rows, ids, encode
        self._seed, self._epoch, self._vary = seed, epoch, vary

    @cached_property
    def rows(self) -> list[Row]:
        return self._fetch()

    @cached_property
    def widths(self) -> NDArray[np.int64]:
        """Width of each line in this epoch, before padding."""
        widths = np.array([row.shape[1] for row, _ in self.rows], dtype=np.int64)
        if not self._vary:
            return widths
        factors = stretches(len(widths), seed=self._seed, epoch=self._epoch)
        return np.clip(np.round(widths * factors), NARROW, WIDEST).astype(np.int64)

    def ordered(self, batch_size: int, chosen: Sequence[int]) -> Iterator[tuple[list[int], int]]:
        """Lines of exactly one padded width together, widths ascending."""
        groups: dict[int, list[int]] = defaultdict(list)
        for index in chosen:
            groups[padded(int(self.widths[index]))].append(index)
        for width, members in sorted(groups.items()):
            for start in range(0, len(members), batch_size):
                yield members[start : start + batch_size], width

    def mixed(self, batch_size: int, count: int) -> Iterator[tuple[list[int], int]]:
        """Full batches of lines of about one width, in random order: `count` lines at random."""
        rng = np.random.default_rng([self._seed, self._epoch, 0])
        order = rng.permutation(len(self.rows))[:count]
        order = order[np.argsort(-(-self.widths[order] // 16), kind="stable")]
        for start in rng.permutation(np.arange(0, count, batch_size)).tolist():
            members = order[start : start + batch_size].tolist()
            yield members, padded(int(self.widths[members].max()))

    def batch(self, members: list[int], width: int) -> Batch:
        """The lines `members`, padded to `width`. Targets: labels (b, n) padded with 0, lengths (b,), widths (b,) before padding."""
        codes = [self._encode(self.rows[index][1]) for index in members]
        lengths = np.array([len(code) for code in codes], dtype=np.int64)
        labels = np.zeros((len(codes), max(1, int(lengths.max()))), dtype=np.int64)
        for place, code in enumerate(codes):
            labels[place, : len(code)] = code
        image = stack([self._pixels(index) for index in members], width=width)
        targets = {"labels": labels, "lengths": lengths, "widths": self.widths[members]}
        return Batch({"image": image}, targets, tuple(self._ids[index] for index in members))

    def _pixels(self, index: int) -> Pixels:
        row = self.rows[index][0]
        return augment(row, generator(self._seed, self._epoch, index), width=int(self.widths[index])) if self._vary else row
