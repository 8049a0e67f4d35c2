"""A table, opened for learning one thing of two: numbers and indices in, the logit of the second class out.

Score: the area under the ROC curve (scikit-learn), the chance that a row of the second class scores above one of the first; beside it
the share that is right at even odds, average precision, and the log loss.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data import columns
from advisor.data.anomalies import above, auc
from advisor.data.columns import Step
from advisor.data.corpus import SPLITS, Split
from advisor.data.rows_drawn import picture
from advisor.data.tables import Table
from advisor.data.windows import WindowBatches, drawn
from rules.examples import Answers, Batch, Feeds, Metric, Port, Sample, Score, Signature
from rules.problems import bad_environment, bad_input

AUC = Metric("auc", "higher", "")
BATCH = 1024  # rows a batch when scoring
FORGET = 0.01  # share of indices that training with `augment` takes for missing or unseen, so that their places are learned
NAMES = frozenset({"label", "target", "click", "clicked", "y", "class"})  # of the label, where the settings name none

Array = NDArray[Any]
Predict = Callable[[Feeds], Mapping[str, Array]]
Classes = tuple[tuple[str, ...], tuple[str, ...]]  # the two classes, each with the ways it is written; the first is its name


class TableData:
    """The data of the recommendation task: rows of `tables` as the declared `step` reads them."""

    answers: Answers = "figures"

    def __init__(self, tables: Mapping[Split, Table], facts: Mapping[str, Any], *, label: str, classes: Classes, step: Step) -> None:
        self._tables, self._facts, self._label, self._classes, self.step = tables, facts, label, classes, step
        self.labels: Sequence[str] = [spellings[0] for spellings in classes]
        self._truth = {split: truth(table, label, classes) for split, table in tables.items()}
        self._inputs = {split: columns.encode(table, step) for split, table in tables.items()}
        for split, marks in self._truth.items():
            self._check(split, marks)

    def _check(self, split: Split, marks: Array) -> None:
        """Raises Problem (exit 3) for a split of one class: nothing can be learned or told there."""
        if len(marks) and (marks.all() or not marks.any()):
            what = f"{self._tables[split].where[0]}: all {len(marks):,} {split} rows are {self.labels[int(marks[0])]!r}"
            raise bad_input(what, remedy="a split needs rows of both classes: give more of them")

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        return {"numeric": len(self.step["numeric"]), "categorical": len(self.step["categorical"]), "rows": columns.rows(self.step)}

    @cached_property
    def signature(self) -> Signature:
        return signature(**self.given)

    @property
    def preprocess(self) -> Sequence[Mapping[str, Any]]:
        return (self.step,)

    @property
    def postprocess(self) -> Sequence[Mapping[str, Any]]:
        return ({"op": "chance", "output": "logit"},)

    def count(self, split: Split) -> int:
        return len(self._truth[split])

    def batches(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        augment: bool = False,
        shuffle: bool = False,
        limit: int | None = None,
    ) -> WindowBatches:
        """Batches of rows in their order, or shuffled by (seed, epoch). `augment` takes one index in a hundred for missing or unseen."""
        chosen = drawn(self.count(split), limit=limit, shuffle=shuffle, seed=seed, epoch=epoch)
        return WindowBatches(chosen, batch_size, lambda members: self._batch(split, members, (seed, epoch) if augment else None))

    def _batch(self, split: Split, members: Sequence[int], vary: tuple[int, int] | None) -> Batch:
        """Targets: label (b,) float32, 1 for the second class."""
        numeric, categorical = (array[np.array(members, np.int64)] for array in self._inputs[split])
        if vary is not None:
            forgotten = np.random.default_rng([*vary, members[0]]).random(categorical.shape, np.float32) < FORGET
            categorical = np.where(forgotten, self._starts, categorical)
        made = {"numeric": numeric, "categorical": categorical}
        inputs = {port.name: made[port.name] for port in self.signature.inputs}
        return Batch(inputs, {"label": self._truth[split][members].astype(np.float32)}, tuple(self._name(split, k) for k in members))

    @cached_property
    def _starts(self) -> Array:
        """Every indexed column's place for what is missing or not known."""
        return np.array([entry["start"] for entry in self.step["categorical"]], np.int64)

    def _name(self, split: Split, place: int) -> str:
        return self._tables[split].where[place]

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """The chance of the second class, a text an example."""
        return [f"{self.labels[1]}: {share:.4f}" for share in chances(outputs["logit"])]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """The area under the ROC curve. An example's error is, of the second class, the share of the first that scores below it."""
        chosen = drawn(self.count(split), limit=limit, shuffle=False, seed=0, epoch=0)
        found = [predict(batch.inputs)["logit"] for batch in self.batches(split, batch_size=BATCH, limit=limit)]
        logits = np.concatenate(found).astype(np.float64).reshape(-1) if found else np.zeros(0)
        marks = self._truth[split][chosen]

        def over(rows: Array) -> float:
            return auc(marks[rows], logits[rows])

        return Score(AUC, auc(marks, logits), above(marks, logits), marks.astype(np.float64), beside(marks, logits), over=over)

    def probes(self) -> dict[str, Feeds]:
        """The first validation row: there is one size."""
        return {"row": dict(self._batch("val", [0], None).inputs)}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Rows spread over the split, as JSON files."""
        return [self._sample(split, place) for place in drawn(self.count(split), limit=count, shuffle=False, seed=0, epoch=0)]

    def _sample(self, split: Split, place: int) -> Sample:
        table = self._tables[split]
        row = {name: table.columns[name][place] for name in self.columns}
        raw = json.dumps({name: self._value(name, cell) for name, cell in row.items()}, ensure_ascii=False, indent=1).encode()
        spoken = self.labels[int(self._truth[split][place])]
        inputs = dict(self._batch(split, [place], None).inputs)
        return Sample(self._name(split, place), raw, inputs, spoken, suffix="json", picture=picture(row))

    @cached_property
    def columns(self) -> list[str]:
        """The columns that are looked at, in the order of the table."""
        crossed = [name for entry in self.step["categorical"] for name in entry.get("columns", ())]
        wanted = {*crossed, *(entry["column"] for entry in self.step["numeric"])}
        return [name for name in self._tables["train"].columns if name in wanted]

    def _value(self, name: str, cell: str) -> float | str | None:
        """A cell as people write it in JSON: a number, a text, null."""
        if cell in self.step["missing"]:
            return None
        return float(cell) if name in {entry["column"] for entry in self.step["numeric"]} else cell

    # -- for models that are no nets ---------------------------------------------------------------------------------------

    def table(self, split: Split) -> tuple[dict[str, Array], Array]:
        """Every column that is looked at (numbers with NaN, or texts) and whether a row is of the second class."""
        held, missing = self._tables[split], frozenset(self.step["missing"])
        numeric = {entry["column"] for entry in self.step["numeric"]}
        found = {
            name: columns.numbers(held, name, missing) if name in numeric else np.array(columns.texts(held, [name], missing), object)
            for name in self.columns
        }
        return found, self._truth[split]

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split and what the columns are; plain JSON."""
        return {
            "task": "recommendation",
            **self._facts,
            "label": self._label,
            "classes": list(self.labels),
            "splits": {split: self.count(split) for split in SPLITS},
            "second class": {split: int(self._truth[split].sum()) for split in SPLITS},
            "columns": self.columns,
            "embedding rows": columns.rows(self.step),
            "sha256": self._digest(),
            "reopen": {"label": self._label, "classes": [list(spellings) for spellings in self._classes], "step": dict(self.step)},
        }

    def _digest(self) -> str:
        found = hashlib.sha256()
        for split in SPLITS:
            for array in (*self._inputs[split], self._truth[split]):
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


