"""Pictures with a class for every pixel, opened: what a segmentation net is trained on, scored on and timed on.

Every picture is scaled to one size, its ratio given up where it differs, so that batches stack; masks are scaled by nearest pixels for
training and kept as they are for scoring: answers are spread out to the mask's own size and compared there.
Score: the mean over classes of intersection over union, from counts of (true class, said class) summed over the pictures; each
picture's own counts are kept, so that any draw of pictures can be scored again.
Source: mean IoU as of Pascal VOC, Everingham et al. 2015, doi:10.1007/s11263-014-0733-5.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data import drawings, lines, pictures, segments
from advisor.data.batching import AHEAD, Batches, alike
from advisor.data.corpus import SPLITS, Split, spread
from advisor.data.holding import Decoded, Holder
from advisor.data.maskfolders import VOID, Mask, Masked, decode_mask
from advisor.data.pictures import Pixels
from advisor.mask_augment import View, viewed
from advisor.picture_augment import generator
from rules.examples import Answers, Batch, Feeds, Metric, Port, Sample, Score, Signature
from rules.problems import bad_input

MIOU = Metric("mean IoU", "higher", "%")
MULTIPLE = 32  # of both sides: what nets shrink a picture by
LEAST, MOST = 32, 1024  # of both sides
LONGEST = 512  # pixels: of the longer side, unless the settings say otherwise
LOOKED_AT = 100  # pictures whose size is looked at for that
BATCH = 16  # pictures a batch when scoring
RAREST = 10.0  # a rare class counts at most so many times the middle one

Predict = Callable[[Feeds], Mapping[str, NDArray[Any]]]
Compose = Callable[[tuple[int, int], int], tuple[Pixels, Mask]]  # (seed, epoch), index → a training picture and mask made anew
Counts = NDArray[np.int64]  # (pictures, classes, classes): true class, said class
log = logging.getLogger("advisor.semantic_segmentation")


class SegmentedData:
    """The data of the semantic-segmentation task. `size` (height, width) is what a model sees; else what suits the pictures."""

    answers: Answers = "figures"
    legend = drawings.AREAS

    def __init__(
        self,
        held: Masked,
        *,
        labels: Sequence[str],
        ignore: Sequence[int] = (VOID,),
        size: tuple[int, int] | None = None,
        normalise: str = "half",
        view: View | None = None,
        balance: float = 0.0,
        limits: Mapping[Split, int | None] | None = None,
        compose: Compose | None = None,
    ) -> None:
        self._corpus, self._mask, self._compose = held.corpus, held.mask, compose
        self.labels, self._ignore, self._normalise = list(labels), tuple(ignore), normalise
        self._view, self._balance = view or View(), balance
        chosen = {split: spread(len(held.corpus.splits[split]), (limits or {}).get(split)) for split in SPLITS}
        self._lines = {split: [held.corpus.splits[split][place] for place in chosen[split]] for split in SPLITS}
        self._read: Holder[tuple[Pixels, Mask]] = Holder(self._lines, self._decoded)
        self.height, self.width = size or self._suitable()
        mean, std = pictures.SCALES[normalise]
        self.preprocess: Sequence[Mapping[str, Any]] = (
            {"op": "decode", "mode": "RGB", "background": lines.PAPER},
            {"op": "resize", "height": self.height, "width": self.width, "resample": "bilinear"},
            {"op": "array", "layout": "chw", "dtype": "float32"},
            {"op": "scale", "by": 1 / 255, "mean": mean, "std": std},
        )
        self.postprocess: Sequence[Mapping[str, Any]] = ({"op": "areas", "output": "logits", "height": self.height, "width": self.width},)

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        return {"classes": len(self.labels)}

    @cached_property
    def signature(self) -> Signature:
        return signature(**self.given)

    def count(self, split: Split) -> int:
        return len(self._lines[split])

    # -- pictures and masks ----------------------------------------------------------------------------------------------

    def _suitable(self) -> tuple[int, int]:
        """The middle height and width of the pictures, the longer side at most `LONGEST`, both a multiple of 32."""
        split = next(split for split in SPLITS if self._lines[split])
        some = [self._lines[split][place] for place in spread(self.count(split), LOOKED_AT)]
        sizes = np.median([pictures.decode(self._corpus.read(line), name=line.named).size[::-1] for line in some], axis=0)
        sizes = sizes * min(1.0, LONGEST / sizes.max())
        height, width = (int(np.clip(MULTIPLE * round(side / MULTIPLE), LEAST, MOST)) for side in sizes)
        return height, width

    def _decoded(self, split: Split, index: int) -> Decoded[tuple[Pixels, Mask]]:
        """A picture as the model sees it and its mask, for training of the same size, else of its own."""
        from PIL import Image

        line = self._lines[split][index]
        raw, drawn = self._corpus.read(line), self._mask(line)
        image = pictures.decode(raw, name=line.named)
        mask = decode_mask(drawn, name=line.text, classes=len(self.labels), ignore=self._ignore)
        if mask.shape != image.size[::-1]:
            sizes = f"{mask.shape[1]} × {mask.shape[0]} pixels, its picture {line.id} {image.width} × {image.height}"
            raise bad_input(f"{line.text} is {sizes}", remedy="a mask has the size of its picture")
        if split == "train":
            size = (self.width, self.height)
            mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), dtype=np.uint8)
        seen = np.asarray(lines.resize(image, height=self.height, width=self.width), dtype=np.uint8)
        return Decoded((seen, mask), raw + b"\0" + drawn, seen.nbytes + mask.nbytes)

    def _fitted(self, split: Split, index: int) -> tuple[Pixels, Mask]:
        """The same with the mask in the size the model sees."""
        from PIL import Image

        seen, mask = self._read(split, index)
        if mask.shape == seen.shape[:2]:
            return seen, mask
        return seen, np.asarray(Image.fromarray(mask).resize((self.width, self.height), Image.Resampling.NEAREST), dtype=np.uint8)

    @cached_property
    def _weights(self) -> NDArray[np.float32]:
        """What a pixel of each class counts in the loss: (middle share / its share) ** balance, over the training masks."""
        classes = len(self.labels)
        if not self._balance or not self.count("train"):
            return np.ones(classes, dtype=np.float32)
        found = np.zeros(VOID + 1, dtype=np.int64)
        for index in range(self.count("train")):
            found += np.bincount(self._read("train", index)[1].ravel(), minlength=VOID + 1)
        counts = found[:classes].astype(np.float64)
        middle = np.median(counts[counts > 0]) if counts.any() else 1.0
        weights = np.clip(middle / np.maximum(counts, 1), 1 / RAREST, RAREST) ** self._balance
        return np.where(counts > 0, weights, 1.0).astype(np.float32)

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

        Targets: mask (b, height, width) uint8, `VOID` where nothing counts; weight (b, classes) float32, what a class counts.
        """
        vary = augment and split == "train"

        def make(members: list[int]) -> Batch:
            pairs = [self._varied(index, seed, epoch) if vary else self._fitted(split, index) for index in members]
            image = pictures.stack([picture for picture, _ in pairs], normalise=self._normalise)
            targets: dict[str, NDArray[Any]] = {
                "mask": np.stack([mask for _, mask in pairs]),
                "weight": np.repeat(self._weights[None], len(members), axis=0),
            }
            return Batch({"image": image}, targets, tuple(self._lines[split][index].id for index in members))

        return alike(self.count(split), make, batch_size=batch_size, seed=seed, epoch=epoch, shuffle=shuffle, limit=limit, ahead=AHEAD)

    def _varied(self, index: int, seed: int, epoch: int) -> tuple[Pixels, Mask]:
        """A training picture as it looks in one epoch."""
        if self._compose is not None:
            return self._compose((seed, epoch), index)
        return viewed(*self._read("train", index), generator(seed, epoch, index), self._view)

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """The classes of each picture with their share of it."""
        return [segments.said(logits, self.labels, self.height, self.width) for logits in outputs["logits"]]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """Mean IoU over the classes that are there or said to be. Per example: wrong pixels of those that count, in the split's order.

        `also`: the share of all pixels that are right.
        """
        chosen, found = spread(self.count(split), limit), []
        place = 0
        for batch in self.batches(split, batch_size=BATCH, limit=limit):
            for logits in predict(batch.inputs)["logits"]:
                truth = self._read(split, chosen[place])[1]
                found.append(counts(truth, segments.classes_of(logits, *truth.shape), len(self.labels)))
                place += 1
        return scored(np.stack(found) if found else np.zeros((0, len(self.labels), len(self.labels)), dtype=np.int64))

    def probes(self) -> dict[str, Feeds]:
        """One picture that was not trained on, where there is one."""
        split: Split = next(split for split in SPLITS[::-1] if self._lines[split])
        name = f"h{self.height}w{self.width}"
        return {name: {"image": pictures.stack([self._read(split, 0)[0]], normalise=self._normalise)}}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Pictures spread over the split, as PNG files of at most 512 pixels a side."""
        return [self._sample(split, place) for place in spread(self.count(split), count)]

    def _sample(self, split: Split, index: int) -> Sample:
        line = self._lines[split][index]
        raw = pictures.shown(self._corpus.read(line), name=line.named)
        seen = np.asarray(lines.resize(pictures.decode(raw, name=line.id), height=self.height, width=self.width), dtype=np.uint8)
        mask = self._fitted(split, index)[1]
        truth = (mask[:, :, None] == np.arange(len(self.labels))).astype(np.float32)
        inputs = {"image": pictures.stack([seen], normalise=self._normalise)}

        def draw(outputs: Mapping[str, Feeds]) -> bytes:
            found = [segments.classes_of(each["logits"][0], self.height, self.width) for each in outputs.values()]
            return drawings.areas(seen, [mask, *found], len(self.labels))

        return Sample(line.id, raw, inputs, segments.said(truth, self.labels, self.height, self.width), draw=draw)

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split, what is doubtful; plain JSON. Decodes every picture and mask, so damage is found now."""
        found: dict[str, Any] = {"task": "semantic-segmentation", **self._corpus.facts}
        found.update(classes=len(self.labels), height=self.height, width=self.width, normalise=self._normalise, ignore=list(self._ignore))
        found["splits"] = {split: self._facts(split) for split in SPLITS}
        found["reopen"] = {"labels": list(self.labels), "ignore": list(self._ignore), "height": self.height, "width": self.width}
        found["reopen"]["normalise"] = self._normalise
        found["warnings"] = list(self._warnings())
        for warning in found["warnings"]:
            log.warning(warning)
        return found

    def _facts(self, split: Split) -> dict[str, Any]:
        return {"images": self.count(split), "sha256": self._read.seal(split, texts=False)}

    def _warnings(self) -> Iterator[str]:
        for same, one, other in self._read.doubles():
            yield f"{same} pictures are the same, byte for byte, in {one} and {other}: the score says less than it seems to"
        if self.count("train"):
            there = np.zeros(VOID + 1, dtype=bool)
            for index in range(self.count("train")):
                there[np.unique(self._read("train", index)[1])] = True
            absent = [label for place, label in enumerate(self.labels) if not there[place]]
            if absent:
                yield f"no training mask has class {', '.join(absent)}: it cannot be learnt"


