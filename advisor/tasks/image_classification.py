"""Image classification: one picture in, the class it belongs to out.

Idea: the largest centred square of a picture (or all of it, squeezed) is scaled to the side that suits the pictures at hand, and a
net scores the classes. Score: the share that is right; beside it the mean over the classes, which a rare class counts in as a full one.
Source: cross entropy over classes; label smoothing, Szegedy et al. 2015, arXiv:1512.00567; distillation, Hinton et al. 2015, arXiv:1503.02531.
Shape: image (b, 3, side, side) float32 → logits (b, classes), raw.
Reads: a folder a class, with or without train, val and test; TSV, CSV or JSONL lists; or, given nothing, the built-in coloured digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor import class_losses
from advisor.data import classfolders, drawn_digits, manifest, pictures
from advisor.data.classes import ACCURACY
from advisor.data.corpus import SPLITS
from advisor.data.labelled import PictureData, signature
from advisor.data.pictures import FITS, SCALES
from advisor.picture_augment import Look
from advisor.stand_in import StandIn
from rules.examples import Explanation, Metric
from rules.problems import Problem, unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

LOOKS = tuple(field.name for field in fields(Look))
DEFAULTS: Mapping[str, Any] = {
    "side": None,
    "fit": "crop",
    "normalise": "half",
    "labels": None,
    **dict.fromkeys(SPLITS),
    **dict.fromkeys(LOOKS),
}
PHOTOGRAPHS = Look(flip=True, shift=0.125)  # how pictures of a folder vary unless the settings say otherwise
SMALLEST, LARGEST = 8, 1024  # of `side`
EXPLAINED = 24  # test pictures that the report's explanations choose from and measure on


@dataclass(frozen=True, slots=True)
class ImageClassificationTask:
    """The task. `alpha` shares distillation between the teacher's answers (alpha) and the labels (1 - alpha)."""

    name: str = "image-classification"
    metric: Metric = ACCURACY
    alpha: float = 0.5

    @property
    def published(self) -> Mapping[str, Any]:
        """Settings of `open` that suit published weights."""
        return pictures.PUBLISHED

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted: ImageNet's classes and size. Nets for small pictures say their own."""
        return {"classes": 1000, "side": 224}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Random pictures, as a net for `given` takes them."""
        return StandIn(signature(**given), {f"s{given['side']}": {}})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> PictureData:
        """The data at `source` (a folder), or the built-in digits.

        `settings`: side (pixels a model sees; else what suits the pictures), fit ("crop" the largest centred square or "stretch"),
        normalise ("half" or "imagenet"), labels (the classes to know, in their order), train, val, test (how many pictures of each
        split to use), and how training pictures vary: flip, shift, crop, tone, mixup, cutmix, smoothing (`picture_augment.Look`).
        With labels a folder may hold only pictures to score. Raises Problem: exit 2 for a wrong setting, 3 for refused data.
        """
        chosen = _settings(settings or {})
        how = {"side": chosen["side"], "fit": chosen["fit"], "normalise": chosen["normalise"], "labels": chosen["labels"]}
        if source is None:
            counts = {split: chosen[split] or drawn_digits.COUNTS[split] for split in SPLITS}
            how["side"] = how["side"] or drawn_digits.SIDE
            corpus = drawn_digits.corpus(counts, seed=seed)
            return PictureData(corpus, look=_look(chosen, Look()), compose=drawn_digits.anew(seed), **how)
        reader = manifest if source.is_dir() and classfolders.has_list(source) else classfolders
        corpus = reader.corpus(source, seed=seed, training=chosen["labels"] is None)
        return PictureData(corpus, look=_look(chosen, PHOTOGRAPHS), limits={split: chosen[split] for split in SPLITS}, **how)

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy, nats a picture: output (b, classes) logits; targets label (b,), or soft (b, classes) where they were mixed."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(output.float(), targets["soft"] if "soft" in targets else targets["label"])

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        """The teacher's shares at `temperature`; with targets the labels too."""
        loss = class_losses.softened(student, teacher, temperature=temperature)
        return loss if targets is None else self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)

    def explain(self, model: nn.Module, data: PictureData) -> list[Explanation]:
        """Grad-CAM of some test pictures, for a net whose convolutions know places; else its attention; else nothing. For the report."""
        from advisor import attention, gradcam

        samples = data.samples("test", EXPLAINED)
        for method in (gradcam.explanation, attention.of_pictures):
            with suppress(Problem):
                return [method(model, samples, data.labels)]
        return []


TASK = ImageClassificationTask()


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the image-classification task", key, DEFAULTS)
    chosen = {**DEFAULTS, **settings}
    for key, allowed in (("fit", FITS), ("normalise", tuple(SCALES))):
        if chosen[key] not in allowed:
            raise unknown(key, str(chosen[key]), allowed)
    for key, low, high in (("side", SMALLEST, LARGEST), *((split, 1, 2**31) for split in SPLITS)):
        wanted = chosen[key]
        if wanted is not None and (isinstance(wanted, bool) or not isinstance(wanted, int) or not low <= wanted <= high):
            raise Problem(
                f"{key} is {wanted!r}, allowed: a whole number from {low} to {high}", remedy="leave it out for what suits the data"
            )
    labels = chosen["labels"]
    named = isinstance(labels, list | tuple) and labels and all(isinstance(label, str) and label.strip() for label in labels)
    if labels is not None and not (named and len(set(labels)) == len(labels)):
        raise Problem("labels are a list of different class names", remedy='labels = ["cat", "dog"]')
    return chosen


def _look(chosen: Mapping[str, Any], usual: Look) -> Look:
    """How training pictures vary: as `usual`, but for what the settings say. Raises Problem (exit 2) for a value out of range."""
    values = {}
    for key in LOOKS:
        value = getattr(usual, key) if chosen[key] is None else chosen[key]
        low, high = {"crop": (0.05, 1.0), "shift": (0.0, 0.5), "mixup": (0.0, 10.0), "cutmix": (0.0, 10.0)}.get(key, (0.0, 0.9))
        if key == "flip" and not isinstance(value, bool):
            raise Problem(f"flip is {value!r}, allowed: true or false", remedy="false where left and right tell classes apart")
        if key != "flip" and (isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high):
            raise Problem(f"{key} is {value!r}, allowed: {low:g} to {high:g}")
        values[key] = value
    return Look(**values)
