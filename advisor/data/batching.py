"""Puts examples into batches, the same way every time it is asked: those of one size as they come, text lines by their width.

In order, a batch holds lines of exactly one padded width, so each is padded as it would be alone. Shuffled, lines of about one width
stand together and the narrower are padded further: every batch but one is full, and how many there are is known beforehand.
All randomness comes from (seed, epoch, index).
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from advisor.augment import augment, generator, stretches
from advisor.data.corpus import spread
from advisor.data.lines import WIDEST, padded, stack
from rules.examples import Batch

Pixels = NDArray[np.uint8]
Row = tuple[Pixels, str]  # a line's pixels (32, w) and its text
AHEAD = min(8, os.cpu_count() or 1)  # batches of pictures in the making beside the one that is looked at
NARROW = 4  # pixels: no line is squeezed below


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of one pass, made while they are asked for. `len` costs nothing where `known` is given.

    With `ahead` the next few are being made by as many threads while one is looked at: the same batches in the same order.
    """

    plan: Callable[[], Iterator[tuple[list[int], int]]]  # which lines stand together, and how wide
    make: Callable[[list[int], int], Batch]
    known: int | None = None
    ahead: int = 0

    def __iter__(self) -> Iterator[Batch]:
        if self.ahead:
            yield from self._ahead()
            return
        for members, width in self.plan():
            yield self.make(members, width)

    def _ahead(self) -> Iterator[Batch]:
        waiting: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(self.ahead, thread_name_prefix="batches")
        try:
            for members, width in self.plan():
                waiting.append(pool.submit(self.make, members, width))
                if len(waiting) > self.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def __len__(self) -> int:
        return sum(1 for _ in self.plan()) if self.known is None else self.known


def cuts(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Where batches begin and end. A last one of a single example, which batch normalisation cannot learn from, takes one more."""
    ends = [*range(size, count, size), *([count] if count else [])]
    if len(ends) > 1 and size > 2 and ends[-1] - ends[-2] == 1:
        ends[-2] -= 1
    yield from pairwise([0, *ends])


def alike(
    total: int,
    make: Callable[[list[int]], Batch],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    shuffle: bool,
    limit: int | None,
    ahead: int = 0,
) -> Batches:
    """Batches of `total` examples of one size: in order, or with `shuffle` at random; `limit` takes some spread over all, or at random."""
    count = total if limit is None else min(limit, total)

    def plan() -> Iterator[tuple[list[int], int]]:
        order = np.random.default_rng([seed, epoch, 0]).permutation(total)[:count].tolist() if shuffle else spread(total, limit)
        for start, end in cuts(count, batch_size):
            yield order[start:end], 0

    return Batches(plan, lambda members, _: make(members), sum(1 for _ in cuts(count, batch_size)), ahead=ahead)


class Pass:
    """Lines as they look in one epoch: `vary` draws each a little differently. `row` gives a line when it is first needed."""

    def __init__(
        self, row: Callable[[int], Row], ids: Sequence[str], encode: Callable[[str], list[int]], *, seed: int, epoch: int, vary: bool
    ) -> None:
        self._row, self._ids, self._encode = cache(row), ids, encode
        self._seed, self._epoch = seed, epoch
        self._factors = stretches(len(ids), seed=seed, epoch=epoch) if vary else None

    def width(self, index: int) -> int:
        """Width of a line in this epoch, before padding."""
        own: int = self._row(index)[0].shape[1]
        return own if self._factors is None else min(WIDEST, max(NARROW, round(own * float(self._factors[index]))))

    def ordered(self, batch_size: int, chosen: Sequence[int]) -> Iterator[tuple[list[int], int]]:
        """Lines of exactly one padded width together, widths ascending."""
        groups: dict[int, list[int]] = defaultdict(list)
        for index in chosen:
            groups[padded(self.width(index))].append(index)
        for width, members in sorted(groups.items()):
            for start in range(0, len(members), batch_size):
                yield members[start : start + batch_size], width

    def mixed(self, batch_size: int, count: int) -> Iterator[tuple[list[int], int]]:
        """Full batches of lines of about one width, in random order: `count` lines at random."""
        rng = np.random.default_rng([self._seed, self._epoch, 0])
        chosen = rng.permutation(len(self._ids))[:count].tolist()
        chosen.sort(key=lambda index: padded(self.width(index)))
        for start in rng.permutation(np.arange(0, count, batch_size)).tolist():
            members = chosen[start : start + batch_size]
            yield members, padded(max(self.width(index) for index in members))

    def batch(self, members: list[int], width: int) -> Batch:
        """The lines `members`, padded to `width`. Targets: labels (b, n) padded with 0, lengths (b,), widths (b,) before padding."""
        codes = [self._encode(self._row(index)[1]) for index in members]
        lengths = np.array([len(code) for code in codes], dtype=np.int64)
        labels = np.zeros((len(codes), max(1, int(lengths.max()))), dtype=np.int64)
        for place, code in enumerate(codes):
            labels[place, : len(code)] = code
        image = stack([self._pixels(index) for index in members], width=width)
        targets = {"labels": labels, "lengths": lengths, "widths": np.array([self.width(index) for index in members], dtype=np.int64)}
        return Batch({"image": image}, targets, tuple(self._ids[index] for index in members))

    def _pixels(self, index: int) -> Pixels:
        row = self._row(index)[0]
        return row if self._factors is None else augment(row, generator(self._seed, self._epoch, index), width=self.width(index))
