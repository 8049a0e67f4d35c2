"""Candidates of a task on a device, judged and ranked: the contest behind a recommendation. Pure, as the engine is.

A contest is prepared once for a task and a device (predictions, sizes, compiled rules) and held for any request. Score = the
cell's fit + the preferences of the rules that fired. Ties break by predicted cost, then by name. Beside the rules of the files
there are the budgets, which compare a prediction with a request, and one rule of honesty: a reference is never the pick.
A candidate whose estimate meets the budgets in its middle comes before one that may miss; of those, the one that misses least is
first, so that a tighter budget never leads to a slower pick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from rules.conditions import CARD, kind_of
from rules.engine import Judgement, Ruleset, asked_of, compile_rules, judge, specialise
from rules.facts import (
    STAGES,
    Candidate,
    Card,
    Cell,
    Cost,
    Device,
    Facts,
    Kind,
    PlannedStage,
    Prediction,
    Recommendation,
    Rule,
    TaskRow,
    Value,
    Variant,
    Verdict,
)
from rules.latency import BYTES, cost_of, memory_of, predict, shipped_precision, size_of

PRUNED = 0.5  # what structured pruning may leave of a net: the low end of the size and memory of what is built here
SHORT = {
    "latency_ms": "latency",
    "size_bytes": "size",
    "ram_bytes": "ram",
    "flash_bytes": "flash",
}  # budget.latency, derived.latency_tight …
NAMES = {"latency_ms": "latency", "size_bytes": "size", "ram_bytes": "memory", "flash_bytes": "flash"}
TAILS = ("p90", "p99")  # of a latency budget: the high end of an estimate has to meet it, not the middle


@dataclass(frozen=True, slots=True)
class Contender:
    """One cell of the matrix with all that a request does not change: facts about card, variant and device, and predictions."""

    cell: Cell
    card: Card
    variant: Variant | None
    facts: Facts
    prediction: Prediction | None
    estimates: Mapping[str, tuple[float, float, float]]  # of what each budget limits: (low end, middle, high end)
    size_kind: Kind
    ruleset: Ruleset  # as far as this contender leaves it open
    asks: frozenset[str]  # the facts of the request that its rules look at


@dataclass(frozen=True, slots=True)
class Contest:
    """A task on a device, ready for requests."""

    row: TaskRow
    device: Device
    contenders: tuple[Contender, ...]
    rules: tuple[Rule, ...]
    compared: Mapping[str, Sequence[float]] = field(default_factory=dict)  # the numbers that rules compare each fact of the request with
    known: dict[object, Candidate] = field(default_factory=dict, compare=False, repr=False)  # judgements that what-if made, for it to reuse


Limits = Mapping[str, float]  # the budgets in force
Measured = Mapping[tuple[str, str, str, str], Prediction]  # by architecture, variant, precision and shape
Judge = Callable[[Contender, Limits, Facts], Candidate]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Who stays, best first and references last, and who does not, the nearest miss first."""

    kept: tuple[Candidate, ...]
    refused: tuple[Candidate, ...]


def name_of(architecture: str, variant: str) -> str:
    """How a candidate is called in messages."""
    return f"{architecture}/{variant}" if variant else architecture


def contest(
    row: TaskRow,
    device: Device,
    *,
    cards: Mapping[str, Card],
    costs: Mapping[str, Sequence[Cost]],
    rules: Iterable[Rule],
    measured: Measured | None = None,
) -> Contest:
    """Prepare a task for a device: everything that does not depend on the request, once. What was `measured` there is not predicted."""
    rules = tuple(rules)
    ruleset = compile_rules(rules)
    entrants = tuple(
        _contender(cell, cards[cell.architecture], row.name, device, costs.get(cell.architecture, ()), ruleset, measured or {})
        for cell in row.cells
    )
    return Contest(row, device, entrants, rules, _compared(rules))


def _compared(rules: Sequence[Rule]) -> dict[str, Sequence[float]]:
    """For each fact of the request, the numbers that rules compare it with, ascending."""
    found: dict[str, set[float]] = {}
    for rule in rules:
        for condition in (*rule.when.all, *rule.when.any, *rule.when.none):
            if condition.fact.startswith("request.") and kind_of(condition.value) == "number":
                found.setdefault(condition.fact, set()).add(float(condition.value))  # type: ignore[arg-type]
    return {fact: sorted(values) for fact, values in found.items()}


