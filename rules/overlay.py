"""What makes a user's own folder of knowledge refused: nothing in it is believed until all of it is sound.

Refused are files that do not read, files where none is looked for, and rules that contradict ours: an id that is taken, or two rules
that can fire for one candidate and then assert different values of one fact, or of one setting of a stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from rules.conditions import CARD
from rules.facts import Card, Cell, Facts, Rule, TaskRow, Value
from rules.knowledge import FOR_EVERY_TASK, Knowledge
from rules.overlap import Alternative, alternatives, makers_of, possible

FOLDERS = ("tasks", "architectures", "devices", "evidence", "costs")
FILES = ("sources.toml", *FOR_EVERY_TASK, "claims.toml", "challenges.toml")
MOST = 400  # pairs of alternatives that are tried for two rules; more are taken to meet somewhere


def refusals(known: Knowledge) -> list[str]:
    """Why the user's folder is refused, a line each; empty when it is sound."""
    found = [said for folder in known.folders[1:] for said in strangers(folder)]
    found += [str(problem) for problem in known.everything()]
    return found or [f"{one.origin}: {said}" for one, said in contradictions(known, theirs=True)]


def strangers(folder: Path) -> list[str]:
    """TOML files that nothing reads, because they lie or are called differently."""
    places = {*FILES, *(f"{name}/*.toml" for name in FOLDERS if name != "costs")}
    found = []
    for path in sorted(folder.rglob("*.toml")):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts):
            continue
        place = str(inside) if len(inside.parts) == 1 else f"{inside.parent.as_posix()}/*.toml"
        if place not in places:
            near = get_close_matches(place, sorted(places), n=1, cutoff=0.4)
            found.append(
                f"{path}: nothing reads a file of this place and name; "
                + (f"did you mean {near[0]}?" if near else ", ".join(sorted(places)))
            )
    return found


# -- contradictions --------------------------------------------------------------------------------------------------------


def contradictions(known: Knowledge, *, theirs: bool = False) -> list[tuple[Rule, str]]:
    """Pairs of rules that can fire for one candidate and disagree, as (rule, what is wrong). `theirs`: only where the user's folder is in it."""
    found: dict[tuple[str, str], tuple[Rule, str]] = {}
    for row in known.tasks.values():
        rules = [*row.rules, *known.rules]
        for one, other, key in disagreeing(rules, cells_of(known, row)):
            if theirs and not own(known, one):
                one, other = other, one
            if not theirs or own(known, one):
                beside = "" if one.origin == other.origin else f" ({other.origin})"
                what = f"{key} is {_concluded(one, key)!r} here and {_concluded(other, key)!r}"
                found.setdefault((one.id, other.id), (one, f"rule {one.id!r}: {what} by rule {other.id!r}{beside}, and both can fire"))
    return [found[key] for key in sorted(found)]


def _concluded(rule: Rule, key: str) -> Value:
    return rule.then.facts[key] if key in rule.then.facts else rule.then.set[key]


def own(known: Knowledge, rule: Rule) -> bool:
    """Whether the rule comes from the user's folder."""
    return any(Path(rule.origin).is_relative_to(folder) for folder in known.folders[1:])


def disagreeing(rules: Sequence[Rule], cells: Sequence[Facts]) -> list[tuple[Rule, Rule, str]]:
    """The pairs that can fire together over one of these cells and conclude different values, with the fact or setting they disagree on."""
    makers = makers_of(rules)
    found: list[tuple[Rule, Rule, str]] = []
    said: dict[str, list[tuple[Rule, Value]]] = {}
    for rule in sorted(rules, key=lambda rule: rule.id):
        for key, value in (*rule.then.facts.items(), *rule.then.set.items()):
            for other, theirs in said.get(key, []):
                differ = value != theirs or type(value) is not type(theirs)
                if differ and together(alternatives(rule, makers), alternatives(other, makers), cells):
                    found.append((rule, other, key))
            said.setdefault(key, []).append((rule, value))
    return found


def together(one: Sequence[Alternative], other: Sequence[Alternative], cells: Iterable[Facts]) -> bool:
    """Whether a way of the one and a way of the other hold at once over one of the cells."""
    if len(one) * len(other) > MOST:
        return True
    both = [(*left, *right) for left in one for right in other if possible((*left, *right))]
    return bool(both) and any(possible(way, cell) for cell in cells for way in both)


def cells_of(known: Knowledge, row: TaskRow) -> list[dict[str, Value | None]]:
    """What is settled for each cell of a row: the facts about its card, variant and role."""
    return [settled(row.name, cell, known.cards[cell.architecture]) for cell in row.cells]


def settled(task: str, cell: Cell, card: Card) -> dict[str, Value | None]:
    """The facts that a candidate has whatever is asked."""
    facts: dict[str, Value | None] = {f"card.{name}": getattr(card, name) for name in CARD}
    facts |= {f"card.{name}": value for name, value in card.traits.items()}
    facts |= {"request.task": task, "cell.role": cell.role, "cell.fit": cell.fit}
    variant = next((item for item in card.variants if not cell.variant or item.name == cell.variant), None)
    if variant:
        facts |= {"variant.name": variant.name, "variant.params": variant.params or None, "variant.macs": variant.macs or None}
    return facts
