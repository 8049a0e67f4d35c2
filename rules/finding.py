"""A finding of lint: how bad, where, what, and what to do about it.

An error is malformed and nothing is answered from it; a warning is a mistake in all likelihood; a note is true and may be meant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rules.problems import Exit

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is wrong. `key` is the rule, cell, figure or table within the file."""

    file: str
    key: str
    what: str
    severity: Severity = "warning"
    remedy: str = ""

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.file, self.key) if part)
        return f"{place}: {self.what}" + (f" ({self.remedy})" if self.remedy else "")


def exit_code(findings: Iterable[Finding]) -> Exit:
    """2 for an error, 1 for a warning; notes alone are no failure."""
    severities = {finding.severity for finding in findings}
    return Exit.USAGE if "error" in severities else Exit.FAILED if "warning" in severities else Exit.DONE
