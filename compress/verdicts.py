"""A gate's result for people and for machines: a table, JSON, Markdown for a pull request, JUnit for a CI server.

Too noisy and not judged are written as skipped in JUnit, never as passed: a server that counts failures must not count silence.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as xml

from compress.card import cell
from compress.report.svg import number

if TYPE_CHECKING:
    from compress.gate import GateResult
    from compress.rows import Row

MARKS = {"pass": "pass", "fail": "FAIL", "not judged": "not judged", "too noisy": "too noisy"}
WORDS = {0: "passed", 1: "failed", 4: "not settled: something is too noisy or was not judged"}


def text(result: GateResult) -> str:
    """Aligned columns, then why, a line a row that has something to say."""
    rows = [("what", "found", "limit", "status", "basis"), *(_cells(row) for row in result.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [f"  {row.what}: {row.why}" for row in result.rows if row.why]
    return "\n".join([*lines, "", *notes, *([""] if notes else []), f"gate {WORDS[result.exit_code]}"])


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    status = MARKS[row.status] + (" (warns only)" if row.level == "warn" and row.status != "pass" else "")
    return row.what, _figure(row.found), _figure(row.limit), status, row.basis


def _figure(value: float | None) -> str:
    return "–" if value is None else str(value) if isinstance(value, int) else number(value, 4)


def as_json(result: GateResult) -> str:
    """All rows with all samples."""
    from compress.gate import as_dict

    return json.dumps(as_dict(result), indent=2, sort_keys=True)


def markdown(result: GateResult) -> str:
    """A table for a pull request's comment or a job's summary."""
    lines = [f"**Gate {WORDS[result.exit_code]}**", "", "| what | found | limit | status | basis | why |", "|---|---|---|---|---|---|"]
    lines += ["| " + " | ".join([*map(cell, _cells(row)), cell(row.why)]) + " |" for row in result.rows]
    beside = f" against `{_tick(result.baseline)}`" if result.baseline else ""
    return "\n".join([*lines, "", f"`{_tick(result.bundle)}`{beside}"])


def _tick(value: str) -> str:
    return " ".join(value.replace("`", "'").split())


def junit(result: GateResult) -> str:
    """One test case a row."""
    failed = [row for row in result.rows if row.status == "fail" and row.level == "error"]
    skipped = [row for row in result.rows if row.status != "pass" and row not in failed]
    suite = xml.Element(
        "testsuite", name="advisor gate", tests=str(len(result.rows)), failures=str(len(failed)), errors="0", skipped=str(len(skipped))
    )
    for row in result.rows:
        case = xml.SubElement(suite, "testcase", classname="advisor.gate", name=_legal(row.what), time="0")
        said = _legal(f"found {_figure(row.found)}, limit {_figure(row.limit)}, {row.basis}{': ' + row.why if row.why else ''}")
        if row in failed:
            xml.SubElement(case, "failure", message=said)
        elif row in skipped:
            xml.SubElement(case, "skipped", message=f"{row.status}{' (warns only)' if row.level == 'warn' else ''}: {said}")
        out = xml.SubElement(case, "system-out")
        out.text = _legal(json.dumps(dict(row.samples), sort_keys=True))
    xml.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(suite, encoding="unicode")


def _legal(value: str) -> str:
    """Without the characters that XML 1.0 has no way to write."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "�", value)
