"""What is wrong with the rules as rules: those that contradict each other, can never fire, or say what is said already.

    findings = lint(load())

Findings are sentences, sorted; none means the knowledge is clean. The loader already refuses what is malformed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rules.conditions import as_test
from rules.engine import DERIVED, compile_rules
from rules.facts import Card, Condition, Rule, Value
from rules.knowledge import Knowledge

ASSERTED_BY_BUDGETS = {f"derived.{name}_tight" for name in ("latency", "size", "ram")}
BUDGETS = ("request.latency_ms", "request.size_bytes", "request.ram_bytes")


def lint(knowledge: Knowledge) -> list[str]:
    """All findings over the rules of every task together with those that hold for every task. Raises Problem for a broken file."""
    general = knowledge.rules
    found: set[str] = set()
    for row in knowledge.tasks.values():
        cards = [knowledge.cards[cell.architecture] for cell in row.cells]
        found |= set(findings(row.rules, cards, beside=general))
    found |= set(findings(general, list(knowledge.cards.values()), beside=[rule for row in knowledge.tasks.values() for rule in row.rules]))
    return sorted(found)


def findings(rules: Sequence[Rule], cards: Sequence[Card], *, beside: Sequence[Rule] = ()) -> list[str]:
    """Findings over these rules; `beside` are further rules that may assert what these ask for."""
    everything = (*rules, *beside)
    made = {fact for rule in everything for fact in rule.then.facts} | ASSERTED_BY_BUDGETS
    found = [f"{rule.id} waits in a circle: it needs a fact to be absent that depends on it" for rule in compile_rules(everything).circular]
    for rule in rules:
        found += _never(rule, made, cards) + _loosening(rule)
    return found + _pairs(rules)


def _never(rule: Rule, made: set[str], cards: Sequence[Card]) -> list[str]:
    """Conditions that no fact can meet."""
    found = []
    for condition in rule.when.all:
        if condition.fact.startswith(DERIVED) and condition.fact not in made and condition.op != "unknown":
            found.append(f"{rule.id} can never fire: no rule asserts {condition.fact}")
        if condition.fact.startswith("card.") and not any(_meets(card, condition) for card in cards):
            found.append(f"{rule.id} can never fire: no candidate has {condition.fact} {condition.op} {condition.value}")
    for fact in {condition.fact for condition in rule.when.all}:
        mine = [condition for condition in rule.when.all if condition.fact == fact]
        if not _possible(mine):
            found.append(f"{rule.id} can never fire: its conditions on {fact} exclude each other")
    barred = set(rule.when.none) & set(rule.when.all)
    return found + [f"{rule.id} can never fire: it wants {condition.fact} and bars it" for condition in barred]


def _meets(card: Card, condition: Condition) -> bool:
    values = {**card.traits, "name": card.name, "family": card.family, "year": card.year, "status": card.status}
    values |= {"licence_code": card.licence_code, "licence_weights": card.licence_weights}
    return as_test(condition)({f"card.{name}": value for name, value in values.items()})


def _possible(conditions: Sequence[Condition]) -> bool:
    """Whether one value can meet all of these conditions on one fact: the values they name, and those beside and between, are tried."""
    tests = [as_test(condition) for condition in conditions if condition.op not in ("has", "unknown")]
    if len(tests) < len(conditions) or len(tests) < 2:
        return True
    named = [condition.value for condition in conditions if condition.value is not None]
    numbers = sorted(value for value in named if isinstance(value, int | float) and not isinstance(value, bool))
    between = [(low + high) / 2 for low, high in pairwise(numbers)]
    outside = [numbers[0] - 1, numbers[-1] + 1] if numbers else []
    texts = [item for value in named for item in (value if isinstance(value, tuple) else (value,) if isinstance(value, str) else ())]
    flags = [True, False] if any(isinstance(value, bool) for value in named) else []
    tried: list[Value] = [*numbers, *between, *outside, *flags] or [*texts, "something else"]
    fact = conditions[0].fact
    return any(all(test({fact: value}) for test in tests) for value in tried)


def _loosening(rule: Rule) -> list[str]:
    """A refusal that a looser budget brings on would let a tighter budget admit a newcomer."""
    bad = [
        condition for condition in (*rule.when.all, *rule.when.any) if condition.fact in BUDGETS and condition.op in (">", ">=", "unknown")
    ]
    bad += [condition for condition in rule.when.none if condition.fact in BUDGETS and condition.op in ("<", "<=", "known")]
    bad += [condition for condition in rule.when.none if condition.fact in ASSERTED_BY_BUDGETS]
    return [f"{rule.id} refuses under a looser budget ({condition.fact} {condition.op})" for condition in bad] if rule.then.forbid else []


def _pairs(rules: Sequence[Rule]) -> list[str]:
    """Rules that say the same, the opposite, or nothing that another has not said."""
    found = []
    for place, rule in enumerate(rules):
        for other in rules[place + 1 :]:
            if rule.when == other.when and rule.then == other.then:
                found.append(f"{rule.id} and {other.id} say the same")
            elif rule.when == other.when and rule.then.prefer * other.then.prefer < 0:
                found.append(f"{rule.id} prefers what {other.id} avoids, under the same conditions")
    for forbids in (rule for rule in rules if rule.then.forbid):
        for rule in rules:
            if rule is not forbids and (rule.then.prefer or rule.then.forbid) and _covers(forbids, rule):
                found.append(f"{rule.id} is overshadowed: whenever it fires, {forbids.id} refuses")
    return found


def _covers(wide: Rule, narrow: Rule) -> bool:
    """Whether the wide rule fires whenever the narrow one does, as far as equal conditions show."""
    if wide.when.any:
        return False
    return set(map(repr, wide.when.all)) <= set(map(repr, narrow.when.all)) and set(map(repr, wide.when.none)) <= set(
        map(repr, narrow.when.none)
    )
