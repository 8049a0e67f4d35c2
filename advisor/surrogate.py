"""Rules that imitate a model over columns: a small tree fitted to the model's own answers, and how far it follows them.

Idea: the tree never sees a label. It divides the rows by their columns as people write them (numbers in their units, texts as they
stand) so that within a part the model's chance varies little; each part is a rule. A rule is worth what it reproduces on rows that it
was not fitted to, so that is measured, with the very limits that are printed, and said before the rules, low or high.
Source: Craven and Shavlik 1995; splits by the variance within, Breiman et al. 1984 (scikit-learn's tree, used here alone).
Shape: a runtime's answers (rows,) over a table → rules, each with the rows it covers. Needs no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.anomalies import auc
from advisor.data.corpus import Split
from advisor.data.tabular import BATCH, Predict, TableData, chances
from advisor.data.windows import drawn
from rules.examples import Explanation
from rules.problems import bad_environment, bad_input

DEPTH = 4  # questions a rule asks at most
LEAF = 0.01  # share of the rows that a rule needs
LEAST = 10  # rows that it needs in any case
GAIN = 1e-3  # share of the variance that a question must explain
GROUPED = 16  # different texts up to which a column may be divided into two groups of them; beyond, one text is told from all others
ASKED: Mapping[Split, int] = {"train": 50_000, "test": 50_000}  # rows the tree is fitted to, and measured on, at most
CLOSE, PART = 0.8, 0.5  # of both measures of fidelity, from which on rules follow the model closely, or in part
LONGEST = 40  # characters of a name
WIDE = Context(prec=400)  # decimal places enough for any float

TITLE = "Rules of a small tree that imitates the model"
CAVEAT = "The tree was fitted to the model's answers, not to the labels: it explains the model only as far as it follows it, which is measured below on rows it was not fitted to. It says what goes with an answer, not what causes it."
SOURCE = "Craven and Shavlik 1995, Extracting tree-structured representations of trained networks"

Array = NDArray[Any]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Span:
    """A number above `low` and up to `high`; whether a row without one belongs to it too."""

    low: float = -math.inf
    high: float = math.inf
    missing: bool = True

    def holds(self, cells: Array) -> Bools:
        return np.where(np.isnan(cells), self.missing, (cells > self.low) & (cells <= self.high))

    def both(self, other: Span) -> Span:
        return Span(max(self.low, other.low), min(self.high, other.high), self.missing and other.missing)


@dataclass(frozen=True, slots=True)
class Among:
    """A text that is one of `texts`; with `out` one that is none of them."""

    texts: frozenset[str]
    out: bool = False

    def holds(self, cells: Array) -> Bools:
        return np.array([(cell in self.texts) != self.out for cell in cells], np.bool_)

    def both(self, other: Among) -> Among:
        if self.out and other.out:
            return Among(self.texts | other.texts, True)
        if self.out:
            return other.both(self)
        return Among(self.texts - other.texts if other.out else self.texts & other.texts)


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold of which column, the model's mean chance over the rows it was fitted to, and what most of them were scored."""

    conditions: Mapping[str, Any]  # column → Span or Among, in the order in which they were asked
    chance: float
    second: bool  # whether most were scored the second class

    def holds(self, cells: Mapping[str, Array], count: int) -> Bools:
        found = np.ones(count, np.bool_)
        for column, condition in self.conditions.items():
            found &= condition.holds(cells[column])
        return found