def signature(numeric: int, categorical: int, rows: int) -> Signature:
    """numeric (batch, n) and categorical (batch, m), rows of the embedding table, those there are → logit (batch,)."""
    ports = []
    if numeric:
        ports.append(Port("numeric", "float32", ("batch", numeric), {"batch": (1, 1024, 1)}))
    if categorical:
        ports.append(Port("categorical", "int64", ("batch", categorical), {"batch": (1, 1024, 1)}, values=(0, rows - 1)))
    return Signature(tuple(ports), (Port("logit", "float32", ("batch",), decides=False),))


# -- the label ---------------------------------------------------------------------------------------------------------------


def label_of(table: Table, name: str | None) -> str:
    """The column of the label. Raises Problem (exit 3) where there is none, or several that could be."""
    found = [column for column in table.columns if (column == name if name else column.lower() in NAMES)]
    if len(found) != 1:
        what = f"no column {name!r}" if name else f"{'no' if not found else 'two'} columns called {', '.join(sorted(NAMES))}"
        raise bad_input(f"{table.where[0]}: {what} among {', '.join(table.columns)[:80]}", remedy='label = "…" in the plan\'s [settings]')
    return found[0]


def classes_of(table: Table, label: str) -> Classes:
    """The two values that a label has, in the order of numbers or of letters. Raises Problem (exit 3) where there are more or fewer."""
    cells = table.columns[label]
    said = sorted(set(cells))
    if len(said) != 2:
        first = {cell: place for place, cell in reversed(list(enumerate(cells)))}
        at = table.where[sorted(first.values())[min(2, len(first) - 1)]]
        what = f"{at}: {label} has {len(said):,} different values, {', '.join(said)[:80]}, where two are told apart"
        raise bad_input(what, remedy='say which is which in [settings]: classes = [["no", "0"], ["yes", "1"]]')
    values = [columns.number(cell) for cell in said]
    if values[0] is not None and values[1] is not None and values[0] > values[1]:
        said.reverse()
    return (said[0],), (said[1],)


def truth(table: Table, label: str, classes: Classes) -> NDArray[np.bool_]:
    """Whether each row is of the second class. Raises Problem (exit 3) naming the row of a label that is neither."""
    known = {spelling: bool(number) for number, spellings in enumerate(classes) for spelling in spellings}
    marks = np.empty(len(table.where), np.bool_)
    for place, cell in enumerate(table.columns[label]):
        if cell not in known:
            shown = " or ".join(repr(spellings[0]) for spellings in classes)
            remedy = f'other spellings belong into [settings]: classes = [["{classes[0][0]}", "…"], ["{classes[1][0]}", "…"]]'
            raise bad_input(f"{table.where[place]}: {label} is {cell[:40]!r}, neither {shown}", remedy=remedy)
        marks[place] = known[cell]
    return marks


# -- the score ---------------------------------------------------------------------------------------------------------------


def chances(logits: Array) -> Array:
    """The chance of the second class."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits.astype(np.float64).reshape(-1), -700, 700))))


def beside(marks: Array, logits: Array) -> dict[str, float]:
    """The share that is right at even odds, average precision, and the log loss (nats a row)."""
    if not len(marks) or marks.all() or not marks.any():
        return {}
    try:
        from sklearn import metrics
    except ImportError:
        raise bad_environment("scoring needs scikit-learn, which is not installed", remedy="pip install 'edge-advisor[train]'") from None
    return {
        "accuracy": float(((logits > 0) == marks).mean()),
        "average precision": float(metrics.average_precision_score(marks, logits)),
        "log loss": float(metrics.log_loss(marks, chances(logits))),
    }
