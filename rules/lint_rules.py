"""What is wrong with rules as rules: those that can never fire, say what is said already, or undo each other.

A rule is judged over the cells it can meet (card, variant and role are known) and over every request and device there could be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rules.conditions import DEVICE, SAID, Mismatch, as_test, plainly
from rules.engine import compile_rules
from rules.facts import Condition, Device, Facts, Rule, Then, When
from rules.finding import Finding
from rules.overlap import BY_BUDGETS, DERIVED, SETTLED, Alternative, alternatives, clash, covers, makers_of, possible

BUDGETS = ("request.latency_ms", "request.size_bytes", "request.ram_bytes", "request.flash_bytes")


def findings(
    rules: Sequence[Rule], cells: Sequence[Facts], *, beside: Sequence[Rule] = (), devices: Sequence[Device] = (), task: str = ""
) -> list[Finding]:
    """Findings over these rules. `beside` are further rules that may assert or shadow; `task` is the one that the rules belong to."""
    everything = (*rules, *beside)
    makers = makers_of(everything)
    circular = {rule.id for rule in compile_rules(everything).circular}
    found: list[Finding] = []
    for rule in rules:
        if rule.id in circular:
            found.append(_about(rule, "it waits in a circle: it needs a fact to be absent that depends on it"))
        found += never(rule, makers, cells) or unmet_here(rule, makers, devices)
        found += _loosening(rule)
    return found + pairs(rules, beside, task=task)


def _about(rule: Rule, what: str, *, remedy: str = "", note: bool = False) -> Finding:
    return Finding(rule.origin, f"rule {rule.id!r}", what, "note" if note else "warning", remedy)


# -- rules that can never fire ---------------------------------------------------------------------------------------------


def never(rule: Rule, makers: Mapping[str, Sequence[Rule]], cells: Sequence[Facts]) -> list[Finding]:
    """Why no request, device and candidate can ever meet the conditions; empty when they can."""
    found = alternatives(rule, makers)
    if not found:
        missing = [condition for condition in (*rule.when.all, *rule.when.any) if _unasserted(condition, makers)]
        facts = ", ".join(sorted({said(condition) for condition in missing})) or "what it needs"
        return [_about(rule, f"it can never fire: no rule asserts {facts}")]
    sound = [way for way in found if possible(way)]
    if not sound:
        facts = ", ".join(sorted({fact for way in found for fact in clash(way)}))
        return [_about(rule, f"it can never fire: no value meets its conditions on {facts}")]
    if cells and not any(possible(way, cell) for way in sound for cell in cells):
        return [_about(rule, f"it can never fire: {_no_cell(sound, cells)}", remedy="card, variant and cell facts are those of the matrix")]
    return []


def _unasserted(condition: Condition, makers: Mapping[str, Sequence[Rule]]) -> bool:
    if not condition.fact.startswith(DERIVED) or condition.op == "unknown" or condition.fact in BY_BUDGETS:
        return False
    return not any(
        possible(((condition, True), (Condition(condition.fact, "is", rule.then.facts[condition.fact]), True)))
        for rule in makers.get(condition.fact, ())
    )


def _no_cell(ways: Sequence[Alternative], cells: Sequence[Facts]) -> str:
    """Which of the conditions no candidate meets, or that none meets them together."""
    asked = [literal for literal in ways[0] if literal[0].fact.startswith(SETTLED)]
    for condition, wanted in asked:
        if not any(possible(((condition, wanted),), cell) for cell in cells):
            return f"no candidate has {'' if wanted else 'other than '}{said(condition)}"
    return f"no candidate has all of {', '.join(('' if wanted else 'not ') + said(condition) for condition, wanted in asked)}"


def unmet_here(rule: Rule, makers: Mapping[str, Sequence[Rule]], devices: Sequence[Device]) -> list[Finding]:
    """A note where no device that is known meets the conditions: the rule waits for one of somebody's own."""
    known = [{f"device.{name}": getattr(device, name) for name in DEVICE} for device in devices]
    ways = [[literal for literal in way if literal[0].fact.startswith("device.")] for way in alternatives(rule, makers)]
    if not known or any(all(_holds(condition, wanted, facts) for condition, wanted in way) for way in ways for facts in known):
        return []
    conditions = ", ".join(dict.fromkeys(said(condition) for way in ways for condition, _ in way))
    return [_about(rule, f"no known device has {conditions}", remedy="it waits for a device file of your own", note=True)]


