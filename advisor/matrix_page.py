"""The task-fit matrix as one HTML page that loads nothing: style and script are pinned by hash in the page's own policy.

The same knowledge gives the same bytes. Every text passes Jinja's escaping, so that a user's own folder cannot write markup,
and only addresses of the web become links.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from advisor.catalogue import then_in_words, when_in_words
from advisor.matrix import Entry, cards_of, entries, figure, sources_of
from rules.facts import Rule, TaskRow
from rules.knowledge import Knowledge

HERE = Path(__file__).parent
STATUSES = {
    "built": "built here: it trains, exports and ships",
    "planned": "to be built: advice from published figures until then",
    "reference": "never built here, for the reason shown",
}


def page(known: Knowledge) -> str:
    """The page over all of this knowledge."""
    style, script = _asset("matrix.css"), _asset("matrix.js")
    rows = list(known.tasks.values())
    cards = {card.name: card for row in rows for card in cards_of(row, known)}.values()
    counts = {status: sum(card.status == status for card in cards) for status in STATUSES}
    sources = sources_of(rows, known)
    return (
        _templates()
        .get_template("matrix.html.j2")
        .render(
            policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'",
            style=Markup(style),
            script=Markup(script),
            statuses=STATUSES,
            counts=counts,
            tasks=[_task(row, known) for row in rows],
            figures=sum(len(card.evidence) for card in cards),
            sources=sources,
            titles={source.id: source.title for source in sources},
        )
    )


def _task(row: TaskRow, known: Knowledge) -> dict[str, Any]:
    """One section of the page."""
    found = [_entry(entry) for entry in entries(row, known)]
    return {
        "row": row,
        "entries": found,
        "first": next((item for item in found if item["status"] != "reference"), found[0]),
        "rules": [*map(_rule, row.rules)],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "architecture": entry.cell.architecture,
        "title": f"{entry.card.title} ({entry.card.year})",
        "cited": entry.card.source,
        "cell": entry.cell,
        "fit": f"{entry.cell.fit:g}",
        "status": entry.card.status,
        "reason": entry.card.reason,
        "size": entry.size,
        "counted": entry.counted,
        "code": entry.card.licence_code,
        "weights": entry.card.licence_weights,
        "figures": [(*figure(item)[:4], item.source) for item in entry.card.evidence],
        "notes": entry.card.notes,
    }


def _rule(rule: Rule) -> dict[str, str]:
    return {"id": rule.id, "when": when_in_words(rule), "then": then_in_words(rule), "because": rule.because, "source": rule.source}


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("advisor", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _asset(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
