"""Semantic segmentation: one picture in, the class of each of its pixels out.

Idea: the net answers on a coarse grid, an eighth or a quarter of the picture a side, with the classes last; spreading that out and
taking the best class is the reader's step, because at full size the scores of many classes take longer than the net.
Source: pixelwise cross entropy, Long et al. 2014, arXiv:1411.4038; classes weighed by how rare they are, Badrinarayanan et al. 2015,
arXiv:1511.00561; distillation pixel by pixel, Liu et al. 2019, arXiv:1903.04197.
Shape: image (b, 3, height, width) float32, sides of a multiple of 32 → logits (b, rows, columns, classes), raw.
Reads: pictures with masks of the same names and `classes.txt`, or lists of both; or, given nothing, drawn shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor import class_losses
from advisor.data import drawn_shapes, maskfolders, pictures
from advisor.data.corpus import SPLITS, Corpus, Line, Split
from advisor.data.maskfolders import VOID, Mask, Masked
from advisor.data.pictures import SCALES, Pixels, png
from advisor.data.segmented import LEAST, MIOU, MOST, MULTIPLE, SegmentedData, signature
from advisor.mask_augment import View
from advisor.stand_in import StandIn
from rules.examples import Metric
from rules.problems import Problem, bad_input, unknown

if TYPE_CHECKING:
    from torch import Tensor

VIEWS = tuple(field.name for field in fields(View))
DEFAULTS: Mapping[str, Any] = {
    "height": None,
    "width": None,
    "normalise": "half",
    "labels": None,
    "ignore": (VOID,),
    "balance": 0.5,
    **dict.fromkeys(SPLITS),
    **dict.fromkeys(VIEWS),
}
PHOTOGRAPHS = View(flip=True, zoom=0.6, tone=0.2)  # how pictures of a folder vary unless the settings say otherwise
DRAWN: tuple[int, int] = (64, 96)  # height and width of the built-in scenes
COUNTS: Mapping[Split, int] = {"train": 800, "val": 200, "test": 400}
GROUND = "ground"


@dataclass(frozen=True, slots=True)
class SemanticSegmentationTask:
    """The task. `alpha` shares distillation between the teacher's answers (alpha) and the masks (1 - alpha)."""

    name: str = "semantic-segmentation"
    metric: Metric = MIOU
    alpha: float = 0.5

    @property
    def published(self) -> Mapping[str, Any]:
        """Settings of `open` that suit published weights."""
        return pictures.PUBLISHED

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted: Pascal VOC's classes."""
        return {"classes": 21}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Random pictures, as a net for `given` takes them."""
        return StandIn(signature(**given), {"h256w256": {"height": 256, "width": 256}, "h128w192": {"height": 128, "width": 192}})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> SegmentedData:
        """The data at `source` (a folder), or the built-in scenes.

        `settings`: height, width (pixels a model sees, multiples of 32; else what suits the pictures), normalise ("half" or
        "imagenet"), labels (the classes by number; else classes.txt), ignore (numbers in a mask that do not count), balance (0: every
        pixel counts alike, 1: every class), train, val, test (how many pictures of each split to use), and how training pictures vary:
        flip, zoom, tone (`mask_augment.View`). With labels a folder may hold only pictures to score.
        Raises Problem: exit 2 for a wrong setting, 3 for refused data.
        """
        chosen = _settings(settings or {})
        how = {"normalise": chosen["normalise"], "balance": chosen["balance"]}
        size = (chosen["height"], chosen["width"]) if chosen["height"] else None
        if source is None:
            counts = {split: chosen[split] or COUNTS[split] for split in SPLITS}
            size = size or DRAWN

            def compose(epoch: tuple[int, int], index: int) -> tuple[Pixels, Mask]:
                found = drawn_shapes.scene("train", index, size=size, seed=seed, epoch=epoch)
                return found.picture, found.classes

            labels = chosen["labels"] or (GROUND, *drawn_shapes.KINDS)
            return SegmentedData(drawn(counts, size=size, seed=seed), labels=labels, size=size, compose=compose, **how)
        held = maskfolders.open_folder(source, seed=seed, training=chosen["labels"] is None)
        labels = chosen["labels"] or held.labels
        if labels is None:
            raise bad_input(
                f"{source} has no {maskfolders.CLASSES}", remedy="write the names of the classes, one a line, the first is number 0"
            )
        limits = {split: chosen[split] for split in SPLITS}
        return SegmentedData(held, labels=labels, ignore=chosen["ignore"], size=size, view=_view(chosen), limits=limits, **how)

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy, nats a pixel that counts, rare classes weighed up: output (b, rows, columns, classes) spread over the mask."""
        from torch.nn.functional import cross_entropy, interpolate

        mask = targets["mask"].long()
        logits = interpolate(output.float().permute(0, 3, 1, 2), size=mask.shape[1:], mode="bilinear", align_corners=False)
        weight = targets["weight"][0]
        wrong = cross_entropy(logits, mask, weight=weight, ignore_index=VOID, reduction="sum")
        counted = weight[mask.clamp(max=len(weight) - 1)] * (mask != VOID)
        return wrong / counted.sum().clamp(min=1e-6)

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        """The teacher's shares of each cell at `temperature`, its grid brought to the student's; with targets the masks too."""
        from torch.nn.functional import interpolate

        classes, goal = student.shape[-1], teacher.float()
        if goal.shape != student.shape:
            goal = interpolate(goal.permute(0, 3, 1, 2), size=student.shape[1:3], mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
        loss = class_losses.softened(student.reshape(-1, classes), goal.reshape(-1, classes), temperature=temperature)
        return loss if targets is None else self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)


