"""Few examples: a picture of something nobody trained on, and one to five examples of each thing it could be.

Idea: the net answers with a place, and what is new is known by the mean of its examples' places; nothing is trained for it. It is
trained on batches that are such questions, of other kinds. Score: how often the nearest mean is right among `ways` kinds, by `shots`
examples of each, over a fixed draw of small tasks.
Source: Snell et al. 2017, arXiv:1703.05175; the protocol of Omniglot, Lake et al. 2015, doi:10.1126/science.aab3050.
Shape: image (b, 3, side, side) float32 → embedding (b, d) float32 of length one.
Reads: a folder a kind, with or without train, val and test (kinds are in one of them only); TSV, CSV or JSONL lists; or, given nothing, drawn characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advisor import few_shot
from advisor.data import classfolders, glyphs
from advisor.data.classes import ACCURACY
from advisor.data.gallery import GalleryData, Judge, signature
from advisor.data.pictures import FITS
from advisor.picture_augment import Look
from advisor.stand_in import StandIn
from rules.examples import Metric, Score
from rules.problems import Problem, unknown

if TYPE_CHECKING:
    from torch import Tensor

DEFAULTS: Mapping[str, Any] = {"side": 28, "embedding": 64, "fit": "crop", "ways": 20, "shots": 1, "turn": False}
LIMITS = {"side": (16, 512), "embedding": (8, 2048), "ways": (2, 1000), "shots": (1, 100)}
LOOK = Look(crop=0.8, shift=0.08)
MOST = 4000  # pictures whose places a score takes; of more, the first of each kind


@dataclass(frozen=True, slots=True)
class FewShotTask:
    """The task. `closeness`: what cosines are multiplied by where pictures are compared; `alpha` is a teacher's share."""

    name: str = "few-shot"
    metric: Metric = ACCURACY
    closeness: float = 16.0
    alpha: float = 0.5

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted: Omniglot as it is usually reduced."""
        return {"people": 0, "side": DEFAULTS["side"], "embedding": DEFAULTS["embedding"]}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Random pictures, as a net for `given` takes them."""
        return StandIn(signature(given["side"], given["embedding"]), {f"s{given['side']}": {}})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> GalleryData:
        """The data at `source` (a folder of kinds), or the drawn characters.

        `settings`: side (pixels a model sees), embedding (how many numbers a place is), fit ("crop" or "stretch"), ways and shots of
        the score, turn (training pictures also turned, as kinds of their own: for characters, not for photographs).
        Raises Problem: exit 2 for a wrong setting, 3 for refused data.
        """
        chosen = _settings(settings or {})
        corpus = glyphs.corpus(seed) if source is None else classfolders.strangers(source, seed=seed)
        judge = Judge(_all_or_first, partial(_told, ways=chosen["ways"], shots=chosen["shots"]))
        how = {"side": chosen["side"], "embedding": chosen["embedding"], "fit": chosen["fit"], "noun": "kinds"}
        return GalleryData(glyphs.turned(corpus) if chosen["turn"] else corpus, task=self.name, judge=judge, look=LOOK, **how)

    def loss(self, output: Tensor | tuple[Tensor, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Which of the batch's kinds is it, by their means? Nats a picture: output embedding (b, d), targets label (b,)."""
        from advisor.metric_losses import prototypical

        return prototypical(_place(output), targets["label"], scale=self.closeness)

    def distil_loss(
        self,
        student: Tensor | tuple[Tensor, Tensor],
        teacher: Tensor | tuple[Tensor, Tensor],
        targets: Mapping[str, Tensor] | None,
        *,
        temperature: float,
    ) -> Tensor:
        """How far the student's places are from the teacher's; with targets the question too. Places have no temperature."""
        from advisor.metric_losses import toward

        loss = self.closeness * toward(_place(student), _place(teacher))
        return loss if targets is None else self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)


TASK = FewShotTask()


def _place(output: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """The embedding: a net that could know its training people answers with more while it trains."""
    return output[0] if isinstance(output, tuple) else output


def _all_or_first(kinds: NDArray[Any], asked: NDArray[Any]) -> NDArray[Any]:
    """The rows asked and what they are told from: every row, or where there are too many as many of each kind as fit."""
    if len(kinds) <= MOST:
        return np.arange(len(kinds))
    each = max(2, MOST // len(np.unique(kinds)))
    first = np.concatenate([np.flatnonzero(kinds == kind)[:each] for kind in np.unique(kinds)])
    return np.union1d(first, asked)


def _told(places: NDArray[Any], kinds: NDArray[Any], asked: NDArray[Any], *, ways: int, shots: int) -> Score:
    """The share of the pictures asked that the nearest mean tells right."""
    right = few_shot.nearest(places, kinds, asked, ways=ways, shots=shots)
    return Score(ACCURACY, float(right.mean()) if len(right) else 0.0, right, np.ones_like(right))


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the few-shot task", key, DEFAULTS)
    chosen = {**DEFAULTS, **settings}
    if chosen["fit"] not in FITS:
        raise unknown("fit", str(chosen["fit"]), FITS)
    if not isinstance(chosen["turn"], bool):
        raise Problem(f"turn is {chosen['turn']!r}, allowed: true or false")
    for key, (low, high) in LIMITS.items():
        if isinstance(chosen[key], bool) or not isinstance(chosen[key], int) or not low <= chosen[key] <= high:
            raise Problem(f"{key} is {chosen[key]!r}, allowed: a whole number from {low} to {high}")
    return chosen
