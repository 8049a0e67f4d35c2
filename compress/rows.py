"""The nouns of a gate: a row is one judgement, a side is one of the two files that are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from compress.limits import Level

Status = Literal["pass", "fail", "not judged", "too noisy"]
NOW, RECORDED = "measured now", "recorded"


@dataclass(frozen=True, slots=True)
class Row:
    """One judgement. `found` and `limit` are in the row's own unit; `samples` is every figure that stands behind it."""

    key: str
    what: str
    found: float | None
    limit: float | None
    status: Status
    basis: str
    why: str = ""
    level: Level = "error"
    samples: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared: a bundle, or only a graph."""

    graph: Path
    manifest: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        return str(self.graph.parent if self.manifest else self.graph)


def judge(low: float, high: float, limit: float) -> Status:
    """An interval against an upper limit: wholly under it, wholly over it, or neither."""
    return "pass" if high <= limit else "fail" if low > limit else "too noisy"


def unjudged(key: str, what: str, limit: float, why: str) -> Row:
    return Row(key, what, None, limit, "not judged", "–", why)
