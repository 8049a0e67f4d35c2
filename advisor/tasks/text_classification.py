"""Text classification: a text in, which of a few labels it has out. Intents, topics, feelings.

Idea: a text is cut into subwords that were learned from the training texts, and a net scores the labels. Score: the share that is
right; beside it the mean over the labels, which a rare label counts in as a full one.
Source: subwords, Sennrich et al. 2016, arXiv:1508.07909; label smoothing, Szegedy et al. 2015, arXiv:1512.00567; distillation, Hinton et
al. 2015, arXiv:1503.02531.
Shape: tokens (b, n) int64, n a multiple of 16, 0 behind the last → logits (b, classes), raw.
Reads: CSV, TSV or JSONL with named columns text and label, in a file or one a split; or, given nothing, generated sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from advisor import class_losses
from advisor.data import intents, text_lists
from advisor.data.classes import ACCURACY
from advisor.data.corpus import SPLITS
from advisor.data.subwords import MOST_SIZE, PADDING, parsed
from advisor.data.texts import MULTIPLE, TextData, Vary, signature, sizes
from advisor.stand_in import StandIn
from rules.examples import Feeds, Metric
from rules.problems import Problem, unknown

if TYPE_CHECKING:
    from torch import Tensor

DEFAULTS: Mapping[str, Any] = {
    "length": None,
    "vocabulary": 4000,
    "lower": True,
    "subwords": None,
    "labels": None,
    "hide": Vary().hide,
    "smoothing": Vary().smoothing,
    **dict.fromkeys(SPLITS),
}
LENGTH, BUILT_IN_LENGTH = 64, 32  # subwords of a text
BUILT_IN_VOCABULARY = 1000
LONGEST = 4096
WHOLE = (("vocabulary", 64, MOST_SIZE), *((split, 1, 2**31) for split in SPLITS))
SHARES = {"hide": 0.9, "smoothing": 0.9}


@dataclass(frozen=True, slots=True)
class TextClassificationTask:
    """The task. `alpha` shares distillation between the teacher's answers (alpha) and the labels (1 - alpha)."""

    name: str = "text-classification"
    metric: Metric = ACCURACY
    alpha: float = 0.5

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted."""
        return {"classes": 2, "vocabulary": 8000, "length": LENGTH}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Random tokens with a little padding, as a net for `given` takes them."""
        return StandIn(signature(**given), {f"t{size}": {"tokens": size} for size in sizes(given["length"])}, ready=_ended, padded=_longer)

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> TextData:
        """The texts at `source` (a folder or a file), or the generated sentences.

        `settings`: length (the most subwords of a text, a multiple of 16), vocabulary (how many subwords are learned), lower (case is
        dropped), subwords (those to know, as `provenance["reopen"]` has them), labels (those to know, in their order), hide (share of a
        training text's subwords that are hidden), smoothing (of labels), train, val, test (how many texts of each split to use).
        With labels and subwords a source may hold only texts to score.
        Raises Problem: exit 2 for a wrong setting, 3 for refused data, 5 for a missing package.
        """
        chosen = _settings(settings or {})
        given = None if chosen["subwords"] is None else parsed(chosen["subwords"])
        how = {"lower": chosen["lower"], "vary": Vary(chosen["hide"], chosen["smoothing"]), "subwords": given, "labels": chosen["labels"]}
        if source is None:
            corpus = intents.corpus({split: chosen[split] or intents.COUNTS[split] for split in SPLITS}, seed=seed)
            small = chosen["vocabulary"] if "vocabulary" in (settings or {}) else BUILT_IN_VOCABULARY
            return TextData(corpus, length=chosen["length"] or BUILT_IN_LENGTH, vocabulary=small, **how)
        corpus = text_lists.corpus(source, seed=seed, training=chosen["labels"] is None or given is None)
        limits = {split: chosen[split] for split in SPLITS}
        return TextData(corpus, length=chosen["length"] or LENGTH, vocabulary=chosen["vocabulary"], limits=limits, **how)

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy, nats a text: output (b, classes) logits; targets label (b,), or soft (b, classes) where smoothed."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(output.float(), targets["soft"] if "soft" in targets else targets["label"])

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        """The teacher's shares at `temperature`; with targets the labels too."""
        loss = class_losses.softened(student, teacher, temperature=temperature)
        return loss if targets is None else self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)


TASK = TextClassificationTask()


def _ended(feeds: dict[str, np.ndarray], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """The first text fills its places, others end somewhere in the second half."""
    tokens = np.maximum(feeds["tokens"], PADDING + 1)
    ends = generator.integers(tokens.shape[1] // 2, tokens.shape[1], (len(tokens), 1), endpoint=True)
    ends[0] = tokens.shape[1]
    return {"tokens": np.where(np.arange(tokens.shape[1]) < ends, tokens, PADDING)}


def _longer(feeds: Feeds) -> Feeds:
    return {"tokens": np.pad(feeds["tokens"], ((0, 0), (0, MULTIPLE)), constant_values=PADDING)}


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the text-classification task", key, DEFAULTS)
    chosen = {**DEFAULTS, **settings}
    length = chosen["length"]
    if length is not None and (not _whole(length, MULTIPLE, LONGEST) or length % MULTIPLE):
        raise Problem(f"length is {length!r}, allowed: a multiple of {MULTIPLE} up to {LONGEST}", remedy=f"length = {LENGTH}")
    for key, low, high in WHOLE:
        if chosen[key] is not None and not _whole(chosen[key], low, high):
            raise Problem(f"{key} is {chosen[key]!r}, allowed: a whole number from {low} to {high}")
    for key, most in SHARES.items():
        value = chosen[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise Problem(f"{key} is {value!r}, allowed: 0 to {most:g}")
    if not isinstance(chosen["lower"], bool):
        raise Problem(f"lower is {chosen['lower']!r}, allowed: true or false")
    labels = chosen["labels"]
    named = isinstance(labels, list | tuple) and labels and all(isinstance(label, str) and label.strip() for label in labels)
    if labels is not None and not (named and len(set(labels)) == len(labels)):
        raise Problem("labels are a list of different names", remedy='labels = ["question", "order"]')
    return chosen


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
