"""The task-fit matrix: every task, its candidates with fit, status, size, licences, evidence and source, the rules that change the order.

As text for a terminal, Markdown, JSON, or (`advisor.matrix_page`) one HTML page. What is not built says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from advisor.answer import plain
from advisor.catalogue import article, rule_in_words
from advisor.text import bold, columns, md_table, paragraph, three
from rules.facts import Card, Cell, Evidence, Source, TaskRow, Variant
from rules.knowledge import Knowledge
from rules.ranking import name_of

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell of the matrix with the card behind it."""

    cell: Cell
    card: Card
    variant: Variant | None

    @property
    def name(self) -> str:
        return name_of(self.cell.architecture, self.cell.variant)

    @property
    def status(self) -> str:
        """`reference: too large`"""
        return self.card.status + (f": {self.card.reason}" if self.card.reason else "")

    @property
    def counted(self) -> str:
        """The source of its size, "" where there is none."""
        return self.variant.source if self.variant else ""

    @property
    def size(self) -> str:
        """`329,168 parameters, 24.6 M multiply-accumulates (measured)`; what was not published is left out."""
        if self.variant is None:
            return "not counted"
        parts = [f"{self.variant.params:,} parameters"] if self.variant.params else []
        parts += [f"{_large(self.variant.macs)} multiply-accumulates"] if self.variant.macs else []
        return f"{', '.join(parts)} ({self.variant.kind})" if parts else "not published"


def _large(count: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{three(count / size)} {unit}"
    return str(count)


def entries(row: TaskRow, known: Knowledge) -> list[Entry]:
    """The cells of a row, the best fit first."""
    found = []
    for cell in sorted(row.cells, key=lambda cell: (-cell.fit, cell.architecture, cell.variant)):
        card = known.cards[cell.architecture]
        found.append(Entry(cell, card, next((item for item in card.variants if not cell.variant or item.name == cell.variant), None)))
    return found


def cards_of(row: TaskRow, known: Knowledge) -> list[Card]:
    """The cards of a row, each once, the best fit first."""
    return list({entry.card.name: entry.card for entry in entries(row, known)}.values())


def sources_of(rows: Iterable[TaskRow], known: Knowledge) -> list[Source]:
    """Every source that these rows, their cards and their rules cite, by id."""
    return [known.sources[name] for name in sorted({name for row in rows for name in _cited(row, known)})]


def _cited(row: TaskRow, known: Knowledge) -> Iterator[str]:
    yield from (cell.source for cell in row.cells)
    yield from (rule.source for rule in row.rules)
    for card in cards_of(row, known):
        yield card.source
        yield from (item.source for item in card.evidence)
        yield from (item.source for item in card.variants if item.source)
    if row.article:
        yield row.article.source


def matrix(known: Knowledge, form: str = "table") -> str:
    """The whole matrix as "table" (text), "md", "json" or "html"."""
    if form == "html":
        from advisor.matrix_page import page

        return page(known)
    rows = list(known.tasks.values())
    if form == "json":
        return _json(known, rows)
    return "\n".join(_markdown(known, rows) if form == "md" else [line for row in rows for line in _text(row, known)])


def _json(known: Knowledge, rows: Sequence[TaskRow]) -> str:
    cards = {card.name: plain(card) for row in rows for card in cards_of(row, known)}
    values = {
        "schema_version": SCHEMA_VERSION,
        "tasks": [plain(row) for row in rows],
        "architectures": dict(sorted(cards.items())),
        "sources": {source.id: plain(source) for source in sources_of(rows, known)},
    }
    return json.dumps(values, indent=2, ensure_ascii=False)


def _text(row: TaskRow, known: Knowledge) -> list[str]:
    runs = "advisor run can do it" if row.status == "built" else "advice only"
    lines = [bold(f"{row.name}: {row.title}"), f"  {row.metric}, {row.better} is better; {runs}"]
    found = entries(row, known)
    heads = [(f"{entry.cell.fit:g}", entry.name, entry.cell.role, entry.card.status) for entry in found]
    for line, entry in zip(columns(heads, indent=2, right=(0,)), found, strict=True):
        lines += [line, *paragraph(f"{entry.cell.because} [{entry.cell.source}]", indent=6)]
    return [*lines, *paragraph(article(row), indent=2), ""]


# -- Markdown ------------------------------------------------------------------------------------------------------------


def _markdown(known: Knowledge, rows: Sequence[TaskRow]) -> list[str]:
    lines = [line for row in rows for line in _task_md(row, known)]
    lines += ["### Sources", ""]
    for source in sources_of(rows, known):
        where = f"<{source.url}>" if "://" in source.url else f"`{source.url}`"
        lines.append(f"- [{source.id}] {source.title} ({source.year}; {source.kind}), {where}{f' {source.note}' if source.note else ''}")
    return lines


def _task_md(row: TaskRow, known: Knowledge) -> list[str]:
    runs = "`advisor run` can do it" if row.status == "built" else "advice only"
    lines = [f"### {row.title} (`{row.name}`)", "", f"{row.metric}, {row.better} is better; {runs}.", ""]
    head = ["fit", "architecture", "role", "status", "size", "licence of code", "of weights", "because"]
    lines += [*md_table(head, [_cell_md(entry) for entry in entries(row, known)]), ""]
    lines += [f"{article(row)[:1].upper()}{article(row)[1:]}", ""] if row.article else []
    figures = [(card.name, *figure(item)) for card in cards_of(row, known) for item in card.evidence]
    if figures:
        lines += ["Evidence:", "", *md_table(["architecture", "what", "value", "kind", "on", "source"], figures), ""]
    if row.rules:
        lines += ["Rules that change the order:", "", *(f"- `{rule.id}`: {rule_in_words(rule)}" for rule in row.rules), ""]
    return lines


def _cell_md(entry: Entry) -> list[str]:
    cell, card = entry.cell, entry.card
    because = f"{cell.because} [{cell.source}]"
    size = f"{entry.size} [{entry.counted}]" if entry.counted else entry.size
    return [f"{cell.fit:g}", entry.name, cell.role, entry.status, size, card.licence_code, card.licence_weights, because]


def figure(item: Evidence) -> tuple[str, str, str, str, str]:
    """A figure as columns: what, value with unit, kind, conditions, [source]."""
    unit = f" {item.unit}" if item.unit not in ("", "ratio") else ""
    return item.what, f"{item.value:g}{unit}", item.kind, f"{item.on}{f'; {item.note}' if item.note else ''}", f"[{item.source}]"
