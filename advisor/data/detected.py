"""Pictures with things in boxes, opened: what a detector is trained on, scored on and timed on.

Every picture is squeezed into one square, its ratio given up, which moves no box against another: overlaps stay what they are. Boxes
are shares of the picture. What a net answers is raw (`anchors.py`); decoding and dropping doubles is done here as a bundle's reader does it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor import anchors
from advisor import queries as asking
from advisor.average_precision import Guess, Truth, score
from advisor.box_augment import viewed
from advisor.data import drawings, pictures
from advisor.data.batching import AHEAD, Batches, alike
from advisor.data.boxed import Marked, inside
from advisor.data.corpus import SPLITS, Split, spread
from advisor.data.holding import Decoded, Holder
from advisor.data.pictures import Pixels
from advisor.mask_augment import View
from advisor.picture_augment import generator
from rules.examples import Answers, Batch, Feeds, Port, Sample, Score, Signature
from rules.problems import bad_input

BATCH = 16  # pictures a batch when scoring
LEAST = 0.02  # chance from which a found box is scored
SURE = 0.5  # chance from which a reading tells of it
OVERLAP = 0.5  # of two boxes of a class, above which the less sure one is dropped
MOST = 100  # boxes a picture
MOST_THINGS = 400  # true boxes a picture

Predict = Callable[[Feeds], Mapping[str, NDArray[Any]]]
Seen = tuple[Pixels, Truth]  # a picture (side, side, 3) and what is on it, boxes as shares
Compose = Callable[[tuple[int, int], int], Seen]  # (seed, epoch), index → a training picture made anew
log = logging.getLogger("advisor.object_detection")


class DetectedData:
    """The data of the object-detection task. `side` pixels are what a model sees, square; `smallest` is the least default boxes' scale.

    `asked` is how many queries a model answers instead of default boxes; 0: it answers those. `inside`: a bundle's decoding is wanted
    behind the net in one graph as well.
    """

    answers: Answers = "class"
    legend = drawings.BOXES

    def __init__(
        self,
        held: Marked,
        *,
        labels: Sequence[str],
        side: int,
        smallest: float = anchors.SCALES[0],
        asked: int = 0,
        inside: bool = False,
        normalise: str = "half",
        view: View | None = None,
        limits: Mapping[Split, int | None] | None = None,
        compose: Compose | None = None,
    ) -> None:
        self._corpus, self._things, self._sizes, self._compose = held.corpus, held.things, held.sizes, compose
        self.labels, self.side, self.smallest, self.asked = list(labels), side, smallest, asking.count(side, asked)
        self._normalise, self._view, self.inside = normalise, view or View(), inside
        chosen = {split: spread(len(held.corpus.splits[split]), (limits or {}).get(split)) for split in SPLITS}
        self._lines = {split: [held.corpus.splits[split][place] for place in chosen[split]] for split in SPLITS}
        self._read: Holder[Seen] = Holder(self._lines, self._decoded)
        self.preprocess = pictures.steps(side, fit="stretch", normalise=normalise)
        step = {"op": "boxes", "outputs": ["scores", "boxes"], "side": side, "smallest": smallest, "least": SURE, "overlap": OVERLAP}
        if asked:
            step = {"op": "queries", "outputs": ["scores", "boxes"], "least": SURE}
        self.postprocess: Sequence[Mapping[str, Any]] = ({**step, "most": MOST},)
        self._check_classes()

    def _check_classes(self) -> None:
        known = set(self.labels)
        for split in SPLITS:
            for line in self._lines[split]:
                for thing in self._things[line.id]:
                    if thing.name not in known:
                        some = ", ".join(self.labels[:5]) + (" …" if len(self.labels) > 5 else "")
                        raise bad_input(
                            f"{thing.where}: class {thing.name!r} is not known ({some})", remedy="mend it, or name it in labels"
                        )
                if len(self._things[line.id]) > MOST_THINGS:
                    what = f"{line.where} has {len(self._things[line.id])} boxes"
                    raise bad_input(what, remedy=f"at most {MOST_THINGS} are learnt from: cut the picture into tiles")

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        own = {"queries": self.asked} if self.asked else {}
        return {"classes": len(self.labels), "side": self.side, "smallest": self.smallest, **own}

    @cached_property
    def signature(self) -> Signature:
        return signature(**self.given)

    def count(self, split: Split) -> int:
        return len(self._lines[split])

    # -- pictures and boxes ----------------------------------------------------------------------------------------------

    def _decoded(self, split: Split, index: int) -> Decoded[Seen]:
        """A picture as the model sees it and what is on it."""
        line = self._lines[split][index]
        raw = self._corpus.read(line)
        image = pictures.decode(raw, name=line.named)
        said = self._sizes.get(line.id, image.size)
        if said != image.size:
            what = f"{line.where}: {line.id} is {image.width} × {image.height} pixels, its annotation says {said[0]} × {said[1]}"
            raise bad_input(what, remedy="boxes are pixels of the very file: mend either")
        things = self._things[line.id]
        scale = np.array([*image.size, *image.size], dtype=np.float32)
        boxes = np.array([inside(thing, *image.size) for thing in things], dtype=np.float32).reshape(-1, 4) / scale
        kinds = np.array([self.labels.index(thing.name) for thing in things], dtype=np.int64)
        truth = Truth(boxes, kinds, np.array([thing.aside for thing in things], dtype=bool))
        seen = pictures.square(image, self.side, fit="stretch"), truth
        text = "".join(f"{thing.name}\t{thing.box}\n" for thing in things)
        return Decoded(seen, raw + b"\0" + text.encode(), seen[0].nbytes)

    def _varied(self, index: int, seed: int, epoch: int) -> Seen:
        """A training picture as it looks in one epoch."""
        if self._compose is not None:
            return self._compose((seed, epoch), index)
        picture, truth = self._read("train", index)
        picture, boxes, stayed = viewed(picture, truth.boxes, generator(seed, epoch, index), self._view)
        return picture, Truth(boxes[stayed], truth.kinds[stayed], truth.aside[stayed])

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

        Targets: boxes (b, n, 4) float32, shares of the picture; kinds (b, n) int64, from 1, 0 where there is nothing, -1 for what is
        left aside; smallest (b,) float32, the scale of the least default boxes.
        """
        vary = augment and split == "train"

        def make(members: list[int]) -> Batch:
            seen = [self._varied(index, seed, epoch) if vary else self._read(split, index) for index in members]
            image = pictures.stack([picture for picture, _ in seen], normalise=self._normalise)
            targets = _targets([truth for _, truth in seen], self.smallest)
            return Batch({"image": image}, targets, tuple(self._lines[split][index].id for index in members))

        return alike(self.count(split), make, batch_size=batch_size, seed=seed, epoch=epoch, shuffle=shuffle, limit=limit, ahead=AHEAD)

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """How many things of each class are on each picture."""
        return [counted(guess.kinds, self.labels) for guess in self._found(outputs, SURE)]

    def _found(self, outputs: Feeds, least: float) -> Iterator[Guess]:
        """What is on each picture of a batch, from a chance of `least` on."""
        for scores, boxes in zip(outputs["scores"], outputs["boxes"], strict=True):
            if self.asked:
                yield Guess(*asking.found(scores, boxes, least=least, most=MOST))
            else:
                yield Guess(*anchors.found(scores, boxes, self.side, least=least, overlap=OVERLAP, most=MOST, smallest=self.smallest))

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """COCO's average precision. Per example: true boxes that nothing found, in the split's order."""
        truths = [self._read(split, index)[1] for index in spread(self.count(split), limit)]
        batches = self.batches(split, batch_size=BATCH, limit=limit)
        guesses = [guess for batch in batches for guess in self._found(predict(batch.inputs), LEAST)]
        return score(truths, guesses, len(self.labels))

    def probes(self) -> dict[str, Feeds]:
        """One picture that was not trained on, where there is one."""
        split: Split = next(split for split in SPLITS[::-1] if self._lines[split])
        return {f"s{self.side}": {"image": pictures.stack([self._read(split, 0)[0]], normalise=self._normalise)}}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Pictures spread over the split, as PNG files of at most 512 pixels a side."""
        return [self._sample(split, place) for place in spread(self.count(split), count)]

    def _sample(self, split: Split, index: int) -> Sample:
        line = self._lines[split][index]
        raw = pictures.shown(self._corpus.read(line), name=line.named)
        picture = pictures.square(pictures.decode(raw, name=line.id), self.side, fit="stretch")
        truth = self._read(split, index)[1]
        inputs = {"image": pictures.stack([picture], normalise=self._normalise)}

        def draw(outputs: Mapping[str, Feeds]) -> bytes:
            found = {name: next(self._found(each, SURE)).boxes for name, each in outputs.items()}
            return drawings.boxes(np.asarray(pictures.decode(raw, name=line.id), dtype=np.uint8), truth.boxes[~truth.aside], found)

        return Sample(line.id, raw, inputs, counted(truth.kinds[~truth.aside], self.labels), draw=draw)

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split, what is doubtful; plain JSON. Decodes every picture, so damage is found now."""
        found: dict[str, Any] = {"task": "object-detection", **self._corpus.facts}
        found.update(classes=len(self.labels), side=self.side, smallest=self.smallest, normalise=self._normalise)
        found["splits"] = {split: self._facts(split) for split in SPLITS}
        found["reopen"] = {"labels": list(self.labels), "side": self.side, "smallest": self.smallest, "normalise": self._normalise}
        found["reopen"] |= {"queries": self.asked} if self.asked else {}
        found["warnings"] = list(self._warnings())
        for warning in found["warnings"]:
            log.warning(warning)
        return found

    def _facts(self, split: Split) -> dict[str, Any]:
        things = Counter(thing.name for line in self._lines[split] for thing in self._things[line.id])
        boxes = {label: things[label] for label in self.labels}
        return {"images": self.count(split), "boxes": boxes, "sha256": self._read.seal(split, texts=False)}

    def _warnings(self) -> Iterator[str]:
        for same, one, other in self._read.doubles():
            yield f"{same} pictures are the same, byte for byte, in {one} and {other}: the score says less than it seems to"
        sizes = [box[2:] - box[:2] for index in range(self.count("train")) for box in self._read("train", index)[1].boxes]
        if sizes and (tiny := float((np.stack(sizes).max(1) * self.side < 16).mean())) > 0.1:
            yield f"{100 * tiny:.0f} % of the training boxes are smaller than 16 pixels at a side of {self.side}: a larger side, or tiles"


