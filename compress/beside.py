"""Graphs that stand beside the one that ships: what a receiver would else write in code, such as the decoding of a detector's heads.

A task that has some makes them from the file that ships; each is checked by running it on what it is to be fed, and stands in the bundle
with its role, its ports and, where it is fed something, golden sets of its own. They are never quantized.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from compress.context import Data
from compress.files import write_bytes
from compress.runtime import check_graph


@dataclass(frozen=True, slots=True)
class Part:
    """A graph of a bundle beside the main one: its role, its file, and what it is fed."""

    role: str
    file: Path
    data: Data


def made(task: Any, data: Data, shipped: Path, folder: Path) -> list[Part]:
    """The graphs that the task has beside `shipped`, written to `folder` and opened once. Raises Problem (exit 3) for one that cannot be."""
    behind = getattr(task, "behind", None)
    if behind is None:
        return []
    found = []
    for role, (model, fed) in behind(onnx.load(str(shipped)), data).items():
        part = Part(role, write_bytes(folder / f"{role}.onnx", model.SerializeToString(deterministic=True)), fed)
        check_graph(part.file, trusted=True)
        found.append(part)
    return found
