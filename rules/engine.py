"""Forward chaining over rules as data: facts in, verdicts and derived facts out. Pure: no I/O, no clock.

What holds, whatever the order of files and rules:
- every rule that fires is heard, and leaves a verdict with the conditions as they matched;
- a derived fact is settled before anything asks for its absence (rules are sorted into strata, as in stratified Datalog:
  Apt, Blair and Walker 1988); rules that wait for each other's absence are skipped and reported;
- two rules that assert different values of one derived fact, or of one setting, are reported, and neither holds;
- a rule that errs is skipped and reported; the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rules.conditions import Mismatch, Test, as_test, in_words, negative
from rules.facts import Condition, Effect, Facts, Rule, Value, Verdict

DERIVED = "derived."
OPEN = ("request.", DERIVED)  # the facts that change from one request to the next …
SETTLED = "request.task"  # … but this one: a contest is a task's


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule with its conditions as tests. `waits`: it looks at derived facts, so it may fire in a later round.

    `said` are its verdicts where nothing that can change is left to test.
    """

    rule: Rule
    all: tuple[Test, ...]
    any: tuple[Test, ...]
    none: tuple[Test, ...]
    waits: bool
    said: tuple[Verdict, ...] | None = None

    def fires(self, facts: Facts) -> bool:
        """Whether the rule holds. Every condition is tested, so that one that errs is found whatever the others say."""
        met = [test(facts) for test in self.all]
        some = [test(facts) for test in self.any]
        barred = [test(facts) for test in self.none]
        return not (False in met or True in barred or (some and True not in some))


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Rules ready to run: strata in order, each sorted by id, and the rules that can never be settled."""

    strata: tuple[tuple[Compiled, ...], ...]
    circular: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules said over one set of facts. `weight` is the sum of the preferences; `settings` maps "stage.setting"."""

    verdicts: tuple[Verdict, ...]
    derived: Mapping[str, Value]
    settings: Mapping[str, Value] = field(default_factory=dict)
    stages: Mapping[str, tuple[Verdict, ...]] = field(default_factory=dict)
    weight: float = 0.0
    forbidden: bool = False


def compile_rules(rules: Iterable[Rule]) -> Ruleset:
    """Sort rules into strata: a rule comes after every rule whose conclusion it needs to be absent."""
    ordered = sorted(rules, key=lambda rule: (rule.id, rule.because))
    levels, circular = _levels(ordered)
    depth = 1 + max(levels.values(), default=0)
    strata: list[list[Compiled]] = [[] for _ in range(depth)]
    for number, rule in enumerate(ordered):
        if number in levels:
            strata[levels[number]].append(_compiled(rule))
    return Ruleset(tuple(map(tuple, strata)), tuple(ordered[number] for number in circular))


def _compiled(rule: Rule) -> Compiled:
    when = rule.when
    waits = any(condition.fact.startswith(DERIVED) for condition in (*when.all, *when.any, *when.none))
    return Compiled(rule, tuple(map(as_test, when.all)), tuple(map(as_test, when.any)), tuple(map(as_test, when.none)), waits)


def specialise(ruleset: Ruleset, settled: Facts) -> Ruleset:
    """The same rules for facts of which only `request.` and `derived.` ones will change: what is decided is decided now."""
    strata = [[_specialised(item, settled) for item in stratum] for stratum in ruleset.strata]
    return Ruleset(tuple(tuple(item for item in stratum if item) for stratum in strata), ruleset.circular)


def asked_of(ruleset: Ruleset) -> frozenset[str]:
    """The facts of the request that these rules look at."""
    parts = [
        part for stratum in ruleset.strata for item in stratum for part in (item.rule.when.all, item.rule.when.any, item.rule.when.none)
    ]
    return frozenset(
        condition.fact for part in parts for condition in part if condition.fact.startswith("request.") and condition.fact != SETTLED
    )


