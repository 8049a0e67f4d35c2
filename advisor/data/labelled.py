"""Pictures with one class each, opened: what a classifier is trained on, scored on and timed on.

A picture is decoded when it is first needed and held as bytes, (side, side, 3), as long as there is room; a batch is made when it is
asked for. The classes are those of the training pictures unless they are given; a class that only validation or test has is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data import classes, pictures
from advisor.data.batching import Batches, alike
from advisor.data.corpus import SPLITS, Corpus, Line, Split, spread
from advisor.data.holding import Decoded, Holder
from advisor.data.pictures import Pixels
from advisor.picture_augment import Look, generator, mixed, varied
from rules.examples import Answers, Batch, Feeds, Port, Sample, Score, Signature

BATCH = 64  # pictures a batch when scoring
SIDES = (32, 48, 64, 96, 128, 160, 192, 224)  # one of these, unless `side` is given
LOOKED_AT = 200  # pictures whose size is looked at for that

Predict = Callable[[Feeds], Mapping[str, NDArray[Any]]]
Compose = Callable[[tuple[int, int], int], tuple[Pixels, str]]  # (seed, epoch), index → a training picture made anew
log = logging.getLogger("advisor.image_classification")


class PictureData:
    """The data of the image-classification task.

    `labels` are the classes to know; else those of the training pictures. `side` pixels are what a model sees; else what suits the
    pictures. `compose` makes training pictures anew for each augmented epoch, where the source can.
    """

    answers: Answers = "class"
    postprocess: Sequence[Mapping[str, Any]] = ({"op": "argmax", "output": "logits"},)

    def __init__(
        self,
        corpus: Corpus,
        *,
        side: int | None = None,
        fit: str = "crop",
        normalise: str = "half",
        look: Look | None = None,
        labels: Sequence[str] | None = None,
        limits: Mapping[Split, int | None] | None = None,
        compose: Compose | None = None,
    ) -> None:
        self._corpus, self._compose, self._fit, self._normalise = corpus, compose, fit, normalise
        self._look = look or Look()
        counts = {split: spread(len(corpus.splits[split]), (limits or {}).get(split)) for split in SPLITS}
        self._lines = {split: [corpus.splits[split][place] for place in counts[split]] for split in SPLITS}
        self.labels = list(labels) if labels else sorted({line.text for line in self._lines["train"]})
        self._index = {label: place for place, label in enumerate(self.labels)}
        classes.check(self._lines, self._index, given=bool(labels), noun="image", remedy="a classifier needs two: one folder a class")
        self._truth = {split: np.array([self._index[line.text] for line in self._lines[split]], dtype=np.int64) for split in SPLITS}
        self.side = side or self._suitable()
        self.preprocess = pictures.steps(self.side, fit=fit, normalise=normalise)
        self._read: Holder[Pixels] = Holder(self._lines, self._decoded)

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        return {"classes": len(self.labels), "side": self.side}

    @property
    def facts(self) -> dict[str, Any]:
        """What these pictures say of a request for a recommendation."""
        return {"resolution": self.side, "classes": len(self.labels), "examples": self.count("train")}

    @cached_property
    def signature(self) -> Signature:
        return signature(**self.given)

    def count(self, split: Split) -> int:
        return len(self._lines[split])

    # -- pictures --------------------------------------------------------------------------------------------------------

    def _decoded(self, split: Split, index: int) -> Decoded[Pixels]:
        line = self._lines[split][index]
        raw = self._corpus.read(line)
        picture = pictures.square(pictures.decode(raw, name=line.named), self.side, fit=self._fit)
        return Decoded(picture, raw, picture.nbytes)

    def _suitable(self) -> int:
        """The largest of `SIDES` that half of the pictures have, shorter sides counted; the smallest where they are smaller still."""
        split = next(split for split in SPLITS if self._lines[split])
        chosen = [self._lines[split][place] for place in spread(self.count(split), LOOKED_AT)]
        shorter = [min(pictures.decode(self._corpus.read(line), name=line.named).size) for line in chosen]
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
        """Batches of pictures; `limit` takes some spread over the split, or with `shuffle` at random.

        Augmented, training pictures are varied and, where the settings say so, mixed in pairs with softened labels (target `soft`).
        """
        vary = augment and split == "train"

        def make(members: list[int]) -> Batch:
            return self._batch(split, members, seed=seed, epoch=epoch, vary=vary)

        return alike(self.count(split), make, batch_size=batch_size, seed=seed, epoch=epoch, shuffle=shuffle, limit=limit)

    def _batch(self, split: Split, members: list[int], *, seed: int, epoch: int, vary: bool) -> Batch:
        seen = [self._seen(index, seed, epoch) if vary else self._read(split, index) for index in members]
        image, label = pictures.stack(seen, normalise=self._normalise), self._truth[split][members]
        targets: dict[str, NDArray[Any]] = {"label": label}
        look = self._look
        if vary and (look.mixup > 0 or look.cutmix > 0 or look.smoothing > 0):
            soft = np.full((len(members), len(self.labels)), look.smoothing / len(self.labels), dtype=np.float32)
            soft[np.arange(len(members)), label] += np.float32(1 - look.smoothing)
            if look.mixup > 0 or look.cutmix > 0:
                image, soft = mixed(image, soft, np.random.default_rng([seed, epoch, members[0], 7]), look)
            targets["soft"] = soft
        return Batch({"image": image}, targets, tuple(self._lines[split][index].id for index in members))

    def _seen(self, index: int, seed: int, epoch: int) -> Pixels:
        """A training picture as it looks in one epoch."""
        if self._compose is not None and self.side == len(made := self._compose((seed, epoch), index)[0]):
            return made
        return varied(self._read("train", index), generator(seed, epoch, index), self._look)

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """The best class of logits (b, classes)."""
        return [self.labels[place] for place in outputs["logits"].argmax(-1)]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """The share of pictures whose best class is theirs (`classes.score`), in the split's order."""
        truth = self._truth[split][spread(self.count(split), limit)]
        return classes.score(classes.asked(predict, self.batches(split, batch_size=BATCH, limit=limit), len(self.labels)), truth)

    def probes(self) -> dict[str, Feeds]:
        """One picture that was not trained on, where there is one."""
        split: Split = next(split for split in SPLITS[::-1] if self._lines[split])
        return {f"s{self.side}": {"image": pictures.stack([self._read(split, 0)], normalise=self._normalise)}}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Pictures spread over the split, as PNG files of at most 512 pixels a side."""
        return [self._sample(self._lines[split][place]) for place in spread(self.count(split), count)]

    def _sample(self, line: Line) -> Sample:
        raw = pictures.shown(self._corpus.read(line), name=line.named)
        picture = pictures.square(pictures.decode(raw, name=line.id), self.side, fit=self._fit)
        return Sample(line.id, raw, {"image": pictures.stack([picture], normalise=self._normalise)}, line.text)

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split, what is doubtful; plain JSON. Decodes every image, so a damaged one is found now."""
        found: dict[str, Any] = {"task": "image-classification", **self._corpus.facts}
        found.update(classes=len(self.labels), side=self.side, fit=self._fit, normalise=self._normalise)
        found["splits"] = {split: self._facts(split) for split in SPLITS}
        found["reopen"] = {"labels": list(self.labels), "side": self.side, "fit": self._fit, "normalise": self._normalise}
        found["warnings"] = list(self._warnings())
        for warning in found["warnings"]:
            log.warning(warning)
        return found

    def _facts(self, split: Split) -> dict[str, Any]:
        return {
            "images": self.count(split),
            **classes.sizes(self._lines[split], self.labels),
            "sha256": self._read.seal(split),
        }

    def _warnings(self) -> Iterator[str]:
        for same, one, other in self._read.doubles():
            yield f"{same} image files are the same, byte for byte, in {one} and {other}: the score says less than it seems to"
        yield from classes.uneven(self._lines["train"], "image")


def signature(classes: int, side: int) -> Signature:
    """image (batch, 3, side, side) → logits (batch, classes)."""
    image = Port("image", "float32", ("batch", pictures.CHANNELS, side, side), {"batch": (1, 256, 1)})
    return Signature((image,), (Port("logits", "float32", ("batch", classes)),))
