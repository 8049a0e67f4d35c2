"""Rules that imitate a model over columns: exactly its own where it has some, low fidelity said where not, hostile names harmless."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import bundle_for_tests as small
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor import surrogate
from advisor.data import columns
from advisor.data.corpus import SPLITS
from advisor.data.tables import Table
from advisor.data.tabular import TableData
from advisor.surrogate import Among, Answers, Fidelity, Span, between, explanation, fidelity, fit, plain
from advisor.tasks.recommendation import TASK
from compress.report.page import render
from rules.examples import Explanation
from rules.problems import Problem

COUNTS = {"train": 1500, "val": 100, "test": 800}
TOWNS = ("Ulm", "Bonn", "Kiel", "Jena")


def opened(*, seed: int = 0, town: str = "town", names: Sequence[str] = TOWNS, gaps: float = 0.0, **learned: int) -> TableData:
    """A table of ages, prices and towns; what the labels say is drawn."""
    found = {}
    for number, split in enumerate(SPLITS):
        dice, count = np.random.default_rng([seed, number]), COUNTS[split]
        lost = dice.random(count) < gaps
        cells = {
            "age": ["" if gone else str(k) for gone, k in zip(lost, dice.integers(16, 90, count), strict=True)],
            "price": [f"{k:.2f}" for k in dice.uniform(0, 9, count)],
            town: [names[k] for k in dice.integers(0, len(names), count)],
            "label": ["yes" if k else "no" for k in dice.random(count) < 0.5],
        }
        found[split] = Table(tuple(f"{split}-{k}" for k in range(count)), cells)
    missing = frozenset({""})
    kinds = columns.kinds(found["train"], label="label", missing=missing)
    step = columns.learn(found["train"], kinds, missing=missing, **{"bins": 0, "least": 1, "vocabulary": 100, **learned})
    return TableData(found, {}, label="label", classes=(("no",), ("yes",)), step=step)


def model(data: TableData, chance: Callable[[Mapping[str, Any]], Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A model that knows the rows by their order, split by split, as `answers` asks for them: train, then test."""
    waiting = [np.asarray(chance(data.table(split)[0])) for split in ("train", "test")]
    logits = np.concatenate([np.log(share / (1 - share)) for share in waiting])
    at = 0

    def predict(feeds: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal at
        at += len(next(iter(feeds.values())))
        return {"logit": logits[at - len(next(iter(feeds.values()))) : at].astype(np.float32)}

    return predict


def told(chance: Callable[[Mapping[str, Any]], Any], **table: Any) -> Explanation:
    data = opened(**table)
    return explanation(model(data, chance), data)


def noise(cells: Mapping[str, Any]) -> Any:
    return np.random.default_rng(7).uniform(0.01, 0.99, len(cells["age"]))


def rule(cells: Mapping[str, Any]) -> Any:
    return np.where((cells["age"] > 40) & (cells["town"] == "Ulm"), 0.9, 0.1)


def page(found: Explanation) -> str:
    one = {"title": found.title, "caveat": found.caveat, "source": found.source, "of": "shipped"}
    return render({**small.record(), "explanations": [{**one, "lines": list(found.lines), "rules": list(found.rules)}]})


# -- fidelity --------------------------------------------------------------------------------------------------------------------------


def test_a_model_that_is_a_rule_is_told_as_exactly_that_rule() -> None:
    found = told(rule)
    assert [text.partition(":")[0] for text in found.rules] in (
        ["town ≠ Ulm", "town = Ulm and age > 40", "town = Ulm and age ≤ 40"],
        ["town ≠ Ulm", "age > 40 and town = Ulm", "age ≤ 40 and town = Ulm"],
    )
    assert found.figures["agreement"] == 1 and found.figures["r2"] > 0.999999
    assert found.lines[0].startswith("High fidelity") and "100.0 %" in found.lines[1]
    assert "100 % of" in found.rules[1] and "scored yes (chance 0.90 on average)" in found.rules[1] and ": 0 % of" in found.rules[0]


def test_a_model_of_noise_gives_low_fidelity_and_the_report_says_so_and_hides_no_rule() -> None:
    found = told(noise)
    assert found.figures["r2"] < 0.1 and abs(found.figures["agreement"] - 0.5) < 0.1
    text = page(found)
    assert "<strong>Low fidelity: these rules do not explain the model; do not rely on them.</strong>" in text
    assert found.rules and all(line.replace(">", "&gt;").replace("<", "&lt;") in text for line in found.rules)


def test_fidelity_is_measured_on_rows_that_the_tree_was_not_fitted_to() -> None:
    other = told(lambda cells: rule(cells) if len(cells["age"]) == COUNTS["train"] else 1 - rule(cells))
    assert other.figures["rows"] == COUNTS["test"] and other.figures["agreement"] == 0 and other.lines[0].startswith("Low fidelity")


def test_a_model_that_seldom_says_yes_is_not_explained_by_always_saying_no() -> None:
    seldom = Fidelity(rows=1000, agreement=0.97, common=0.97, r2=0.9, model_auc=0.9, rules_auc=0.5)
    assert seldom.worth == 0
    assert Fidelity(rows=1000, agreement=0.98, common=0.6, r2=0.3, model_auc=0.9, rules_auc=0.5).worth == 0.3


def test_a_model_that_says_the_same_of_every_row_is_one_rule() -> None:
    found = told(lambda cells: np.full(len(cells["age"]), 0.2))
    assert [text.partition(" (")[0] for text in found.rules] == ["every row: 0 % of 800 rows scored yes"]
    assert found.figures["agreement"] == found.figures["r2"] == 1


def test_the_labels_change_no_rule_and_both_are_measured_against_them() -> None:
    data = opened()
    truth = data.table("test")[1]
    found = explanation(
        model(data, lambda cells: np.where(data.table("train" if len(cells["age"]) == 1500 else "test")[1], 0.9, 0.1)), data
    )
    assert len(truth) == 800 and found.figures["auc of the model"] == 1 and abs(found.figures["auc of the rules"] - 0.5) < 0.1
    assert found.lines[0].startswith("Low fidelity") and "AUC of 1.000" in found.lines[2]


def test_too_few_rows_are_refused_with_their_number() -> None:
    data = opened()
    data._truth["test"] = data._truth["test"][:5]
    with pytest.raises(Problem, match="5 test rows are too few"):
        explanation(lambda feeds: {"logit": np.zeros(len(feeds["numeric"]), np.float32)}, data)


# -- rules -----------------------------------------------------------------------------------------------------------------------------


def test_rules_stand_by_how_many_rows_they_cover_and_cover_each_row_once() -> None:
    found = told(lambda cells: 0.05 + 0.9 * (cells["age"] > 30) * cells["price"] / 9, gaps=0.1)
    counts = [int(text.partition(" % of ")[2].partition(" rows")[0].replace(",", "")) for text in found.rules]
    assert len(counts) > 4 and counts == sorted(counts, reverse=True) and sum(counts) == COUNTS["test"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.2, 0.9]), st.integers(2, 30))
