"""The engine's promises over the shipped knowledge, whatever is asked, and over generated rules: the same ones, in the same words."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rules.engine
from advisor.recommend import contest_for, device, facts_of, recommend
from rules.conditions import negative
from rules.engine import compile_rules, judge, specialise
from rules.facts import Condition, Recommendation, Request, Rule, Then, When
from rules.knowledge import HERE, Knowledge, load
from rules.ranking import SHORT, contest, hold, name_of, pick
from rules.strata import levels, parts
from rules.whatif import why_not
from tests.rules_for_tests import card_lists, condition, fact_maps, held, rule_lists
from tests.rules_for_tests import requests as small_requests

KNOWN = load()
BUDGETS = tuple(SHORT)
requests = st.builds(
    Request,
    task=st.sampled_from(sorted(KNOWN.tasks)),
    device=st.sampled_from(sorted(KNOWN.devices)),
    latency_ms=st.none() | st.floats(0.01, 1000),
    size_bytes=st.none() | st.integers(1_000, 10**9),
    ram_bytes=st.none() | st.integers(1_000, 10**9),
    flash_bytes=st.none() | st.integers(1_000, 10**9),
    energy=st.sampled_from((None, "milliwatt", "watt", "mains")),
    streaming=st.booleans(),
    generate=st.booleans(),
    examples=st.none() | st.integers(0, 10**6),
    classes=st.none() | st.integers(1, 10**4),
    length=st.none() | st.integers(1, 10**5),
    resolution=st.none() | st.integers(1, 4096),
    pretrained=st.none() | st.booleans(),
    explain=st.booleans(),
    licence=st.sampled_from(("any", "permissive")),
    precision=st.sampled_from((None, None, "fp32", "fp16", "int16", "int8")),
)


def names(candidates):
    return {name_of(item.architecture, item.variant) for item in candidates}


def answer(request, known=KNOWN):
    return recommend(request, known)


# -- over the shipped knowledge --------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(requests, st.sampled_from(BUDGETS), st.floats(0.01, 1))
def test_a_tighter_budget_never_admits_a_newcomer(request, budget, part):
    stated = getattr(request, budget) or 10**9
    looser, tighter = (answer(replace(request, **{budget: value})) for value in (stated, max(stated * part, 1e-3)))
    assert names(tighter.kept) <= names(looser.kept)
    assert names(looser.kept) <= names(answer(replace(request, **{budget: None})).kept)


@given(requests)
def test_a_tail_of_the_latency_admits_nobody_and_is_never_met_by_a_slower_pick(request):
    request = replace(request, latency_ms=request.latency_ms or 5.0)
    half, tail = answer(request), answer(replace(request, percentile="p99"))
    assert names(tail.kept) == names(half.kept)


@given(requests, st.randoms())
def test_the_order_of_cells_and_rules_changes_nothing(request, chance):
    row, target = KNOWN.task(request.task), device(KNOWN, request.device)
    facts = facts_of(request, row)
    cells, rules = list(row.cells), list(KNOWN.rules_for(row))
    chance.shuffle(cells)
    chance.shuffle(rules)
    shuffled = contest(replace(row, cells=tuple(cells)), target, cards=KNOWN.cards, costs=KNOWN.costs, rules=rules)
    assert hold(shuffled, facts) == hold(contest_for(row, target, KNOWN), facts)


def test_the_order_of_files_changes_nothing(tmp_path: Path):
    folder = shutil.copytree(HERE, tmp_path / "knowledge")
    first, second = folder / "remedies.toml", folder / "rules.toml"
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    swapped = Knowledge([folder])
    assert [rule.id for rule in swapped.rules] != [rule.id for rule in KNOWN.rules]
    chance = random.Random(0)
    for task in KNOWN.tasks:
        for name in chance.sample(sorted(KNOWN.devices), 2):
            for wish in ({}, {"latency_ms": 5.0, "streaming": True}, {"energy": "milliwatt", "licence": "permissive", "generate": True}):
                ours, theirs = (answer(Request(task, name, **wish), known) for known in (KNOWN, swapped))
                assert (ours.kept, ours.refused, tuple(ours.flips)) == (theirs.kept, theirs.refused, tuple(theirs.flips))


@given(requests, st.sampled_from(("request.weather", "card.colour", "candidate.mood")), st.sampled_from((True, 3, "blue", ("a",))))
def test_a_fact_that_no_rule_asks_for_changes_nothing(request, fact, value):
    row, target = KNOWN.task(request.task), device(KNOWN, request.device)
    prepared, facts = contest_for(row, target, KNOWN, request), facts_of(request, row)
    assert hold(prepared, {**facts, fact: value}) == hold(prepared, facts)


@given(requests)
def test_a_trait_that_no_rule_asks_for_changes_nothing(request):
    row, target = KNOWN.task(request.task), device(KNOWN, request.device)
    cards = {cell.architecture: KNOWN.cards[cell.architecture] for cell in row.cells}
    cards = {name: replace(card, traits={**card.traits, "colour": "blue"}) for name, card in cards.items()}
    other = contest(row, target, cards=cards, costs=KNOWN.costs, rules=KNOWN.rules_for(row))
    assert hold(other, facts_of(request, row)) == hold(contest_for(row, target, KNOWN), facts_of(request, row))


@given(requests)
def test_every_forbid_names_a_rule_there_is_and_every_refusal_has_one(request):
    found = answer(request)
    known = {rule.id for rule in KNOWN.rules_for(KNOWN.task(request.task))} | {f"budget.{short}" for short in SHORT.values()}
    for candidate in found.refused:
        forbids = [said for said in candidate.verdicts if said.effect == "forbid"]
        assert forbids and all(said.rule in known and said.because and said.facts for said in forbids)
    assert not any(said.effect == "forbid" for candidate in found.kept for said in candidate.verdicts)


@given(requests)
def test_every_pick_survives_why_not_of_itself_and_everybody_else_gets_a_reason(request):
    found = answer(request)
    best = pick(found.kept)
    for candidate in (*found.kept, *found.refused):
        label = name_of(candidate.architecture, candidate.variant)
        reasons = why_not(found, label)
        assert reasons and all(reasons)
        assert (reasons == (f"{label} is the pick",)) is (candidate is best)


# -- over generated rules --------------------------------------------------------------------------------------------------


@given(card_lists, rule_lists, small_requests)
def test_every_pick_of_generated_rules_survives_why_not_of_itself(cards, rules, facts):
    prepared = held(cards, rules)
    outcome = hold(prepared, facts)
    found = Recommendation(Request("task"), prepared.device, outcome.kept, outcome.refused)
    best = pick(outcome.kept)
    for candidate in (*outcome.kept, *outcome.refused):
        label = name_of(candidate.architecture, candidate.variant)
        assert (why_not(found, label) == (f"{label} is the pick",)) is (candidate is best)


@given(card_lists, rule_lists, small_requests, st.sampled_from(("request.weather", "card.colour")), st.booleans())
def test_a_fact_that_no_generated_rule_asks_for_changes_no_outcome(cards, rules, facts, fact, value):
    prepared = held(cards, rules)
    assert hold(prepared, {**facts, fact: value}) == hold(prepared, facts)


# -- strata and cost -------------------------------------------------------------------------------------------------------


def slowly(rules: list[Rule]) -> tuple[dict[int, int], set[int]]:
    """The strata by raising levels until nothing moves; what still climbs past every fact is in a circle, or behind one."""
    makers: dict[str, list[int]] = {}
    for number, rule in enumerate(rules):
        for fact in rule.then.facts:
            makers.setdefault(fact, []).append(number)
    found = dict.fromkeys(range(len(rules)), 0)
    for _ in range((len(rules) + 1) * (len(makers) + 2)):
        for number, rule in enumerate(rules):
            asked = [(part, False) for part in (*rule.when.all, *rule.when.any)] + [(part, True) for part in rule.when.none]
            needs = [found[maker] + negative(part, in_none=barring) for part, barring in asked for maker in makers.get(part.fact, ())]
            found[number] = max([found[number], *needs])
    return {number: level for number, level in found.items() if level <= len(makers)}, {
        number for number, level in found.items() if level > len(makers)
    }


@given(rule_lists)
def test_strata_are_those_that_raising_levels_finds(rules):
    settled, circular = levels(rules)
    slow, lost = slowly(rules)
    assert (settled, set(circular)) == (slow, lost)


@given(st.lists(st.lists(st.tuples(st.integers(0, 7), st.just(0)), max_size=4), min_size=8, max_size=8))
def test_two_nodes_share_a_part_when_each_follows_from_the_other(edges):
    reach = [{start} for start in range(8)]
    for _ in range(8):
        for start in range(8):
            reach[start] |= {end for node in tuple(reach[start]) for end, _ in edges[node]}
    found = {node: number for number, part in enumerate(parts(edges)) for node in part}
    for one in range(8):
        for other in range(8):
            assert (found[one] == found[other]) is (one in reach[other] and other in reach[one])
            if other in reach[one]:
                assert found[other] <= found[one]  # what follows comes first


def test_a_chain_of_ten_thousand_rules_is_followed_to_its_end():
    size = 10_000
    rules = [Rule(f"{n:05}", When((condition(f"derived.{n}"),)), Then(facts={f"derived.{n + 1}": True}), "b", "s") for n in range(size)]
    found = judge({"derived.0": True}, compile_rules(rules))
    assert len(found.verdicts) == size and found.derived[f"derived.{size}"] is True


@given(rule_lists, fact_maps)
def test_judging_twice_says_the_same(rules, facts):
    ruleset = specialise(compile_rules(rules), {})
    assert judge(facts, ruleset) == judge(facts, ruleset)


@pytest.mark.parametrize("side", ["rules", "cards"])
def test_twice_as_much_knowledge_is_tested_at_most_twice_as_often(side, monkeypatch):
    from bench.engine_scale import REQUEST, _contest

    counted = 0
    made = rules.engine.as_test

    def counting(asked: Condition):
        test = made(asked)

        def tested(facts):
            nonlocal counted
            counted += 1
            return test(facts)

        return tested

    monkeypatch.setattr(rules.engine, "as_test", counting)
    figures = []
    for factor in (1, 2, 4):
        counted = 0
        size = {"rules": 300, "cards": 15, side: {"rules": 300, "cards": 15}[side] * factor}
        hold(_contest(**size), REQUEST)
        figures.append(counted)
    assert figures[1] <= 2.2 * figures[0] and figures[2] <= 2.2 * figures[1], figures