@dataclass(frozen=True, slots=True)
class Answers:
    """Rows of one split: their columns (numbers with NaN, or texts), whether each is of the second class, and the model's chance of it."""

    split: Split
    cells: Mapping[str, Array]
    truth: Bools
    chances: Array

    @property
    def said(self) -> Bools:
        return np.asarray(self.chances > 0.5)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How far rules follow a model, on rows they were not fitted to."""

    rows: int
    agreement: float  # share of the rows that both decide alike
    common: float  # the same, of always saying what the model says most
    r2: float  # share of the variance of the model's chance that the rules' reproduces
    model_auc: float  # against the labels
    rules_auc: float

    @property
    def gained(self) -> float:
        """Of the decisions that always saying the commoner one misses, the share that the rules get right (negative: they lose more)."""
        return 1.0 if self.agreement == 1 else (self.agreement - self.common) / (1 - self.common) if self.common < 1 else 0.0

    @property
    def worth(self) -> float:
        return min(self.r2, self.gained)


def explanation(predict: Predict, data: TableData) -> Explanation:
    """The rules of a model, most rows first, and their fidelity. Raises Problem: exit 3 for too few rows, exit 5 without scikit-learn."""
    seen, unseen = answers(predict, data, "train"), answers(predict, data, "test")
    found = fit(seen)
    each = [rule.holds(unseen.cells, len(unseen.truth)) for rule in found]
    order = sorted(range(len(found)), key=lambda k: (-int(each[k].sum()), k))
    worth = fidelity(found, unseen)
    gaps = {name for name, cells in seen.cells.items() if _missing(cells).any() or _missing(unseen.cells[name]).any()}
    told = tuple(sentence(found[k], each[k], unseen, gaps=gaps, name=data.labels[1]) for k in order)
    return Explanation(TITLE, CAVEAT, SOURCE, lines=lines(worth, seen, unseen, data.labels), rules=told, figures=figures(worth))


def answers(predict: Predict, data: TableData, split: Split) -> Answers:
    """What the model says of rows of a split. Raises Problem (exit 3) where there are too few."""
    limit = ASKED[split]
    chosen = drawn(data.count(split), limit=limit, shuffle=False, seed=0, epoch=0) if data.count(split) else []
    if len(chosen) < 2 * LEAST:
        raise bad_input(f"{len(chosen)} {split} rows are too few to extract rules with", remedy=f"give {2 * LEAST} or more")
    cells, truth = data.table(split)
    logits = [predict(batch.inputs)["logit"] for batch in data.batches(split, batch_size=BATCH, limit=limit)]
    return Answers(split, {name: column[chosen] for name, column in cells.items()}, truth[chosen], chances(np.concatenate(logits)))


# -- the tree --------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """A column as the tree sees it: of numbers their ranks, of a text whether it is that one, of a few texts their order by the model's chance."""

    column: str
    values: tuple[Any, ...]  # what a rank stands for; for one text (that text,)
    kind: str  # "number", "text" or "group"
    cells: Array

    def sides(self, limit: float, missing_left: bool) -> tuple[Any, Any]:
        """The conditions of rows up to the limit, and of those beyond: every row meets one of them."""
        if self.kind == "text":
            return Among(frozenset(self.values), True), Among(frozenset(self.values))
        if self.kind == "number":
            if math.isinf(limit):
                return Span(missing=False), Span(low=math.inf)
            place = math.floor(limit)
            border = between(self.values[place], self.values[place + 1])
            return Span(high=border, missing=missing_left), Span(low=border, missing=not missing_left)
        first, last = frozenset(self.values[: math.floor(limit) + 1]), frozenset(self.values[math.floor(limit) + 1 :])
        return (Among(first), Among(first, True)) if len(first) <= len(last) else (Among(last, True), Among(last))


def fit(seen: Answers) -> tuple[Rule, ...]:
    """The rules of a tree over the model's chances: every row meets exactly one. Raises Problem (exit 5) without scikit-learn."""
    try:
        from sklearn.tree import DecisionTreeRegressor
    except ImportError:
        raise bad_environment(
            "extracting rules needs scikit-learn, which is not installed", remedy="pip install 'edge-advisor[train]'"
        ) from None
    least = max(LEAST, math.ceil(LEAF * len(seen.truth)))
    asked = questions(seen, least)
    spread = float(seen.chances.var())
    if not asked or spread < 1e-12:
        return (Rule({}, float(seen.chances.mean()), bool(seen.said.mean() > 0.5)),)
    grown = DecisionTreeRegressor(max_depth=DEPTH, min_samples_leaf=least, min_impurity_decrease=GAIN * spread, random_state=0)
    inputs = np.stack([one.cells for one in asked], 1).astype(np.float32)  # ranks, which float32 holds exactly
    tree = grown.fit(inputs, seen.chances).tree_
    yes = np.bincount(tree.apply(inputs), weights=seen.said, minlength=tree.node_count)

    def walk(node: int, conditions: Mapping[str, Any]) -> list[Rule]:
        if tree.children_left[node] < 0:
            return [Rule(conditions, float(tree.value[node].item()), bool(yes[node] > tree.n_node_samples[node] / 2))]
        one = asked[tree.feature[node]]
        sides = one.sides(float(tree.threshold[node]), bool(tree.missing_go_to_left[node]))
        children = (tree.children_left[node], tree.children_right[node])
        return [rule for side, child in zip(sides, children, strict=True) for rule in walk(child, _with(conditions, one.column, side))]

    return tuple(walk(0, {}))