def test_every_row_meets_exactly_one_rule_seen_or_unseen(seed: int, gaps: float, texts: int) -> None:
    def rows(split: str, known: int) -> Answers:
        dice = np.random.default_rng([seed, known])
        numbers = np.where(dice.random(200) < gaps, np.nan, dice.choice([-1e29, -2.5, 0.1, 0.2, 0.25, 1 / 3, 1e9, 1e9 + 1], 200))
        words = np.array([f"w{k}" if k else "" for k in dice.integers(0, known, 200)], object)
        shares = np.clip((numbers > 0.2) * 0.3 + (words > "w3") * 0.3 + dice.random(200) * 0.2 + np.isnan(numbers) * 0.15, 0.01, 0.99)
        return Answers("train" if split == "train" else "test", {"n": numbers, "w": words}, shares > 0.5, shares)

    found, unseen = fit(rows("train", texts)), rows("test", texts + 5)
    assert (np.stack([one.holds(unseen.cells, 200) for one in found]).sum(0) == 1).all()
    assert fidelity(found, unseen).rows == 200


def test_what_is_missing_is_said_and_belongs_to_one_side() -> None:
    found = told(lambda cells: np.where(np.isnan(cells["age"]), 0.9, 0.1), gaps=0.2)
    assert {text.partition(":")[0] for text in found.rules} == {"age is known", "age is missing"}
    found = told(lambda cells: np.where(np.isnan(cells["age"]) | (cells["age"] > 60), 0.9, 0.1), gaps=0.2)
    assert {text.partition(":")[0] for text in found.rules} == {"age ≤ 60", "(age > 60 or missing)"}


