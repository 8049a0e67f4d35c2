"""Object detection: one picture in, boxes around the things on it with their classes out.

Idea: the graph ends in raw scores and offsets of default boxes (`anchors.py`); decoding and dropping doubles is the reader's step, or
a small graph of its own beside it in the bundle (`boxes_graph.py`), because it takes as long as a small net and changes with the thresholds.
A model that is asked a fixed number of times instead (`queries.py`) answers boxes that need no suppression, and learns by `set_loss.py`.
Source: SSD's matching and multibox loss, Liu et al. 2015, arXiv:1512.02325, as in torchvision; distillation on both heads, Chen et al.
2017, "Learning Efficient Object Detection Models with Knowledge Distillation", NeurIPS.
Shape: image (b, 3, side, side) float32 → scores (b, anchors, 1 + classes) and boxes (b, anchors, 4), raw; of queries (b, queries, classes).
Reads: COCO's JSON or Pascal VOC's XML; or, given nothing, drawn shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor import anchors, boxes_graph, queries
from advisor.average_precision import AP, Truth
from advisor.data import boxed, drawn_shapes, pictures
from advisor.data.boxed import Marked, Thing
from advisor.data.corpus import SPLITS, Corpus, Line, Split
from advisor.data.detected import DetectedData, Seen, signature
from advisor.data.pictures import SCALES, png
from advisor.mask_augment import View
from advisor.stand_in import StandIn
from rules.examples import Metric, Port, Signature
from rules.problems import Problem, unknown

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from torch import Tensor

VIEWS = tuple(field.name for field in fields(View))
EMPTY = ("refuse", "skip")
NMS = ("beside", "inside")
DEFAULTS: Mapping[str, Any] = {
    "side": None,
    "smallest": None,
    "queries": 0,
    "normalise": "half",
    "labels": None,
    "empty": "refuse",
    "nms": "beside",
    **dict.fromkeys(SPLITS),
    **dict.fromkeys(VIEWS),
}
PHOTOGRAPHS = View(flip=True, zoom=0.6, tone=0.2)  # how pictures of a folder vary unless the settings say otherwise
SIDE, DRAWN = 320, 96  # pixels a model sees of pictures, and of the built-in scenes
DRAWN_SMALLEST = 0.35  # of the built-in scenes, whose things take a fifth to a half of the side: they are found on the finest grid
SMALLEST, LARGEST, MULTIPLE = 64, 1024, 32  # of `side`
LEAST_BOX, MOST_BOX = 0.02, 0.5  # of `smallest`
COUNTS: Mapping[Split, int] = {"train": 800, "val": 200, "test": 400}
ENOUGH = 0.5  # overlap from which a default box is to find a thing
NEGATIVES = 3  # default boxes of the ground that count, the worst first, for each that is to find something


@dataclass(frozen=True, slots=True)
class ObjectDetectionTask:
    """The task. `alpha` shares distillation between the teacher's answers (alpha) and the boxes (1 - alpha)."""

    name: str = "object-detection"
    metric: Metric = AP
    alpha: float = 0.5

    @property
    def published(self) -> Mapping[str, Any]:
        """Settings of `open` that suit published weights."""
        return pictures.PUBLISHED

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted: 90 numbers of classes, as COCO's are, and SSDLite's side and boxes."""
        return {"classes": 90, "side": 320, "smallest": anchors.SCALES[0]}

    @property
    def asked(self) -> tuple[str, ...]:
        """Settings of `open` that the architecture decides: its variants say what they are given, where it is not the usual."""
        return ("queries",)

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Random pictures, as a net for `given` takes them."""
        return StandIn(signature(**given), {f"s{given['side']}": {}})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> DetectedData:
        """The data at `source` (a folder), or the built-in scenes.

        `settings`: side (pixels a model sees, a multiple of 32), smallest (what share of the side the smallest default boxes take: near
        the smallest things; 0.2 of pictures, 0.35 of the built-in scenes), normalise ("half" or "imagenet"), labels (the classes to know, in
        their order; else those of the annotations), queries (how often a model of that form asks; 0: it answers default boxes), empty ("refuse" boxes without area, or "skip" them), nms (whether a bundle's decoding and dropping of doubles stands "beside" the
        net, or "inside" a joined graph as well), train, val, test (how many
        pictures of each split to use), and how training pictures vary: flip, zoom, tone (`mask_augment.View`). With labels a folder
        may hold only pictures to score. Raises Problem: exit 2 for a wrong setting, 3 for refused data.
        """
        chosen = _settings(settings or {})
        usual = DRAWN_SMALLEST if source is None else anchors.SCALES[0]
        how = {
            "normalise": chosen["normalise"],
            "asked": chosen["queries"],
            "inside": chosen["nms"] == "inside",
            "smallest": float(usual if chosen["smallest"] is None else chosen["smallest"]),
        }
        if source is None:
            side = chosen["side"] or DRAWN

            def compose(epoch: tuple[int, int], index: int) -> Seen:
                found = drawn_shapes.scene("train", index, size=(side, side), seed=seed, epoch=epoch)
                return found.picture, _truth(found)

            counts = {split: chosen[split] or COUNTS[split] for split in SPLITS}
            labels = chosen["labels"] or drawn_shapes.KINDS
            return DetectedData(drawn(counts, side=side, seed=seed), labels=labels, side=side, compose=compose, **how)
        held = boxed.open_folder(source, seed=seed, training=chosen["labels"] is None, empty=chosen["empty"])
        labels = chosen["labels"] or held.labels or ()
        limits = {split: chosen[split] for split in SPLITS}
        return DetectedData(held, labels=labels, side=chosen["side"] or SIDE, view=_view(chosen), limits=limits, **how)

    def loss(self, output: Sequence[Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """SSD's loss: offsets of the default boxes that are to find a thing (smooth L1), and classes of those and of the worst others.

        Of queries the loss of a set.
        """
        import torch
        from torch.nn.functional import cross_entropy, smooth_l1_loss

        if queries.answered(output[0].shape[1]):
            from advisor.set_loss import set_loss

            return set_loss(output, targets)
        scores, offsets = (value.float() for value in output)
        kinds, wanted = matched(targets["boxes"], targets["kinds"], _side(scores.shape[1]), smallest=_smallest(targets))
        positive = kinds > 0
        number = positive.sum().clamp(min=1)
        placed = smooth_l1_loss(offsets[positive], wanted[positive], reduction="sum")
        wrong = cross_entropy(scores.flatten(0, 1), kinds.clamp(min=0).flatten(), reduction="none").reshape(kinds.shape)
        with torch.no_grad():
            hard = wrong.detach().masked_fill(kinds != 0, -torch.inf)
            rank = hard.argsort(1, descending=True).argsort(1)
            negative = (rank < NEGATIVES * positive.sum(1, keepdim=True)) & (kinds == 0)
        loss: Tensor = (placed + wrong[positive].sum() + wrong[negative].sum()) / number
        return loss

    def distil_loss(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], targets: Mapping[str, Tensor] | None, *, temperature: float
    ) -> Tensor:
        """The teacher's shares and, where it sees a thing, its offsets, default boxes weighed by that; with targets the boxes too.

        Of queries, what the teacher finds.
        """
        from torch.nn.functional import kl_div, log_softmax, smooth_l1_loss

        if queries.answered(student[0].shape[1]):
            from advisor.set_loss import taught_loss

            learnt = taught_loss(student, teacher)
            return learnt if targets is None else self.alpha * learnt + (1 - self.alpha) * self.loss(student, targets)
        (scores, offsets), (taught, goal) = ([value.float() for value in side] for side in (student, teacher))
        seen = 1 - taught.softmax(-1)[..., 0]
        weight = seen + NEGATIVES / taught.shape[1]  # the ground as a whole counts as a few things do
        said, wanted = (log_softmax(logits / temperature, -1) for logits in (scores, taught))
        apart = kl_div(said, wanted, reduction="none", log_target=True).sum(-1)
        moved = smooth_l1_loss(offsets, goal, reduction="none").sum(-1)
        loss: Tensor = (temperature**2 * (weight * apart).sum() + (seen * moved).sum()) / weight.sum()
        return loss if targets is None else self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)

    def behind(self, main: onnx.ModelProto, data: DetectedData) -> Mapping[str, tuple[onnx.ModelProto, StandIn]]:
        """What a bundle holds beside the net: "boxes", heads to boxes, and where the data says so "joined", a picture to boxes."""
        step = data.postprocess[0]
        chosen = {key: step[key] for key in ("least", "most")}
        heads, image = decoded_signature(data.signature)
        if data.asked:
            decode = boxes_graph.of_queries(len(data.labels), heads.inputs[0].shape[1], **chosen)  # type: ignore[arg-type]
        else:
            sizes = {"side": data.side, "overlap": step["overlap"], "smallest": data.smallest}
            decode = boxes_graph.graph(len(data.labels), **sizes, **chosen)
        found = {"boxes": (decode, StandIn(heads, {"some": {}}, ready=partial(_sure, ground=not data.asked)))}
        return {**found, "joined": (boxes_graph.joined(main, decode), StandIn(image, {}))} if data.inside else found


