"""Image-text matching: a picture and a text each get a place; those that belong together lie close.

Idea: search pictures by words, or name what is on a picture by words that were never labels. A batch of pairs is the lesson: each
picture is to find its caption among all of the batch, each caption its picture. Score: how often the nearest is the right one, the
mean of both directions, among the pairs that are scored.
Source: Radford et al. 2021, arXiv:2103.00020 (the loss, here at a fixed temperature); a teacher's likenesses, Wu et al. 2023,
arXiv:2309.12314 (TinyCLIP, affinity mimicking).
Shape: image (b, 3, side, side) float32, words (b, length) int64 → image_embedding, text_embedding (b, d) float32 of length one.
Reads: a folder with TSV, CSV or JSONL lists of image and caption; or, given nothing, drawn shapes with sentences about them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.data import captioned_shapes, manifest
from advisor.data.corpus import SPLITS
from advisor.data.pairs import RECALL, PairData, signature
from advisor.data.pictures import FITS
from advisor.picture_augment import Look
from advisor.stand_in import StandIn
from rules.examples import Metric
from rules.problems import Problem, unknown

if TYPE_CHECKING:
    from torch import Tensor

DEFAULTS: Mapping[str, Any] = {
    "side": None,
    "length": None,
    "most_words": 8190,
    "embedding": 256,
    "fit": "crop",
    "vocabulary": None,
    **dict.fromkeys(SPLITS),
}
SIDE, LENGTH = 224, 32  # of a folder's pairs
DRAWN_SIDE, DRAWN_LENGTH = 48, 12  # of the built-in ones
LIMITS = {
    "side": (16, 1024),
    "length": (1, 512),
    "most_words": (1, 1_000_000),
    "embedding": (8, 2048),
    "train": (1, 2**31),
    "val": (1, 2**31),
    "test": (1, 2**31),
}
LOOK = Look(crop=0.9, tone=0.15)  # no mirror: captions say left and right
WORDS = 8192  # numbers of words where cards are counted


@dataclass(frozen=True, slots=True)
class ImageTextMatchingTask:
    """The task. `scale` multiplies cosines before they compete (1 / temperature); `alpha` is the teacher's share."""

    name: str = "image-text-matching"
    metric: Metric = RECALL
    scale: float = 16.0
    alpha: float = 0.5

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted."""
        return {"side": SIDE, "length": LENGTH, "vocabulary": WORDS, "embedding": DEFAULTS["embedding"]}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Random pictures and words, as a net for `given` takes them."""
        return StandIn(signature(**given), {f"s{given['side']}": {}})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> PairData:
        """The data at `source` (a folder with lists), or the drawn shapes.

        `settings`: side (pixels a model sees), length (words it reads), most_words (of the training captions, the most frequent),
        vocabulary (the words to know, in their order), embedding (how many numbers a place is), fit ("crop" or "stretch"), train, val,
        test (how many of the built-in pairs). Raises Problem: exit 2 for a wrong setting, 3 for refused data.
        """
        chosen = _settings(settings or {})
        built_in = source is None
        side, length = chosen["side"] or (DRAWN_SIDE if built_in else SIDE), chosen["length"] or (DRAWN_LENGTH if built_in else LENGTH)
        if source is None:
            corpus = captioned_shapes.corpus({split: chosen[split] or captioned_shapes.COUNTS[split] for split in SPLITS}, seed=seed)
        else:
            corpus = manifest.corpus(source, seed=seed, training=chosen["vocabulary"] is None)
        how = {"most": chosen["most_words"], "embedding": chosen["embedding"], "fit": chosen["fit"], "vocabulary": chosen["vocabulary"]}
        return PairData(corpus, side=side, length=length, look=LOOK, **how)

    def loss(self, output: tuple[Tensor, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Which caption, which picture? Nats, the mean of both directions: output two places (b, d), targets caption (b,)."""
        from torch.nn.functional import cross_entropy

        logits, said = self._likeness(output), targets["caption"]
        own = (said[:, None] == said[None, :]).float()
        own = own / own.sum(1, keepdim=True)
        return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2

    def distil_loss(
        self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], targets: Mapping[str, Tensor] | None, *, temperature: float
    ) -> Tensor:
        """How the teacher thinks the batch's pictures and captions are alike, at `temperature`; with targets which belong together too."""
        from torch.nn.functional import kl_div, log_softmax

        mine, taught = self._likeness(student) / temperature, self._likeness(teacher).detach() / temperature
        ways = ((mine, taught), (mine.T, taught.T))
        soft = [kl_div(log_softmax(one, -1), log_softmax(other, -1), reduction="batchmean", log_target=True) for one, other in ways]
        loss = temperature**2 * (soft[0] + soft[1]) / 2
        return loss if targets is None else self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)

    def _likeness(self, output: tuple[Tensor, Tensor]) -> Tensor:
        """Scaled cosines of every picture with every text, (b, b)."""
        from torch.nn.functional import normalize

        image, text = (normalize(side.float(), dim=-1) for side in output)
        return self.scale * image @ text.T


TASK = ImageTextMatchingTask()


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the image-text-matching task", key, DEFAULTS)
    chosen = {**DEFAULTS, **settings}
    if chosen["fit"] not in FITS:
        raise unknown("fit", str(chosen["fit"]), FITS)
    for key, (low, high) in LIMITS.items():
        wanted = chosen[key]
        if wanted is None and DEFAULTS[key] is None:
            continue
        if isinstance(wanted, bool) or not isinstance(wanted, int) or not low <= wanted <= high:
            raise Problem(f"{key} is {wanted!r}, allowed: a whole number from {low} to {high}")
    words = chosen["vocabulary"]
    if words is not None and not (
        isinstance(words, list | tuple) and all(isinstance(word, str) for word in words) and len(set(words)) == len(words)
    ):
        raise Problem("vocabulary is a list of different words", remedy='vocabulary = ["a", "red", "circle"]')
    return chosen