def _with(conditions: Mapping[str, Any], column: str, side: Any) -> dict[str, Any]:
    return {**conditions, column: conditions[column].both(side) if column in conditions else side}


def questions(seen: Answers, least: int) -> list[Question]:
    """What may be asked of each column. A text that fewer than `least` rows have is no question: no rule could be made of it."""
    found = []
    for column, cells in seen.cells.items():
        values, ranks, counts = np.unique(
            cells.astype(np.float64 if cells.dtype.kind == "f" else str), return_inverse=True, return_counts=True
        )
        if cells.dtype.kind == "f":
            known = values[~np.isnan(values)]
            held = np.where(np.isnan(cells), np.nan, ranks)
            found += [Question(column, tuple(known.tolist()), "number", held)] if len(values) > 1 else []
            continue
        found += [
            Question(column, (str(value),), "text", ranks == place)
            for place, (value, count) in enumerate(zip(values, counts, strict=True))
            if least <= count <= len(ranks) - least
        ]
        if 2 < len(values) <= GROUPED:
            means = np.bincount(ranks, weights=seen.chances) / counts
            order = np.argsort(means, kind="stable")
            found.append(Question(column, tuple(str(values[k]) for k in order), "group", np.argsort(order)[ranks]))
    return found


def between(low: float, high: float) -> float:
    """The number with the fewest decimals from `low` on and below `high`: as a limit it divides the rows as any of them would."""
    exact = Decimal(repr(low))  # as it is written: 4.12, not the binary number nearest to it
    for digits in range(-30, 30):
        found = float(exact.quantize(Decimal(1).scaleb(-digits), ROUND_CEILING, WIDE))
        if low <= found < high:
            return found
    return low


# -- what it is worth ------------------------------------------------------------------------------------------------------------------


def fidelity(rules: Sequence[Rule], unseen: Answers) -> Fidelity:
    """Measured by the rules as they are printed, on rows that they were not fitted to."""
    count = len(unseen.truth)
    held = np.stack([rule.holds(unseen.cells, count) for rule in rules])
    which = held.argmax(0)
    scores, said = np.array([rule.chance for rule in rules])[which], np.array([rule.second for rule in rules])[which]
    left, spread = float(((unseen.chances - scores) ** 2).mean()), float(unseen.chances.var())
    share = float(unseen.said.mean())
    return Fidelity(
        rows=count,
        agreement=float((said == unseen.said).mean()),
        common=max(share, 1 - share),
        r2=1 - left / spread if spread > 1e-12 else float(left < 1e-9),
        model_auc=auc(unseen.truth, unseen.chances),
        rules_auc=auc(unseen.truth, scores),
    )


def figures(worth: Fidelity) -> dict[str, float]:
    """For programs that read the record."""
    return {
        "rows": worth.rows,
        "agreement": worth.agreement,
        "agreement of the commoner answer": worth.common,
        "r2": worth.r2,
        "auc of the model": worth.model_auc,
        "auc of the rules": worth.rules_auc,
    }


# -- in words --------------------------------------------------------------------------------------------------------------------------


