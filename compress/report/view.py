"""What the page shows, worked out from the record, section by section.

Nothing here measures or judges: the record says what was measured and what was kept, this says it in words.
"""

from __future__ import annotations

from typing import Any

from compress.manifest import counts
from compress.report.figures import count, plain, shown
from compress.report.headline import Record, badges, cards, interval, verdict
from compress.report.measured import curves, operators, pareto, stages
from compress.report.provenance import advice, provenance
from compress.report.reading import answers, explained, lines


def view(record: Record) -> dict[str, Any]:
    """Everything the template needs, by section."""
    record = shown(record)
    return {
        "record": record,
        "metric": record["metric"],
        "verdict": verdict(record),
        "cards": cards(record),
        "badges": badges(record),
        "interval": interval(record),
        "pareto": pareto(record),
        "stages": stages(record),
        "samples": lines(record.get("samples") or [], answers(record)),
        "answers": answers(record),
        "legend": f" {record['legend']}" if record.get("legend") else "",
        "explanations": explained(record.get("explanations") or []),
        "operators": operators(record),
        "fusion": record["final"].get("fusion") or {},
        "curves": curves(record),
        "advice": advice(record.get("recommendation")),
        "provenance": provenance(record),
        "environment": [(key, plain(value)) for key, value in (record.get("environment") or {}).items()],
        "target": [(key, plain(value)) for key, value in (record.get("target") or {}).items()],
        "data": _data(record.get("data") or {}),
    }


def _data(data: Record) -> list[tuple[str, str]]:
    """Where the examples come from: splits as counts, nothing that is empty."""
    examples = ", ".join(f"{split} {count(number)}" for split, number in counts(data).items())
    told = [(key, plain(value)) for key, value in data.items() if key != "reopen" and value not in ("", None, [], {}) and not _deep(value)]
    return [*told, ("examples", examples)] if examples else told


def _deep(value: object) -> bool:
    """A table of tables is for programs; they find it in the record."""
    return isinstance(value, dict) and any(isinstance(item, dict) for item in value.values())
