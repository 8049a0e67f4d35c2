"""Pairs of texts, opened: what a translator is trained on, scored on and timed on.

Both sides are cut into the same subwords, learned from both sides of the training pairs unless they are given. A net is fed the source and
what was translated so far, and says at every place what comes next; in training the right translation is what was translated so far.
Score: corpus BLEU of greedy translations, counted by sacrebleu (13a), as a fraction. Source: Papineni et al. 2002 (ACL), Post 2018,
arXiv:1804.08771.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.batching import Batches
from advisor.data.corpus import SPLITS, Split, spread
from advisor.data.parallel import Pair
from advisor.data.subwords import BEGIN, END, PADDING, UNKNOWN, Subwords, learn
from rules.examples import Batch, Feeds, Metric, Port, Sample, Score, Signature
from rules.problems import bad_environment, bad_input

BLEU = Metric("BLEU", "higher", "%")
BATCH = 64  # sentences a batch when scoring
MULTIPLE = 8  # subwords: sources are padded to such steps
POOL = 50  # batches whose sentences are sorted by length together

Array = NDArray[Any]
Predict = Callable[[Feeds], Mapping[str, Array]]
log = logging.getLogger("advisor.machine_translation")


class TranslationData:
    """The data of the machine-translation task. `length`: the most subwords of either side, a multiple of eight."""

    def __init__(
        self, pairs: Mapping[Split, Sequence[Pair]], facts: Mapping[str, Any], *, subwords: Subwords | None, vocabulary: int, length: int
    ) -> None:
        self._pairs = {split: list(pairs.get(split, ())) for split in SPLITS}
        self._facts_of_source, self._given_subwords, self.length = facts, subwords is not None, length
        train = [text for pair in self._pairs["train"] for text in (pair.source, pair.target)]
        self.subwords = subwords or learn(train, size=vocabulary, lower=False)
        self.labels = list(self.subwords.pieces)
        self._sources = {split: self._encoded(split, "source") for split in SPLITS}
        self._targets = {split: self._encoded(split, "target") for split in SPLITS}
        self.postprocess: Sequence[Mapping[str, Any]] = ({"op": "translation", "output": "logits", "most": length},)

    def _encoded(self, split: Split, side: str) -> list[list[int]]:
        return self.subwords.encode_all([getattr(pair, side) for pair in self._pairs[split]])

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        return {"vocabulary": self.subwords.size, "length": self.length}

    @property
    def facts(self) -> dict[str, Any]:
        """What these pairs say of a request for a recommendation."""
        return {"examples": self.count("train"), "length": self.length}

    @cached_property
    def signature(self) -> Signature:
        return signature(**self.given)

    @cached_property
    def preprocess(self) -> Sequence[Mapping[str, Any]]:
        """From a text file to `source` and a `target` that only begins."""
        return [{"op": "text"}, self.subwords.step(length=self.length, multiple=MULTIPLE, end=True), {"op": "begun"}]

    def count(self, split: Split) -> int:
        return len(self._pairs[split])

    def _source(self, split: Split, index: int) -> list[int]:
        return [*self._sources[split][index][: self.length - 1], END]

    def _target(self, split: Split, index: int) -> list[int]:
        """What is to be written, its end included."""
        return [*self._targets[split][index][: self.length - 1], END]

    def _wide(self, split: Split, index: int) -> int:
        return -(-len(self._source(split, index)) // MULTIPLE) * MULTIPLE

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
        """Batches of pairs; `limit` takes some spread over the split, or with `shuffle` at random. Pairs of like length stand together.

        Targets: following (b, t), what comes next at every place of `target`, 0 behind the end.
        """
        count = self.count(split) if limit is None else min(limit, self.count(split))

        def plan() -> Iterator[tuple[list[int], int]]:
            if not shuffle:
                groups: dict[int, list[int]] = defaultdict(list)
                for index in spread(self.count(split), limit):
                    groups[self._wide(split, index)].append(index)
                for width, members in sorted(groups.items()):
                    yield from ((members[first : first + batch_size], width) for first in range(0, len(members), batch_size))
                return
            for members in self._mixed(split, count, batch_size, seed=seed, epoch=epoch):
                yield members, max(self._wide(split, index) for index in members)

        return Batches(plan, lambda members, width: self._batch(split, members, width), -(-count // batch_size) if shuffle else None)

    def _mixed(self, split: Split, count: int, batch_size: int, *, seed: int, epoch: int) -> Iterator[list[int]]:
        """Batches in random order, of pairs of like length out of a pool at random."""
        rng = np.random.default_rng([seed, epoch, 0])
        chosen = rng.permutation(self.count(split))[:count].tolist()
        cut: list[list[int]] = []
        for first in range(0, count, POOL * batch_size):
            pool = sorted(
                chosen[first : first + POOL * batch_size], key=lambda index: (self._wide(split, index), len(self._target(split, index)))
            )
            cut += [pool[start : start + batch_size] for start in range(0, len(pool), batch_size)]
        for place in rng.permutation(len(cut)).tolist():
            yield cut[place]

    def _batch(self, split: Split, members: Sequence[int], width: int) -> Batch:
        wanted = [self._target(split, index) for index in members]
        source = _padded([self._source(split, index) for index in members], width)
        target = _padded([[BEGIN, *row[:-1]] for row in wanted], max(map(len, wanted)))
        following = _padded(wanted, target.shape[1])
        return Batch(
            {"source": source, "target": target}, {"following": following}, tuple(self._pairs[split][index].where for index in members)
        )

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """What logits (b, t, vocabulary) say at each place, up to the end: the answer to one call, no translation yet (`write`)."""
        return [self.subwords.decode(_ended(row)) for row in outputs["logits"].argmax(-1).tolist()]

    def write(self, predict: Predict, inputs: Feeds) -> list[str]:
        """The greedy translation of each source: the net is asked again with what it wrote, until all have ended."""
        return [self.subwords.decode(ids) for ids in written(predict, np.asarray(inputs["source"]), most=self.length)]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """BLEU of greedy translations, in the split's order. Per example: its own BLEU (sentence level, effective order), weights 1."""
        chosen = spread(self.count(split), limit)
        places = {self._pairs[split][index].where: place for place, index in enumerate(chosen)}
        told = [""] * len(chosen)
        for batch in self.batches(split, batch_size=BATCH, limit=limit):
            for name, text in zip(batch.ids, self.write(predict, batch.inputs), strict=True):
                told[places[name]] = text
        counts, own = _counted(told, [self._pairs[split][index].target for index in chosen])
        short = float(counts[:, 0].sum() / max(1, counts[:, 1].sum()))

        def over(rows: Array) -> float:
            return _bleu(counts[rows])

        also = {"length of the reference": min(1.0, short)}
        return Score(BLEU, _bleu(counts), own, np.ones_like(own), also, over=over)

    def probes(self) -> dict[str, Feeds]:
        """A sentence that was not trained on, and what was translated of it, at two lengths."""
        split: Split = next(split for split in ("val", "test", "train") if self._pairs[split])
        made: dict[str, Feeds] = {}
        for size in sizes(self.length):
            source, target = (list(_cycled(rows[split], size)) for rows in (self._sources, self._targets))
            made[f"s{size}"] = {"source": _padded([[*source[:-1], END]], size), "target": _padded([[BEGIN, *target[:-1]]], size)}
        return made

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Sentences spread over the split, as text files."""
        return [self._sample(split, index) for index in spread(self.count(split), count)]

    def _sample(self, split: Split, index: int) -> Sample:
        pair, source = self._pairs[split][index], self._source(split, index)
        inputs = {"source": _padded([source], self._wide(split, index)), "target": np.array([[BEGIN]], dtype=np.int64)}
        return Sample(pair.where, pair.source.encode(), inputs, pair.target, suffix="txt")

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split, what is doubtful; plain JSON."""
        found: dict[str, Any] = {"task": "machine-translation", **self._facts_of_source, **self.given}
        found["subwords"] = "given" if self._given_subwords else "learned from both sides of the training pairs"
        found["splits"] = {split: self._facts(split) for split in SPLITS}
        found["reopen"] = {"length": self.length, "subwords": self.subwords.plain()}
        found["warnings"] = list(self._warnings(found["splits"]))
        for warning in found["warnings"]:
            log.warning(warning)
        return found

    def _facts(self, split: Split) -> dict[str, Any]:
        digest = hashlib.sha256("".join(f"{pair.source}\t{pair.target}\n" for pair in self._pairs[split]).encode("utf-8", "replace"))
        sides = {"source": self._sources[split], "target": self._targets[split]}
        return {
            "pairs": self.count(split),
            **{f"{side} subwords": sum(map(len, rows)) for side, rows in sides.items()},
            "cut": sum(max(len(one), len(other)) >= self.length for one, other in zip(*sides.values(), strict=True)),
            "unknown": sum(ids.count(UNKNOWN) for rows in sides.values() for ids in rows),
            "sha256": digest.hexdigest(),
        }

    def _warnings(self, splits: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        held = {split: {pair.source for pair in self._pairs[split]} for split in SPLITS}
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            if same := held[one] & held[other]:  # type: ignore[index]
                yield f"{len(same)} sources are the same in {one} and {other}: the score says less than it seems to"
        for split, facts in splits.items():
            if facts["cut"]:
                yield f"{facts['cut']} of {facts['pairs']} {split} pairs have {self.length} subwords or more on a side and are cut: set length"


def written(predict: Predict, source: Array, *, most: int) -> list[list[int]]:
    """Greedy translations of sources (b, s): the likeliest next subword each time, never padding or a beginning, `most` of them at most."""
    found: list[list[int]] = [[] for _ in source]
    open_rows = list(range(len(source)))
    while open_rows and len(found[open_rows[0]]) < most:
        target = np.array([[BEGIN, *found[row]] for row in open_rows], dtype=np.int64)
        logits = np.array(predict({"source": source[open_rows], "target": target})["logits"][:, -1])
        logits[:, [PADDING, BEGIN]] = -np.inf
        best = logits.argmax(-1).tolist()
        for row, number in zip(open_rows, best, strict=True):
            found[row].append(number)
        open_rows = [row for row, number in zip(open_rows, best, strict=True) if number != END]
    return [_ended(row) for row in found]


def signature(vocabulary: int, length: int) -> Signature:
    """source (batch, source) and target (batch, target) int64, 0 behind the last → logits (batch, target, vocabulary)."""
    batch, values = (1, 256, 1), (0, vocabulary - 1)
    source = Port("source", "int64", ("batch", "source"), {"batch": batch, "source": (MULTIPLE, length, MULTIPLE)}, values=values)
    target = Port("target", "int64", ("batch", "target"), {"batch": batch, "target": (1, length, 1)}, values=values)
    return Signature((source, target), (Port("logits", "float32", ("batch", "target", vocabulary)),))


def sizes(length: int) -> tuple[int, ...]:
    """Numbers of subwords on each side that latency is measured at, the headline first: an ordinary sentence, and a short one."""
    return tuple(dict.fromkeys((min(24, length), 8)))


def _ended(ids: Sequence[int]) -> list[int]:
    return list(ids[: ids.index(END)]) if END in ids else list(ids)


def _padded(rows: Sequence[Sequence[int]], width: int) -> NDArray[np.int64]:
    found = np.full((len(rows), width), PADDING, dtype=np.int64)
    for row, ids in zip(found, rows, strict=True):
        row[: len(ids)] = ids
    return found


def _cycled(rows: Sequence[Sequence[int]], size: int) -> Iterator[int]:
    joined = [number for row in rows[:size] for number in row] or [UNKNOWN]
    yield from (joined[place % len(joined)] for place in range(size))


# -- BLEU ------------------------------------------------------------------------------------------------------------------


def _counted(told: Sequence[str], right: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each sentence its lengths and matching n-grams, (n, 2 + 4 + 4), which add up over a corpus; and its own BLEU, a fraction."""
    scorer = _sacrebleu()(effective_order=True)
    found = [scorer.sentence_score(one, [other]) for one, other in zip(told, right, strict=True)]
    counts = [[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in found]
    return np.array(counts, dtype=np.int64).reshape(-1, 10), np.array([one.score / 100 for one in found], dtype=np.float64)


def _bleu(counts: NDArray[np.int64]) -> float:
    """Corpus BLEU, a fraction, of counts (n, 10)."""
    total = counts.sum(0).tolist()
    if not total or not total[1]:
        return 0.0
    return float(_sacrebleu().compute_bleu(total[2:6], total[6:], sys_len=total[0], ref_len=total[1]).score / 100)


def _sacrebleu() -> Any:
    try:
        from sacrebleu.metrics.bleu import BLEU as Scorer
    except ImportError:
        raise bad_environment("BLEU is counted by sacrebleu, which is not installed", remedy="pip install 'edge-advisor[text]'") from None
    return Scorer


def check(pairs: Mapping[Split, Sequence[Pair]]) -> None:
    """Refuse pairs whose split is too small to be worth anything. Raises Problem (exit 3)."""
    for split in SPLITS:
        if len(pairs.get(split, ())) == 0:
            raise bad_input(f"there is no {split} pair", remedy="give more pairs, or name the split's files")