def _contender(cell: Cell, card: Card, task: str, device: Device, costs: Sequence[Cost], ruleset: Ruleset, measured: Measured) -> Contender:
    variant = next((item for item in card.variants if not cell.variant or item.name == cell.variant), None)
    precision = _precision(card, device)
    cost = cost_of(card, variant, costs, precision) if variant else None
    prediction = (_found(measured, card, variant, cost, precision) or predict(variant, cost, device, precision)) if variant else None
    size = size_of(variant, cost, precision) if variant else None
    memory = memory_of(variant, cost, precision, weights_in_flash=device.kind == "mcu") if variant else None
    kind: Kind = "measured" if cost is not None and cost.precision == precision else "estimate"
    facts: dict[str, Value | None] = {f"card.{name}": getattr(card, name) for name in CARD}
    facts |= {f"card.{name}": value for name, value in card.traits.items()}
    facts |= {"request.task": task, **_device_facts(device)}
    facts |= {
        "cell.role": cell.role,
        "cell.fit": cell.fit,
        "candidate.precision": precision,
        "candidate.size_bytes": size,
        "candidate.ram_bytes": memory,
    }
    if variant:
        facts |= {"variant.name": variant.name, "variant.params": variant.params or None, "variant.macs": variant.macs or None}
    if prediction:
        facts |= {f"candidate.latency_ms_{end}": getattr(prediction, f"{end}_ms") for end in ("low", "mid", "high")}
    mine = specialise(ruleset, facts)
    return Contender(cell, card, variant, facts, prediction, _estimates(card, prediction, size, memory), kind, mine, asked_of(mine))


def _found(measured: Measured, card: Card, variant: Variant, cost: Cost | None, precision: str) -> Prediction | None:
    """What was measured of exactly this: the variant in this precision at the shape that would be predicted."""
    return measured.get((card.name, variant.name, precision, cost.shape if cost else variant.shape)) if measured else None


def _precision(card: Card, device: Device) -> str:
    """What ships: the one precision there is, where there is only one, else the pipeline's own choice."""
    only = device.precisions[0] if len(device.precisions) == 1 else ""
    return only if only in BYTES else shipped_precision(card, device)


def _estimates(card: Card, prediction: Prediction | None, size: int | None, memory: int | None) -> dict[str, tuple[float, float, float]]:
    """What ships is stored in flash as it is, so the two budgets limit the same file; the runtime beside it is not counted."""
    left = PRUNED if card.status != "reference" else 1.0
    found = {name: (size * left, float(size), float(size)) for name in ("size_bytes", "flash_bytes")} if size else {}
    if memory:
        found["ram_bytes"] = (memory * left, float(memory), float(memory))
    if prediction:
        found["latency_ms"] = (prediction.low_ms, prediction.mid_ms, prediction.high_ms)
    return found


def _device_facts(device: Device) -> dict[str, Value | None]:
    return {
        "device.name": device.name,
        "device.kind": device.kind,
        "device.isa": device.isa,
        "device.cores": device.cores,
        "device.ram_bytes": device.ram_bytes,
        "device.runtimes": device.runtimes,
        "device.precisions": device.precisions,
        "device.integer_format": device.integer_format,
        "device.align": device.align,
        "device.opset": device.opset,
        "device.ir_version": device.ir_version,
    }


def hold(contest: Contest, request: Facts, *, judged: Judge | None = None) -> Outcome:
    """Judge every contender under the request's facts (`request.…`), and rank them. `judged` takes the place of `judged_in`."""
    judged = judged or judged_in
    limits, middle = limits_of(contest.device, request), middle_of(request)
    kept: list[tuple[tuple[object, ...], Candidate]] = []
    refused: list[tuple[tuple[object, ...], Candidate]] = []
    for entrant in contest.contenders:
        candidate = judged(entrant, limits, request)
        forbids = sum([verdict.effect == "forbid" for verdict in candidate.verdicts])
        place = (
            candidate.status == "reference",
            forbids,
            _miss(entrant, limits, middle),
            -candidate.score,
            _cost(entrant),
            candidate.architecture,
            candidate.variant,
        )
        (refused if forbids else kept).append((place, candidate))
    return Outcome(*(tuple([candidate for _, candidate in sorted(group, key=_first)]) for group in (kept, refused)))


def _first(pair: tuple[tuple[object, ...], Candidate]) -> Any:
    return pair[0]


