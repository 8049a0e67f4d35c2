"""Which rules can fire, which can fire together, and which fire only where another does.

Every condition looks at one fact, so conditions hold together when each fact has one value that meets all of its own. Trying the
values that the conditions name, those between and beside them, and none at all, decides that. `any` is a list of alternatives; a
derived fact is there only where a rule asserts it, so the conditions of that rule come along (three steps deep, which only ever
makes the answer "perhaps" instead of "no").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rules.computed import COMPUTED
from rules.conditions import CARD, Mismatch, as_test
from rules.facts import Cell, Condition, Device, Facts, Request, Rule, Status, Value, When
from rules.ranking import SHORT

DERIVED = "derived."
BY_BUDGETS = frozenset(f"derived.{name}_tight" for name in SHORT.values())
SETTLED = ("card.", "variant.", "cell.", "request.task")  # known exactly for each cell of the matrix
STATUS = "card.status"  # … but this: what is planned today is built tomorrow
ELSE = "something else"
DEEP = 3
MOST = 200  # alternatives of one rule; beyond that derived facts are not followed

Literally = tuple[Condition, bool]  # a condition, and whether it has to be met
Alternative = tuple[Literally, ...]  # one way for a rule to fire


@dataclass(frozen=True, slots=True)
class Domain:
    """The values that a fact can have. "open" is whatever its conditions compare it with."""

    kind: Literal["flag", "number", "whole", "text", "list", "open"]
    choices: tuple[Value, ...] = ()
    absent: bool = True  # it may be unknown


@lru_cache(maxsize=1)
def domains() -> Mapping[str, Domain]:
    """What is known of the values of facts: from the types of the nouns they come from."""
    found = {f"request.{name}": _domain(hint) for name, hint in get_type_hints(Request).items()}
    found |= {f"request.{name}": Domain("whole") for name in ("charset_size", *COMPUTED)}
    found |= {f"device.{name}": _domain(hint) for name, hint in get_type_hints(Device).items()}
    found |= {f"card.{name}": Domain("text", absent=False) for name in CARD if name != "year"}
    found[STATUS] = Domain("text", get_args(Status), absent=False)
    found |= {"card.year": Domain("whole", absent=False), "cell.fit": Domain("number", absent=False)}
    found |= {"cell.role": _domain(get_type_hints(Cell)["role"]), "variant.name": Domain("text")}
    found |= {f"variant.{name}": Domain("whole") for name in ("params", "macs")}
    found |= {f"candidate.latency_ms_{end}": Domain("number") for end in ("low", "mid", "high")}
    return found | {"candidate.size_bytes": Domain("whole"), "candidate.ram_bytes": Domain("whole"), "candidate.precision": Domain("text")}


def _domain(hint: Any) -> Domain:
    union = get_origin(hint) in (Union, UnionType)
    parts = [part for part in (get_args(hint) if union else (hint,)) if part is not type(None)]
    absent = union and len(parts) < len(get_args(hint))
    if get_origin(parts[0]) is Literal:
        return Domain("text", get_args(parts[0]), absent)
    if get_origin(parts[0]) is tuple:
        return Domain("list", (), absent)
    kinds: dict[Any, Literal["flag", "whole", "number", "text"]] = {bool: "flag", int: "whole", float: "number", str: "text"}
    return Domain(kinds.get(parts[0], "open"), (), absent)


# -- one rule ----------------------------------------------------------------------------------------------------------


def alternatives(rule: Rule, makers: Mapping[str, Sequence[Rule]], *, deep: int = DEEP) -> list[Alternative]:
    """The ways in which a rule can fire; empty when a derived fact that it needs is asserted by nobody. `makers`: fact → rules."""
    found: list[Alternative] = []
    for way in ways(rule.when):
        found += _followed(way, makers, deep) if len(found) < MOST else [way]
    return found


def ways(when: When) -> list[Alternative]:
    """The conditions as alternatives: `any` is one of its own at a time."""
    firm = (*((condition, True) for condition in when.all), *((condition, False) for condition in when.none))
    return [(*firm, (condition, True)) for condition in when.any] if when.any else [firm]


def makers_of(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    """The rules that assert each derived fact."""
    found: dict[str, list[Rule]] = {}
    for rule in rules:
        for fact in rule.then.facts:
            found.setdefault(fact, []).append(rule)
    return found


def _followed(way: Alternative, makers: Mapping[str, Sequence[Rule]], deep: int) -> list[Alternative]:
    """A way to fire, together with the ways of the rules that assert the derived facts it needs."""
    found = [way]
    needed = [condition for condition, wanted in way if wanted and condition.fact.startswith(DERIVED) and condition.op != "unknown"]
    for condition in needed:
        if condition.fact in BY_BUDGETS:
            continue
        ends = [rule for rule in makers.get(condition.fact, ()) if _meets(condition, rule.then.facts[condition.fact], True)]
        if not ends:
            return []
        inner = [more for rule in ends for more in alternatives(rule, makers, deep=deep - 1)] if deep else [()]
        if len(found) * len(inner) > MOST:
            continue
        found = [(*left, *right) for left, right in product(found, inner)]
    return found


def _meets(condition: Condition, value: Value | None, wanted: bool) -> bool:
    try:
        return as_test(condition)({condition.fact: value}) is wanted
    except Mismatch:
        return False  # a rule that errs is skipped


# -- conditions together --------------------------------------------------------------------------------------------------


def possible(way: Alternative, settled: Facts | None = None) -> bool:
    """Whether all of it can hold at once. `settled` are facts whose values are known, a missing one being unknown."""
    return not any(clash(way, settled))


def clash(way: Alternative, settled: Facts | None = None) -> Iterator[str]:
    """The facts whose conditions exclude each other."""
    by: dict[str, list[Literally]] = {}
    for condition, wanted in way:
        by.setdefault(condition.fact, []).append((condition, wanted))
    for fact, asked in by.items():
        tried = [settled.get(fact)] if settled is not None and fact.startswith(SETTLED) and fact != STATUS else _tried(fact, asked)
        if not any(all(_meets(condition, value, wanted) for condition, wanted in asked) for value in tried):
            yield fact


def _tried(fact: str, asked: Sequence[Literally]) -> list[Value | None]:
    """Values enough to decide whether any meets the conditions: those named, between, beside, and none."""
    domain = domains().get(fact, Domain("open"))
    named = [condition.value for condition, _ in asked if condition.value is not None]
    tried: list[Value | None] = [None] if domain.absent else []
    if domain.choices:
        return [*tried, *domain.choices]
    if domain.kind == "list" or any(condition.op == "has" for condition, _ in asked):
        items = tuple(dict.fromkeys(str(condition.value) for condition, wanted in asked if wanted and condition.op == "has"))
        return [*tried, items]
    if domain.kind in ("flag", "open"):
        tried += [True, False]
    if domain.kind in ("text", "open"):
        texts = [item for value in named for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, str)]
        tried += [*texts, ELSE]
    if domain.kind in ("whole", "number", "open"):
        tried += _numbers([value for value in named if isinstance(value, int | float) and not isinstance(value, bool)], domain)
    return tried


def _numbers(named: Sequence[float], domain: Domain) -> list[float]:
    points = sorted(named) or [1]
    between = [(low + high) / 2 for low, high in pairwise(points)]
    tried = [*points, *between, points[0] - 1, points[-1] + 1, points[0] / 2]
    if domain.kind == "whole":
        tried = [float(item) for point in tried for item in (int(point), int(point) + 1)] + list(points)
        return [item for item in tried if item >= 0 and item == int(item)]
    return [item for item in tried if item > 0 or (item == 0 and domain.kind == "open")] + ([-1.0] if domain.kind == "open" else [])


def covers(wide: When, narrow: When) -> bool:
    """Whether the wide one is met wherever the narrow one is, whatever the cards hold."""
    unmet: list[Alternative] = [((condition, False),) for condition in wide.all]
    unmet += [((condition, True),) for condition in wide.none]
    unmet += [tuple((condition, False) for condition in wide.any)] if wide.any else []
    return not any(possible((*way, *refuted)) for way in ways(narrow) for refuted in unmet)
