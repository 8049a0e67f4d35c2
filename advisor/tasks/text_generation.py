"""Text generation: a text in, after each of its signs the chances of the next one out; written on from there.

Idea: signs are characters, or subwords by choice. A net is asked at every place of a passage at once and must not look ahead. What
counts is how little surprise the text that came was, in nats a character, whatever the signs are. BLEU needs a text to compare with, and
there is none for what is written freely.
Source: cross entropy of the next character, as in Karpathy's char-rnn and nanoGPT; distillation, Hinton et al. 2015, arXiv:1503.02531.
Shape: ids (b, t) int64 → logits (b, t, vocabulary), raw.
Reads: a text file, a folder of them, or JSONL with a text a line; given nothing, built-in stories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor import class_losses
from advisor.data import documents, generated_stories
from advisor.data.corpus import SPLITS
from advisor.data.documents import Texts
from advisor.data.passages import NATS, PassageData, signature
from advisor.data.signs import Characters, Pieces, Signs, characters, known_characters
from advisor.data.subwords import learn, parsed
from advisor.data.windows import whole
from advisor.stand_in import StandIn
from rules.examples import Metric
from rules.problems import Problem, unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

KINDS = ("characters", "subwords")
DEFAULTS: Mapping[str, Any] = {
    "signs": "characters",
    "length": 128,
    "vocabulary": 2000,
    "split": "auto",
    "held_out": (0.1, 0.1),
    "known": None,
    "subwords": None,
    **dict.fromkeys(SPLITS),
}


@dataclass(frozen=True, slots=True)
class TextGenerationTask:
    """The task. `alpha` shares distillation between the teacher's chances (alpha) and the signs that came (1 - alpha)."""

    name: str = "text-generation"
    metric: Metric = NATS
    alpha: float = 0.5

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted: the 65 characters of tiny Shakespeare, passages of 256."""
        return {"vocabulary": 65, "length": 256}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Random signs, as a net for `given` takes them."""
        return StandIn(signature(**given), {str(given["length"]): {"time": given["length"]}, "1": {"time": 1}})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> PassageData:
        """The texts at `source` (a file or a folder), or the built-in stories.

        `settings`: signs ("characters", or "subwords" that are learned from the training texts), length (signs a passage), vocabulary (of
        subwords), split (how missing splits are drawn: whole "texts", or by "place" in each; "auto" takes whole ones where there are
        twenty), held_out (the shares of val and test), train, val, test (how many passages of each to use, from the beginning), known and
        subwords (of an earlier opening, to read by). Raises Problem: exit 2 for a wrong setting, 3 for refused data, 5 for a missing package.
        """
        chosen = _settings(settings or {})
        given = chosen["known"] or chosen["subwords"]
        texts: Texts
        if source is None:
            texts, facts = generated_stories.texts(generated_stories.COUNTS, seed=seed)
        else:
            shares = dict(zip(("val", "test"), chosen["held_out"], strict=True))
            how: dict[str, Any] = {"way": chosen["split"], "shares": shares, "training": given is None}
            texts, drawn = documents.complete(documents.read(source), seed=seed, source=str(source), **how)
            facts = {"source": source.resolve().name, "licence": "not stated", **drawn}
        signs = given or _learned(texts, chosen)
        return PassageData(texts, facts, signs=signs, length=chosen["length"], limits={split: chosen[split] for split in SPLITS})

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy, nats a sign: output (b, t, vocabulary) logits, target following (b, t)."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(output.float().flatten(0, 1), targets["following"].flatten())

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        """The teacher's chances at `temperature`, at every place; with targets the signs that came too."""
        loss = class_losses.softened(student.flatten(0, 1), teacher.flatten(0, 1), temperature=temperature)
        return loss if targets is None else self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)

    def stepwise(self, model: nn.Module, data: PassageData) -> Mapping[str, tuple[nn.Module, StandIn]]:
        """A net that writes with what it keeps, a state or a cache: "step" reads one more sign."""
        from advisor.writing_steps import stand_in

        if not hasattr(model, "step"):
            return {}
        made: Any = model
        return {"step": (made.step().eval(), stand_in(made, **data.given))}


TASK = TextGenerationTask()


def _learned(texts: Texts, chosen: Mapping[str, Any]) -> Signs:
    """The signs of the training texts."""
    train = [text.text for text in texts["train"]]
    return Pieces(learn(train, size=chosen["vocabulary"], lower=False, lines=True)) if chosen["signs"] == "subwords" else characters(train)


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the text-generation task", key, DEFAULTS)
    chosen = {**DEFAULTS, **settings}
    for key, allowed in (("signs", KINDS), ("split", documents.WAYS)):
        if chosen[key] not in allowed:
            raise unknown(key, str(chosen[key]), allowed)
    whole(chosen, "length", least=8, most=4096)
    whole(chosen, "vocabulary", least=16)
    for split in SPLITS:
        if chosen[split] is not None:
            whole(chosen, split, least=2, most=10**9)
    _check_shares(chosen["held_out"])
    for key, kind in (("known", "characters"), ("subwords", "subwords")):
        if chosen[key] is not None and chosen["signs"] != kind:
            raise Problem(f"{key} is for signs = {kind!r}, and signs is {chosen['signs']!r}")
    known: Characters | None = None if chosen["known"] is None else known_characters(chosen["known"])
    return {**chosen, "known": known, "subwords": None if chosen["subwords"] is None else Pieces(parsed(chosen["subwords"]))}


def _check_shares(value: Any) -> None:
    fractions = isinstance(value, list | tuple) and all(isinstance(share, float) and 0 < share < 1 for share in value)
    if not fractions or len(value) != 2 or sum(value) >= 1:
        raise Problem(f"held_out is {value!r}, allowed: two fractions of less than 1 together", remedy="held_out = [0.05, 0.05]")