def limits_of(device: Device, request: Facts) -> dict[str, float]:
    """The budgets in force; one that is not stated is not there. Memory is never more than the device has."""
    stated = {name: request.get(f"request.{name}") for name in SHORT}
    limits = {name: float(limit) for name, limit in stated.items() if isinstance(limit, int | float)}
    limits["ram_bytes"] = min(limits.get("ram_bytes", device.ram_bytes), device.ram_bytes)
    return limits


def middle_of(request: Facts) -> int:
    """Which end of a latency estimate has to meet the budget: the middle (1), or for a tail of the distribution the high end (2)."""
    return 2 if request.get("request.percentile") in TAILS else 1


def _miss(entrant: Contender, limits: Limits, middle: int) -> tuple[int, tuple[str, ...], float]:
    """How many budgets an estimate exceeds, which, and by how much: the product of those estimates, for equal budgets."""
    missed = [(name, ends[middle]) for name, ends in entrant.estimates.items() if name in limits and ends[middle] > limits[name]]
    return (len(missed), tuple([name for name, _ in missed]), prod([end for _, end in missed]) if missed else 0.0)


def _cost(entrant: Contender) -> float:
    """Predicted cost for ties; unknown comes last."""
    return entrant.prediction.mid_ms if entrant.prediction else float("inf")


def judged_in(entrant: Contender, limits: Limits, request: Facts) -> Candidate:
    """One contender with everything that the rules and the budgets say of it."""
    budgets, tight = _budgets(entrant, limits, request)
    found = judge({**entrant.facts, **request, **tight}, entrant.ruleset)
    verdicts = (*budgets, *_honesty(entrant, found), *found.verdicts)
    forbidden = found.forbidden or any(verdict.effect == "forbid" for verdict in budgets)
    ours = entrant.card.status != "reference"
    return Candidate(
        architecture=entrant.card.name,
        variant=entrant.variant.name if entrant.variant else "",
        role=entrant.cell.role,
        score=entrant.cell.fit + found.weight,
        status=entrant.card.status,
        because=entrant.cell.because,
        source=entrant.cell.source,
        verdicts=verdicts,
        prediction=entrant.prediction,
        size_bytes=int(entrant.estimates["size_bytes"][1]) if "size_bytes" in entrant.estimates else None,
        size_kind=entrant.size_kind,
        params=(entrant.variant.params or None) if entrant.variant else None,
        teacher=entrant.cell.teacher,
        weights=_weights(entrant),
        stages=_plan(entrant, found) if ours and not forbidden else (),
        evidence=entrant.card.evidence,
        title=entrant.card.title,
    )


def _weights(entrant: Contender) -> str:
    """Where the variant that is trained first, a teacher before its student, may start from."""
    first = entrant.cell.teacher or (entrant.variant.name if entrant.variant else "")
    return next((variant.weights for variant in entrant.card.variants if variant.name == first), "")


def _budgets(entrant: Contender, limits: Limits, request: Facts) -> tuple[list[Verdict], dict[str, Value]]:
    """The budgets as verdicts: refused where even the low end misses, a warning where only the middle does."""
    said: list[Verdict] = []
    tight: dict[str, Value] = {}
    middle = middle_of(request)
    for name, ends in entrant.estimates.items():
        if name not in limits or ends[middle] <= limits[name]:
            continue
        limit, low, reached = limits[name], ends[0], ends[middle]
        rule = f"budget.{SHORT[name]}"
        tail = name == "latency_ms" and middle == 2
        where = f"at the high end, which stands for {request['request.percentile']}" if tail else "in the middle"
        whose = "request" if request.get(f"request.{name}") == limit else "device"
        matched = (
            f"{whose}.{name} is {amount(name, limit)}",
            f"estimated {amount(name, low)} at the least, {amount(name, reached)} {where}",
        )
        if low > limit:
            said.append(Verdict(rule, "forbid", 0.0, _exceeds(name, low, limit, ours=entrant.card.status != "reference"), "", matched))
            continue
        end = f"high end of the estimate, which stands for {request['request.percentile']}," if tail else "middle of the estimate"
        because = f"may miss the {NAMES[name]} budget of {amount(name, limit)}: the {end} is {amount(name, reached)}"
        said.append(Verdict(rule, "warn", 0.0, because, "", matched))
        tight[f"derived.{SHORT[name]}_tight"] = True
    return said, tight


