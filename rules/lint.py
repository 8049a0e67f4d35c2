"""Lint over the knowledge: contradictions, rules that can never fire or change nothing, cells without evidence, units, sources, licences.

    findings = lint(load())

Errors are what the readers refuse; while there are any, nothing else is looked at. With a user's folder over ours, only what
concerns that folder is reported. No findings but notes means the knowledge is clean.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rules.facts import Condition, Rule
from rules.finding import Finding
from rules.knowledge import Knowledge
from rules.lint_facts import findings as facts
from rules.lint_rules import findings as rules
from rules.overlay import cells_of, contradictions, strangers


def lint(known: Knowledge) -> list[Finding]:
    """All findings, sorted by severity, file and key."""
    theirs = known.folders[1:]
    found = [_refused(said, theirs) for folder in theirs for said in strangers(folder)]
    found += [_refused(str(problem), theirs) for problem in known.everything()]
    if not found:
        found = _mine([*_disagreeing(known), *_over_rules(known), *facts(known)], theirs)
    order = ("error", "warning", "note")
    return sorted(set(found), key=lambda finding: (order.index(finding.severity), finding))


def _refused(said: str, theirs: Iterable[Path]) -> Finding:
    """A problem of one line, with the file it names in front taken apart."""
    file, colon, rest = said.partition(": ")
    plain = colon and (file.startswith("rules/knowledge/") or any(Path(file).is_relative_to(folder) for folder in theirs))
    return Finding(file, "", rest, "error") if plain else Finding("", "", said, "error")


def _mine(found: list[Finding], theirs: Iterable[Path]) -> list[Finding]:
    theirs = list(theirs)
    return [finding for finding in found if any(Path(finding.file).is_relative_to(folder) for folder in theirs)] if theirs else found


def _disagreeing(known: Knowledge) -> list[Finding]:
    """Rules that can fire together and conclude different values. In a user's folder that is refused."""
    ours = [Finding(rule.origin, "", said, remedy="neither would hold") for rule, said in contradictions(known)]
    theirs = contradictions(known, theirs=True) if known.folders[1:] else []
    return [*ours, *(Finding(rule.origin, "", said, "error", "neither would hold") for rule, said in theirs)]


def _over_rules(known: Knowledge) -> list[Finding]:
    devices = list(known.devices.values())
    cells = {row.name: cells_of(known, row) for row in known.tasks.values()}
    every = [_in_its_task(rule, row.name) for row in known.tasks.values() for rule in row.rules]
    found = rules(known.rules, [cell for row in cells.values() for cell in row], beside=every, devices=devices)
    for row in known.tasks.values():
        found += rules(row.rules, cells[row.name], beside=known.rules, devices=devices, task=row.name)
    return found


def _in_its_task(rule: Rule, task: str) -> Rule:
    """A task's rule as a general one would have to say it."""
    return replace(rule, when=replace(rule.when, all=(*rule.when.all, Condition("request.task", "is", task))))
