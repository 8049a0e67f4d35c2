"""Pictures with one class each, opened: what a classifier is trained on, scored on and timed on.

A picture is decoded when it is first needed and held as bytes, (side, side, 3), as long as there is room; a batch is made when it is
asked for. The classes are those of the training pictures unless they are given; a class that only validation or test has is refused.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data import pictures
from advisor.data.batching import Batches
from advisor.data.corpus import SPLITS, Corpus, Line, Split, spread
from advisor.data.pictures import Pixels
from advisor.picture_augment import Look, generator, mixed, varied
from rules.examples import Batch, Feeds, Metric, Port, Sample, Score, Signature
from rules.problems import bad_input

ACCURACY = Metric("accuracy", "higher", "%")
BATCH = 64  # pictures a batch when scoring
MOST_MEMORY = 4 * 2**30  # bytes of decoded pictures held; what is beyond is decoded again each time
TOP = 5  # `also` says how often the class is among so many, where there are more than twice as many classes
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
        _check_classes(self._lines, self._index, given=bool(labels))
        self._truth = {split: np.array([self._index[line.text] for line in self._lines[split]], dtype=np.int64) for split in SPLITS}
        self.side = side or self._suitable()
        self.preprocess = pictures.steps(self.side, fit=fit, normalise=normalise)
        self._held: dict[tuple[Split, int], Pixels] = {}
        self._digests: dict[tuple[Split, int], str] = {}
        self._bytes = 0

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

    def _read(self, split: Split, index: int) -> Pixels:
        """One picture, held from then on while there is room."""
        key = (split, index)
        if key in self._held:
            return self._held[key]
        line = self._lines[split][index]
        raw = self._corpus.read(line)
        picture = pictures.square(pictures.decode(raw, name=_named(line)), self.side, fit=self._fit)
        self._digests.setdefault(key, hashlib.sha256(raw).hexdigest())
        if self._bytes + picture.nbytes <= MOST_MEMORY:
            self._held[key] = picture
            self._bytes += picture.nbytes
        return picture

    def _suitable(self) -> int:
        """The largest of `SIDES` that half of the pictures have, shorter sides counted; the smallest where they are smaller still."""
        split = next(split for split in SPLITS if self._lines[split])
        chosen = [self._lines[split][place] for place in spread(self.count(split), LOOKED_AT)]
        shorter = [min(pictures.decode(self._corpus.read(line), name=_named(line)).size) for line in chosen]
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
            return self._batch(split, members, seed=seed, epoch=epoch, vary=vary)

        return Batches(plan, make, sum(1 for _ in cuts(count, batch_size)))

    def _batch(self, split: Split, members: list[int], *, seed: int, epoch: int, vary: bool) -> Batch:
        seen = [self._seen(index, seed, epoch) if vary else self._read(split, index) for index in members]
        image, label = pictures.stack(seen, normalise=self._normalise), self._truth[split][members]
        targets: dict[str, NDArray[Any]] = {"label": label}
        look = self._look
        if vary and (look.mixup > 0 or look.cutmix > 0 or look.smoothing > 0):
            classes = len(self.labels)
            soft = np.full((len(members), classes), look.smoothing / classes, dtype=np.float32)
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
        """The share of pictures whose best class is theirs. Per example: 1 for right, in the split's order.

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
        """One picture that was not trained on, where there is one."""
        split: Split = next(split for split in SPLITS[::-1] if self._lines[split])
        return {f"s{self.side}": {"image": pictures.stack([self._read(split, 0)], normalise=self._normalise)}}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Pictures spread over the split, as PNG files of at most 512 pixels a side."""
        return [self._sample(self._lines[split][place]) for place in spread(self.count(split), count)]

    def _sample(self, line: Line) -> Sample:
        raw = pictures.shown(self._corpus.read(line), name=_named(line))
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
        digests = [self._digest(split, index) for index in range(self.count(split))]
        text = "".join(f"{line.id}\t{line.text}\t{digest}\n" for line, digest in zip(self._lines[split], digests, strict=True))
        counts = Counter(line.text for line in self._lines[split])
        return {
            "images": self.count(split),
            "smallest_class": min((counts[label] for label in self.labels), default=0),
            "largest_class": max((counts[label] for label in self.labels), default=0),
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
                yield f"{len(same)} image files are the same, byte for byte, in {one} and {other}: the score says less than it seems to"
        counts = Counter(line.text for line in self._lines["train"])
        if counts and max(counts.values()) > 10 * min(counts.values()):
            rare = min(counts, key=lambda label: (counts[label], label))
            yield f"class {rare!r} has {counts[rare]} training images, the largest {max(counts.values())}: look at mean_over_classes"


def signature(classes: int, side: int) -> Signature:
    """image (batch, 3, side, side) → logits (batch, classes)."""
    image = Port("image", "float32", ("batch", pictures.CHANNELS, side, side), {"batch": (1, 256, 1)})
    return Signature((image,), (Port("logits", "float32", ("batch", classes)),))


def cuts(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Where batches begin and end. A last one of a single example, which batch normalisation cannot learn from, takes one more."""
    ends = [*range(size, count, size), *([count] if count else [])]
    if len(ends) > 1 and size > 2 and ends[-1] - ends[-2] == 1:
        ends[-2] -= 1
    yield from pairwise([0, *ends])


def _named(line: Line) -> str:
    return line.where if line.id in line.where else f"{line.id} ({line.where})"


def _check_classes(lines: Mapping[Split, Sequence[Line]], index: Mapping[str, int], *, given: bool) -> None:
    """Refuse a picture without a class and one of a class that is not known. Raises Problem (exit 3) naming the place."""
    known = "in the list given" if given else "in the training pictures"
    for split in SPLITS:
        for line in lines[split]:
            if not line.text.strip():
                raise bad_input(f"{_named(line)}: no class is named", remedy="write 'image<TAB>class'")
            if line.text not in index:
                some = ", ".join(list(index)[:5]) + (" …" if len(index) > 5 else "")
                raise bad_input(
                    f"{_named(line)}: class {line.text!r} is not {known} ({len(index)}: {some})", remedy="mend it, or leave it out"
                )
    if len(index) < 2:
        raise bad_input(f"there is one class only, {next(iter(index), '')!r}", remedy="a classifier needs two: one folder a class")
