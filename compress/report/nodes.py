"""Per-operator times in graph order: what each node of the shipped file took, as the runtime ran it.

The profile keeps times by kind of operator; the page shows the nodes one by one, in the order they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rules.examples import Feeds


def with_nodes(record: Mapping[str, Any], graph: Path, probes: Mapping[str, Feeds]) -> dict[str, Any]:
    """The record with `final.profile.nodes` filled in, measured here on the headline probe where it is not there yet."""
    final = dict(record["final"])
    profile = dict(final.get("profile") or {})
    if "nodes" not in profile and probes:
        profile["nodes"] = measure(graph, next(iter(probes.values())))
    return {**record, "final": {**final, "profile": profile}}


def measure(graph: Path, feeds: Feeds) -> list[dict[str, Any]]:
    """`[{op, name, ms}]` in the order the runtime runs them: the median over its profiled runs."""
    from compress.profile import trace

    spent: dict[str, tuple[str, list[float]]] = {}
    for event in trace(graph, feeds):
        name = event["name"].removesuffix("_kernel_time")
        spent.setdefault(name, (str(event["args"]["op_name"]), []))[1].append(event["dur"] / 1e3)
    return [{"op": op, "name": name, "ms": sorted(times)[len(times) // 2]} for name, (op, times) in spent.items()]