TASK = SemanticSegmentationTask()


def drawn(counts: Mapping[Split, int], *, size: tuple[int, int], seed: int) -> Masked:
    """The built-in scenes as pictures and masks, each drawn when it is read."""

    def line(split: Split, index: int) -> Line:
        return Line(f"{split}/{index:05d}", f"{split}/{index:05d}", f"built-in scenes, {split} picture {index}")

    def made(line: Line) -> drawn_shapes.Scene:
        split, _, index = line.id.partition("/")
        return drawn_shapes.scene(split, int(index), size=size, seed=seed)  # type: ignore[arg-type]

    lines = {split: tuple(line(split, index) for index in range(counts[split])) for split in SPLITS}
    corpus = Corpus(lines, lambda line: png(made(line).picture), drawn_shapes.facts(seed))
    return Masked(corpus, lambda line: png(made(line).classes), (GROUND, *drawn_shapes.KINDS))


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the semantic-segmentation task", key, DEFAULTS)
    chosen = {**DEFAULTS, **settings}
    if chosen["normalise"] not in SCALES:
        raise unknown("normalise", str(chosen["normalise"]), tuple(SCALES))
    for key, low, high, step in (
        ("height", LEAST, MOST, MULTIPLE),
        ("width", LEAST, MOST, MULTIPLE),
        *((split, 1, 2**31, 1) for split in SPLITS),
    ):
        wanted = chosen[key]
        if wanted is not None and not (_whole(wanted, low, high) and wanted % step == 0):
            several = f", a multiple of {step}" if step > 1 else ""
            raise Problem(
                f"{key} is {wanted!r}, allowed: a whole number from {low} to {high}{several}", remedy="leave it out for what suits the data"
            )
    if (chosen["height"] is None) != (chosen["width"] is None):
        raise Problem("height and width go together", remedy="give both, or neither for what suits the pictures")
    chosen["ignore"] = _ignored(chosen["ignore"])
    chosen["labels"] = _labels(chosen["labels"])
    if not _number(chosen["balance"], 0, 1):
        raise Problem(f"balance is {chosen['balance']!r}, allowed: 0 to 1", remedy="0: every pixel counts alike, 1: every class")
    return chosen


def _ignored(value: Any) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ("",)
    if not all(_whole(number, 0, 2**16 - 1) for number in values):
        raise Problem(f"ignore is {value!r}, expected numbers of a mask", remedy="ignore = [255]")
    return values


def _labels(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    named = isinstance(value, list | tuple) and all(isinstance(label, str) and label.strip() for label in value)
    if not named or len(set(value)) != len(value) or not 2 <= len(value) <= maskfolders.MOST_CLASSES:
        raise Problem("labels are a list of different class names, the first is number 0", remedy='labels = ["ground", "road"]')
    return tuple(value)


def _view(chosen: Mapping[str, Any]) -> View:
    """How training pictures vary: as photographs do, but for what the settings say. Raises Problem (exit 2) for a value out of range."""
    values = {key: getattr(PHOTOGRAPHS, key) if chosen[key] is None else chosen[key] for key in VIEWS}
    if not isinstance(values["flip"], bool):
        raise Problem(f"flip is {values['flip']!r}, allowed: true or false", remedy="false where left and right tell classes apart")
    for key, low, high in (("zoom", 0.1, 1.0), ("tone", 0.0, 0.9)):
        if not _number(values[key], low, high):
            raise Problem(f"{key} is {values[key]!r}, allowed: {low:g} to {high:g}")
    return View(**values)


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
