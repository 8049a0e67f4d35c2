"""What lint found, as text: a line a finding, for people, for pull requests, for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from advisor.text import md_table
from rules.finding import Finding, exit_code

SCHEMA_VERSION = 1


def findings(found: Sequence[Finding], form: str = "table") -> str:
    """The findings, worst first, and how many of each severity there are."""
    if form == "json":
        import json

        counts = {severity: sum(item.severity == severity for item in found) for severity in ("error", "warning", "note")}
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "exit_code": int(exit_code(found)),
                "counts": counts,
                "findings": [asdict(item) for item in found],
            },
            indent=2,
            ensure_ascii=False,
        )
    if form == "md":
        rows = [(item.severity, item.file, item.key, item.what, item.remedy) for item in found]
        return "\n".join(
            [*(md_table(["severity", "file", "key", "what", "remedy"], rows) if rows else []), *([""] if rows else []), _summed(found)]
        )
    return "\n".join([*(f"{item.severity:<8} {item}" for item in found), _summed(found)])


def _summed(found: Sequence[Finding]) -> str:
    """`2 warnings, 1 note`, or `clean`."""
    counts = Counter(item.severity for item in found)
    said = [
        f"{counts[severity]} {severity}{'s' if counts[severity] > 1 else ''}"
        for severity in ("error", "warning", "note")
        if counts[severity]
    ]
    return ", ".join(said) or "clean: nothing was found"