def signature(classes: int) -> Signature:
    """image (batch, 3, height, width) → logits (batch, rows, columns, classes) on the net's own coarser grid."""
    ranges = {"batch": (1, 256, 1), "height": (LEAST, MOST, MULTIPLE), "width": (LEAST, MOST, MULTIPLE)}
    image = Port("image", "float32", ("batch", pictures.CHANNELS, "height", "width"), ranges)
    return Signature((image,), (Port("logits", "float32", ("batch", "rows", "columns", classes)),))


def counts(truth: Mask, found: NDArray[np.uint8], classes: int) -> Counts:
    """How many pixels of each true class were said to be of each: (classes, classes)."""
    valid = truth != VOID
    pairs = truth[valid].astype(np.int64) * classes + found[valid]
    table: Counts = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return table


def mean_iou(table: NDArray[Any]) -> float:
    """The mean over classes of right / (true + said - right); classes that are neither are left out."""
    right, union = np.diag(table), table.sum(0) + table.sum(1) - np.diag(table)
    there = union > 0
    return float((right[there] / union[there]).mean()) if there.any() else 0.0


def scored(tables: Counts) -> Score:
    """The score of pictures with these counts."""
    flat, classes = tables.reshape(len(tables), -1).astype(np.float64), tables.shape[1]
    weights = flat.sum(1)
    errors = weights - tables.trace(axis1=1, axis2=2)

    def over(rows: NDArray[Any]) -> float:
        return mean_iou((np.bincount(rows, minlength=len(flat)) @ flat).reshape(classes, classes))

    also = {"pixel accuracy": float(1 - errors.sum() / weights.sum())} if weights.sum() else {}
    return Score(MIOU, over(np.arange(len(flat))), errors, weights, also, over)
