"""Pictures of many kinds, opened for nets that answer with a place: the kinds of one split are strangers to the others.

A kind is a person, or a character of an alphabet. Batches hold several pictures of each kind, so that a loss can compare; what a
score is made of is the task's (`Judge`): verification of pairs, or choosing among a few.
Pictures are decoded when first needed and held as bytes, (side, side, 3), as long as there is room.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data import pictures
from advisor.data.batching import Batches, cuts
from advisor.data.corpus import SPLITS, Corpus, Line, Split, spread
from advisor.data.holding import Decoded, Holder
from advisor.data.pictures import Pixels
from advisor.picture_augment import Look, generator, varied
from rules.examples import Answers, Batch, Feeds, Port, Sample, Score, Signature
from rules.problems import bad_input

BATCH = 64  # pictures a batch when scoring
TOGETHER = 4  # pictures of one kind that stand together in a batch of training

Predict = Callable[[Feeds], Mapping[str, NDArray[Any]]]
Array = NDArray[Any]
log = logging.getLogger("advisor.gallery")


@dataclass(frozen=True, slots=True)
class Judge:
    """How places are scored. `needed(kinds, asked)` are the rows whose places it takes to score the rows `asked`.

    `score(places, kinds, asked)`: places (n, d) of length one and kinds (n,) of the needed rows, and which of them are scored.
    """

    needed: Callable[[Array, Array], Array]
    score: Callable[[Array, Array, Array], Score]


class GalleryData:
    """The data of a task whose net answers with a place of `embedding` numbers. A line's text is its kind."""

    answers: Answers = "figures"
    labels: Sequence[str] = ("embedding",)  # the names of the kinds are nobody's business in a bundle
    postprocess: Sequence[Mapping[str, Any]] = ({"op": "embedding", "output": "embedding"},)

    def __init__(
        self, corpus: Corpus, *, task: str, side: int, embedding: int, fit: str, judge: Judge, look: Look, noun: str = "people"
    ) -> None:
        self._corpus, self._task, self._fit, self._judge, self._look, self._noun = corpus, task, fit, judge, look, noun
        self.side, self.embedding = side, embedding
        self._lines = corpus.splits
        names = {split: sorted({line.text for line in self._lines[split]}) for split in SPLITS}
        places = {split: {name: place for place, name in enumerate(names[split])} for split in SPLITS}
        self._kinds = {split: np.array([places[split][line.text] for line in self._lines[split]], dtype=np.int64) for split in SPLITS}
        for split in SPLITS:
            self._check(split)
        self.preprocess = pictures.steps(side, fit=fit)
        self._read: Holder[Pixels] = Holder(self._lines, self._decoded)

    def _check(self, split: Split) -> None:
        """A split can be scored when two kinds or more have two pictures or more. Raises Problem (exit 3)."""
        counts = np.bincount(self._kinds[split]) if len(self._kinds[split]) else np.array([], dtype=int)
        if len(counts) and (counts > 1).sum() < 2:
            what = f"{split} has {len(counts)} {self._noun}, and fewer than two of them with two pictures or more"
            raise bad_input(what, remedy="to compare takes two pictures of each of two")

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        known = int(self._kinds["train"].max(initial=-1)) + 1
        return {"people": known, "side": self.side, "embedding": self.embedding}

    @cached_property
    def signature(self) -> Signature:
        return signature(self.side, self.embedding)

    def count(self, split: Split) -> int:
        return len(self._lines[split])

    # -- pictures --------------------------------------------------------------------------------------------------------

    def _decoded(self, split: Split, index: int) -> Decoded[Pixels]:
        line = self._lines[split][index]
        raw = self._corpus.read(line)
        picture = pictures.square(pictures.decode(raw, name=line.named), self.side, fit=self._fit)
        return Decoded(picture, raw, picture.nbytes)

    # -- batches ---------------------------------------------------------------------------------------------------------

    def batches(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        augment: bool = False,
        shuffle: bool = False,
        limit: int | None = None,
    ) -> Batches:
        """Batches in which a kind stands several times, four times where it is shuffled and has as many.

        In order, `limit` takes whole kinds spread over the split; shuffled, some of each drawn at random. Every picture comes once an
        epoch. Targets: label (b,), the place of the kind in its split.
        """
        count = self.count(split) if limit is None else min(limit, self.count(split))
        vary = augment and split == "train"

        def plan() -> Iterator[tuple[list[int], int]]:
            order = self._shuffled(split, seed, epoch) if shuffle else self._ordered(split, limit)
            for start, end in cuts(count, batch_size):
                yield order[start:end], 0

        def make(members: list[int], _: int) -> Batch:
            seen = [self._seen(split, index, seed, epoch) if vary else self._read(split, index) for index in members]
            ids = tuple(self._lines[split][index].id for index in members)
            return Batch({"image": pictures.stack(seen)}, {"label": self._kinds[split][members]}, ids)

        return Batches(plan, make, sum(1 for _ in cuts(count, batch_size)))

    def _seen(self, split: Split, index: int, seed: int, epoch: int) -> Pixels:
        return varied(self._read(split, index), generator(seed, epoch, index), self._look)

    def _shuffled(self, split: Split, seed: int, epoch: int) -> list[int]:
        """Four of a kind together, in random order."""
        rng = np.random.default_rng([seed, epoch, 0])
        order = rng.permutation(self.count(split))
        groups = _together(order, self._kinds[split][order], TOGETHER)
        return [index for place in rng.permutation(len(groups)) for index in groups[place][1]]

    def _ordered(self, split: Split, limit: int | None) -> list[int]:
        """The first two of each kind, then the next two: whatever a batch holds, there is something to compare."""
        chosen = whole_kinds(self._kinds[split], limit)
        groups = _together(chosen, self._kinds[split][chosen], 2)
        return [index for _, rows in sorted(groups, key=lambda group: group[0]) for index in rows]

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """Where each of the embeddings (b, d) points to most, in words."""
        return [said(row) for row in outputs["embedding"]]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """The task's metric over the places of pictures; `limit` bounds how many are scored. Per example in the split's order."""
        kinds = self._kinds[split]
        asked = whole_kinds(kinds, limit)
        needed = self._judge.needed(kinds, asked)
        found = []
        for start, end in cuts(len(needed), BATCH):
            image = pictures.stack([self._read(split, index) for index in needed[start:end].tolist()])
            found.append(predict({"image": image})["embedding"])
        places = np.concatenate(found) if found else np.zeros((0, self.embedding), np.float32)
        places = places / np.maximum(np.linalg.norm(places, axis=-1, keepdims=True), 1e-12)
        return self._judge.score(places, kinds[needed], np.flatnonzero(np.isin(needed, asked)))

    def probes(self) -> dict[str, Feeds]:
        """One picture that was not trained on."""
        split: Split = "val" if self.count("val") else "test" if self.count("test") else "train"
        return {f"s{self.side}": {"image": pictures.stack([self._read(split, 0)])}}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Pictures spread over the split, as PNG files of at most 512 pixels a side."""
        return [self._sample(self._lines[split][place]) for place in spread(self.count(split), count)]

    def _sample(self, line: Line) -> Sample:
        raw = pictures.shown(self._corpus.read(line), name=line.named)
        picture = pictures.square(pictures.decode(raw, name=line.id), self.side, fit=self._fit)
        return Sample(line.id, raw, {"image": pictures.stack([picture])}, line.text)

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split, what is doubtful; plain JSON. Decodes every image, so a damaged one is found now."""
        found: dict[str, Any] = {"task": self._task, **self._corpus.facts, "side": self.side, "fit": self._fit, "embedding": self.embedding}
        found["splits"] = {split: self._facts(split) for split in SPLITS}
        found["reopen"] = {"side": self.side, "fit": self._fit, "embedding": self.embedding}
        found["warnings"] = list(self._warnings())
        for warning in found["warnings"]:
            log.warning(warning)
        return found

    def _facts(self, split: Split) -> dict[str, Any]:
        kinds = len(np.unique(self._kinds[split]))
        return {"images": self.count(split), self._noun: kinds, "sha256": self._read.seal(split)}

    def _warnings(self) -> Iterator[str]:
        for same, one, other in self._read.doubles():
            yield f"{same} image files are the same, byte for byte, in {one} and {other}: are these the same {self._noun} twice?"


