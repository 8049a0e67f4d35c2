"""Face recognition: one aligned face in, a place out; whoever stands close enough is the same person.

Idea: nobody is classified. The net is trained on some people and scored on strangers: are two pictures of one person? While it
trains it is asked who is whom among those of its batch, by their means; a net that knows the people of the training set (`people`)
widens the angle to the right one besides (ArcFace), which alone wants more pictures than most have. What ships is the body.
Score: the equal error rate over pairs; beside it true accepts at fixed rates of false ones.
Source: Deng et al. 2018, arXiv:1801.07698 (ArcFace); Snell et al. 2017, arXiv:1703.05175 (means of a batch).
Shape: image (b, 3, side, side) float32 → embedding (b, d) float32 of length one.
Reads: a folder a person, with or without train, val and test (people are in one of them only); TSV, CSV or JSONL lists; or, given nothing, drawn faces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advisor import verification
from advisor.data import classfolders, faces
from advisor.data.gallery import GalleryData, Judge, signature
from advisor.data.pictures import FITS
from advisor.picture_augment import Look
from advisor.stand_in import StandIn
from rules.examples import Metric, Score
from rules.problems import Problem, unknown

if TYPE_CHECKING:
    from torch import Tensor

EER = Metric("equal error rate", "lower", "%")
DEFAULTS: Mapping[str, Any] = {"side": None, "embedding": 128, "fit": "crop"}
SIDE, DRAWN = 112, 48  # pixels a model sees: of a folder's pictures, of the built-in ones
MULTIPLE = 16  # of the side: four halvings
LOOK = Look(flip=True, crop=0.75, tone=0.25)


@dataclass(frozen=True, slots=True)
class FaceRecognitionTask:
    """The task. `scale` and `margin` are ArcFace's, smaller than the paper's 64 and 0.5 as its people are fewer; `alpha` is the teacher's share."""

    name: str = "face-recognition"
    metric: Metric = EER
    scale: float = 24.0
    margin: float = 0.3
    alpha: float = 0.5
    closeness: float = 16.0  # what cosines are multiplied by where pictures are compared with each other, or with a teacher's

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted; the head for these people is no part of what ships."""
        return {"people": 1000, "side": SIDE, "embedding": DEFAULTS["embedding"]}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Random pictures, as a net for `given` takes them."""
        return StandIn(signature(given["side"], given["embedding"]), {f"s{given['side']}": {}})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> GalleryData:
        """The data at `source` (a folder of people), or the drawn faces.

        `settings`: side (pixels a model sees, a multiple of 16; else 112, of drawn faces 48), embedding (how many numbers a place is),
        fit ("crop" the largest centred square or "stretch"). Raises Problem: exit 2 for a wrong setting, 3 for refused data.
        """
        chosen = _settings(settings or {})
        side = chosen["side"] or (DRAWN if source is None else SIDE)
        corpus = faces.corpus(seed) if source is None else classfolders.strangers(source, seed=seed)
        how = {"side": side, "embedding": chosen["embedding"], "fit": chosen["fit"]}
        return GalleryData(corpus, task=self.name, judge=Judge(_asked_alone, _verified), look=LOOK, **how)

    def loss(self, output: Tensor | tuple[Tensor, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Nats a picture: output embedding (b, d), or with cosines (b, people) beside it; targets label (b,)."""
        from advisor import metric_losses

        place = output[0] if isinstance(output, tuple) else output
        loss = metric_losses.prototypical(place, targets["label"], scale=self.closeness)
        if isinstance(output, tuple):
            loss = loss + metric_losses.arcface(output[1], targets["label"], scale=self.scale, margin=self.margin)
        return loss

    def distil_loss(
        self,
        student: Tensor | tuple[Tensor, Tensor],
        teacher: Tensor | tuple[Tensor, Tensor],
        targets: Mapping[str, Tensor] | None,
        *,
        temperature: float,
    ) -> Tensor:
        """How far the student's places are from the teacher's; with targets the people too. Places have no temperature."""
        from advisor.metric_losses import toward

        mine, taught = (side[0] if isinstance(side, tuple) else side for side in (student, teacher))
        loss = self.closeness * toward(mine, taught)
        return loss if targets is None else self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)


TASK = FaceRecognitionTask()


def _asked_alone(kinds: NDArray[Any], asked: NDArray[Any]) -> NDArray[Any]:
    return asked


def _verified(places: NDArray[Any], people: NDArray[Any], asked: NDArray[Any]) -> Score:
    """The equal error rate over the pairs of these places; per picture its part in the errors at that threshold."""
    found = verification.pairs(places, people)
    false, true, thresholds = found.rates()
    value = verification.equal_error(false, true)
    errors = found.wrong(float(thresholds[verification.closest(false, true)]))
    return Score(EER, value, errors, np.ones_like(errors), verification.accepts(found), over=found.over)


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the face-recognition task", key, DEFAULTS)
    chosen = {**DEFAULTS, **settings}
    if chosen["fit"] not in FITS:
        raise unknown("fit", str(chosen["fit"]), FITS)
    for key, low, high in (("side", 32, 512), ("embedding", 8, 2048)):
        wanted = chosen[key]
        if key == "side" and wanted is None:
            continue
        if isinstance(wanted, bool) or not isinstance(wanted, int) or not low <= wanted <= high:
            raise Problem(f"{key} is {wanted!r}, allowed: a whole number from {low} to {high}")
    if chosen["side"] is not None and chosen["side"] % MULTIPLE:
        raise Problem(
            f"side is {chosen['side']}, allowed: multiples of {MULTIPLE}", remedy=f"side = {chosen['side'] // MULTIPLE * MULTIPLE}"
        )
    return chosen
