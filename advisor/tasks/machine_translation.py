"""Machine translation: a text in one language in, a text in another out, subword by subword.

Idea: a net reads the source at once and says, for every beginning of the translation, what comes next. It learns on right translations,
with softened labels; it translates by being asked again with what it wrote. A run cuts the net for doing so with a cache (`stepwise`).
Source: Vaswani et al. 2017, arXiv:1706.03762; label smoothing, Szegedy et al. 2015, arXiv:1512.00567; distillation of each next word,
Kim & Rush 2016, arXiv:1606.07947.
Shape: source (b, s), target (b, t) int64 → logits (b, t, vocabulary).
Reads: two files side by side, TSV, JSONL; given nothing, built-in pairs of a language that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.data import generated_pairs, parallel
from advisor.data.corpus import HELD_OUT, SPLITS, assign
from advisor.data.parallel import Pairs
from advisor.data.subwords import PADDING, parsed
from advisor.data.translations import BLEU, MULTIPLE, TranslationData, check, signature, sizes
from advisor.data.windows import whole
from advisor.stand_in import StandIn
from rules.examples import Feeds, Metric
from rules.problems import Problem, bad_input, unknown

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

FILES = tuple(f"{split}_file" for split in SPLITS)
DEFAULTS: Mapping[str, Any] = {
    "source": None,
    "target": None,
    "length": 64,
    "vocabulary": 8000,
    "subwords": None,
    **dict.fromkeys(FILES),
    **dict.fromkeys(SPLITS),
}
BUILT_IN: Mapping[str, Any] = {"length": 32, "vocabulary": 400}  # of the built-in pairs, unless the settings say otherwise


@dataclass(frozen=True, slots=True)
class MachineTranslationTask:
    """The task. `smoothing` of the labels; `alpha` shares distillation between the teacher's chances (alpha) and the words that came."""

    name: str = "machine-translation"
    metric: Metric = BLEU
    smoothing: float = 0.1
    alpha: float = 0.5

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted."""
        return {"vocabulary": DEFAULTS["vocabulary"], "length": DEFAULTS["length"]}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Random sentences, each with a little padding at its end, as a net for `given` takes them."""
        lengths = {f"s{size}": {"source": size, "target": size} for size in sizes(given["length"])}
        return StandIn(signature(**given), lengths, ready=_ready, padded=_more_padding)

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> TranslationData:
        """The pairs at `source` (a folder, a .tsv or a .jsonl), or the built-in ones.

        `settings`: source and target (the endings of two files side by side), train_file, val_file, test_file (which one, where several say
        the same split), length (most subwords of a side, a multiple of 8), vocabulary (of subwords, both sides together), subwords (of an
        earlier opening), train, val, test (how many pairs of each to use, from the beginning). Splits that are missing are drawn from the
        training pairs by a hash of the source. Raises Problem: exit 2 for a wrong setting, 3 for refused data, 5 for a missing package.
        """
        chosen = _settings(settings or {}, {**DEFAULTS, **(BUILT_IN if source is None else {})})
        pairs: Pairs
        if source is None:
            pairs, facts = generated_pairs.pairs()
        else:
            named = {split: chosen[f"{split}_file"] for split in SPLITS}
            pairs, facts = _completed(parallel.read(source, source=chosen["source"], target=chosen["target"], named=named), seed, source)
        used = {split: list(pairs[split])[: chosen[split]] for split in SPLITS}
        if chosen["subwords"] is None:
            check(used)
        return TranslationData(used, facts, subwords=chosen["subwords"], vocabulary=chosen["vocabulary"], length=chosen["length"])

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy with softened labels, nats a subword: output (b, t, vocabulary) logits, target following (b, t), 0 left out."""
        from torch.nn.functional import cross_entropy

        logits, wanted = output.float().flatten(0, 1), targets["following"].flatten()
        return cross_entropy(logits, wanted, ignore_index=PADDING, label_smoothing=self.smoothing)

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        """The teacher's chances of each next subword at `temperature`; with targets the ones that came too, and padding left out."""
        from torch.nn.functional import kl_div, log_softmax

        said, wanted = (log_softmax(logits.float().flatten(0, 1) / temperature, -1) for logits in (student, teacher))
        loss = temperature**2 * kl_div(said, wanted, reduction="none", log_target=True).sum(-1)
        if targets is None:
            return loss.mean()
        there = (targets["following"].flatten() != PADDING).to(loss.dtype)
        return self.alpha * (loss * there).sum() / there.sum().clamp_min(1) + (1 - self.alpha) * self.loss(student, targets)

    def stepwise(self, model: nn.Module, data: TranslationData) -> Mapping[str, tuple[nn.Module, StandIn]]:
        """A translator cut for writing with a cache: "encoder" reads the source once, "step" is asked for each next subword."""
        from advisor.translating_steps import reader_stand_in, step_stand_in

        if not hasattr(model, "reader"):
            return {}
        made: Any = model
        encoder, step = made.reader().eval(), made.step().eval()
        return {"encoder": (encoder, reader_stand_in(made, **data.given)), "step": (step, step_stand_in(made, **data.given))}


