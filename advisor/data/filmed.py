"""Clips with one class each, opened: what an action recogniser is trained on, scored on and timed on.

A clip is decoded when it is first needed and only its frames are held, as bytes, as long as there is room; a batch is made when it is
asked for. The classes are those of the training clips unless they are given; a class that only validation or test has is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.clip_augment import PARTS, Filmed, generator, middle, varied
from advisor.data import classes, pictures
from advisor.data import frames as clips
from advisor.data.batching import Batches, alike
from advisor.data.corpus import SPLITS, Corpus, Line, Split, spread
from advisor.data.frames import Film
from advisor.data.holding import Decoded, Holder
from rules.examples import Answers, Batch, Feeds, Port, Sample, Score, Signature

BATCH = 16  # clips a batch when scoring
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

    answers: Answers = "class"
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
        classes.check(self._lines, self._index, given=bool(labels), noun="clip", remedy="a recogniser needs two: one folder a class")
        self._truth = {split: np.array([self._index[line.text] for line in self._lines[split]], dtype=np.int64) for split in SPLITS}
        self.frames, self.side = frames, side or self._suitable()
        self.preprocess = clips.steps(frames, self.side, fit=fit, normalise=normalise)
        self._read: Holder[Film] = Holder(self._lines, self._decoded)
        self._lengths: dict[tuple[Split, int], int] = {}

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

    def _decoded(self, split: Split, index: int) -> Decoded[Film]:
        """The frames of one clip; of a training clip that varies in time, those of every part."""
        line = self._lines[split][index]
        raw = self._corpus.read(line)
        parts = PARTS if split == "train" and self._vary.jitter else 1
        images, self._lengths[split, index] = clips.decode(raw, parts * self.frames, name=line.named)
        found = clips.film(images, self.side, fit=self._fit)
        return Decoded(found, raw, found.nbytes)

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
        shorter = [min(clips.decode(self._corpus.read(line), 1, name=line.named)[0][0].size) for line in some]
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
        vary = augment and split == "train"

        def make(members: list[int]) -> Batch:
            seen = [self._seen(index, seed, epoch) if vary else self._clip(split, index) for index in members]
            inputs = {"clip": clips.stack(seen, normalise=self._normalise)}
            return Batch(inputs, {"label": self._truth[split][members]}, tuple(self._lines[split][index].id for index in members))

        return alike(self.count(split), make, batch_size=batch_size, seed=seed, epoch=epoch, shuffle=shuffle, limit=limit)

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """The best class of logits (b, classes)."""
        return [self.labels[place] for place in outputs["logits"].argmax(-1)]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """The share of clips whose best class is theirs, from one view of each (`classes.score`), in the split's order."""
        truth = self._truth[split][spread(self.count(split), limit)]
        return classes.score(classes.asked(predict, self.batches(split, batch_size=BATCH, limit=limit), len(self.labels)), truth)

    def probes(self) -> dict[str, Feeds]:
        """One clip that was not trained on, where there is one."""
        split: Split = next(split for split in SPLITS[::-1] if self._lines[split])
        return {f"{self.frames}x{self.side}": {"clip": clips.stack([self._clip(split, 0)], normalise=self._normalise)}}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Clips spread over the split, as zip files of their frames, at most 160 pixels a side."""
        return [self._sample(self._lines[split][place]) for place in spread(self.count(split), count)]

    def _sample(self, line: Line) -> Sample:
        raw = clips.shown(clips.decode(self._corpus.read(line), self.frames, name=line.named)[0])
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
        seal = self._read.seal(split)  # decodes what was not yet: the lengths are known then
        lengths = [self._lengths[split, index] for index in range(self.count(split))]
        return {
            "clips": self.count(split),
            **classes.sizes(self._lines[split], self.labels),
            "median_frames": float(np.median(lengths)) if lengths else 0.0,
            "sha256": seal,
        }

    def _warnings(self) -> Iterator[str]:
        for same, one, other in self._read.doubles():
            yield f"{same} clips are the same, byte for byte, in {one} and {other}: the score says less than it seems to"
        if short := sum(length < self.frames for length in self._lengths.values()):
            yield f"{short} clips have fewer than {self.frames} frames: some of theirs come twice"
        yield from classes.uneven(self._lines["train"], "clip")


def signature(classes: int, frames: int, side: int) -> Signature:
    """clip (batch, frames, 3, side, side) → logits (batch, classes)."""
    clip = Port("clip", "float32", ("batch", frames, pictures.CHANNELS, side, side), {"batch": (1, 64, 1)})
    return Signature((clip,), (Port("logits", "float32", ("batch", classes)),))