def signature(side: int, embedding: int) -> Signature:
    """image (batch, 3, side, side) → embedding (batch, d) of length one."""
    image = Port("image", "float32", ("batch", pictures.CHANNELS, side, side), {"batch": (1, 256, 1)})
    return Signature((image,), (Port("embedding", "float32", ("batch", embedding), decides=False),))


def whole_kinds(kinds: Array, limit: int | None) -> Array:
    """Rows of whole kinds, spread over all there are, `limit` rows in all; of the last kind perhaps only some. In order."""
    if limit is None or limit >= len(kinds):
        return np.arange(len(kinds))
    names = np.unique(kinds)
    each = max(2, min(limit // 2, round(len(kinds) / len(names))))  # two kinds at least
    wanted = -(-limit // each)
    taken = names[spread(len(names), wanted)].tolist()
    rows = [row for name in taken for row in np.flatnonzero(kinds == name)[:each].tolist()][:limit]
    held = set(rows)
    rest = [row for row in range(len(kinds)) if row not in held]
    return np.array(sorted(rows + rest[: limit - len(rows)]), dtype=np.int64)


def said(place: Array) -> str:
    """`128 numbers, the largest at 17`: what can be said of a place in words. The bundle's reader says the same."""
    return f"{place.size} numbers, the largest at {int(np.abs(place).argmax())}"


def _together(order: Array, kinds: Array, size: int) -> list[tuple[int, list[int]]]:
    """Groups of up to `size` rows of one kind, each with how many of its kind came before it; a kind's rows in the order they come."""
    held: dict[int, list[int]] = {}
    for index, kind in zip(order.tolist(), kinds.tolist(), strict=True):
        held.setdefault(kind, []).append(index)
    return [(turn, rows[turn : turn + size]) for _, rows in sorted(held.items()) for turn in range(0, len(rows), size)]
