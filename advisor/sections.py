"""What there is to say of each kind of term, as headed lists of label and text: the layout is `advisor.explained`'s business."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from advisor.catalogue import BUILT_IN, all_rules, article, cells, device_row, rate_in_words, rule_in_words, then_in_words, when_in_words
from rules.conditions import plainly
from rules.facts import Card, Challenge, Claim, Device, Rule, Source, TaskRow
from rules.knowledge import Knowledge

Rows = Sequence[tuple[str, str]]
Section = tuple[str, Rows]  # a heading and its rows of label and text
CITED = re.compile(r"\[([a-z0-9][a-z0-9._-]*)\]")


def _task(known: Knowledge, row: TaskRow, stages: Mapping[str, str]) -> list[Section]:
    facts = [
        ("title", row.title),
        ("metric", f"{row.metric}, {row.better} is better"),
        ("status", "advisor run can do it" if row.status == "built" else "advice only"),
    ]
    facts += [("also called", ", ".join(row.aliases))] if row.aliases else []
    facts += [("assumed", ", ".join(f"{key} {plainly(value)}" for key, value in row.defaults.items()))] if row.defaults else []
    facts += [("article", article(row))] if row.article else []
    ranked = [
        (f"{fit:>4}  {name}", f"{role if role == status else f'{role}, {status}'}: {because}")
        for fit, name, role, status, because in cells(row, known)
    ]
    return [("", facts), ("Candidates by fit", ranked), ("Rules", [(rule.id, rule_in_words(rule)) for rule in row.rules])]


def _card(known: Knowledge, card: Card, stages: Mapping[str, str]) -> list[Section]:
    facts = [
        ("title", f"{card.title} ({card.year}) [{card.source}]"),
        ("status", card.status + (f": {card.reason}" if card.reason else "")),
        ("family", card.family),
        ("licences", f"code {card.licence_code}, weights {card.licence_weights}"),
    ]
    facts += [("builder", card.builds)] if card.builds else []
    facts += [("traits", ", ".join(f"{key} {plainly(value)}" for key, value in card.traits.items()))] if card.traits else []
    sizes = [
        (
            item.name,
            f"{item.params:,} parameters, {item.macs:,} multiply-accumulates at {item.shape}, {item.kind}"
            + (f" [{item.source}]" if item.source else ""),
        )
        for item in card.variants
    ]
    numbers = [
        (item.what, f"{item.value:g} {item.unit}, {item.kind}: {item.on}{'; ' + item.note if item.note else ''} [{item.source}]")
        for item in card.evidence
    ]
    tasks = [
        (row.name, f"fit {cell.fit:g} as {cell.role}: {cell.because} [{cell.source}]")
        for row in known.tasks.values()
        for cell in row.cells
        if cell.architecture == card.name
    ]
    return [("", facts), ("Variants", sizes), ("Evidence", numbers), ("Notes", [("", note) for note in card.notes]), ("Tasks", tasks)]


def _device(known: Knowledge, item: Device, stages: Mapping[str, str]) -> list[Section]:
    labels = ("name", "what", "instruction sets", "cores", "memory", "precisions", "integer format")
    facts = list(zip(labels, device_row(item), strict=False))[1:]
    facts += [
        ("runtimes", ", ".join(item.runtimes)),
        ("channels", f"multiples of {item.align}"),
        ("versions", f"opset {item.opset}, IR {item.ir_version}"),
        ("source", f"[{item.source}]"),
    ]
    return [
        ("", facts),
        ("Rates, one thread", [(name, rate_in_words(rate)) for name, rate in item.rates.items()]),
        ("Notes", [("", note) for note in item.notes]),
    ]


def _rule(known: Knowledge, rule: Rule | str, stages: Mapping[str, str]) -> list[Section]:
    if isinstance(rule, str):
        return [("", [("built in", rule)])]
    facts = [("when", when_in_words(rule)), ("then", then_in_words(rule)), ("because", f"{rule.because} [{rule.source}]")]
    return [("", [*facts, ("file", rule.origin)])]


def _source(known: Knowledge, source: Source, stages: Mapping[str, str]) -> list[Section]:
    facts = [("title", source.title), ("year", str(source.year)), ("kind", source.kind), ("address", source.url)]
    facts += [("note", source.note)] if source.note else []
    used = [(rule.id, rule.because) for rule in all_rules(known).values() if isinstance(rule, Rule) and rule.source == source.id]
    used += [(card.name, item.what) for card in known.cards.values() for item in card.evidence if item.source == source.id]
    used += [
        (f"{row.name}: {cell.architecture}", cell.because) for row in known.tasks.values() for cell in row.cells if cell.source == source.id
    ]
    used += [(claim.id, claim.fact) for claim in known.claims.values() if source.id in claim.sources]
    used += [(row.id, step.what) for row in known.challenges.values() for step in row.remedies if step.source == source.id]
    return [("", facts), ("Stands behind", used)]


def _stage(known: Knowledge, name: str, stages: Mapping[str, str]) -> list[Section]:
    said = [("", piece) for piece in pieces(stages.get(name, ""))]
    said += [("", f"Built in: {BUILT_IN[f'plan.{name}']}")] if f"plan.{name}" in BUILT_IN else []
    return [("", said), ("Asked for by", [(rule.id, rule_in_words(rule)) for rule in _asking(known, name)])]


def pieces(text: str) -> list[str]:
    """A docstring as even paragraphs: one for each of its own, and for each "Helps when", "Does not help", "Costs", "Source" in them."""
    flat = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    return [piece for part in flat for piece in re.split(r"(?<=[.;]) (?=Helps\b|Does not help\b|Costs:|Sources?:)", part)]


def _asking(known: Knowledge, name: str) -> list[Rule]:
    rules = [rule for rule in all_rules(known).values() if isinstance(rule, Rule)]
    return [rule for rule in rules if rule.then.stage == name or any(key.startswith(f"{name}.") for key in rule.then.set)]


def stage_json(known: Knowledge, name: str, stages: Mapping[str, str]) -> dict[str, Any]:
    """A stage as plain data: its own card and the rules that ask for it."""
    from advisor.answer import plain

    return {"name": name, "card": stages.get(name, ""), "rules": [plain(rule) for rule in _asking(known, name)]}


# -- the source article ------------------------------------------------------------------------------------------------------


def about_claim(claim: Claim) -> list[tuple[str, str]]:
    """A claim in full: what the article says, the verdict, the fact with its sources, where it lives here."""
    rows = [("article", f"{claim.says} ({claim.part})"), ("verdict", claim.verdict), ("fact", with_sources(claim))]
    return rows + ([("lives in", ", ".join(claim.lives))] if claim.lives else [])


def said_of(claims: Iterable[Claim]) -> list[tuple[str, str]]:
    """Claims beside something else, one row each."""
    return [(claim.id, f"{claim.says}. {claim.verdict.capitalize()}: {with_sources(claim)}") for claim in claims]


def with_sources(claim: Claim) -> str:
    """The fact with its sources in brackets."""
    return claim.fact + "".join(f" [{source}]" for source in claim.sources)


def runnable(see: str) -> str:
    """How to see it, as it is typed: a test by pytest, a command as it stands."""
    return f"python -m pytest {see}" if see.startswith("tests/") else see


def about_challenge(row: Challenge) -> list[tuple[str, str]]:
    """The remedies in the order in which they are tried."""
    return [
        (
            f"{place}. {step.status}",
            f"{step.what}: {step.how}" + (f" ({', '.join(step.rules)})" if step.rules else "") + f" [{step.source}]",
        )
        for place, step in enumerate(row.remedies, 1)
    ]


def remedies_for(known: Knowledge, kind: str, name: str) -> list[tuple[str, str]]:
    """The steps against a challenge that a rule, or the rules that ask for a stage, belong to."""
    rules = {name} if kind == "rule" else {rule.id for rule in _asking(known, name)} if kind == "stage" else set()
    return [
        (row.title, f"{step.what} ({step.status}) [{step.source}]")
        for row in known.challenges.values()
        for step in row.remedies
        if rules & set(step.rules)
    ]


def to_see(kind: str, value: Any, claims: Iterable[Claim]) -> list[tuple[str, str]]:
    """Commands that show it: those of its claims, and the verb that answers for a task or a device."""
    own = [*value.see] if kind == "claim" else []
    if kind == "task":
        own = [f"advisor recommend --task {value.name}", *([f"advisor run --task {value.name}"] if value.status == "built" else [])]
    if kind == "device":
        own = [f"advisor recommend --task ocr --device {value.name}"]
    return [("", runnable(command)) for command in dict.fromkeys((*own, *(command for claim in claims for command in claim.see)))]


def _claim(known: Knowledge, claim: Claim, stages: Mapping[str, str]) -> list[Section]:
    return [("", about_claim(claim))]


def _challenge(known: Knowledge, row: Challenge, stages: Mapping[str, str]) -> list[Section]:
    return [(f"Against {row.title}", about_challenge(row))]


SECTIONS: dict[str, Callable[..., list[Section]]] = {
    "task": _task,
    "architecture": _card,
    "device": _device,
    "rule": _rule,
    "source": _source,
    "stage": _stage,
    "claim": _claim,
    "challenge": _challenge,
}
