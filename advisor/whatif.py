"""`advisor whatif`: every single change of a request at which the answer is another, computed by holding the contest again.

Numbers of the request are walked both ways (`rules.whatif`); switches, and the device with its runtimes and precisions, are tried one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from advisor.asking import in_words as asked
from advisor.flips import as_sentence, change, result, stands
from advisor.recommend import HERE, contest_for, device, facts_of, recommend
from advisor.text import bold, md_table, paragraph
from rules.facts import Flip, Recommendation, Request, Value
from rules.knowledge import Knowledge
from rules.problems import Problem
from rules.ranking import Outcome, hold, name_of, pick
from rules.whatif import between, flips

SCHEMA_VERSION = 1
PER_DIRECTION = 12  # thresholds of one fact in one direction


@dataclass(frozen=True, slots=True)
class Changes:
    """An answer, and what would make it another."""

    answer: Recommendation
    flips: tuple[Flip, ...]


def changes(request: Request, knowledge: Knowledge) -> Changes:
    """The answer and its flips, the device's among them. Raises Problem as `recommend` does."""
    answer = recommend(request, knowledge)
    row = knowledge.task(request.task)
    prepared = contest_for(row, answer.device, knowledge, request)
    found = flips(prepared, facts_of(request, row), most=PER_DIRECTION)
    now = Outcome(answer.kept, answer.refused)
    return Changes(answer, (*found, *(flip for flip in _elsewhere(request, answer, now, knowledge) if flip)))


def _elsewhere(request: Request, answer: Recommendation, now: Outcome, knowledge: Knowledge) -> Iterator[Flip | None]:
    """Other precisions and runtimes of this device, and the other devices as they are."""
    for precision in answer.device.precisions:
        if precision != request.precision:
            yield _instead(request, now, knowledge, precision=precision)
    for runtime in answer.device.runtimes:
        if runtime != request.runtime:
            yield _instead(request, now, knowledge, runtime=runtime)
    for name in (*knowledge.devices, HERE):
        if name != request.device:
            yield _instead(request, now, knowledge, device=name)


def _instead(request: Request, now: Outcome, knowledge: Knowledge, **other: Any) -> Flip | None:
    ((name, value),) = other.items()
    stands: Value | None = getattr(request, name)
    try:
        outcome = _held(replace(request, **other), knowledge)
    except Problem:
        return None  # the other device does not have what the request asks of this one
    return between(f"request.{name}", stands, value, (now, outcome))


def _held(request: Request, knowledge: Knowledge) -> Outcome:
    row, target = knowledge.task(request.task), device(knowledge, request.device)
    if request.runtime and request.runtime not in target.runtimes:
        raise Problem(f"{target.name} has no {request.runtime}")
    return hold(contest_for(row, target, knowledge, request), facts_of(request, row))


def render(found: Changes, form: str = "table") -> str:
    """The changes as "table" (text), "json" or "md"."""
    if form == "json":
        import json

        return json.dumps(as_json(found), indent=2, ensure_ascii=False)
    return "\n".join(_markdown(found) if form == "md" else _text(found))


def as_json(found: Changes) -> dict[str, Any]:
    """Plain data: the answer in short, and each flip with its sentence."""
    from advisor.answer import plain

    answer = found.answer
    return {
        "schema_version": SCHEMA_VERSION,
        "request": plain(answer.request),
        "pick": _pick(answer),
        "flips": [{**plain(flip), "says": as_sentence(flip)} for flip in found.flips],
    }


def _pick(answer: Recommendation) -> str | None:
    best = pick(answer.kept)
    return name_of(best.architecture, best.variant) if best else None


def _title(answer: Recommendation) -> str:
    return f"{answer.row.title if answer.row else answer.request.task} on {answer.device.title}"


def _now(answer: Recommendation) -> str:
    return f"now: {_pick(answer) or ('nothing that can be built here' if answer.kept else 'nothing fits')}"


def _text(found: Changes) -> list[str]:
    lines = [bold(_title(found.answer)), *paragraph(asked(found.answer.request)), _now(found.answer), ""]
    said = [line for flip in found.flips for line in paragraph(as_sentence(flip), first="- ")]
    return lines + (said or ["no single change of the request makes the answer another"])


def _markdown(found: Changes) -> list[str]:
    rows = [[change(flip), stands(flip), result(flip), flip.rule] for flip in found.flips]
    lines = [f"### {_title(found.answer)}", "", asked(found.answer.request), "", _now(found.answer), ""]
    return [*lines, *(md_table(["with", "instead of", "then", "by"], rows) if rows else ["No single change makes the answer another."])]