TASK = MachineTranslationTask()


def _completed(found: Mapping[Any, Any], seed: int, source: Path) -> tuple[Pairs, dict[str, Any]]:
    """All three splits, a missing one drawn from the training pairs by a hash of the source text, and how it was done."""
    parts: dict[Any, list[Any]] = {split: list(found.get(split, ())) for split in SPLITS}
    facts = {"source": source.resolve().name, "licence": "not stated"}
    if not any(parts.values()):
        raise bad_input(f"{source} has no pairs", remedy=parallel.REMEDY)
    missing = {split: share for split, share in HELD_OUT.items() if not parts[split]} if parts["train"] else {}
    if not missing:
        return parts, {**facts, "split": "as given", "seed": None}
    pairs, parts["train"] = parts["train"], []
    for pair in pairs:
        parts[assign(pair.source, missing, seed=seed)].append(pair)
    said = ", ".join(f"{share:.0%} {split}" for split, share in missing.items())
    return parts, {**facts, "split": f"sha256('{seed}:' + source text) as a fraction of 1: {said}, the rest train", "seed": seed}


def _settings(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the machine-translation task", key, DEFAULTS)
    chosen = {**defaults, **settings}
    whole(chosen, "length", least=MULTIPLE, most=512)
    whole(chosen, "vocabulary", least=16)
    if chosen["length"] % MULTIPLE:
        raise Problem(f"length is {chosen['length']}, allowed: multiples of {MULTIPLE}")
    for split in SPLITS:
        if chosen[split] is not None:
            whole(chosen, split, least=1, most=10**9)
    for key in ("source", "target", *FILES):
        if chosen[key] is not None and not (isinstance(chosen[key], str) and chosen[key]):
            raise Problem(f"{key} is {chosen[key]!r}, allowed: a part of a file's name", remedy='source = "en"')
    if (chosen["source"] is None) != (chosen["target"] is None):
        raise Problem("source and target go together: the endings of two files side by side", remedy='source = "en" and target = "de"')
    return {**chosen, "subwords": None if chosen["subwords"] is None else parsed(chosen["subwords"])}


def _ready(made: dict[str, np.ndarray], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Random sentences end in padding of different lengths, and no other number is padding."""
    for array in made.values():
        array[array == PADDING] = 1
    for row in made["source"]:
        row[max(1, row.size - int(generator.integers(0, 3))) :] = PADDING
    return made


def _more_padding(feeds: Feeds) -> Feeds:
    import numpy as np

    source = feeds["source"]
    return {**feeds, "source": np.concatenate([source, np.full((len(source), MULTIPLE), PADDING, dtype=source.dtype)], axis=1)}