def _specialised(item: Compiled, settled: Facts) -> Compiled | None:
    """The rule with only its open conditions; None when it can no longer fire."""
    when = item.rule.when
    try:
        met = [test(settled) for condition, test in zip(when.all, item.all, strict=True) if not _open(condition)]
        some = [test(settled) for condition, test in zip(when.any, item.any, strict=True) if not _open(condition)]
        barred = [test(settled) for condition, test in zip(when.none, item.none, strict=True) if not _open(condition)]
    except Mismatch:
        return item  # it errs whenever it is asked, and is reported then
    open_any = () if True in some else _left(when.any, item.any)
    if False in met or True in barred or (when.any and not open_any and True not in some):
        return None
    left = Compiled(item.rule, _left(when.all, item.all), open_any, _left(when.none, item.none), item.waits)
    if left.all or left.none or any(map(_open, when.any)):
        return left
    return replace(left, said=tuple(_verdicts(item.rule, settled)))


def _open(condition: Condition) -> bool:
    return condition.fact.startswith(OPEN) and condition.fact != SETTLED


def _left(conditions: Sequence[Condition], tests: Sequence[Test]) -> tuple[Test, ...]:
    return tuple(test for condition, test in zip(conditions, tests, strict=True) if _open(condition))


def _levels(rules: Sequence[Rule]) -> tuple[dict[int, int], list[int]]:
    """The stratum of each rule by its place, and the rules in a circle through absence (their level would grow for ever)."""
    makers: dict[str, list[int]] = {}
    for number, rule in enumerate(rules):
        for fact in rule.then.facts:
            makers.setdefault(fact, []).append(number)
    needs = {number: _needs(rule, makers) for number, rule in enumerate(rules)}
    levels = dict.fromkeys(needs, 0)
    highest = len(makers)  # a settled rule waits for at most one stratum a derived fact
    for _ in range((len(rules) + 1) * (highest + 2)):  # enough for every circle to climb past it
        raised = {number: max([levels[other] + step for other, step in needs[number]], default=0) for number in needs}
        if raised == levels:
            return levels, []
        levels = raised
    circular = [number for number, level in levels.items() if level > highest]
    return {number: level for number, level in levels.items() if level <= highest}, circular


def _needs(rule: Rule, makers: Mapping[str, Sequence[int]]) -> list[tuple[int, int]]:
    """(rule, 1 if it must be settled before, 0 if it may fire along) for every rule that makes a fact this one looks at."""
    parts = [(condition, False) for condition in (*rule.when.all, *rule.when.any)] + [(condition, True) for condition in rule.when.none]
    return [(maker, int(negative(condition, in_none=barring))) for condition, barring in parts for maker in makers.get(condition.fact, ())]


def judge(facts: Facts, ruleset: Ruleset) -> Judgement:
    """Run the rules over the facts until nothing new follows."""
    contradicted: dict[str, Verdict] = {}
    while True:
        fired, derived, errors, found = _chain(facts, ruleset, contradicted)
        if not found:
            break
        contradicted |= found  # start again without the facts that two rules disagree on: what followed from them must go
    known = {**facts, **derived} if derived else facts
    return _judgement(fired, known, derived, [*errors, *contradicted.values(), *map(_circle, ruleset.circular)])


def _chain(
    facts: Facts, ruleset: Ruleset, contradicted: Mapping[str, Verdict]
) -> tuple[list[Compiled], dict[str, Value], list[Verdict], dict[str, Verdict]]:
    """One run: the rules that fired, the facts they asserted, the rules that erred, the facts asserted twice and differently."""
    known: dict[str, Value | None] = dict(facts)
    fired: list[Compiled] = []
    derived: dict[str, Value] = {}
    errors: list[Verdict] = []
    for stratum in ruleset.strata:
        pending: Sequence[Compiled] = stratum
        while pending:
            now, pending = _round(pending, known, errors)
            fresh, clashes = _assertions(now, derived, contradicted)
            fired += now
            if clashes:
                return fired, derived, errors, clashes
            derived |= fresh
            known |= fresh
            if not fresh:
                break
    return fired, derived, errors, {}


def _round(pending: Sequence[Compiled], known: Facts, errors: list[Verdict]) -> tuple[list[Compiled], list[Compiled]]:
    """Every pending rule over the same facts: those that fire, and those that may yet."""
    now: list[Compiled] = []
    later: list[Compiled] = []
    for item in pending:
        try:
            if item.said is not None or item.fires(known):
                now.append(item)
            elif item.waits:
                later.append(item)
        except Mismatch as mismatch:
            errors.append(_error(item.rule, str(mismatch)))
    return now, later


