"""Who is kept, who is refused, in which order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.ranking import hold, name_of, nearest_miss, pick
from tests.rules_for_tests import PI, card, card_lists, condition, held, requests, rule, rule_lists

BUDGETS = ("request.latency_ms", "request.size_bytes", "request.ram_bytes", "request.flash_bytes")


def labels(candidates):
    return [name_of(item.architecture, item.variant) for item in candidates]


@given(card_lists, rule_lists, requests, st.randoms())
def test_the_order_of_cards_and_rules_changes_nothing(cards, rules, request_facts, random):
    shuffled_cards, shuffled_rules = list(cards), list(rules)
    random.shuffle(shuffled_cards)
    random.shuffle(shuffled_rules)
    assert hold(held(cards, rules), request_facts) == hold(held(shuffled_cards, shuffled_rules), request_facts)


@given(card_lists, rule_lists, requests, st.sampled_from(BUDGETS), st.floats(0.01, 1.0))
def test_a_tighter_budget_never_admits_a_newcomer(cards, rules, request_facts, budget, part):
    # Rules of the files that look at a budget are lint's business (`rules.lint` finds those that refuse under a looser one).
    prepared = held(cards, rules)
    looser = hold(prepared, request_facts)
    tighter = hold(prepared, {**request_facts, budget: max(0.001, request_facts.get(budget, 1e9) * part)})
    assert set(labels(tighter.kept)) <= set(labels(looser.kept))


@given(card_lists, st.floats(0.01, 1000), st.floats(0.01, 1.0))
def test_a_tighter_latency_budget_never_leads_to_a_slower_pick(cards, limit, part):
    prepared = held(cards, [])
    looser, tighter = (pick(hold(prepared, {"request.latency_ms": value}).kept) for value in (limit, limit * part))
    if looser and tighter and looser.prediction and tighter.prediction:
        assert tighter.prediction.mid_ms <= looser.prediction.mid_ms


@given(card_lists, rule_lists, requests)
def test_every_refusal_has_a_forbid_that_names_its_rule_and_nobody_kept_has_one(cards, rules, request_facts):
    outcome = hold(held(cards, rules), request_facts)
    known = {item.id for item in rules} | {"budget.latency", "budget.size", "budget.ram", "budget.flash"}
    assert len(outcome.kept) + len(outcome.refused) == len(cards)
    for candidate in outcome.refused:
        forbids = [said for said in candidate.verdicts if said.effect == "forbid"]
        assert forbids and {said.rule for said in forbids} <= known and all(said.because and said.facts is not None for said in forbids)
    assert not any(said.effect == "forbid" for candidate in outcome.kept for said in candidate.verdicts)


@given(card_lists, rule_lists, requests)
def test_a_reference_is_never_the_pick_and_has_no_plan(cards, rules, request_facts):
    outcome = hold(held(cards, rules), request_facts)
    best = pick(outcome.kept)
    assert best is None or best.status == "built"
    assert all(not candidate.stages for candidate in (*outcome.kept, *outcome.refused) if candidate.status == "reference")
    statuses = [candidate.status for candidate in outcome.kept]
    assert statuses == sorted(statuses)  # built before reference


def test_a_budget_refuses_only_when_even_the_low_end_misses_and_warns_between():
    prepared = held([card("net")], [])
    prediction = pick(hold(prepared, {}).kept).prediction

    def effects(limit):
        outcome = hold(prepared, {"request.latency_ms": limit})
        return [(said.rule, said.effect) for candidate in (*outcome.kept, *outcome.refused) for said in candidate.verdicts]

    assert effects(prediction.mid_ms) == []
    assert effects(prediction.mid_ms * 0.999) == [("budget.latency", "warn")]
    assert effects(prediction.low_ms) == [("budget.latency", "warn")]
    assert effects(prediction.low_ms * 0.999) == [("budget.latency", "forbid")]


@pytest.mark.parametrize(
    ("budget", "short"), [("request.size_bytes", "size"), ("request.ram_bytes", "ram"), ("request.flash_bytes", "flash")]
)
def test_what_is_built_may_be_pruned_to_half_before_a_budget_refuses_it_and_a_reference_may_not(budget, short):
    cards = [card("net", params=1_000_000), card("other", params=1_000_000, status="reference")]
    outcome = hold(held(cards, []), {budget: 800_000})
    assert labels(outcome.kept) == ["net/small"] and labels(outcome.refused) == ["other/small"]
    assert [said.rule for said in outcome.kept[0].verdicts] == [f"budget.{short}"]
    assert labels(hold(held(cards, []), {budget: 500_000}).kept) == []


def test_a_budget_that_is_tight_is_a_fact_for_rules():
    rules = [rule("hurry", condition("derived.latency_tight"), stage="prune", set={"prune.latency_ratio": 0.5})]
    prepared = held([card("net")], rules)
    mid = pick(hold(prepared, {}).kept).prediction.mid_ms
    assert [stage.name for stage in pick(hold(prepared, {}).kept).stages] == ["train", "export"]
    stages = pick(hold(prepared, {"request.latency_ms": mid * 0.9}).kept).stages
    assert [(stage.name, dict(stage.settings)) for stage in stages] == [("train", {}), ("prune", {"latency_ratio": 0.5}), ("export", {})]


def test_one_that_meets_the_budget_comes_before_a_better_one_that_may_miss():
    cards = [card("better", macs=100_000_000), card("faster", macs=50_000_000)]
    prepared = held(cards, [], fits={"better": 90, "faster": 40})
    assert labels(hold(prepared, {}).kept)[0] == "better/small"
    slow, fast = (item.prediction.mid_ms for item in hold(prepared, {}).kept)
    assert labels(hold(prepared, {"request.latency_ms": (slow + fast) / 2}).kept) == ["faster/small", "better/small"]


def test_the_devices_memory_is_a_budget_that_nobody_needs_to_state():
    outcome = hold(held([card("net", params=10_000_000)], [], device=replace(PI, ram_bytes=1_000_000)), {})
    assert [said.rule for said in outcome.refused[0].verdicts] == ["budget.ram"]
    assert outcome.refused[0].verdicts[0].facts[0] == "device.ram_bytes is 1 MB"


def test_ties_break_by_cost_then_by_name():
    cards = [card("b", macs=10**6), card("a", macs=10**6), card("c", macs=10**5), card("d", macs=0)]
    assert labels(hold(held(cards, []), {}).kept) == ["c/small", "a/small", "b/small", "d/small"]


def test_when_nothing_fits_the_nearest_miss_is_named_with_what_binds_it():
    cards = [card("far", macs=10**10, recurrent=True), card("near", macs=10**9), card("other", status="reference", macs=10**9)]
    rules = [rule("no.recurrence", condition("card.recurrent"), forbid=True)]
    outcome = hold(held(cards, rules, fits={"far": 99}), {"request.latency_ms": 0.1})
    assert outcome.kept == ()
    miss, binding = nearest_miss(outcome)
    assert miss == "near/small" and "budget.latency" in binding


def test_a_reference_that_fits_is_said_to_fit_when_nothing_built_does():
    cards = [card("built", macs=10**9), card("paper", macs=10**6, status="reference")]
    outcome = hold(held(cards, []), {"request.latency_ms": 1.0})
    assert labels(outcome.kept) == ["paper/small"] and pick(outcome.kept) is None
    miss, binding = nearest_miss(outcome)
    assert miss == "built/small" and "budget.latency" in binding and "paper/small fits, as a reference" in binding


def test_stages_come_in_the_order_of_a_plan_with_every_rule_that_asked():
    rules = [
        rule("c", stage="qat"),
        rule("a", stage="quantize"),
        rule("b", stage="quantize", set={"quantize.per_channel": True}),
        rule("d", set={"prune.align": 16}),
    ]
    stages = pick(hold(held([card("net")], rules), {}).kept).stages
    assert [stage.name for stage in stages] == ["train", "export", "quantize", "qat"]
    assert stages[2].rule == "a, b" and stages[2].because == "because of a; because of b"
    assert dict(stages[2].settings) == {"per_channel": True}


def test_distillation_without_a_teacher_is_left_out_and_said_so():
    best = pick(hold(held([card("net")], [rule("d", stage="distil")]), {}).kept)
    assert "distil" not in [stage.name for stage in best.stages]
    assert any(said.rule == "plan.distil" and said.effect == "warn" for said in best.verdicts)
