"""What is known, as lists and in words: the cells of a task, the devices and their rates, the rules."""

from __future__ import annotations

from typing import Any

from advisor.text import bold, columns, md_table, three
from rules.conditions import plainly
from rules.facts import Condition, Device, Rate, Rule, TaskRow
from rules.knowledge import Knowledge
from rules.ranking import name_of

SCHEMA_VERSION = 1


def cells(row: TaskRow, knowledge: Knowledge) -> list[tuple[str, ...]]:
    """The cells of a task as fit, name, role, status and the reason with its source, the best fit first."""
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


def article(row: TaskRow) -> str:
    """What the source article names for a task, with today's verdict; "" where it names nothing."""
    if row.article is None:
        return ""
    instead = f" or {row.article.alternative}" if row.article.alternative else ""
    return f"the source article names {row.article.recommended}{instead}: {row.article.verdict} [{row.article.source}]"


def devices(knowledge: Knowledge, form: str = "table") -> str:
    """This machine and the known devices: what each can do, and for each rate whether it is measured, published or an estimate."""
    from advisor.recommend import HERE, device

    found = [device(knowledge, HERE), *(knowledge.devices[name] for name in knowledge.devices if name != HERE)]
    if form == "json":
        return _json({"devices": [_plain(item) for item in found]})
    if form == "md":
        head = ["device", "what", "instruction sets", "cores", "memory", "precisions", "integer format", "rates, one thread"]
        return "\n".join(md_table(head, [device_row(item) for item in found]))
    lines: list[str] = []
    for item in found:
        name, title, isa, cores, memory, precisions, integers, rates = device_row(item)
        lines.append(bold(name) + f"  {title}")
        rows = [
            ("can do", f"{isa}; {cores} cores, {memory}"),
            ("ships", f"{precisions}; integers as {integers}, channels in multiples of {item.align}"),
        ]
        lines += [*columns([*rows, ("rates", rates), *(("note", note) for note in item.notes)], indent=2), ""]
    return "\n".join(lines)


def device_row(item: Device) -> list[str]:
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


# -- rules in words -----------------------------------------------------------------------------------------------------


BUILT_IN = {
    "budget.latency": "refuses where even the low end of the predicted latency exceeds the budget; where only the middle does, it warns and ranks behind",
    "budget.size": "refuses where half of the predicted file (all of it, for a reference) exceeds the budget; where only the whole does, it warns and ranks behind",
    "budget.ram": "refuses where half of the weights and activations exceed the budget or the device's memory; where only the whole do, it warns and ranks behind",
    "budget.flash": "refuses where half of the predicted file (all of it, for a reference) exceeds the flash there is; where only the whole does, it warns and ranks behind",
    "status.planned": "a planned architecture can be the pick, as advice: its figures are published ones, and advisor run refuses it until it is built",
    "status.reference": "a reference is listed and never the pick: nothing here builds it",
    "plan.train": "every plan trains: a net has to learn the task before anything can be taken away from it",
    "plan.export": "every plan exports: what ships is an ONNX file, checked against the trained module",
    "plan.distil": "distillation needs a larger variant of the same architecture, named in the task's row",
}


def all_rules(known: Knowledge) -> dict[str, Rule | str]:
    """Every rule by id: those of files, and what the engine itself does, as a sentence."""
    found: dict[str, Rule | str] = dict(BUILT_IN)
    return found | {rule.id: rule for rule in (*known.rules, *(rule for row in known.tasks.values() for rule in row.rules))}


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
