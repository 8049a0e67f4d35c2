"""Recommendation, click-through, tables: a row of typed columns in, the chance of one of two outcomes out.

Idea: numbers go in twice, in deviations from their mean and as the bin they fall into; categories as rows of one embedding table. The
net gives one logit, and what counts is the order it puts rows into.
Source: binary cross entropy; distillation by the teacher's softened chance, Hinton et al. 2015, arXiv:1503.02531.
Shape: numeric (b, n) float32 and categorical (b, m) int64, those there are → logit (b,), raw.
Reads: CSV, TSV or Parquet, a file or a folder with train, val and test in its names; or, given nothing, a built-in table of clicks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.data import columns, generated_clicks, tables
from advisor.data.corpus import SPLITS
from advisor.data.tabular import AUC, Classes, Predict, TableData, classes_of, label_of, signature
from advisor.data.windows import whole
from advisor.stand_in import StandIn
from rules.examples import Explanation, Metric
from rules.problems import Problem, unknown

if TYPE_CHECKING:
    from torch import Tensor

LISTS = ("columns", "numeric", "categorical", "drop", "missing")
DEFAULTS: Mapping[str, Any] = {
    "label": None,
    "classes": None,
    "columns": None,
    "numeric": (),
    "categorical": (),
    "drop": (),
    "crosses": (),
    "missing": ("", "?", "NA", "N/A", "NaN", "nan", "null"),
    "bins": 32,
    "least": 5,
    "vocabulary": 10000,
    "split": "random",
    "step": None,
    **dict.fromkeys(SPLITS),
}


@dataclass(frozen=True, slots=True)
class RecommendationTask:
    """The task. `alpha` shares distillation between the teacher's chances (alpha) and the labels (1 - alpha)."""

    name: str = "recommendation"
    metric: Metric = AUC
    alpha: float = 0.5

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted: the 13 numbers and 26 categories of Criteo, the numbers as bins too."""
        return {"numeric": 13, "categorical": 39, "rows": 10000}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """A random row, as a net for `given` takes it."""
        return StandIn(signature(**given), {"row": {}})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> TableData:
        """The tables at `source` (a file or a folder), or the built-in clicks.

        `settings`: label (the name of its column), classes (the two, each a text or a list of its spellings; the chance given is that
        of the second), columns (names, where the files have no line of them), numeric and categorical (columns that are that whatever
        they look like), drop (columns to leave alone), crosses (lists of categorical columns to cross), missing (what is written where
        nothing is known), bins (of a number, about), least (rows a category needs), vocabulary (places of a column, more are hashed),
        split ("random" or in "order", where files say none), train, val, test (how many rows of each), step (the declared step of an
        earlier opening, to read by). Raises Problem: exit 2 for a wrong setting, 3 for refused data, 5 for a missing package.
        """
        chosen = _settings(settings or {})
        if source is None:
            counts = {split: chosen[split] or generated_clicks.COUNTS[split] for split in SPLITS}
            found, facts = generated_clicks.tables(counts, seed=seed)
        else:
            read = tables.read(source, names=chosen["columns"])
            limits = {split: chosen[split] for split in SPLITS}
            how = {"seed": seed, "way": chosen["split"], "limits": limits, "training": chosen["step"] is None}
            found, drawn = tables.complete(read, source=str(source), **how)
            facts = {"source": source.resolve().name, "licence": "not stated", **drawn}
        first = found["train"] if found["train"].where else next(table for table in found.values() if table.where)
        label = label_of(first, chosen["label"])
        classes: Classes = chosen["classes"] or classes_of(first, label)
        step = chosen["step"] or _learned(found["train"], label, chosen)
        return TableData(found, facts, label=label, classes=classes, step=step)

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Binary cross entropy, nats a row: output (b,) logits, target label (b,) 0 or 1."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(output.float(), targets["label"])

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        """The distance (Kullback-Leibler) to the teacher's chances at `temperature`; with targets the labels too."""
        from torch.nn.functional import binary_cross_entropy_with_logits as entropy

        said, wanted = student.float() / temperature, (teacher.float() / temperature).sigmoid()
        own = entropy(teacher.float() / temperature, wanted)  # the least that the first term can be
        loss = temperature**2 * (entropy(said, wanted) - own)
        return loss if targets is None else self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)

    def explain_answers(self, predict: Predict, data: TableData) -> list[Explanation]:
        """Rules of a small tree that imitates what `predict` says, with their fidelity. Raises Problem as `surrogate.explanation` does."""
        from advisor.surrogate import explanation

        return [explanation(predict, data)]


TASK = RecommendationTask()


def _learned(train: tables.Table, label: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    missing = frozenset(chosen["missing"])
    said = {key: chosen[key] for key in ("numeric", "categorical", "drop", "crosses")}
    kinds = columns.kinds(train, label=label, missing=missing, **said)
    return columns.learn(train, kinds, missing=missing, **{key: chosen[key] for key in ("bins", "least", "vocabulary")})


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the recommendation task", key, DEFAULTS)
    chosen = {**DEFAULTS, **settings}
    for key in LISTS:
        if not _texts(chosen[key]) and not (key == "columns" and chosen[key] is None):
            raise Problem(f"{key} is {chosen[key]!r}, allowed: a list of different texts", remedy=f'{key} = ["…"]')
    if not isinstance(chosen["crosses"], list | tuple) or not all(_texts(cross) and len(cross) > 1 for cross in chosen["crosses"]):
        raise Problem(f"crosses is {chosen['crosses']!r}, allowed: lists of columns", remedy='crosses = [["site", "campaign"]]')
    for key, least, most in (("bins", 0, 1024), ("least", 1, 10**6), ("vocabulary", 1, 10**7)):
        whole(chosen, key, least=least, most=most)
    for split in SPLITS:
        if chosen[split] is not None:
            whole(chosen, split, least=1, most=10**9)
    if chosen["split"] not in tables.WAYS:
        raise unknown("split", str(chosen["split"]), tables.WAYS)
    if chosen["label"] is not None and not isinstance(chosen["label"], str):
        raise Problem(f"label is {chosen['label']!r}, allowed: the name of a column")
    return {**chosen, "classes": _classes(chosen["classes"]), "step": None if chosen["step"] is None else columns.check(chosen["step"])}


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(text, str) for text in value) and len(set(value)) == len(value)


def _classes(value: Any) -> Classes | None:
    if value is None:
        return None
    spelled: list[Sequence[str]] = [[one] if isinstance(one, str) else one for one in value] if isinstance(value, list | tuple) else []
    every = [text for one in spelled if _texts(one) for text in one]
    if len(spelled) != 2 or not all(_texts(one) and one for one in spelled) or len(set(every)) != len(every):
        raise Problem(f"classes is {value!r}, allowed: two, each a text or a list of texts", remedy='classes = ["no", "yes"]')
    return tuple(spelled[0]), tuple(spelled[1])