def _assertions(
    fired: Sequence[Compiled], derived: Mapping[str, Value], contradicted: Mapping[str, Verdict]
) -> tuple[dict[str, Value], dict[str, Verdict]]:
    fresh: dict[str, Value] = {}
    by: dict[str, str] = {}
    clashes: dict[str, Verdict] = {}
    for rule in (item.rule for item in fired):
        for fact, value in rule.then.facts.items():
            if fact in contradicted:
                continue
            standing = fresh.get(fact, derived.get(fact))
            if standing is not None and (standing != value or type(standing) is not type(value)):
                other = f" and {by[fact]}" if fact in by else ""
                clashes[fact] = _error(
                    rule, f"{fact} is asserted as {standing!r} and as {value!r}{other and f' by {rule.id}{other}'}; neither holds"
                )
            elif standing is None:
                fresh[fact] = value
                by[fact] = rule.id
    return fresh, clashes


def _error(rule: Rule, message: str) -> Verdict:
    return Verdict(rule.id, "error", 0.0, message, rule.source)


def _circle(rule: Rule) -> Verdict:
    return _error(rule, "it waits for a fact to be absent that depends on this rule itself")


def _judgement(fired: Sequence[Compiled], known: Facts, derived: Mapping[str, Value], errors: Sequence[Verdict]) -> Judgement:
    fired = sorted(fired, key=lambda item: item.rule.id)
    verdicts: list[Verdict] = []
    stages: dict[str, tuple[Verdict, ...]] = {}
    for item in fired:
        said = item.said or _verdicts(item.rule, known)
        verdicts += said
        if item.rule.then.stage:
            asking = tuple(verdict for verdict in said if verdict.effect == "stage")
            stages[item.rule.then.stage] = stages.get(item.rule.then.stage, ()) + asking
    settings, clashes = _settings([item.rule for item in fired])
    if errors or clashes:
        verdicts += sorted([*errors, *clashes], key=lambda verdict: (verdict.rule, verdict.because))
    weight = sum(item.rule.then.prefer for item in fired)
    return Judgement(tuple(verdicts), derived, settings, stages, weight, any(item.rule.then.forbid for item in fired))


def _verdicts(rule: Rule, known: Facts) -> list[Verdict]:
    """The verdicts of one fired rule, a verdict each conclusion."""
    when, then = rule.when, rule.then
    matched = [*when.all, *(condition for condition in when.any if as_test(condition)(known))]
    facts = tuple([in_words(condition, known) for condition in matched])
    concluded: list[tuple[Effect, bool, float, str]] = [
        ("forbid", then.forbid, 0.0, rule.because),
        ("prefer" if then.prefer > 0 else "avoid", bool(then.prefer), then.prefer, rule.because),
        ("stage", bool(then.stage), 0.0, rule.because),
        ("warn", bool(then.warn), 0.0, f"{then.warn} ({rule.because})"),
        ("set", bool(then.set), 0.0, rule.because),
        ("assert", bool(then.facts), 0.0, rule.because),
    ]
    return [Verdict(rule.id, effect, weight, because, rule.source, facts) for effect, holds, weight, because in concluded if holds]


def _settings(fired: Sequence[Rule]) -> tuple[dict[str, Value], list[Verdict]]:
    """Every setting the rules agree on, and an error for each they do not."""
    asked: dict[str, list[Rule]] = {}
    for rule in fired:
        for key in rule.then.set:
            asked.setdefault(key, []).append(rule)
    settings: dict[str, Value] = {}
    clashes: list[Verdict] = []
    for key, rules in sorted(asked.items()):
        rules.sort(key=lambda rule: rule.id)
        first = rules[0].then.set[key]
        other = next((rule for rule in rules if rule.then.set[key] != first or type(rule.then.set[key]) is not type(first)), None)
        if other is None:
            settings[key] = first
        else:
            clashes.append(_error(rules[0], f"{key} is set to {first!r} here and to {other.then.set[key]!r} by {other.id}; neither holds"))
    return settings, clashes
