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
from dataclasses import dataclass, field

from rules.conditions import Mismatch, Test, as_test, in_words, plainly
from rules.facts import Condition, Effect, Facts, Rule, Value, Verdict
from rules.strata import levels

DERIVED = "derived."
OPEN = ("request.", DERIVED)  # the facts that change from one request to the next …
SETTLED = "request.task"  # … but this one: a contest is a task's


@dataclass(frozen=True, slots=True)
class Tests:
    """Conditions as tests: all of `all`, any of `any`, none of `none`."""

    all: tuple[Test, ...] = ()
    any: tuple[Test, ...] = ()
    none: tuple[Test, ...] = ()


NONE = Tests()
Word = str | tuple[Condition, Test | None]  # a condition as it matched; or one to be put in words, if its test is met


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule ready to run. `waits`: the derived facts that it looks at, so that it may fire in a later round.

    `words` are its conditions as far as they are known to match, `said` its verdicts where nothing that can change is left to test.
    """

    rule: Rule
    settled: Tests  # of facts that stay
    open: Tests  # of facts that change from one request to the next
    waits: frozenset[str]
    words: tuple[Word, ...] | None = None
    said: tuple[Verdict, ...] | None = None

    def fires(self, facts: Facts) -> bool:
        """Whether the rule holds. Every condition is tested, so that one that errs is found whatever the others say."""
        tests = (self.open,) if self.settled is NONE else (self.open, self.settled)
        holds, some, asked = True, False, False
        for part in tests:
            for test in part.all:
                if not test(facts):
                    holds = False
            for test in part.none:
                if test(facts):
                    holds = False
            for test in part.any:
                asked = True
                if test(facts):
                    some = True
        return holds and (some or not asked)


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
    places, circular = levels(ordered)
    depth = 1 + max(places.values(), default=0)
    strata: list[list[Compiled]] = [[] for _ in range(depth)]
    known: dict[object, Test] = {}  # rules ask for the same things
    for number, rule in enumerate(ordered):
        if number in places:
            strata[places[number]].append(_compiled(rule, known))
    return Ruleset(tuple(map(tuple, strata)), tuple(ordered[number] for number in circular))


def _compiled(rule: Rule, known: dict[object, Test]) -> Compiled:
    when = rule.when
    parts = (when.all, when.any, when.none)
    settled, left = (
        Tests(*[tuple([_test(asked, known) for asked in part if _open(asked) is is_open]) for part in parts]) for is_open in (False, True)
    )
    waits = frozenset([condition.fact for part in parts for condition in part if condition.fact.startswith(DERIVED)])
    return Compiled(rule, settled, left, waits)


def _test(condition: Condition, known: dict[object, Test]) -> Test:
    """The condition as a test, one for all that ask the same: 1 and true are equal, and not the same."""
    key = (condition.fact, condition.op, type(condition.value), condition.value)
    if not isinstance(condition.value, bool | int | float | str | tuple):
        return as_test(condition)
    if key not in known:
        known[key] = as_test(condition)
    return known[key]


def specialise(ruleset: Ruleset, settled: Facts) -> Ruleset:
    """The same rules for facts of which only `request.` and `derived.` ones will change: what is decided is decided now."""
    strata = [[_specialised(item, settled) for item in stratum] for stratum in ruleset.strata]
    return Ruleset(tuple(tuple(item for item in stratum if item) for stratum in strata), ruleset.circular)


def asked_of(ruleset: Ruleset) -> frozenset[str]:
    """The facts of the request that these rules look at."""
    whens = [item.rule.when for stratum in ruleset.strata for item in stratum if item.said is None]
    parts = [part for when in whens for part in (when.all, when.any, when.none)]
    return frozenset(
        condition.fact for part in parts for condition in part if condition.fact.startswith("request.") and condition.fact != SETTLED
    )


def _specialised(item: Compiled, settled: Facts) -> Compiled | None:
    """The rule with only its open conditions; None when it can no longer fire."""
    asked, left = item.settled, item.open
    try:
        met = [test(settled) for test in asked.all]
        some = [test(settled) for test in asked.any]
        barred = [test(settled) for test in asked.none]
    except Mismatch:
        return item  # it errs whenever it is asked, and is reported then
    any_met = True in some
    if False in met or True in barred or (some and not any_met and not left.any):
        return None
    words = tuple([word for word in [_settled_word(word, settled) for word in _words(item)] if word])
    rest = Tests(left.all, () if any_met else left.any, left.none)
    said = None if left.all or left.any or left.none else tuple(_verdicts(item.rule, words, settled))
    return Compiled(item.rule, NONE, rest, item.waits, words, said)


def _words(item: Compiled) -> Sequence[Word]:
    if item.words is not None:
        return item.words
    when = item.rule.when
    return [*((condition, None) for condition in when.all), *((condition, as_test(condition)) for condition in when.any)]


def _settled_word(word: Word, settled: Facts) -> Word:
    """A condition on a fact that stays, in words; "" where it is one of several and not met."""
    if isinstance(word, str) or _open(word[0]):
        return word
    condition, test = word
    return in_words(condition, settled) if test is None or test(settled) else ""


def _open(condition: Condition) -> bool:
    return condition.fact.startswith(OPEN) and condition.fact != SETTLED


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
        asked: Sequence[Compiled] = stratum
        waiting: dict[str, list[Compiled]] | None = None
        heard: set[int] = set()  # those that fired or erred, once there is a second round
        while asked:
            now, later = _round(asked, known, errors)
            fresh, clashes = _assertions(now, derived, contradicted)
            fired += now
            if clashes:
                return fired, derived, errors, clashes
            if not fresh:
                break
            derived |= fresh
            known |= fresh
            if waiting is None:
                waiting = _by_fact(later)
            else:
                heard.update({id(item) for item in asked} - {id(item) for item in later})
            asked = _reached(waiting, fresh, heard)
    return fired, derived, errors, {}


def _by_fact(later: Iterable[Compiled]) -> dict[str, list[Compiled]]:
    """The rules of a stratum that may yet fire, by the derived facts that they look at."""
    found: dict[str, list[Compiled]] = {}
    for item in later:
        for fact in item.waits:
            found.setdefault(fact, []).append(item)
    return found


def _reached(waiting: Mapping[str, Sequence[Compiled]], fresh: Iterable[str], heard: set[int]) -> list[Compiled]:
    """Those that look at a fact which is new, and were not heard yet: nothing has changed for the others."""
    found = {id(item): item for fact in fresh for item in waiting.get(fact, ()) if id(item) not in heard}
    return sorted(found.values(), key=lambda item: (item.rule.id, item.rule.because))


def _round(asked: Iterable[Compiled], known: Facts, errors: list[Verdict]) -> tuple[list[Compiled], list[Compiled]]:
    """All these rules over the same facts: those that fire, and those that may yet."""
    now: list[Compiled] = []
    later: list[Compiled] = []
    for item in asked:
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
    for rule in [item.rule for item in fired if item.rule.then.facts]:
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
        said = item.said or _verdicts(item.rule, _words(item), known)
        verdicts += said
        if item.rule.then.stage:
            asking = tuple(verdict for verdict in said if verdict.effect == "stage")
            stages[item.rule.then.stage] = stages.get(item.rule.then.stage, ()) + asking
    settings, clashes = _settings([item.rule for item in fired])
    if errors or clashes:
        verdicts += sorted([*errors, *clashes], key=lambda verdict: (verdict.rule, verdict.because))
    weight = sum(item.rule.then.prefer for item in fired)
    return Judgement(tuple(verdicts), derived, settings, stages, weight, any(item.rule.then.forbid for item in fired))


def _verdicts(rule: Rule, words: Sequence[Word], known: Facts) -> list[Verdict]:
    """The verdicts of one fired rule, a verdict each conclusion."""
    then = rule.then
    facts = tuple([word if isinstance(word, str) else in_words(word[0], known) for word in words if _shown(word, known)])
    said: list[Verdict] = []
    if then.forbid:
        said.append(Verdict(rule.id, "forbid", 0.0, rule.because, rule.source, facts))
    if then.prefer:
        said.append(Verdict(rule.id, "prefer" if then.prefer > 0 else "avoid", then.prefer, rule.because, rule.source, facts))
    if then.stage:
        said.append(Verdict(rule.id, "stage", 0.0, rule.because, rule.source, facts, (f"stage {then.stage}",)))
    if then.warn:
        said.append(Verdict(rule.id, "warn", 0.0, f"{then.warn} ({rule.because})", rule.source, facts))
    concluded: tuple[tuple[Effect, Facts], ...] = (("set", then.set), ("assert", then.facts))
    for effect, values in concluded:
        if values:
            follows = tuple([f"{name} is {plainly(value)}" for name, value in sorted(values.items())])
            said.append(Verdict(rule.id, effect, 0.0, rule.because, rule.source, facts, follows))
    return said


def _shown(word: Word, known: Facts) -> bool:
    return isinstance(word, str) or word[1] is None or word[1](known)


def _settings(fired: Sequence[Rule]) -> tuple[dict[str, Value], list[Verdict]]:
    """Every setting the rules agree on, and an error for each they do not."""
    asked: dict[str, list[Rule]] = {}
    for rule in fired:
        if rule.then.set:
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
