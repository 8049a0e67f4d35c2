"""Texts with one label each, opened: what a text classifier is trained on, scored on and timed on.

A text is cut into subwords once, when the data is opened; a batch is padded to the next multiple of sixteen that holds its longest. The
subwords are learned from the training texts unless they are given. In training some are hidden, so that no single word decides.
Source of hiding words: Iyyer et al. 2015 (ACL, pages 1681-1691), word dropout.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data import classes
from advisor.data.batching import Batches
from advisor.data.corpus import SPLITS, Corpus, Line, Split, spread
from advisor.data.subwords import PADDING, UNKNOWN, Subwords, learn
from rules.examples import Answers, Batch, Feeds, Port, Sample, Score, Signature
from rules.problems import bad_input

BATCH = 64  # texts a batch when scoring
MULTIPLE = 16  # subwords: texts are padded to such steps

Predict = Callable[[Feeds], Mapping[str, NDArray[Any]]]
log = logging.getLogger("advisor.text_classification")


@dataclass(frozen=True, slots=True)
class Vary:
    """How training texts vary: the share of subwords that are hidden, and how much of a label is spread over all."""

    hide: float = 0.1
    smoothing: float = 0.0


class TextData:
    """The data of the text-classification task. `length`: the most subwords of a text, a multiple of sixteen."""

    answers: Answers = "class"
    postprocess: Sequence[Mapping[str, Any]] = ({"op": "argmax", "output": "logits"},)

    def __init__(
        self,
        corpus: Corpus,
        *,
        length: int,
        vocabulary: int,
        lower: bool,
        vary: Vary,
        subwords: Subwords | None = None,
        labels: Sequence[str] | None = None,
        limits: Mapping[Split, int | None] | None = None,
    ) -> None:
        self._vary, self._given_subwords, self.length = vary, subwords is not None, length
        chosen = {split: spread(len(corpus.splits[split]), (limits or {}).get(split)) for split in SPLITS}
        self._lines = {split: [corpus.splits[split][place] for place in chosen[split]] for split in SPLITS}
        self.labels = list(labels) if labels else sorted({line.text for line in self._lines["train"]})
        self._index = {label: place for place, label in enumerate(self.labels)}
        _check_labels(self._lines, self._index, given=bool(labels))
        self._truth = {split: np.array([self._index[line.text] for line in self._lines[split]], dtype=np.int64) for split in SPLITS}
        self._texts = {split: [corpus.read(line).decode() for line in self._lines[split]] for split in SPLITS}
        self._facts_of_source = corpus.facts
        self.subwords = subwords or learn(self._texts["train"], size=vocabulary, lower=lower)
        self._whole = {split: self.subwords.encode_all(self._texts[split]) for split in SPLITS}

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        return {"classes": len(self.labels), "vocabulary": self.subwords.size, "length": self.length}

    @property
    def facts(self) -> dict[str, Any]:
        """What these texts say of a request for a recommendation. Subwords of their own are read by no pretrained net."""
        return {"classes": len(self.labels), "examples": self.count("train"), "length": self.length, "pretrained": False}

    @cached_property
    def signature(self) -> Signature:
        return signature(**self.given)

    @cached_property
    def preprocess(self) -> Sequence[Mapping[str, Any]]:
        """From a text file to `tokens`."""
        return [{"op": "text"}, self.subwords.step(length=self.length, multiple=MULTIPLE)]

    def count(self, split: Split) -> int:
        return len(self._lines[split])

    def _ids(self, split: Split, index: int) -> list[int]:
        return self._whole[split][index][: self.length]

    def _wide(self, split: Split, index: int) -> int:
        """Padded length."""
        return max(MULTIPLE, -(-len(self._ids(split, index)) // MULTIPLE) * MULTIPLE)

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
        """Batches of texts; `limit` takes some spread over the split, or with `shuffle` at random.

        In order, a batch holds texts of one padded length; shuffled, any. Targets: label (b,), and soft (b, classes) where smoothed.
        """
        count = self.count(split) if limit is None else min(limit, self.count(split))
        vary = augment and split == "train"

        def plan() -> Iterator[tuple[list[int], int]]:
            if shuffle:
                order = np.random.default_rng([seed, epoch, 0]).permutation(self.count(split))[:count].tolist()
                for first in range(0, count, batch_size):
                    members = order[first : first + batch_size]
                    yield members, max(self._wide(split, index) for index in members)
                return
            groups: dict[int, list[int]] = defaultdict(list)
            for index in spread(self.count(split), limit):
                groups[self._wide(split, index)].append(index)
            for width, members in sorted(groups.items()):
                yield from ((members[first : first + batch_size], width) for first in range(0, len(members), batch_size))

        def make(members: list[int], width: int) -> Batch:
            return self._batch(split, members, width, seed=seed, epoch=epoch, vary=vary)

        return Batches(plan, make, -(-count // batch_size) if shuffle else None)

    def _batch(self, split: Split, members: list[int], width: int, *, seed: int, epoch: int, vary: bool) -> Batch:
        tokens = np.full((len(members), width), PADDING, dtype=np.int64)
        for row, index in zip(tokens, members, strict=True):
            ids = self._ids(split, index)
            row[: len(ids)] = self._hidden(ids, index, seed, epoch) if vary else ids
        label = self._truth[split][members]
        targets: dict[str, NDArray[Any]] = {"label": label}
        if vary and self._vary.smoothing > 0:
            soft = np.full((len(members), len(self.labels)), self._vary.smoothing / len(self.labels), dtype=np.float32)
            soft[np.arange(len(members)), label] += np.float32(1 - self._vary.smoothing)
            targets["soft"] = soft
        return Batch({"tokens": tokens}, targets, tuple(self._lines[split][index].id for index in members))

    def _hidden(self, ids: Sequence[int], index: int, seed: int, epoch: int) -> NDArray[np.int64]:
        """A training text as it is read in one epoch."""
        kept = np.random.default_rng([seed, epoch, 1, index]).random(len(ids)) >= self._vary.hide
        return np.where(kept, np.array(ids, dtype=np.int64), UNKNOWN)

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """The best label of logits (b, classes)."""
        return [self.labels[place] for place in outputs["logits"].argmax(-1).tolist()]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """The share of texts whose best label is theirs (`classes.score`), in the split's order."""
        chosen = spread(self.count(split), limit)
        truth, logits = self._truth[split][chosen], np.zeros((len(chosen), len(self.labels)), np.float32)
        places = {self._lines[split][index].id: place for place, index in enumerate(chosen)}
        for batch in self.batches(split, batch_size=BATCH, limit=limit):
            logits[[places[name] for name in batch.ids]] = predict(batch.inputs)["logits"]
        return classes.score(logits, truth)

    def probes(self) -> dict[str, Feeds]:
        """Texts that were not trained on, one after another, cut at two lengths: the most, and one step of padding."""
        split: Split = next(split for split in ("val", "test", "train") if self._lines[split])
        joined: list[int] = []
        for ids in self._whole[split]:
            joined += ids
        joined = (joined or [UNKNOWN]) * (1 + self.length // max(1, len(joined)))
        return {f"t{size}": {"tokens": np.array([joined[:size]], dtype=np.int64)} for size in sizes(self.length)}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Texts spread over the split, as text files."""
        return [self._sample(split, place) for place in spread(self.count(split), count)]

    def _sample(self, split: Split, index: int) -> Sample:
        line, text = self._lines[split][index], self._texts[split][index]
        tokens = self._batch(split, [index], self._wide(split, index), seed=0, epoch=0, vary=False).inputs
        return Sample(line.id, text.encode(), tokens, line.text, suffix="txt")

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split, what is doubtful; plain JSON."""
        found: dict[str, Any] = {"task": "text-classification", **self._facts_of_source, **self.given}
        found["lower"], found["subwords"] = self.subwords.lower, "given" if self._given_subwords else "learned from the training texts"
        found["splits"] = {split: self._facts(split) for split in SPLITS}
        found["reopen"] = {"labels": list(self.labels), "length": self.length, "subwords": self.subwords.plain()}
        found["warnings"] = list(self._warnings(found["splits"]))
        for warning in found["warnings"]:
            log.warning(warning)
        return found

    def _facts(self, split: Split) -> dict[str, Any]:
        rows = zip(self._lines[split], self._texts[split], strict=True)
        digest = hashlib.sha256("".join(f"{line.id}\t{line.text}\t{text}\n" for line, text in rows).encode("utf-8", "replace"))
        return {
            "texts": self.count(split),
            "subwords": sum(map(len, self._whole[split])),
            "cut": sum(len(ids) > self.length for ids in self._whole[split]),
            "unknown": sum(ids.count(UNKNOWN) for ids in self._whole[split]),
            **classes.sizes(self._lines[split], self.labels),
            "sha256": digest.hexdigest(),
        }

    def _warnings(self, splits: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        held = {split: set(self._texts[split]) for split in SPLITS}
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            if same := held[one] & held[other]:  # type: ignore[index]
                yield f"{len(same)} texts are the same in {one} and {other}: the score says less than it seems to"
        for split, facts in splits.items():
            if facts["cut"]:
                yield f"{facts['cut']} of {facts['texts']} {split} texts have more than {self.length} subwords and are cut: set length"
        said: dict[str, set[str]] = defaultdict(set)
        for line, text in zip(self._lines["train"], self._texts["train"], strict=True):
            said[text].add(line.text)
        if torn := [text for text, labels in said.items() if len(labels) > 1]:
            yield f"{len(torn)} training texts stand there with different labels, e.g. {torn[0][:60]!r}"


def signature(classes: int, vocabulary: int, length: int) -> Signature:
    """tokens (batch, tokens) int64, 0 behind the last → logits (batch, classes)."""
    ranges = {"batch": (1, 256, 1), "tokens": (MULTIPLE, length, MULTIPLE)}
    port = Port("tokens", "int64", ("batch", "tokens"), ranges, values=(0, vocabulary - 1))
    return Signature((port,), (Port("logits", "float32", ("batch", classes)),))


def sizes(length: int) -> tuple[int, ...]:
    """Numbers of subwords that latency is measured at, the headline first."""
    return tuple(dict.fromkeys((length, max(MULTIPLE, length // 4 // MULTIPLE * MULTIPLE))))


def _check_labels(lines: Mapping[Split, Sequence[Line]], index: Mapping[str, int], *, given: bool) -> None:
    """Refuse a text of a label that is not known. Raises Problem (exit 3) naming the place."""
    known = "in the list given" if given else "in the training texts"
    for line in (line for split in SPLITS for line in lines[split] if line.text not in index):
        raise bad_input(f"{line.where}: the label {line.text!r} is not {known}", remedy="mend the label, or give training texts of it")
    if len(index) < 2:
        raise bad_input(f"all texts have the label {next(iter(index), '')!r}", remedy="two labels are the least to tell apart")