def _holds(condition: Condition, wanted: bool, facts: Facts) -> bool:
    try:
        return as_test(condition)(facts) is wanted
    except Mismatch:
        return False


def said(condition: Condition) -> str:
    """`card.int8 is static`"""
    if condition.op in ("known", "unknown"):
        return f"{condition.fact} {condition.op}"
    return f"{condition.fact} {SAID[condition.op]} {plainly(condition.value)}"


def _loosening(rule: Rule) -> list[Finding]:
    """A refusal that a looser budget brings on would let a tighter budget admit a newcomer."""
    if not rule.then.forbid:
        return []
    bad = [
        condition for condition in (*rule.when.all, *rule.when.any) if condition.fact in BUDGETS and condition.op in (">", ">=", "unknown")
    ]
    bad += [condition for condition in rule.when.none if condition.fact in BUDGETS and condition.op in ("<", "<=", "known")]
    bad += [condition for condition in rule.when.none if condition.fact in BY_BUDGETS]
    remedy = "a tighter budget must never admit a newcomer"
    return [_about(rule, f"it refuses under a looser budget ({condition.fact} {condition.op})", remedy=remedy) for condition in bad]


# -- two rules ------------------------------------------------------------------------------------------------------------


def pairs(rules: Sequence[Rule], beside: Sequence[Rule] = (), *, task: str = "") -> list[Finding]:
    """Rules that say the same, the opposite, or nothing that another has not said."""
    found: list[Finding] = []
    for narrow in rules:
        for wide in (*rules, *beside):
            if wide is narrow or not _related(wide.then, narrow.then) or not covers(wide.when, _within(narrow, task)):
                continue
            mutual = wide in rules and covers(narrow.when, _within(wide, task))
            if mutual and wide.id < narrow.id:
                continue  # said once, from the other side
            found += _pair(wide, narrow, mutual)
    return found


def _within(rule: Rule, task: str) -> When:
    return replace(rule.when, all=(*rule.when.all, Condition("request.task", "is", task))) if task else rule.when


def _related(wide: Then, narrow: Then) -> bool:
    return wide.forbid or wide == narrow or wide.prefer * narrow.prefer < 0 or _says_all(wide, narrow)


def _says_all(wide: Then, narrow: Then) -> bool:
    """Whether the one concludes everything that the other does. Preferences add up, so they are never said already."""
    if narrow.prefer or (narrow.forbid and not wide.forbid):
        return False
    if (narrow.stage and narrow.stage != wide.stage) or (narrow.warn and narrow.warn != wide.warn):
        return False
    return narrow.set.items() <= wide.set.items() and narrow.facts.items() <= wide.facts.items()


def _pair(wide: Rule, narrow: Rule, mutual: bool) -> Iterable[Finding]:
    if mutual and wide.then == narrow.then:
        yield _about(narrow, f"it says the same as rule {wide.id!r}", remedy="keep one")
    elif mutual and wide.then.prefer * narrow.then.prefer < 0:
        ours, theirs = ("prefers", "avoids") if narrow.then.prefer > 0 else ("avoids", "prefers")
        yield _about(narrow, f"it {ours} what rule {wide.id!r} {theirs}, under the same conditions")
    elif wide.then.forbid and (narrow.then.prefer or narrow.then.forbid):
        yield _about(narrow, f"it is overshadowed: whenever it fires, rule {wide.id!r} refuses", remedy="it changes nothing")
    elif _says_all(wide.then, narrow.then):
        yield _about(narrow, f"it is shadowed: whenever it fires, rule {wide.id!r} says the same", remedy="it changes nothing")
