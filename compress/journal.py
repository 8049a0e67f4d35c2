"""The journal: every measured decision, written before it is acted on, so that a resumed run takes the same one.

One JSON object a line: `{"key": ..., "value": ...}`. A line torn by a kill is the last one and is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compress.files import explain, write_bytes


class Journal:
    """An append-only record of decisions under their keys, in the order they were taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values = _read(path)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def items(self) -> list[tuple[str, Any]]:
        """All decisions, oldest first."""
        return list(self._values.items())

    def decide(self, key: str, compute: Callable[[], Any]) -> Any:
        """The recorded decision for `key`; where there is none, compute it, record it, then return it.

        The value passes through JSON, so that a resumed run sees exactly what an unbroken one saw.
        """
        if key not in self._values:
            self.record(key, compute())
        return self._values[key]

    def record(self, key: str, value: Any) -> None:
        """Append a decision and wait until the disk has it."""
        line = json.dumps({"key": key, "value": value}, sort_keys=True)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(line + "\n")
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise explain(error, self.path) from error
        self._values[key] = json.loads(line)["value"]


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    values: dict[str, Any] = {}
    whole = 0
    data = path.read_bytes()
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            entry = json.loads(line)
            values[entry["key"]] = entry["value"]
        except (ValueError, KeyError, TypeError):
            break
        whole += len(line)
    if whole < len(data):
        write_bytes(path, data[:whole])
    return values