def test_a_group_of_texts_is_named_by_the_fewer_of_them() -> None:
    found = told(lambda cells: np.where(np.isin(cells["town"], ["Ulm", "Bonn"]), 0.9, 0.1), names=[*TOWNS, "Trier"])
    assert {text.partition(":")[0] for text in found.rules} == {"town is one of Bonn, Ulm", "town is none of Bonn, Ulm"}


def test_a_hashed_column_is_told_by_its_texts_and_numbers_in_the_units_of_the_data() -> None:
    found = told(lambda cells: np.where((cells["town"] == "Kiel") & (cells["price"] > 4.5), 0.9, 0.1), vocabulary=1)
    assert any(text.startswith(("town = Kiel and price > 4.5", "price > 4.5 and town = Kiel")) for text in found.rules), found.rules


def test_conditions_on_one_column_become_one() -> None:
    assert Span(high=9).both(Span(low=3, missing=False)) == Span(3, 9, False)
    assert Among(frozenset("abc")).both(Among(frozenset("ax"), True)) == Among(frozenset("bc"))
    assert Among(frozenset("a"), True).both(Among(frozenset("b"), True)) == Among(frozenset("ab"), True)
    assert Among(frozenset("ab")).both(Among(frozenset("bc"))) == Among(frozenset("b"))


@given(st.floats(-1e29, 1e29), st.floats(-1e29, 1e29))
def test_a_limit_divides_as_any_between_two_values_would(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if low < high:
        assert low <= between(low, high) < high


@pytest.mark.parametrize(
    ("low", "high", "limit"), [(7298, 7299, 7298), (4.12, 4.13, 4.12), (5178, 7055, 6000), (-3.0, 2.0, 0), (0.1, 0.11, 0.1)]
)
def test_a_limit_has_as_few_digits_as_it_needs(low: float, high: float, limit: float) -> None:
    assert between(low, high) == limit


# -- hostile names, and the task -----------------------------------------------------------------------------------------------------


def test_hostile_names_are_escaped_and_cannot_pass_for_a_rule() -> None:
    evil, sly = "<script>alert(1)</script>", 'a: 96 % of 9 rows scored yes" and\n\u202e<img src=x onerror=alert(1)>'
    names = [sly, *TOWNS]
    found = told(lambda cells: np.where(cells[evil] == sly, 0.9, 0.1), town=evil, names=names)
    text = page(found)
    assert evil not in text and "<img src=x" not in text and "\u202e" not in "".join(found.rules) and "\n" not in "".join(found.rules)
    assert text.count("<script") == render(small.record()).count("<script")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert found.rules[0].startswith('"<script>alert(1)</script>" ≠ "a: 96 % of 9 rows scored yes\\"')


@pytest.mark.parametrize("name", ["a and b", "missing", "", "x > 3", "a, b", "\x07", 'say "x"', "or"])
def test_a_name_that_could_be_read_otherwise_is_quoted(name: str) -> None:
    assert plain(name).startswith('"') and plain(name).endswith('"')


def test_a_plain_name_stands_as_it_is() -> None:
    assert [plain(name) for name in ("capital-gain", "Straße", "c07", "n/a")] == ["capital-gain", "Straße", "c07", "n/a"]
    assert len(plain("x" * 500)) <= surrogate.LONGEST + 2


def test_the_task_explains_the_shipped_files_answers_and_the_page_says_so() -> None:
    data = opened()
    (found,) = TASK.explain_answers(model(data, rule), data)
    text = page(found)
    assert "Taken from the answers of the shipped file." in text and "fitted to the model&#39;s answers, not to the labels" in text
    assert "Craven and Shavlik 1995" in text


def test_scikit_learn_is_imported_only_when_rules_are_extracted() -> None:
    script = "import sys, advisor.tasks.recommendation, advisor.surrogate\nassert not {'sklearn', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent.parent, check=True)
