"""Texts, opened to be gone on with: passages of one length, and after each of their signs the sign that came.

Idea: the texts of a split are laid end to end and cut into passages; a net sees all signs up to one and is asked for the next, at every
place at once. A training passage begins somewhere else in every epoch, by (seed, epoch).
Score: nats a character: what the signs that came were worth to the net, over the characters they stand for. Lower is better; e to its
power is as many characters as it wavers between.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.corpus import SPLITS, Split, spread
from advisor.data.documents import Text, Texts
from advisor.data.signs import Numbers, Signs
from advisor.data.windows import WindowBatches, drawn
from rules.examples import Answers, Batch, Feeds, Metric, Port, Sample, Score, Signature
from rules.problems import bad_input

NATS = Metric("nats a character", "lower", "")
BATCH = 16  # passages a batch when scoring
FEWEST = 2  # passages a split needs
LEAD = 8  # signs before a passage in which its first word may begin

Array = NDArray[Any]
Predict = Callable[[Feeds], Mapping[str, Array]]
log = logging.getLogger("advisor.text_generation")


class PassageData:
    """The data of the text-generation task: `length` signs a passage. `limits` are how many passages of each split to use."""

    answers: Answers = "class"

    def __init__(
        self, texts: Texts, facts: Mapping[str, Any], *, signs: Signs, length: int, limits: Mapping[Split, int | None] | None = None
    ) -> None:
        self._texts, self._facts, self._signs, self._length = {split: list(texts.get(split, ())) for split in SPLITS}, facts, signs, length
        self.labels = list(signs.labels)
        self._begins: dict[Split, Numbers] = {}
        self._ids: dict[Split, Numbers] = {}
        for split in SPLITS:
            self._begins[split], ids = laid(self._texts[split], signs)
            limit = (limits or {}).get(split)
            self._ids[split] = ids if limit is None else ids[: limit * length + 1]
            if self._texts[split] and self.count(split) < FEWEST:
                what = f"the {split} texts have {len(ids):,} signs, {FEWEST * length + 1:,} are needed for {FEWEST} passages of {length}"
                raise bad_input(what, remedy="give more text, or a shorter length in the plan's [settings]")
        self.preprocess = signs.steps(length)
        self.postprocess: Sequence[Mapping[str, Any]] = (
            {"op": "following", "output": "logits", "length": length, "never": signs.never, "space": signs.space},
        )

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        return {"vocabulary": len(self.labels), "length": self._length}

    @cached_property
    def signature(self) -> Signature:
        return signature(**self.given)

    def signs_of(self, split: Split) -> str:
        """The text of a split as it is laid end to end."""
        return self._signs.decode(self._ids[split].tolist())

    def count(self, split: Split) -> int:
        return max(0, len(self._ids[split]) - 1) // self._length

    # -- passages ----------------------------------------------------------------------------------------------------------

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
    ) -> WindowBatches:
        """Batches of passages in the order of the text, or shuffled. Augmented, training passages begin elsewhere in every epoch."""
        starts = self._length * np.arange(self.count(split))
        if augment and split == "train":
            shift = int(np.random.default_rng([seed, epoch, 1]).integers(self._length))
            starts = (starts + shift) % (len(self._ids[split]) - self._length)
        chosen = drawn(self.count(split), limit=limit, shuffle=shuffle, seed=seed, epoch=epoch)
        return WindowBatches(chosen, batch_size, lambda members: self._batch(split, [int(starts[member]) for member in members]))

    def _batch(self, split: Split, starts: Sequence[int]) -> Batch:
        cut = np.stack([self._ids[split][start : start + self._length + 1] for start in starts])
        inputs, following = np.ascontiguousarray(cut[:, :-1]), np.ascontiguousarray(cut[:, 1:])
        return Batch({"ids": inputs}, {"following": following}, tuple(self._name(split, start) for start in starts))

    def _name(self, split: Split, start: int) -> str:
        """A passage by its text, and how many signs of that are before it."""
        begins = self._begins[split]
        place = int(np.searchsorted(begins, start, side="right")) - 1
        text = self._texts[split][place]
        return f"{text.name} +{text.start + start - int(begins[place]):,}"

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """The likeliest sign after each passage, as Python writes it."""
        places = self._signs.never + outputs["logits"][:, -1, self._signs.never :].argmax(-1)
        return [repr(self.labels[place]) for place in places.tolist()]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """Nats over characters, a passage each, in the order of the text; `also` the share of signs that were the likeliest."""
        nats: list[Array] = []
        weights: list[Array] = []
        right = total = 0
        for batch in self.batches(split, batch_size=BATCH, limit=limit):
            logits, truth = np.asarray(predict(batch.inputs)["logits"]), batch.targets["following"]
            nats.append(surprise(logits, truth).sum(1))
            weights.append(self._signs.characters(batch.inputs["ids"], truth).sum(1))
            right, total = right + int((logits.argmax(-1) == truth).sum()), total + truth.size
        errors, over = (np.concatenate(parts) if parts else np.zeros(0) for parts in (nats, weights))
        value = float(errors.sum() / over.sum()) if len(over) else 0.0
        return Score(NATS, value, errors, over, {"likeliest": right / max(1, total)})

    def probes(self) -> dict[str, Feeds]:
        """A passage, and a single sign: what writing costs a step where a net keeps its state."""
        split = next(split for split in ("val", "test", "train") if self.count(split))
        ids = self._batch(split, [0]).inputs["ids"]  # type: ignore[arg-type]
        return {str(self._length): {"ids": ids}, "1": {"ids": np.ascontiguousarray(ids[:, :1])}}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Passages spread over the split, as text files."""
        return [self._sample(split, place * self._length) for place in spread(self.count(split), count)]

    def _sample(self, split: Split, start: int) -> Sample:
        start, text = self._whole(split, start)
        batch = self._batch(split, [start])
        truth = repr(self.labels[int(batch.targets["following"][0, -1])])
        return Sample(batch.ids[0], text.encode(), dict(batch.inputs), truth, suffix="txt")

    def _whole(self, split: Split, start: int) -> tuple[int, str]:
        """The first passage from `start` on whose signs are those of its text alone: a subword cut off its word may be another there."""
        ids, most = self._ids[split], len(self._ids[split]) - self._length - 1
        for place in [*range(start, min(start + self._length, most) + 1), *range(min(start, most), -1, -1)]:
            for begin in range(place, max(-1, place - LEAD), -1):
                text = self._signs.decode(ids[begin : place + self._length].tolist())
                if np.array_equal(self._signs.encode(text)[-self._length :], ids[place : place + self._length]):
                    return place, text
        raise ValueError("no passage is the text that it is made from")

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split; plain JSON."""
        found: dict[str, Any] = {"task": "text-generation", **self._facts, **self.given}
        found["splits"] = {split: self._counts(split) for split in SPLITS}
        found["reopen"] = {"length": self._length, **self._signs.reopen()}
        found["warnings"] = list(self._warnings())
        for warning in found["warnings"]:
            log.warning(warning)
        return found

    def _counts(self, split: Split) -> dict[str, Any]:
        ids = self._ids[split]
        return {
            "texts": len(self._texts[split]),
            "signs": len(ids),
            "characters": int(self._signs.characters(ids[:-1], ids[1:]).sum()) + (1 if len(ids) else 0),
            "passages": self.count(split),
            "sha256": hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest(),
        }

    def _warnings(self) -> Iterator[str]:
        held = {split: {hashlib.sha256(text.text.encode()).digest() for text in self._texts[split]} for split in SPLITS}
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            if same := held[one] & held[other]:  # type: ignore[index]
                yield f"{len(same)} texts are the same in {one} and {other}: the score says less than it seems to"
        for split in ("val", "test"):
            ids = self._ids[split]
            if len(ids) and (strange := float((ids < self._signs.never).mean())) > 0.001:
                yield f"{strange:.1%} of the {split} signs never occur in the training texts"


def laid(texts: Sequence[Text], signs: Signs) -> tuple[Numbers, Numbers]:
    """Texts end to end, a line's end between two that lack one: where each begins, and all signs."""
    begins, parts, place = [], [], 0
    for number, text in enumerate(texts):
        joint = number and not texts[number - 1].text.endswith("\n")
        ids = signs.encode("\n" + text.text if joint else text.text)
        begins.append(place)
        parts.append(ids)
        place += len(ids)
    return np.array(begins, dtype=np.int64), np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def surprise(logits: Array, truth: Array) -> NDArray[np.float64]:
    """-log of the chance of what came: (b, t, n) scores and (b, t) numbers → (b, t) nats."""
    logits = logits.astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    own = np.take_along_axis(logits, truth[..., None], -1)[..., 0]
    found: NDArray[np.float64] = np.log(np.exp(logits).sum(-1)) - own
    return found


def signature(vocabulary: int, length: int) -> Signature:
    """ids (batch, time) int64 → logits (batch, time, vocabulary), at each place of what follows it."""
    ranges = {"batch": (1, 256, 1), "time": (1, length, 1)}
    ids = Port("ids", "int64", ("batch", "time"), ranges, values=(0, vocabulary - 1))
    return Signature((ids,), (Port("logits", "float32", ("batch", "time", vocabulary)),))