def signature(classes: int, side: int, smallest: float = anchors.SCALES[0], queries: int = 0) -> Signature:
    """image (batch, 3, side, side) → scores (batch, anchors, 1 + classes), the ground's first, and boxes (batch, anchors, 4), both raw.

    `smallest` changes none of it. Of a model with `queries`: scores (batch, queries, classes), and boxes as middle and size.
    """
    image = Port("image", "float32", ("batch", pictures.CHANNELS, side, side), {"batch": (1, 256, 1)})
    if queries:  # one of them may say nothing, so that the largest of its scores is no decision
        rows = asking.count(side, queries)
        return Signature((image,), (_unordered("scores", rows, classes), _unordered("boxes", rows, 4)))
    places = anchors.count(side)
    scores = Port("scores", "float32", ("batch", places, 1 + classes))
    return Signature((image,), (scores, Port("boxes", "float32", ("batch", places, 4), decides=False)))


def _unordered(name: str, rows: int, size: int) -> Port:
    return Port(name, "float32", ("batch", rows, size), decides=False)


def counted(kinds: NDArray[Any], labels: Sequence[str]) -> str:
    """`2 disc, 1 star`, in the order of the classes."""
    numbers = np.bincount(kinds.astype(np.int64), minlength=len(labels)).tolist()
    return ", ".join(f"{number} {label}" for number, label in zip(numbers, labels, strict=True) if number) or "nothing"


def _targets(truths: Sequence[Truth], smallest: float) -> dict[str, NDArray[Any]]:
    most = max(1, *(len(truth.kinds) for truth in truths)) if truths else 1
    boxes = np.zeros((len(truths), most, 4), dtype=np.float32)
    kinds = np.zeros((len(truths), most), dtype=np.int64)
    for place, truth in enumerate(truths):
        boxes[place, : len(truth.kinds)] = truth.boxes
        kinds[place, : len(truth.kinds)] = np.where(truth.aside, -1, truth.kinds + 1)
    return {"boxes": boxes, "kinds": kinds, "smallest": np.full(len(truths), smallest, dtype=np.float32)}
