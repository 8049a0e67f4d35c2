"""What would change the answer: every threshold in the rules and the budgets, crossed, and the contest held again.

A number of the request matters only where a rule or a prediction compares with it, so the answer is constant between those
values. Each is tried on both sides; a flip is reported where the pick changes, or, with the pick unchanged, its plan.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import overload

from rules.computed import COMPUTED, through, with_computed
from rules.facts import Candidate, Direction, Facts, Flip, Recommendation, Value, Verdict
from rules.problems import unknown
from rules.ranking import Contender, Contest, Limits, Outcome, hold, judged_in, levels, middle_of, name_of, pick

LEAST = {
    "latency_ms": 0.0,
    "size_bytes": 1,
    "ram_bytes": 1,
    "flash_bytes": 1,
    "examples": 0,
    "per_class": 0,
    "classes": 1,
    "length": 1,
    "resolution": 1,
    "charset_size": 1,
}
NUMBERS = tuple(LEAST)
WHOLE = tuple(name for name in NUMBERS if name != "latency_ms")
TWICE = {"flash_bytes": "size_bytes"}  # limits the same estimate: worth trying only where it is stated
SWITCHES: dict[str, tuple[Value, ...]] = {
    "percentile": ("p50", "p90", "p99"),
    "streaming": (True, False),
    "generate": (True, False),
    "explain": (True, False),
    "pretrained": (True, False),
    "licence": ("any", "permissive"),
    "energy": ("milliwatt", "watt", "mains"),
}
PER_DIRECTION = 3  # flips of one fact in one direction that are worth reading beside an answer
MOST_KNOWN = 5000  # judgements that a contest remembers


class Flips(Sequence[Flip]):
    """The flips of an answer, worked out when first looked at: most answers are given without anyone asking."""

    __slots__ = ("_compute", "_found")

    def __init__(self, compute: Callable[[], tuple[Flip, ...]]) -> None:
        self._compute = compute
        self._found: tuple[Flip, ...] | None = None

    def _all(self) -> tuple[Flip, ...]:
        if self._found is None:
            self._found = self._compute()
        return self._found

    @overload
    def __getitem__(self, index: int) -> Flip: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Flip]: ...
    def __getitem__(self, index: int | slice) -> Flip | Sequence[Flip]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[Flip]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())


def flips(contest: Contest, request: Facts, *, most: int = PER_DIRECTION) -> tuple[Flip, ...]:
    """Every single change of the request that changes the answer, the device staying. Nearest thresholds first.

    `most` limits how many are told of one fact in one direction.
    """
    trial = _Trial(contest, most)
    now = trial.answer(request)
    found: list[Flip] = []
    for name in NUMBERS:
        if name not in TWICE or request.get(f"request.{name}") is not None:
            found += _number(trial, request, name, now)
    for name, values in SWITCHES.items():
        found += _switch(trial, request, name, values, now)
    return tuple(found)


def between(fact: str, stands: Value | None, value: Value, outcomes: tuple[Outcome, Outcome]) -> Flip | None:
    """The flip that `value` instead of what stands brings, from the first outcome to the second; None where the answer is the same."""
    built = any(candidate.status != "reference" for outcome in outcomes for candidate in (*outcome.kept, *outcome.refused))
    now, then = (_Answer(outcome, built=built) for outcome in outcomes)
    return _flip(fact, stands, (0.0, value, "becomes"), now, then)


class _Answer:
    """A held contest, as far as a flip looks: the pick, its stages, and what was said about whom."""

    __slots__ = ("outcome", "pick", "stages")

    def __init__(self, outcome: Outcome, *, built: bool) -> None:
        self.outcome = outcome
        best = pick(outcome.kept) if built else next(iter(outcome.kept), None)
        self.pick = name_of(best.architecture, best.variant) if best else ""
        self.stages = best.stages if best else ()

    def said_of(self, name: str) -> tuple[Verdict, ...]:
        """What was said about a candidate, kept or refused."""
        candidates = (*self.outcome.kept, *self.outcome.refused)
        return next((found.verdicts for found in candidates if name_of(found.architecture, found.variant) == name), ())


class _Trial:
    """One contest held many times. A contender is judged anew only where a number crossed something that it is compared with."""

    __slots__ = ("_built", "_known", "_places", "_points", "contest", "most")

    def __init__(self, contest: Contest, most: int = PER_DIRECTION) -> None:
        self.contest = contest
        self.most = most
        self._points = {name: compared(contest, name) for name in (*NUMBERS, *COMPUTED)}
        self._built = any(
            entrant.card.status != "reference" for entrant in contest.contenders
        )  # else the best reference stands for the pick
        self._known: dict[object, Candidate] = contest.known
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        self._places: dict[str, tuple[int, int] | None] = {}

    def answer(self, request: Facts) -> _Answer:
        """The answer under these facts. What it says is right in all but the figures of a budget."""
        request = with_computed(request)
        self._places = {f"request.{name}": _place(points, request.get(f"request.{name}")) for name, points in self._points.items()}
        return _Answer(hold(self.contest, request, judged=self._judged), built=self._built)

    def _judged(self, entrant: Contender, limits: Limits, request: Facts) -> Candidate:
        asked = [self._places.get(fact, request.get(fact)) for fact in entrant.asks]
        key = (id(entrant), *asked, levels(entrant, limits, middle_of(request)))
        if key not in self._known:
            self._known[key] = judged_in(entrant, limits, request)
        return self._known[key]


def _place(points: Sequence[float], value: object) -> tuple[int, int] | None:
    """Where a number stands among those it is compared with; None when it is not stated."""
    return (bisect_left(points, value), bisect_right(points, value)) if isinstance(value, int | float) else None


def compared(contest: Contest, name: str) -> Sequence[float]:
    """The values that the rules compare a number of the request with, ascending."""
    return contest.compared.get(f"request.{name}", ())


def thresholds(contest: Contest, name: str, request: Facts) -> list[tuple[float, bool]]:
    """The values of a number of the request at which anything can change, ascending; True where a rule compares with it.

    At a budget's own thresholds (where it refuses, where it begins to warn) the value itself is still within; a rule may go either way.
    """
    asked = {*compared(contest, name), *through(name, request, {fact: compared(contest, fact) for fact in COMPUTED})}
    middle = middle_of(request)
    limits = {ends[place] for entrant in contest.contenders if (ends := entrant.estimates.get(name)) for place in (0, middle)}
    return [(value, value in asked) for value in sorted(asked | limits) if value > 0]


def _number(trial: _Trial, request: Facts, name: str, now: _Answer) -> list[Flip]:
    """Walk away from where the request stands, down and up, and note where the answer changes."""
    points = thresholds(trial.contest, name, request)
    if not points:
        return []
    fact = f"request.{name}"
    stands = request.get(fact)
    if isinstance(stands, int | float):
        found = _walk(trial, request, name, _down(points, name, stands), now=now, before=now)
        found += _walk(trial, request, name, _up(points, name, stands), now=now, before=now)
        silent = _flip(fact, stands, (0.0, "not stated", "becomes"), now, trial.answer({**request, fact: None}))
        return found + ([silent] if silent else [])
    endless = 2 * math.ceil(points[-1][0])
    stated = trial.answer({**request, fact: endless})
    first = _flip(fact, None, (endless, "stated", "becomes"), now, stated)
    return ([first] if first else []) + _walk(trial, request, name, _down(points, name, endless), now=now, before=stated)


Step = tuple[float, Value, Direction]  # the value to try, the threshold to name, how it is reached


def _down(points: Sequence[tuple[float, bool]], name: str, start: float) -> list[Step]:
    """Each threshold below the start, the nearest first: at it where a rule compares, and just beyond it."""
    steps: list[Step] = []
    for point, compared in reversed(points):
        if name in WHOLE:
            steps += [(value, value, "at most") for value in (math.floor(point), math.ceil(point) - 1)[0 if compared else 1 :]]
        else:
            steps += [(point, point, "at most")] * compared
            steps += [(math.nextafter(point, 0), point, "below")]
    return [step for step in steps if LEAST[name] <= step[0] < start]


def _up(points: Sequence[tuple[float, bool]], name: str, start: float) -> list[Step]:
    steps: list[Step] = []
    for point, compared in points:
        if name in WHOLE:
            steps += [(value, value, "at least") for value in (math.ceil(point), math.floor(point) + 1)[: 2 if compared else 1]]
        else:
            steps += [(point, point, "at least")]
            steps += [(math.nextafter(point, math.inf), point, "above")] * compared
    return [step for step in steps if step[0] > start]


def _walk(trial: _Trial, request: Facts, name: str, steps: Sequence[Step], *, now: _Answer, before: _Answer) -> list[Flip]:
    fact = f"request.{name}"
    found: list[Flip] = []
    for step in steps:
        then = trial.answer({**request, fact: step[0]})
        flip = _flip(fact, request.get(fact), step, now, then)
        if flip and (then.pick != before.pick or (then.pick == now.pick and _names(then) != _names(before))):
            found.append(flip)
        before = then
        if len(found) == trial.most or not then.pick:
            break
    return found


def _names(answer: _Answer) -> tuple[str, ...]:
    return tuple(stage.name for stage in answer.stages)


def _flip(fact: str, stands: Value | None, step: Step, now: _Answer, then: _Answer) -> Flip | None:
    """The flip from `now` to `then`, or None where the answer is the same."""
    if then.pick != now.pick:
        return Flip(fact, stands, step[1], step[2], then.pick, _blame(now, then))
    adds = [stage for stage in then.stages if stage.name not in _names(now)]
    drops = [stage for stage in now.stages if stage.name not in _names(then)]
    if not adds and not drops:
        return None
    names = [tuple(stage.name for stage in part) for part in (adds, drops)]
    return Flip(fact, stands, step[1], step[2], then.pick, (adds or drops)[0].rule, adds=names[0], drops=names[1])


def _blame(now: _Answer, then: _Answer) -> str:
    """The rule behind a change of pick: what newly speaks against the old one or for the new one, or no longer the other way."""
    for effect, without, having, name in (
        ("forbid", now, then, now.pick),
        ("forbid", then, now, then.pick),
        ("warn", now, then, now.pick),  # a budget that the old pick may now miss, or the new one no longer
        ("warn", then, now, then.pick),
        ("avoid", now, then, now.pick),
        ("prefer", now, then, then.pick),
        ("avoid", then, now, then.pick),
        ("prefer", then, now, now.pick),
    ):
        old = {verdict.rule for verdict in without.said_of(name) if verdict.effect == effect}
        said = [verdict.rule for verdict in having.said_of(name) if verdict.effect == effect and verdict.rule not in old]
        new = [rule for rule in said if effect != "warn" or rule.startswith("budget.")]  # other warnings move nobody
        if new:
            return new[0]
    return ""


def _switch(trial: _Trial, request: Facts, name: str, values: Sequence[Value], now: _Answer) -> list[Flip]:
    fact = f"request.{name}"
    found = []
    for value in values:
        if value != request.get(fact):
            step: Step = (0.0, value, "becomes")
            found.append(_flip(fact, request.get(fact), step, now, trial.answer({**request, fact: value})))
    return [flip for flip in found if flip]


def why_not(recommendation: Recommendation, name: str) -> tuple[str, ...]:
    """Why `name` (an architecture, or architecture/variant) is not the pick: a sentence a reason. Raises Problem when it is unknown."""
    candidates = {name_of(found.architecture, found.variant): found for found in (*recommendation.kept, *recommendation.refused)}
    mine = [label for label in candidates if name in (label, candidates[label].architecture)]
    if not mine:
        known = {label.partition("/")[0] for label in candidates} | set(candidates)
        raise unknown("candidate", name, known, remedy="advisor matrix lists a task's candidates")
    best = pick(recommendation.kept)
    lines = [line for label in mine for line in _why(label, candidates[label], best)]
    behind = [candidates[label] for label in mine if candidates[label] in recommendation.kept and candidates[label] is not best]
    if best and any(candidate.status != "reference" for candidate in behind):
        lines += _weights(name_of(best.architecture, best.variant), best)
    return tuple(lines)


def _why(label: str, candidate: Candidate, best: Candidate | None) -> list[str]:
    if candidate is best:
        return [f"{label} is the pick"]
    forbids = [verdict for verdict in candidate.verdicts if verdict.effect == "forbid"]
    if forbids:
        return [f"{label} is refused by {verdict.rule}: {verdict.because} ({'; '.join(verdict.facts)})" for verdict in forbids]
    if candidate.status == "reference" or best is None:
        return [f"{label} is {verdict.because}" for verdict in candidate.verdicts if verdict.rule == "status.reference"]
    misses = [f"{label} {verdict.because} ({verdict.rule})" for verdict in candidate.verdicts if verdict.rule.startswith("budget.")]
    first = f"{label} fits with a score of {candidate.score:g}, behind {name_of(best.architecture, best.variant)} with {best.score:g}"
    return [first, *misses, *_weights(label, candidate)]


def _weights(label: str, candidate: Candidate) -> list[str]:
    weights = [verdict for verdict in candidate.verdicts if verdict.weight]
    fit = candidate.score - sum(verdict.weight for verdict in weights)
    return [
        f"{label}: fit {fit:g}: {candidate.because}",
        *(f"{label}: {said.weight:+g} by {said.rule}: {said.because}" for said in weights),
    ]
