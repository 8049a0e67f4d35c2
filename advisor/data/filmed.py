"""Clips with one class each, opened: what an action recogniser is trained on, scored on and timed on.

A clip is decoded when it is first needed and only its frames are held, as bytes, as long as there is room; a batch is made when it is
asked for. The classes are those of the training clips unless they are given; a class that only validation or test has is refused.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.clip_augment import PARTS, Filmed, generator, middle, varied
from advisor.data import frames as clips
from advisor.data import pictures
from advisor.data.batching import Batches
from advisor.data.corpus import SPLITS, Corpus, Line, Split, spread
from advisor.data.frames import Film
from advisor.data.labelled import ACCURACY, TOP, cuts
from rules.examples import Batch, Feeds, Port, Sample, Score, Signature
from rules.problems import bad_input

BATCH = 16  # clips a batch when scoring
MOST_MEMORY = 4 * 2**30  # bytes of frames held; what is beyond is decoded again each time
SIDES = (32, 48, 64, 96, 112, 160, 224)  # one of these, unless `side` is given
LOOKED_AT = 50  # clips whose size is looked at for that

Predict = Callable[[Feeds], Mapping[str, NDArray[Any]]]
Compose = Callable[[tuple[int, int], int], Film]  # (seed, epoch), index → a training clip made anew
log = logging.getLogger("advisor.video_action_recognition")


class ActionData:
    """The data of the video-action-recognition task.

    `labels` are the classes to know; else those of the training clips. `frames` of `side` pixels are what a model sees. `compose` makes
    training clips anew for each augmented epoch, where the source can.
    """

    postprocess: Sequence[Mapping[str, Any]] = ({"op": "argmax", "output": "logits"},)

    def __init__(
        self,
        corpus: Corpus,
        *,
        frames: int = 8,
        side: int | None = None,
        fit: str = "crop",
        normalise: str = "half",
        vary: Filmed | None = None,
        labels: Sequence[str] | None = None,
        limits: Mapping[Split, int | None] | None = None,
        compose: Compose | None = None,
    ) -> None:
        self._corpus, self._compose, self._fit, self._normalise = corpus, compose, fit, normalise
        self._vary = vary or Filmed()
        chosen = {split: spread(len(corpus.splits[split]), (limits or {}).get(split)) for split in SPLITS}
        self._lines = {split: [corpus.splits[split][place] for place in chosen[split]] for split in SPLITS}
        self.labels = list(labels) if labels else sorted({line.text for line in self._lines["train"]})
        self._index = {label: place for place, label in enumerate(self.labels)}
        _check_classes(self._lines, self._index, given=bool(labels))
        self._truth = {split: np.array([self._index[line.text] for line in self._lines[split]], dtype=np.int64) for split in SPLITS}
        self.frames, self.side = frames, side or self._suitable()
        self.preprocess = clips.steps(frames, self.side, fit=fit, normalise=normalise)
        self._held: dict[tuple[Split, int], Film] = {}
        self._digests: dict[tuple[Split, int], str] = {}
        self._lengths: dict[tuple[Split, int], int] = {}
        self._bytes = 0

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        return {"classes": len(self.labels), "frames": self.frames, "side": self.side}

    @property
    def facts(self) -> dict[str, Any]:
        """What these clips say of a request for a recommendation."""
        return {"resolution": self.side, "classes": len(self.labels), "examples": self.count("train")}

    @cached_property
    def signature(self) -> Signature:
        return signature(**self.given)

    def count(self, split: Split) -> int:
        return len(self._lines[split])

    # -- clips -----------------------------------------------------------------------------------------------------------

    def _read(self, split: Split, index: int) -> Film:
        """The frames of one clip, held from then on while there is room; of a training clip that varies in time, those of every part."""
        key = (split, index)
        if key in self._held:
            return self._held[key]
        line = self._lines[split][index]
        raw = self._corpus.read(line)
        parts = PARTS if split == "train" and self._vary.jitter else 1
        images, self._lengths[key] = clips.decode(raw, parts * self.frames, name=_named(line))
        found = clips.film(images, self.side, fit=self._fit)
        self._digests.setdefault(key, hashlib.sha256(raw).hexdigest())
        if self._bytes + found.nbytes <= MOST_MEMORY:
            self._held[key] = found
            self._bytes += found.nbytes
        return found

    def _clip(self, split: Split, index: int) -> Film:
        """The frames that are scored."""
        found = self._read(split, index)
        return found if len(found) == self.frames else middle(found)

    def _seen(self, index: int, seed: int, epoch: int) -> Film:
        """A training clip as it looks in one epoch."""
        if self._compose is not None:
            made = self._compose((seed, epoch), index)
            if made.shape[:2] == (self.frames, self.side):
                return made
        return varied(self._read("train", index), generator(seed, epoch, index), self._vary)

    def _suitable(self) -> int:
        """The largest of `SIDES` that half of the clips have, shorter sides counted; the smallest where they are smaller still."""
        split = next(split for split in SPLITS if self._lines[split])
        some = [self._lines[split][place] for place in spread(self.count(split), LOOKED_AT)]
        shorter = [min(clips.decode(self._corpus.read(line), 1, name=_named(line))[0][0].size) for line in some]
        return max((side for side in SIDES if side <= np.median(shorter)), default=SIDES[0])

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
        """Batches of clips; `limit` takes some spread over the split, or with `shuffle` at random. Augmented, training clips vary."""
        count = self.count(split) if limit is None else min(limit, self.count(split))
        vary = augment and split == "train"

        def plan() -> Iterator[tuple[list[int], int]]:
            if shuffle:
                order = np.random.default_rng([seed, epoch, 0]).permutation(self.count(split))[:count].tolist()
            else:
                order = spread(self.count(split), limit)
            for start, end in cuts(count, batch_size):
                yield order[start:end], 0

        def make(members: list[int], _: int) -> Batch:
            seen = [self._seen(index, seed, epoch) if vary else self._clip(split, index) for index in members]
            inputs = {"clip": clips.stack(seen, normalise=self._normalise)}
            return Batch(inputs, {"label": self._truth[split][members]}, tuple(self._lines[split][index].id for index in members))

        return Batches(plan, make, sum(1 for _ in cuts(count, batch_size)))

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """The best class of logits (b, classes)."""
        return [self.labels[place] for place in outputs["logits"].argmax(-1)]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """The share of clips whose best class is theirs, from one view of each. Per example: 1 for right, in the split's order.

        `also`: the mean of that share over the classes, and with many classes how often the right one is among the best five.
        """
        truth = self._truth[split][spread(self.count(split), limit)]
        found = [predict(batch.inputs)["logits"] for batch in self.batches(split, batch_size=BATCH, limit=limit)]
        logits = np.concatenate(found) if found else np.zeros((0, len(self.labels)), np.float32)
        right = (logits.argmax(-1) == truth).astype(np.float64)
        also = {"mean_over_classes": float(np.mean([right[truth == place].mean() for place in np.unique(truth)]))} if len(truth) else {}
        if len(self.labels) > 2 * TOP and len(truth):
            best = np.argpartition(-logits, TOP, axis=-1)[:, :TOP]
            also["top5"] = float((best == truth[:, None]).any(-1).mean())
        return Score(ACCURACY, float(right.sum() / max(1, len(right))), right, np.ones_like(right), also)

    def probes(self) -> dict[str, Feeds]:
        """One clip that was not trained on, where there is one."""
        split: Split = next(split for split in SPLITS[::-1] if self._lines[split])
        return {f"{self.frames}x{self.side}": {"clip": clips.stack([self._clip(split, 0)], normalise=self._normalise)}}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Clips spread over the split, as zip files of their frames, at most 160 pixels a side."""
        return [self._sample(self._lines[split][place]) for place in spread(self.count(split), count)]

    def _sample(self, line: Line) -> Sample:
        raw = clips.shown(clips.decode(self._corpus.read(line), self.frames, name=_named(line))[0])
        seen = clips.film(clips.decode(raw, self.frames, name=line.id)[0], self.side, fit=self._fit)
        inputs = {"clip": clips.stack([seen], normalise=self._normalise)}
        return Sample(line.id, raw, inputs, line.text, suffix="zip", picture=clips.strip(seen))

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split, what is doubtful; plain JSON. Decodes every clip, so a damaged one is found now."""
        found: dict[str, Any] = {"task": "video-action-recognition", **self._corpus.facts}
        found.update(classes=len(self.labels), frames=self.frames, side=self.side, fit=self._fit, normalise=self._normalise)
        found["splits"] = {split: self._facts(split) for split in SPLITS}
        names = ("labels", "frames", "side", "fit", "normalise")
        found["reopen"] = {"labels": list(self.labels), **{name: found[name] for name in names[1:]}}
        found["warnings"] = list(self._warnings())
        for warning in found["warnings"]:
            log.warning(warning)
        return found

    def _facts(self, split: Split) -> dict[str, Any]:
        digests = [self._digest(split, index) for index in range(self.count(split))]
        text = "".join(f"{line.id}\t{line.text}\t{digest}\n" for line, digest in zip(self._lines[split], digests, strict=True))
        counts = Counter(line.text for line in self._lines[split])
        lengths = [self._lengths[split, index] for index in range(self.count(split))]
        return {
            "clips": self.count(split),
            "smallest_class": min((counts[label] for label in self.labels), default=0),
            "largest_class": max((counts[label] for label in self.labels), default=0),
            "median_frames": float(np.median(lengths)) if lengths else 0.0,
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }

    def _digest(self, split: Split, index: int) -> str:
        if (split, index) not in self._digests:
            self._read(split, index)
        return self._digests[split, index]

    def _warnings(self) -> Iterator[str]:
        held = {split: {self._digest(split, index) for index in range(self.count(split))} for split in SPLITS}
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            if same := held[one] & held[other]:  # type: ignore[index]
                yield f"{len(same)} clips are the same, byte for byte, in {one} and {other}: the score says less than it seems to"
        if short := sum(length < self.frames for length in self._lengths.values()):
            yield f"{short} clips have fewer than {self.frames} frames: some of theirs come twice"
        counts = Counter(line.text for line in self._lines["train"])
        if counts and max(counts.values()) > 10 * min(counts.values()):
            rare = min(counts, key=lambda label: (counts[label], label))
            yield f"class {rare!r} has {counts[rare]} training clips, the largest {max(counts.values())}: look at mean_over_classes"


def signature(classes: int, frames: int, side: int) -> Signature:
    """clip (batch, frames, 3, side, side) → logits (batch, classes)."""
    clip = Port("clip", "float32", ("batch", frames, pictures.CHANNELS, side, side), {"batch": (1, 64, 1)})
    return Signature((clip,), (Port("logits", "float32", ("batch", classes)),))


def _named(line: Line) -> str:
    return line.where if line.id in line.where else f"{line.id} ({line.where})"


def _check_classes(lines: Mapping[Split, Sequence[Line]], index: Mapping[str, int], *, given: bool) -> None:
    """Refuse a clip without a class and one of a class that is not known. Raises Problem (exit 3) naming the place."""
    known = "in the list given" if given else "in the training clips"
    for split in SPLITS:
        for line in lines[split]:
            if not line.text.strip():
                raise bad_input(f"{_named(line)}: no class is named", remedy="write 'clip<TAB>class'")
            if line.text not in index:
                some = ", ".join(list(index)[:5]) + (" …" if len(index) > 5 else "")
                what = f"{_named(line)}: class {line.text!r} is not {known} ({len(index)}: {some})"
                raise bad_input(what, remedy="mend it, or leave it out")
    if len(index) < 2:
        raise bad_input(f"there is one class only, {next(iter(index), '')!r}", remedy="a recogniser needs two: one folder a class")
