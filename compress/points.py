"""A point: one file, measured one way. Score on the runtime it ships for, latency beside a reference, size on disk.

The pipeline measures, never the stage itself. Latencies of one point come from one interleaved run with the reference;
points of different runs are made comparable by scaling with the reference, whose first measurement stays the yardstick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from compress.context import Data, Latencies, Split
from compress.files import sha256
from compress.runtime import predictor
from rules.examples import Score


@dataclass(frozen=True, slots=True)
class Point:
    """One measured file. `metric` is a fraction; `latency_ms` is per probe, batch 1; `file` is relative to the run."""

    file: str
    sha256: str
    size_bytes: int
    metric: float
    samples: int
    split: str
    latency_ms: Mapping[str, float]
    also: Mapping[str, float] = field(default_factory=dict)
    params: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the journal and the record."""
        return {**asdict(self), "latency_ms": dict(self.latency_ms), "also": dict(self.also)}


def from_dict(value: Mapping[str, Any]) -> Point:
    """The inverse of `as_dict`."""
    return Point(**value)


def score(graph: Path, data: Data, split: Split, *, threads: int, limit: int | None = None) -> Score:
    """The task's metric of a file, on onnxruntime."""
    return data.score(predictor(graph, threads=threads), split, limit=limit)


def paired(graphs: Mapping[str, Path], data: Data, latencies: Latencies, *, threads: int) -> dict[str, dict[str, float]]:
    """Latency of each graph on every probe, interleaved: {graph: {probe: ms}}."""
    found: dict[str, dict[str, float]] = {name: {} for name in graphs}
    for probe, feeds in data.probes().items():
        for name, value in latencies.paired(graphs, feeds, threads=threads).items():
            found[name][probe] = value
    return found


def ratio(after: Mapping[str, float], before: Mapping[str, float]) -> float:
    """Geometric mean over the probes of after / before: below 1 is faster."""
    return float(np.exp(np.mean([np.log(after[probe] / before[probe]) for probe in before])))


def measure(
    graph: Path,
    *,
    run: Path,
    data: Data,
    latencies: Latencies,
    reference: Path,
    yardstick: Mapping[str, float] | None,
    threads: int,
    limit: int,
    params: int | None,
) -> Point:
    """Score and time `graph` on the validation split, its latency scaled to `yardstick` (the reference's first measurement)."""
    found = score(graph, data, "val", threads=threads, limit=limit)
    times = paired({"reference": reference, "this": graph}, data, latencies, threads=1)
    scale = {probe: (yardstick or times["reference"])[probe] / times["reference"][probe] for probe in times["this"]}
    return Point(
        file=str(graph.relative_to(run)),
        sha256=sha256(graph),
        size_bytes=graph.stat().st_size,
        metric=found.value,
        samples=len(found.errors),
        split="val",
        latency_ms={probe: value * scale[probe] for probe, value in times["this"].items()},
        also=dict(found.also),
        params=params,
    )