def lines(worth: Fidelity, seen: Answers, unseen: Answers, labels: Sequence[str]) -> tuple[str, ...]:
    """The verdict first."""
    common = plain(labels[int(unseen.said.mean() > 0.5)])
    if worth.worth >= CLOSE:
        verdict = "High fidelity: the rules follow the model closely"
    elif worth.worth >= PART:
        verdict = "Partial fidelity: the rules follow the model in part"
    else:
        verdict = "Low fidelity: these rules do not explain the model; do not rely on them"
    return (
        f"{verdict}.",
        f"On {worth.rows:,} {unseen.split} rows they decide as the model does {100 * worth.agreement:.1f} % of the time "
        f"(always saying {common}: {100 * worth.common:.1f} %), and reproduce {100 * max(0.0, worth.r2):.0f} % of the variance of its score "
        f"(R² {worth.r2:.2f}).",
        f"Against the labels of those rows the model has an AUC of {worth.model_auc:.3f}, the rules {worth.rules_auc:.3f}.",
        f"Fitted to what the model says of {len(seen.truth):,} {'training' if seen.split == 'train' else seen.split} rows: "
        f"{DEPTH} questions a rule at most, {max(LEAST, math.ceil(LEAF * len(seen.truth))):,} rows at least. The rows counted below are the "
        f"{unseen.split} rows; each meets one rule.",
    )


def sentence(rule: Rule, held: Bools, unseen: Answers, *, gaps: set[str], name: str) -> str:
    """`capital-gain > 7,298 and education = Masters: 96 % of 1,020 rows scored yes (chance 0.91 on average)`."""
    told = [text for column, condition in rule.conditions.items() if (text := _condition(column, condition, column in gaps))]
    head, count = " and ".join(told) or "every row", int(held.sum())
    if not count:
        return f"{head}: none of the rows; {plain(name)} with chance {rule.chance:.2f} where it was fitted"
    share = 100 * float(unseen.said[held].mean())
    return f"{head}: {_share(share)} of {count:,} rows scored {plain(name)} (chance {float(unseen.chances[held].mean()):.2f} on average)"


def _share(share: float) -> str:
    """A rounded share that never claims all or none where it is not so."""
    if 0 < share < 1:
        return "under 1 %"
    return "over 99 %" if 99 < share < 100 else f"{share:.0f} %"


def _condition(column: str, condition: Any, gaps: bool) -> str:
    """In words; nothing where every row meets it. `gaps`: whether rows lack the column."""
    named = plain(column)
    if isinstance(condition, Among):
        return _among(named, condition)
    if condition.low == math.inf:
        return f"{named} is missing"
    low, high = math.isfinite(condition.low), math.isfinite(condition.high)
    if low and high:
        said = f"{_number(condition.low)} < {named} ≤ {_number(condition.high)}"
    elif low or high:
        said = f"{named} > {_number(condition.low)}" if low else f"{named} ≤ {_number(condition.high)}"
    else:
        return "" if condition.missing else f"{named} is known"
    return f"({said} or missing)" if condition.missing and gaps else said


def _among(named: str, condition: Among) -> str:
    texts = [plain(text) if text else "missing" for text in sorted(condition.texts)]
    if not texts:
        return "" if condition.out else f"{named} is impossible"
    if len(texts) == 1:
        one = "is not missing" if condition.out else "is missing"
        return f"{named} {one if texts == ['missing'] and '' in condition.texts else ('≠ ' if condition.out else '= ') + texts[0]}"
    return f"{named} is {'none' if condition.out else 'one'} of {', '.join(texts)}"


def _number(value: float) -> str:
    return f"{int(value):,}" if value.is_integer() and abs(value) < 1e15 else f"{value:,}"


def plain(name: str) -> str:
    """A name as it stands where it cannot be taken for anything else, else in quotes, what is not printed as its code; a long one is cut."""
    if re.fullmatch(r"\w[\w.\-/+&]*", name) and len(name) <= LONGEST and name not in ("and", "or", "missing", "is", "of"):
        return name
    shown = "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in name.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"}"'


def _missing(cells: Array) -> Bools:
    return np.isnan(cells) if cells.dtype.kind == "f" else np.asarray(cells == "", np.bool_)