TASK = ObjectDetectionTask()


def decoded_signature(raw: Signature) -> tuple[Signature, Signature]:
    """What the decoding takes and gives, and a detector with it inside: scores and boxes of one picture, or the picture, → found."""
    outputs = Port("found", "float32", ("n", 4)), Port("classes", "int64", ("n",)), Port("chances", "float32", ("n",))
    heads, image = ([Port(port.name, port.dtype, (1, *port.shape[1:])) for port in ports] for ports in (raw.outputs, raw.inputs))
    return Signature(tuple(heads), outputs), Signature(tuple(image), outputs)


def _sure(made: dict[str, np.ndarray], _: np.random.Generator, *, ground: bool) -> dict[str, np.ndarray]:
    """Random heads that are sure of three things and of nothing else: what is found hangs on no rounding. `ground`: the first class is none."""
    scores = 0.1 * made["scores"]
    scores[..., : 1 if ground else None] += 8 if ground else -8
    rows, classes = scores.shape[1:]
    for number, row in enumerate((0, rows // 2, rows - 1)):
        scores[0, row, int(ground) + number % (classes - int(ground))] += 16
    return {**made, "scores": scores.astype("float32"), "boxes": (0.5 + 0.1 * made["boxes"]).astype("float32")}


def matched(boxes: Tensor, kinds: Tensor, side: int, *, smallest: float = anchors.SCALES[0]) -> tuple[Tensor, Tensor]:
    """What each default box is to find: kinds (b, anchors), 0 the ground, -1 neither, and its offsets (b, anchors, 4).

    `boxes` (b, n, 4) and `kinds` (b, n) as a batch has them. A default box finds the thing it shares most with, from half on, and each
    thing is found at least by the one that fits it best.
    """
    import torch

    made = anchors.anchors(side, smallest)
    held, edges = (torch.from_numpy(values).to(boxes.device) for values in (made, anchors.corners(made)))
    shared = _overlaps(boxes, edges).masked_fill((kinds == 0)[..., None], -1.0)  # (b, n, anchors)
    best, thing = shared.max(1)
    thing = thing.masked_fill(best < ENOUGH, -1)
    favourite = shared.argmax(2)
    for number in range(boxes.shape[1]):  # the last of two that want one box gets it, as in torchvision
        rows = torch.nonzero(kinds[:, number] != 0).flatten()
        thing[rows, favourite[rows, number]] = number
    chosen = thing.clamp(min=0)
    found = kinds.gather(1, chosen).masked_fill(thing < 0, 0)
    goal = boxes.gather(1, chosen[..., None].expand(-1, -1, 4))
    size = (goal[..., 2:] - goal[..., :2]).clamp(min=1e-6)
    place, stretch = (goal[..., :2] + goal[..., 2:]) / 2 - held[:, :2], torch.log(size / held[:, 2:])
    return found, torch.cat([place / held[:, 2:], stretch], -1) * boxes.new_tensor(anchors.WEIGHTS)


def _overlaps(boxes: Tensor, edges: Tensor) -> Tensor:
    """Intersection over union, (b, n, 4) with (anchors, 4) → (b, n, anchors)."""
    import torch

    low = torch.maximum(boxes[:, :, None, :2], edges[:, :2])
    high = torch.minimum(boxes[:, :, None, 2:], edges[:, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1)[..., None] + (edges[:, 2:] - edges[:, :2]).prod(-1)
    return both / (areas - both).clamp(min=1e-9)


def _side(count: int) -> int:
    """The side whose default boxes are so many."""
    return next(side for side in range(SMALLEST, LARGEST + 1, MULTIPLE) if anchors.count(side) == count)


def _smallest(targets: Mapping[str, Tensor]) -> float:
    """The scale of the least default boxes, as a batch has it; rounded, for it went through float32."""
    return round(float(targets["smallest"][0]), 6) if "smallest" in targets else anchors.SCALES[0]


def drawn(counts: Mapping[Split, int], *, side: int, seed: int) -> Marked:
    """The built-in scenes as pictures with boxes, each drawn when it is read."""

    def made(name: str) -> drawn_shapes.Scene:
        split, _, index = name.partition("/")
        return drawn_shapes.scene(split, int(index), size=(side, side), seed=seed)  # type: ignore[arg-type]

    lines: dict[Split, tuple[Line, ...]] = {
        split: tuple(Line(f"{split}/{index:05d}", "", f"built-in scenes, {split} picture {index}") for index in range(counts[split]))
        for split in SPLITS
    }
    things = {}
    for line in (line for split in SPLITS for line in lines[split]):
        found = made(line.id)
        rows = zip(found.kinds.tolist(), found.boxes.tolist(), strict=True)
        things[line.id] = [Thing(drawn_shapes.KINDS[kind - 1], tuple(box), False, line.where) for kind, box in rows]
    corpus = Corpus(lines, lambda line: png(made(line.id).picture), drawn_shapes.facts(seed))
    return Marked(corpus, things, {}, drawn_shapes.KINDS)


def _truth(scene: drawn_shapes.Scene) -> Truth:
    import numpy as np

    return Truth(scene.boxes / np.float32(len(scene.picture)), scene.kinds - 1, np.zeros(len(scene.kinds), dtype=bool))


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the object-detection task", key, DEFAULTS)
    chosen = {**DEFAULTS, **settings}
    for key, allowed in (("normalise", tuple(SCALES)), ("empty", EMPTY), ("nms", NMS)):
        if chosen[key] not in allowed:
            raise unknown(key, str(chosen[key]), allowed)
    for key, low, high, step in (
        ("side", SMALLEST, LARGEST, MULTIPLE),
        ("queries", 0, queries.MOST, 1),
        *((split, 1, 2**31, 1) for split in SPLITS),
    ):
        wanted = chosen[key]
        whole = isinstance(wanted, int) and not isinstance(wanted, bool)
        if wanted is not None and not (whole and low <= wanted <= high and wanted % step == 0):
            several = f", a multiple of {step}" if step > 1 else ""
            raise Problem(f"{key} is {wanted!r}, allowed: a whole number from {low} to {high}{several}")
    if chosen["queries"] and not queries.answered(chosen["queries"]):
        raise Problem(f"queries is {chosen['queries']}, which is how many default boxes a side has", remedy="one more tells them apart")
    smallest = chosen["smallest"]
    number = isinstance(smallest, int | float) and not isinstance(smallest, bool)
    if smallest is not None and not (number and LEAST_BOX <= smallest <= MOST_BOX):
        raise Problem(
            f"smallest is {smallest!r}, allowed: {LEAST_BOX:g} to {MOST_BOX:g}", remedy="the smallest things' share of the picture's side"
        )
    labels = chosen["labels"]
    named = isinstance(labels, list | tuple) and labels and all(isinstance(label, str) and label.strip() for label in labels)
    if labels is not None and not (named and len(set(labels)) == len(labels)):
        raise Problem("labels are a list of different class names", remedy='labels = ["cat", "dog"]')
    return chosen


def _view(chosen: Mapping[str, Any]) -> View:
    """How training pictures vary: as photographs do, but for what the settings say. Raises Problem (exit 2) for a value out of range."""
    values = {key: getattr(PHOTOGRAPHS, key) if chosen[key] is None else chosen[key] for key in VIEWS}
    if not isinstance(values["flip"], bool):
        raise Problem(f"flip is {values['flip']!r}, allowed: true or false", remedy="false where left and right tell classes apart")
    for key, low, high in (("zoom", 0.1, 1.0), ("tone", 0.0, 0.9)):
        value = values[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise Problem(f"{key} is {value!r}, allowed: {low:g} to {high:g}")
    return View(**values)
