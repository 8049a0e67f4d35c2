"""Video action recognition: one clip in, what is done in it out.

Idea: a clip of any length is cut into as many equal parts as the net takes frames, the middle frame of each goes in, and the net scores
the classes once for all of them. Score: the share that is right from that one view; beside it the mean over the classes.
Source: sparse sampling of frames, Wang et al. 2016, arXiv:1608.00859; distillation, Hinton et al. 2015, arXiv:1503.02531.
Shape: clip (b, frames, 3, side, side) float32 → logits (b, classes), raw.
Reads: a folder a class, a clip being a folder of pictures, a video file or an animated picture; TSV, CSV or JSONL lists; or, given
nothing, shapes whose motion is the class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor import class_losses
from advisor.clip_augment import Filmed
from advisor.data import clipfolders, moving_shapes, pictures
from advisor.data.classes import ACCURACY
from advisor.data.corpus import SPLITS
from advisor.data.filmed import ActionData, signature
from advisor.data.pictures import FITS, SCALES
from advisor.stand_in import StandIn
from rules.examples import Metric
from rules.problems import Problem, unknown

if TYPE_CHECKING:
    from torch import Tensor

VARIES = tuple(field.name for field in fields(Filmed))
DEFAULTS: Mapping[str, Any] = {
    "frames": 8,
    "side": None,
    "fit": "crop",
    "normalise": "half",
    "labels": None,
    **dict.fromkeys(SPLITS),
    **dict.fromkeys(VARIES),
}
FILMED = Filmed(jitter=True, shift=0.1, tone=0.2)  # how clips of a folder vary unless the settings say otherwise
WHOLE: Mapping[str, tuple[int, int]] = {"side": (16, 512), "frames": (1, 64), **dict.fromkeys(SPLITS, (1, 2**31))}
SHARES = {"shift": 0.5, "tone": 0.9}


@dataclass(frozen=True, slots=True)
class VideoActionRecognitionTask:
    """The task. `alpha` shares distillation between the teacher's answers (alpha) and the labels (1 - alpha)."""

    name: str = "video-action-recognition"
    metric: Metric = ACCURACY
    alpha: float = 0.5

    @property
    def published(self) -> Mapping[str, Any]:
        """Settings of `open` that suit published weights."""
        return pictures.PUBLISHED

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted: the classes of Kinetics-400, eight frames of 224 pixels."""
        return {"classes": 400, "frames": 8, "side": 224}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Random clips, as a net for `given` takes them."""
        return StandIn(signature(**given), {f"{given['frames']}x{given['side']}": {}})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> ActionData:
        """The data at `source` (a folder), or the built-in clips.

        `settings`: frames (a clip, 8), side (pixels a model sees; else what suits the clips), fit ("crop" the largest centred square or
        "stretch"), normalise ("half" or "imagenet"), labels (the classes to know, in their order), train, val, test (how many clips of
        each split to use), and how training clips vary: jitter, flip, shift, tone (`clip_augment.Filmed`). With labels a folder may
        hold only clips to score. Raises Problem: exit 2 for a wrong setting, 3 for refused data, 5 for video files without PyAV.
        """
        chosen = _settings(settings or {})
        how = {key: chosen[key] for key in ("frames", "side", "fit", "normalise", "labels")}
        vary = _vary(chosen, Filmed() if source is None else FILMED)
        if source is None:
            counts = {split: chosen[split] or moving_shapes.COUNTS[split] for split in SPLITS}
            how["side"] = how["side"] or moving_shapes.SIDE
            corpus = moving_shapes.corpus(counts, seed=seed)
            return ActionData(corpus, vary=vary, compose=moving_shapes.anew(seed), **how)
        corpus = clipfolders.corpus(source, seed=seed, training=chosen["labels"] is None)
        return ActionData(corpus, vary=vary, limits={split: chosen[split] for split in SPLITS}, **how)

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy, nats a clip: output (b, classes) logits, target label (b,)."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(output.float(), targets["label"])

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        """The teacher's shares at `temperature`; with targets the labels too."""
        loss = class_losses.softened(student, teacher, temperature=temperature)
        return loss if targets is None else self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)


TASK = VideoActionRecognitionTask()


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the video-action-recognition task", key, DEFAULTS)
    chosen = {**DEFAULTS, **settings}
    for key, allowed in (("fit", FITS), ("normalise", tuple(SCALES))):
        if chosen[key] not in allowed:
            raise unknown(key, str(chosen[key]), allowed)
    for key, (low, high) in WHOLE.items():
        wanted = chosen[key]
        if wanted is None and key != "frames":
            continue
        if isinstance(wanted, bool) or not isinstance(wanted, int) or not low <= wanted <= high:
            what = f"{key} is {wanted!r}, allowed: a whole number from {low} to {high}"
            raise Problem(what, remedy="leave it out for what suits the data")
    labels = chosen["labels"]
    named = isinstance(labels, list | tuple) and labels and all(isinstance(label, str) and label.strip() for label in labels)
    if labels is not None and not (named and len(set(labels)) == len(labels)):
        raise Problem("labels are a list of different class names", remedy='labels = ["wave", "clap"]')
    return chosen


def _vary(chosen: Mapping[str, Any], usual: Filmed) -> Filmed:
    """How training clips vary: as `usual`, but for what the settings say. Raises Problem (exit 2) for a value out of range."""
    values = {}
    for key in VARIES:
        value = getattr(usual, key) if chosen[key] is None else chosen[key]
        if key not in SHARES and not isinstance(value, bool):
            raise Problem(f"{key} is {value!r}, allowed: true or false", remedy="flip = false where left and right tell classes apart")
        if key in SHARES and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= SHARES[key]):
            raise Problem(f"{key} is {value!r}, allowed: 0 to {SHARES[key]:g}")
        values[key] = value
    return Filmed(**values)
