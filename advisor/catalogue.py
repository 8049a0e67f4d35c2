"""What is known, as lists: the task-fit matrix, the devices, and everything about one term."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from advisor.text import bold, columns, md_table, paragraph, three
from rules.conditions import plainly
from rules.facts import STAGES, Card, Condition, Device, Rate, Rule, Source, TaskRow
from rules.knowledge import Knowledge
from rules.problems import unknown
from rules.ranking import name_of

SCHEMA_VERSION = 1
Section = tuple[str, Sequence[tuple[str, str]]]  # a heading and its rows of label and text


def matrix(knowledge: Knowledge, form: str = "table") -> str:
    """The task-fit matrix: every task, its candidates with fit and source, and the source article's pick with today's verdict."""
    rows = list(knowledge.tasks.values())
    if form == "json":
        return _json({"tasks": [_plain(row) for row in rows]})
    lines: list[str] = []
    for row in rows:
        lines += _matrix_md(row, knowledge) if form == "md" else _matrix_text(row, knowledge)
    return "\n".join(lines)


def _cells(row: TaskRow, knowledge: Knowledge) -> list[tuple[str, ...]]:
    ranked = sorted(row.cells, key=lambda cell: (-cell.fit, cell.architecture, cell.variant))
    return [
        (
            f"{cell.fit:g}",
            name_of(cell.architecture, cell.variant),
            cell.role,
            knowledge.cards[cell.architecture].status,
            f"{cell.because} [{cell.source}]",
        )
        for cell in ranked
    ]


def _article(row: TaskRow) -> str:
    if row.article is None:
        return ""
    instead = f" or {row.article.alternative}" if row.article.alternative else ""
    return f"the source article names {row.article.recommended}{instead}: {row.article.verdict} [{row.article.source}]"


def _matrix_text(row: TaskRow, knowledge: Knowledge) -> list[str]:
    runs = "advisor run can do it" if row.status == "built" else "advice only"
    lines = [bold(f"{row.name}: {row.title}") + f"  ({row.metric}, {row.better} is better; {runs})"]
    cells = _cells(row, knowledge)
    for line, cell in zip(columns([cell[:-1] for cell in cells], indent=2, right=(0,)), cells, strict=True):
        lines += [line, *paragraph(cell[-1], indent=6)]
    return [*lines, *paragraph(_article(row), indent=2), ""]


def _matrix_md(row: TaskRow, knowledge: Knowledge) -> list[str]:
    table = md_table(["fit", "architecture", "role", "status", "because"], _cells(row, knowledge))
    return [f"### {row.title} (`{row.name}`)", "", *table, "", _article(row), ""]


def devices(knowledge: Knowledge, form: str = "table") -> str:
    """This machine and the known devices: what each can do, and for each rate whether it is measured, published or an estimate."""
    from advisor.recommend import HERE, device

    found = [device(knowledge, HERE), *(knowledge.devices[name] for name in knowledge.devices if name != HERE)]
    if form == "json":
        return _json({"devices": [_plain(item) for item in found]})
    if form == "md":
        head = ["device", "what", "instruction sets", "cores", "memory", "precisions", "integer format", "rates, one thread"]
        return "\n".join(md_table(head, [_device_row(item) for item in found]))
    lines: list[str] = []
    for item in found:
        name, title, isa, cores, memory, precisions, integers, rates = _device_row(item)
        lines.append(bold(name) + f"  {title}")
        rows = [
            ("can do", f"{isa}; {cores} cores, {memory}"),
            ("ships", f"{precisions}; integers as {integers}, channels in multiples of {item.align}"),
        ]
        lines += [*columns([*rows, ("rates", rates), *(("note", note) for note in item.notes)], indent=2), ""]
    return "\n".join(lines)


def _device_row(item: Device) -> list[str]:
    rates = ", ".join(f"{name} {rate_in_words(rate)}" for name, rate in item.rates.items())
    memory = f"{item.ram_bytes / 1e9:.1f} GB"
    return [item.name, item.title, ", ".join(item.isa), str(item.cores), memory, ", ".join(item.precisions), item.integer_format, rates]


def rate_in_words(rate: Rate) -> str:
    """`19.2 Gmac/s estimate [llvm-neoverse-n1]`"""
    number = {
        "macs/s": f"{three(rate.value / 1e9)} Gmac/s",
        "bytes/s": f"{three(rate.value / 1e9)} GB/s",
        "s": f"{three(rate.value * 1e6)} µs",
    }
    return f"{number[rate.unit]} {rate.kind} [{rate.source}]"


# -- one term ----------------------------------------------------------------------------------------------------------


def explain(knowledge: Knowledge, term: str, form: str = "table", *, stages: Mapping[str, str] | None = None) -> str:
    """Everything about a task, an architecture, a device, a rule, a source or a stage. Raises Problem (exit 2) with the nearest term.

    `stages` are the stages' own cards by name, where the caller has them.
    """
    finders: tuple[tuple[str, Callable[[Knowledge, str], Any]], ...] = (
        ("task", _find_task),
        ("architecture", lambda known, name: known.cards.get(name)),
        ("device", _find_device),
        ("rule", lambda known, name: _all_rules(known).get(name)),
        ("source", lambda known, name: known.sources.get(name)),
        ("stage", lambda known, name: name if name in STAGES or name in (stages or {}) else None),
    )
    for kind, find in finders:
        found = find(knowledge, term)
        if found is not None:
            if form == "json":
                return _json(
                    {"kind": kind, kind: _plain(found)} if kind != "stage" else {"kind": kind, kind: _stage_json(knowledge, found, stages)}
                )
            return _render(f"{kind} {term}", _SECTIONS[kind](knowledge, found, stages or {}), form)
    aliases = [alias for row in knowledge.tasks.values() for alias in row.aliases]
    known = [
        *knowledge.tasks,
        *aliases,
        *knowledge.cards,
        *knowledge.devices,
        *_all_rules(knowledge),
        *knowledge.sources,
        *STAGES,
        *BUILT_IN,
    ]
    raise unknown("term", term, known, remedy="a task, architecture, device, rule, source or stage")


def _find_task(known: Knowledge, name: str) -> TaskRow | None:
    return next((row for row in known.tasks.values() if name == row.name or name in row.aliases), None)


def _find_device(known: Knowledge, name: str) -> Device | None:
    from advisor.recommend import HERE, device

    return device(known, name) if name == HERE or name in known.devices else None


BUILT_IN = {
    "budget.latency": "refuses where even the low end of the predicted latency exceeds the budget; where only the middle does, it warns and ranks behind",
    "budget.size": "refuses where half of the predicted file (all of it, for a reference) exceeds the budget; where only the whole does, it warns and ranks behind",
    "budget.ram": "refuses where half of the weights and activations exceed the budget or the device's memory; where only the whole do, it warns and ranks behind",
    "status.reference": "a reference is listed and never the pick: nothing here builds it",
    "plan.train": "every plan trains: a net has to learn the task before anything can be taken away from it",
    "plan.export": "every plan exports: what ships is an ONNX file, checked against the trained module",
    "plan.distil": "distillation needs a larger variant of the same architecture, named in the task's row",
}


def _all_rules(known: Knowledge) -> dict[str, Rule | str]:
    found: dict[str, Rule | str] = dict(BUILT_IN)
    return found | {rule.id: rule for rule in (*known.rules, *(rule for row in known.tasks.values() for rule in row.rules))}


def _render(title: str, sections: Sequence[Section], form: str) -> str:
    lines = [f"## {title}" if form == "md" else bold(title)]
    for heading, rows in sections:
        if not rows:
            continue
        lines += ["", f"**{heading}**" if form == "md" else bold(heading)] if heading else []
        lines += (
            ["", *[f"- {label}: {text}" if label else f"- {text}" for label, text in rows]] if form == "md" else columns(rows, indent=2)
        )
    return "\n".join(lines)


def _task_sections(known: Knowledge, row: TaskRow, stages: Mapping[str, str]) -> list[Section]:
    facts = [
        ("title", row.title),
        ("metric", f"{row.metric}, {row.better} is better"),
        ("status", "advisor run can do it" if row.status == "built" else "advice only"),
    ]
    facts += [("also called", ", ".join(row.aliases))] if row.aliases else []
    facts += [("assumed", ", ".join(f"{key} {plainly(value)}" for key, value in row.defaults.items()))] if row.defaults else []
    facts += [("article", _article(row))] if row.article else []
    cells = [(f"{fit:>4}  {name}", f"{role}, {status}: {because}") for fit, name, role, status, because in _cells(row, known)]
    return [("", facts), ("Candidates by fit", cells), ("Rules", [(rule.id, rule_in_words(rule)) for rule in row.rules])]


def _card_sections(known: Knowledge, card: Card, stages: Mapping[str, str]) -> list[Section]:
    facts = [
        ("title", f"{card.title} ({card.year}) [{card.source}]"),
        ("status", card.status + (f": {card.reason}" if card.reason else "")),
    ]
    facts += [("family", card.family), ("licences", f"code {card.licence_code}, weights {card.licence_weights}")]
    facts += [("builder", card.builds)] if card.builds else []
    facts += [("traits", ", ".join(f"{key} {plainly(value)}" for key, value in card.traits.items()))]
    sizes = [
        (item.name, f"{item.params:,} parameters, {item.macs:,} multiply-accumulates at {item.shape}, {item.kind} [{item.source}]")
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


def _device_sections(known: Knowledge, item: Device, stages: Mapping[str, str]) -> list[Section]:
    labels = ("name", "what", "instruction sets", "cores", "memory", "precisions", "integer format")
    facts = list(zip(labels, _device_row(item), strict=False))[1:]
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


def _rule_sections(known: Knowledge, rule: Rule | str, stages: Mapping[str, str]) -> list[Section]:
    if isinstance(rule, str):
        return [("", [("built in", rule)])]
    source = known.sources[rule.source]
    facts = [("when", when_in_words(rule)), ("then", then_in_words(rule)), ("because", rule.because), ("file", rule.origin)]
    return [("", [*facts, ("source", f"[{source.id}] {source.title} ({source.year}). {source.url}")])]


def _source_sections(known: Knowledge, source: Source, stages: Mapping[str, str]) -> list[Section]:
    facts = [("title", source.title), ("year", str(source.year)), ("kind", source.kind), ("address", source.url)]
    facts += [("note", source.note)] if source.note else []
    used = [(rule.id, rule.because) for rule in _all_rules(known).values() if isinstance(rule, Rule) and rule.source == source.id]
    used += [(card.name, item.what) for card in known.cards.values() for item in card.evidence if item.source == source.id]
    return [("", facts), ("Stands behind", used)]


def _stage_sections(known: Knowledge, name: str, stages: Mapping[str, str]) -> list[Section]:
    card = [("", line) for line in stages.get(name, "").strip().splitlines() if line.strip()]
    card += [("built in", BUILT_IN[f"plan.{name}"])] if f"plan.{name}" in BUILT_IN else []
    return [("", card), ("Asked for by", [(rule.id, rule_in_words(rule)) for rule in _asking(known, name)])]


def _asking(known: Knowledge, name: str) -> list[Rule]:
    rules = [rule for rule in _all_rules(known).values() if isinstance(rule, Rule)]
    return [rule for rule in rules if rule.then.stage == name or any(key.startswith(f"{name}.") for key in rule.then.set)]


def _stage_json(known: Knowledge, name: str, stages: Mapping[str, str] | None) -> dict[str, Any]:
    return {"name": name, "card": (stages or {}).get(name, ""), "rules": [_plain(rule) for rule in _asking(known, name)]}


_SECTIONS: dict[str, Callable[..., list[Section]]] = {
    "task": _task_sections,
    "architecture": _card_sections,
    "device": _device_sections,
    "rule": _rule_sections,
    "source": _source_sections,
    "stage": _stage_sections,
}


def rule_in_words(rule: Rule) -> str:
    """A whole rule as a sentence: when …, then …, because … [source]."""
    return f"when {when_in_words(rule)}: {then_in_words(rule)}, because {rule.because} [{rule.source}]"


def when_in_words(rule: Rule) -> str:
    """The conditions as a sentence."""
    when = rule.when
    parts = [" and ".join(map(_condition, when.all))] if when.all else []
    parts += [f"one of ({' or '.join(map(_condition, when.any))})"] if when.any else []
    parts += [f"not ({' or '.join(map(_condition, when.none))})"] if when.none else []
    return ", and ".join(parts) or "always"


def _condition(condition: Condition) -> str:
    said = {"is-not": "is not", "not-in": "is none of", "in": "is one of", "known": "is stated", "unknown": "is not stated"}.get(
        condition.op, condition.op
    )
    return f"{condition.fact} {said} {plainly(condition.value)}" if condition.value is not None else f"{condition.fact} {said}"


def then_in_words(rule: Rule) -> str:
    """The conclusion as a sentence."""
    then = rule.then
    said = ["it is refused"] if then.forbid else []
    said += [f"{then.prefer:+g} to its score"] if then.prefer else []
    said += [f"the plan gets {then.stage}"] if then.stage else []
    said += [f"{key} is set to {plainly(value)}" for key, value in then.set.items()]
    said += [f"{key} is {plainly(value)}" for key, value in then.facts.items()]
    said += [f"a warning is given: {then.warn}"] if then.warn else []
    return "; ".join(said)


def _json(values: dict[str, Any]) -> str:
    import json

    return json.dumps({"schema_version": SCHEMA_VERSION, **values}, indent=2, ensure_ascii=False)


def _plain(value: Any) -> Any:
    from advisor.answer import plain

    return plain(value)
