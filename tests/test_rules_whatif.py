"""What would change the answer, and why not another: every flip is checked by crossing it."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rules.facts import Condition
from rules.problems import Problem
from rules.ranking import hold, name_of, pick
from rules.whatif import LEAST, Flips, flips
from tests.rules_for_tests import card, card_lists, condition, crossed, held, requests, rule, rule_lists


def picked(prepared, facts):
    best = pick(hold(prepared, facts).kept)
    return name_of(best.architecture, best.variant) if best else ""


def staged(prepared, facts):
    best = pick(hold(prepared, facts).kept)
    return {stage.name for stage in best.stages} if best else set()


budget_rules = st.lists(
    st.builds(
        lambda name, op, value, weight: (Condition(f"request.{name}", op, value), weight),
        st.sampled_from(("latency_ms", "size_bytes", "examples")),
        st.sampled_from(("<", "<=", ">", ">=")),
        st.integers(1, 1000),
        st.integers(-30, 30).filter(bool),
    ),
    max_size=3,
).map(
    lambda found: [
        rule(f"limit.{number}", asked, condition("card.causal"), prefer=float(weight)) for number, (asked, weight) in enumerate(found)
    ]
)


@settings(max_examples=60)
@given(card_lists, rule_lists, budget_rules, requests)
def test_every_flip_is_true_when_its_fact_is_crossed_and_not_before(cards, rules, more, facts):
    assume(any(item.status == "built" for item in cards))
    prepared = held(cards, [*rules, *more])
    now, stages = picked(prepared, facts), staged(prepared, facts)
    for flip in flips(prepared, facts):
        assert flip.now == facts.get(flip.fact)
        beyond, short = crossed(facts, flip)
        assert picked(prepared, beyond) == flip.pick
        if flip.pick == now:
            assert staged(prepared, beyond) == (stages | set(flip.adds)) - set(flip.drops)
        else:
            assert not flip.adds and not flip.drops
        if short is not None and short[flip.fact] >= LEAST[flip.fact.partition(".")[2]]:
            assert (picked(prepared, short), staged(prepared, short)) != (flip.pick, staged(prepared, beyond))


@given(card_lists, rule_lists, budget_rules, requests, st.floats(0.001, 2000))
def test_no_change_of_the_latency_budget_flips_the_pick_unannounced(cards, rules, more, facts, tried):
    assume(any(item.status == "built" for item in cards))
    prepared = held(cards, [*rules, *more])
    facts = {**facts, "request.latency_ms": 100.0}
    announced = [flip for flip in flips(prepared, facts) if flip.fact == "request.latency_ms" and flip.threshold != "not stated"]
    reached = [
        flip
        for flip in announced
        if {
            "at most": tried <= flip.threshold,
            "below": tried < flip.threshold,
            "at least": tried >= flip.threshold,
            "above": tried > flip.threshold,
        }[flip.direction]
    ]
    if not reached:
        assert picked(prepared, {**facts, "request.latency_ms": tried}) == picked(prepared, facts)


def test_a_tighter_latency_budget_is_found_with_its_rule():
    cards = [card("good", macs=100_000_000), card("fast", macs=1_000_000)]
    prepared = held(cards, [], fits={"good": 80, "fast": 60})
    good = next(item for item in prepared.contenders if item.card.name == "good").prediction
    found = [flip for flip in flips(prepared, {}) if flip.fact == "request.latency_ms"]
    assert (found[0].direction, found[0].threshold, found[0].pick, found[0].rule) == ("below", good.mid_ms, "fast/small", "budget.latency")
    assert found[1].pick == "" and found[1].rule == "budget.latency"


def test_a_rules_threshold_on_examples_is_found_from_either_side():
    rules = [rule("few", Condition("request.examples", "<", 1000), condition("card.recurrent"), forbid=True)]
    prepared = held([card("a", recurrent=True), card("b")], rules, fits={"a": 80})
    (down,) = [flip for flip in flips(prepared, {"request.examples": 5000}) if flip.fact == "request.examples"]
    assert (down.direction, down.threshold, down.pick, down.rule) == ("at most", 999, "b/small", "few")
    up, unknown = (flip for flip in flips(prepared, {"request.examples": 500}) if flip.fact == "request.examples")
    assert (up.direction, up.threshold, up.pick) == ("at least", 1000, "a/small")
    assert (unknown.direction, unknown.threshold, unknown.pick) == ("becomes", "not stated", "a/small")
    (silent,) = [flip for flip in flips(prepared, {}) if flip.fact == "request.examples"]
    assert (silent.now, silent.direction, silent.threshold) == (None, "at most", 999)


def test_a_switch_that_changes_the_answer_is_found():
    rules = [rule("stream", condition("request.streaming"), condition("card.causal", "is", False), forbid=True)]
    prepared = held([card("a", causal=False), card("b", causal=True)], rules, fits={"a": 80})
    (found,) = flips(prepared, {"request.streaming": False})[-1:]
    assert (found.fact, found.threshold, found.pick, found.rule) == ("request.streaming", True, "b/small", "stream")


def test_a_change_of_the_plan_alone_is_a_flip_too():
    rules = [rule("hurry", Condition("request.latency_ms", "known"), stage="prune")]
    (found, *_) = flips(held([card("a")], rules), {})
    assert (found.fact, found.threshold, found.adds, found.rule) == ("request.latency_ms", "stated", ("prune",), "hurry")


def test_flips_are_worked_out_once_and_only_when_looked_at():
    asked = []
    lazy = Flips(lambda: asked.append(1) or ())
    assert not asked
    assert len(lazy) == 0 and list(lazy) == [] and lazy == () and asked == [1]


def test_where_nothing_can_be_built_the_best_reference_stands_for_the_pick():
    prepared = held([card("a", status="reference", macs=10**8), card("b", status="reference", macs=10**6)], [], fits={"a": 80})
    assert [flip.pick for flip in flips(prepared, {}) if flip.fact == "request.latency_ms"][:1] == ["b/small"]


def recommendation(prepared, facts):
    from rules.facts import Recommendation, Request

    outcome = hold(prepared, facts)
    return Recommendation(Request("task"), prepared.device, outcome.kept, outcome.refused)


def test_why_not_names_the_rule_the_facts_and_the_difference():
    from rules.whatif import why_not

    rules = [rule("no", condition("card.causal"), forbid=True), rule("yes", condition("card.recurrent"), prefer=7.0)]
    cards = [card("good", recurrent=True), card("plain"), card("barred", causal=True), card("paper", status="reference")]
    answer = recommendation(held(cards, rules), {})
    assert why_not(answer, "good") == ("good/small is the pick",)
    assert why_not(answer, "barred") == ("barred/small is refused by no: because of no (card.causal is true)",)
    assert why_not(answer, "paper") == ("paper/small is a reference, never the pick: not built",)
    behind = " ".join(why_not(answer, "plain"))
    assert "score of 50, behind good/small with 57" in behind and "+7 by yes" in behind
    with pytest.raises(Problem, match="did you mean 'plain'"):
        why_not(answer, "plane")