def levels(entrant: Contender, limits: Limits, middle: int) -> tuple[int, ...]:
    """Where each estimate stands to its budget: 0 within, 1 may miss, 2 refused. All that a budget says follows from it."""
    return tuple(
        [
            0 if name not in limits or ends[middle] <= limits[name] else 1 if ends[0] <= limits[name] else 2
            for name, ends in entrant.estimates.items()
        ]
    )


def _exceeds(name: str, low: float, limit: float, *, ours: bool) -> str:
    if name == "latency_ms":
        said = f"even the low end of its predicted latency, {amount(name, low)}, exceeds"
    else:
        said = f"{'pruned by half it still' if ours else 'it'} needs {amount(name, low)}, more than"
    return f"{said} the {NAMES[name]} budget of {amount(name, limit)}"


def amount(name: str, value: float) -> str:
    """A budget's number with its unit: milliseconds, or megabytes of 10^6 bytes."""
    return f"{value:.3g} ms" if name == "latency_ms" else f"{value / 1e6:.3g} MB"


def _honesty(entrant: Contender, found: Judgement) -> tuple[Verdict, ...]:
    """What the engine itself has to say: a reference is never the pick, and distillation needs a teacher."""
    if entrant.card.status == "planned":
        because = "not built here yet: this is advice from published figures, and `advisor run` refuses it"
        return (Verdict("status.planned", "warn", 0.0, because, entrant.card.source, ("card.status is planned",)),)
    if entrant.card.status == "reference":
        because = f"a reference, never the pick: {entrant.card.reason}"
        return (Verdict("status.reference", "warn", 0.0, because, entrant.card.source, ("card.status is reference",)),)
    if "distil" in found.stages and not entrant.cell.teacher:
        because = "no larger variant is named as its teacher, so it is trained without distillation"
        return (Verdict("plan.distil", "warn", 0.0, because, "", ("cell.teacher is empty",)),)
    return ()


def _plan(entrant: Contender, found: Judgement) -> tuple[PlannedStage, ...]:
    """The stages the rules asked for, in the order of a plan, with the settings they set."""
    by_stage: dict[str, dict[str, Value]] = {}
    for key, value in found.settings.items():
        stage, _, name = key.partition(".")
        by_stage.setdefault(stage, {})[name] = value
    planned: list[PlannedStage] = []
    for stage in STAGES:
        reasons = found.stages.get(stage, ())
        if (stage == "distil" and not entrant.cell.teacher) or not (reasons or stage in _ALWAYS):
            continue
        because = "; ".join([verdict.because for verdict in reasons]) if reasons else _ALWAYS[stage]
        ids = ", ".join([verdict.rule for verdict in reasons]) if reasons else f"plan.{stage}"
        planned.append(PlannedStage(stage, by_stage.get(stage, {}), because, ids))
    return tuple(planned)


_ALWAYS = {
    "train": "a net has to learn the task before anything can be taken away from it",
    "export": "what ships is an ONNX file, checked against the trained module",
}


def pick(kept: Sequence[Candidate]) -> Candidate | None:
    """The first that is no reference; None when nothing fits, or only references do."""
    return next((candidate for candidate in kept if candidate.status != "reference"), None)


def baseline(kept: Sequence[Candidate]) -> Candidate | None:
    """The best baseline without a net that outranks the pick, to be asked before any net; None where no such baseline does."""
    best = pick(kept)
    ahead = (found for found in kept if best and found.status == "reference" and found.role == "baseline" and found.score > best.score)
    return next(ahead, None)


def nearest_miss(outcome: Outcome | Recommendation) -> tuple[str, str]:
    """Without a pick: the nearest miss ("" when there is none) and what binds it. With one: ("", "")."""
    if pick(outcome.kept):
        return "", ""
    miss = next((candidate for candidate in outcome.refused if candidate.status != "reference" or not outcome.kept), None)
    binds = "; ".join(f"{verdict.because} ({verdict.rule})" for verdict in (miss.verdicts if miss else ()) if verdict.effect == "forbid")
    if outcome.kept:
        only = f"{name_of(outcome.kept[0].architecture, outcome.kept[0].variant)} fits, as a reference: it cannot be built here"
        return (name_of(miss.architecture, miss.variant), f"{binds}; {only}") if miss else ("", only)
    return (name_of(miss.architecture, miss.variant), binds) if miss else ("", "the task has no candidates")
