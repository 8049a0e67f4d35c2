"""What the engine promises, whatever the rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.conditions import Mismatch, as_test, in_words
from rules.engine import compile_rules, judge, specialise
from rules.facts import Condition
from tests.rules_for_tests import condition, fact_maps, rule, rule_lists


@given(rule_lists, fact_maps, st.randoms())
def test_the_order_of_rules_changes_nothing(rules, facts, random):
    shuffled = list(rules)
    random.shuffle(shuffled)
    assert judge(facts, compile_rules(shuffled)) == judge(facts, compile_rules(rules))


@given(rule_lists, fact_maps)
def test_every_verdict_names_its_rule_and_every_forbid_refuses(rules, facts):
    found = judge(facts, compile_rules(rules))
    ids = {item.id: item for item in rules}
    for verdict in found.verdicts:
        assert verdict.rule in ids
    forbids = [verdict for verdict in found.verdicts if verdict.effect == "forbid"]
    assert found.forbidden == bool(forbids)
    assert all(ids[verdict.rule].then.forbid for verdict in forbids)


@given(rule_lists, fact_maps)
def test_preferences_add_up(rules, facts):
    found = judge(facts, compile_rules(rules))
    assert found.weight == sum(verdict.weight for verdict in found.verdicts)


@given(rule_lists, fact_maps, st.text("xyz", min_size=1).map("card.".__add__), st.booleans())
def test_a_fact_that_no_rule_asks_for_changes_nothing(rules, facts, name, value):
    assert judge({**facts, name: value}, compile_rules(rules)) == judge(facts, compile_rules(rules))


@given(rule_lists, fact_maps)
def test_rules_specialised_to_settled_facts_judge_as_before(rules, facts):
    ruleset = compile_rules(rules)
    settled = {fact: value for fact, value in facts.items() if not fact.startswith("request.")}
    assert judge(facts, specialise(ruleset, settled)) == judge(facts, ruleset)


@given(rule_lists, fact_maps)
def test_a_fired_rule_quotes_facts_that_hold(rules, facts):
    found = judge(facts, compile_rules(rules))
    ids = {item.id: item for item in rules}
    known = {**facts, **found.derived}
    for verdict in found.verdicts:
        if verdict.effect == "error":
            continue
        assert all(as_test(part)(known) for part in ids[verdict.rule].when.all)
        assert not any(as_test(part)(known) for part in ids[verdict.rule].when.none)


def test_a_derived_fact_reaches_the_rules_that_ask_for_it_however_long_the_chain():
    rules = [rule(f"link.{n}", condition(f"derived.x{n}"), facts={f"derived.x{n + 1}": True}) for n in range(9)]
    rules += [rule("first", condition("card.causal"), facts={"derived.x0": True}), rule("last", condition("derived.x9"), forbid=True)]
    assert judge({"card.causal": True}, compile_rules(rules)).forbidden
    assert not judge({"card.causal": False}, compile_rules(rules)).forbidden


def test_absence_is_judged_only_after_everything_that_could_make_the_fact():
    absent = rule("a.absent", none=(condition("derived.small"),), prefer=5.0)
    made = rule("z.made", condition("derived.step"), facts={"derived.small": True})
    step = rule("m.step", facts={"derived.step": True})
    assert judge({}, compile_rules([absent, made, step])).weight == 0
    assert judge({}, compile_rules([absent, made])).weight == 5


def test_rules_that_wait_for_each_others_absence_are_skipped_and_reported():
    left = rule("left", none=(condition("derived.right"),), facts={"derived.left": True})
    right = rule("right", none=(condition("derived.left"),), facts={"derived.right": True})
    other = rule("other", prefer=3.0)
    found = judge({}, compile_rules([left, right, other]))
    assert {verdict.rule for verdict in found.verdicts if verdict.effect == "error"} == {"left", "right"}
    assert found.derived == {} and found.weight == 3


def test_contradicting_assertions_are_reported_and_neither_holds_nor_what_followed():
    rules = [
        rule("says.yes", facts={"derived.small": True}),
        rule("says.no", facts={"derived.small": False}),
        rule("follows", condition("derived.small"), prefer=9.0),
    ]
    found = judge({}, compile_rules(rules))
    assert "derived.small" not in found.derived
    assert found.weight == 0
    errors = [verdict for verdict in found.verdicts if verdict.effect == "error"]
    assert len(errors) == 1 and "says.yes" in errors[0].because and "says.no" in errors[0].because
    assert judge({}, compile_rules(reversed(rules))) == found


def test_two_settings_for_one_knob_are_reported_and_neither_holds():
    found = judge(
        {}, compile_rules([rule("a", set={"prune.align": 8}), rule("b", set={"prune.align": 16}), rule("c", set={"qat.epochs": 3})])
    )
    assert found.settings == {"qat.epochs": 3}
    assert [verdict.rule for verdict in found.verdicts if verdict.effect == "error"] == ["a"]


@pytest.mark.parametrize(
    "bad",
    [
        condition("card.causal", "<", 3),
        condition("card.causal", "is", "yes"),
        condition("card.causal", "in", ("yes",)),
        condition("card.causal", "has", "yes"),
        condition("card.causal", "resembles", True),
        condition("card.causal", "<", None),
    ],
    ids=lambda bad: f"{bad.op} {bad.value}",
)
@pytest.mark.parametrize("beside", ["before", "after", "alone"])
def test_a_rule_that_errs_is_skipped_and_reported_and_the_others_go_on(bad, beside):
    fails = condition("card.recurrent", "is", True)
    asked = {"before": (bad, fails), "after": (fails, bad), "alone": (bad,)}[beside]
    facts = {"card.causal": True, "card.recurrent": False}
    ruleset = compile_rules([rule("bad", *asked, forbid=True), rule("good", prefer=2.0)])
    found = judge(facts, ruleset)
    assert found == judge(facts, specialise(ruleset, facts))
    assert not found.forbidden and found.weight == 2
    assert [verdict.rule for verdict in found.verdicts if verdict.effect == "error"] == ["bad"]


def test_forbid_beats_every_preference():
    found = judge({}, compile_rules([rule("no", forbid=True), rule("yes", prefer=100.0)]))
    assert found.forbidden and found.weight == 100


@pytest.mark.parametrize("op", ["is", "is-not", "<", "<=", ">", ">=", "in", "not-in", "has", "known"])
def test_a_fact_that_is_not_known_meets_no_condition(op):
    value = {"in": ("a",), "not-in": ("a",), "has": "a", "known": None}.get(op, 1)
    assert as_test(Condition("card.x", op, value))({}) is False
    assert as_test(Condition("card.x", op, value))({"card.x": None}) is False


@pytest.mark.parametrize(
    ("op", "value", "found", "met"),
    [
        ("is", 3, 3.0, True),
        ("is-not", 3, 4, True),
        ("<", 3, 3, False),
        ("<=", 3, 3, True),
        (">", 3, 3, False),
        (">=", 3, 3, True),
        ("in", ("a", "b"), "b", True),
        ("not-in", ("a", "b"), "b", False),
        ("has", "avx2", ("x86-64", "avx2"), True),
        ("has", "neon", ("x86-64", "avx2"), False),
        ("known", None, 0, True),
        ("unknown", None, 0, False),
        ("is", False, False, True),
    ],
)
def test_the_operators_mean_what_they_say(op, value, found, met):
    assert as_test(Condition("card.x", op, value))({"card.x": found}) is met


def test_a_flag_is_not_a_number():
    with pytest.raises(Mismatch, match=r"card\.x is True, a flag"):
        as_test(Condition("card.x", "is", 1))({"card.x": True})


def test_a_matched_condition_is_quoted_with_what_was_found():
    assert in_words(Condition("request.examples", "<", 10000), {"request.examples": 500}) == "request.examples < 10000 (it is 500)"
    assert in_words(Condition("request.streaming", "is", True), {"request.streaming": True}) == "request.streaming is true"
    assert in_words(Condition("request.latency_ms", "unknown"), {}) == "request.latency_ms is not stated"
