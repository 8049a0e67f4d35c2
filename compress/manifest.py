"""The manifest: one JSON file that says what a bundle holds, how it is fed and read, what was measured and where.

Its form is published in `bundle_schema/manifest.schema.json`; a test holds what is written here to that schema.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.context import Data
from rules.examples import Port

if TYPE_CHECKING:
    from compress.beside import Part

SCHEMA_VERSION = 1
SCHEMA = Path(__file__).parent / "bundle_schema" / "manifest.schema.json"

# onnxruntime release -> newest opset and IR version it reads. Source: onnxruntime.ai/docs/reference/compatibility.html (ends at 1.20).
RUNTIMES = (
    ("1.8", 14, 7),
    ("1.9", 15, 8),
    ("1.11", 16, 8),
    ("1.12", 17, 8),
    ("1.14", 18, 8),
    ("1.16", 19, 9),
    ("1.17", 20, 9),
    ("1.18", 21, 10),
)

ROLES = {
    "model.onnx": "graph",
    "labels.txt": "labels",
    "README.md": "card",
    "report.html": "report",
    "reader.py": "reader",
    "LICENSE": "licence",
}


def role(name: str) -> str:
    """What a file of a bundle is for, by its path."""
    within = {"golden/": "golden", "steps_": "reader"}
    found = ROLES.get(name) or next((what for start, what in within.items() if name.startswith(start)), "other")
    return "graph" if found == "other" and name.endswith(".onnx") else found


def build(
    record: Mapping[str, Any], data: Data, *, graph: Path, files: Sequence[Mapping[str, Any]], parts: Sequence[Part] = ()
) -> dict[str, Any]:
    """The manifest of a bundle from the run's record and the task's data."""
    final, target = record["final"], record["target"]
    here = bool(target.get("measured_here", True))
    value = {
        "schema_version": SCHEMA_VERSION,
        "name": name_of(record),
        "task": record["task"],
        "created_by": {"name": "edge-advisor", "version": _version()},
        "min_runtime": min_runtime(graph, tested=str(record["environment"].get("onnxruntime"))),
        "graphs": [_graph("main", "model.onnx", data), *(_graph(part.role, part.file.name, part.data) for part in parts)],
        "files": list(files),
        "preprocess": [dict(step) for step in data.preprocess],
        "postprocess": [dict(step) for step in data.postprocess],
        "labels": list(data.labels),
        "probes": {name: {key: list(array.shape) for key, array in feeds.items()} for name, feeds in data.probes().items()},
        "metrics": _metrics(record),
        "latency": {
            "measured_on_target": here,
            "note": f"measured on {target['name']}" if here else f"not measured on the target ({target['name']})",
            "profile": final["profile"],
        },
        "target": target,
        "environment": record["environment"],
        "seeds": {"run": record["seed"]},
        "plan": record["plan"],
        "data": record["data"],
        "sources": _sources(record),
        "licences": licences(record),
    }
    return dict(finite(value))


def name_of(record: Mapping[str, Any]) -> str:
    """`ocr-crnn-small`: task, architecture, variant, as far as they are known."""
    plan = record.get("plan") or {}
    parts = [str(record["task"]).rpartition(":")[2], plan.get("architecture"), plan.get("variant")]
    text = "-".join(str(part) for part in parts if part)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100] or "model"


def min_runtime(graph: Path, *, tested: str) -> dict[str, Any]:
    """The oldest onnxruntime whose documentation lists this file's opset and IR version; `tested` where the table ends before."""
    import onnx

    model = onnx.load(str(graph), load_external_data=False)
    opsets = {entry.domain or "ai.onnx": int(entry.version) for entry in model.opset_import}
    opset = opsets.get("ai.onnx", 1)
    oldest = next((release for release, most, ir in RUNTIMES if most >= opset and ir >= model.ir_version), tested)
    return {"onnxruntime": oldest, "ir_version": int(model.ir_version), "opsets": opsets, "tested": tested}


def licences(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Who may do what with each part, as far as it is known; what is not known says so."""
    data = record.get("data") or {}
    return [
        {"what": "reader.py", "licence": "Apache-2.0", "note": "part of edge-advisor"},
        {"what": "training data", "licence": str(data.get("licence") or "not stated"), "note": str(data.get("source") or "")},
        {
            "what": "weights",
            "licence": "not stated",
            "note": "trained in this run: whoever trained them decides, within what the data's licence allows",
        },
    ]


def counts(data: Mapping[str, Any]) -> dict[str, int]:
    """Examples a split, where the data's provenance says: `{"splits": {"test": 1200}}`, or `{"lines": {"test": {"count": 1200}}}`."""
    tables = [data[key] for key in ("splits", "lines", "examples") if key in data]
    for table in tables:
        if isinstance(table, Mapping) and table and set(table) <= {"train", "val", "test"}:
            found = {
                split: value.get("count", value.get("lines")) if isinstance(value, Mapping) else value for split, value in table.items()
            }
            if all(isinstance(number, int) for number in found.values()):
                return {split: int(number) for split, number in found.items()}
    return {}


def finite(value: Any) -> Any:
    """The value with numbers that JSON does not have (NaN, infinity) as null, and with tuples as lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def _graph(role: str, file: str, data: Data) -> dict[str, Any]:
    ports = {"inputs": data.signature.inputs, "outputs": data.signature.outputs}
    return {"role": role, "file": file, **{side: [_port(port) for port in held] for side, held in ports.items()}}


def _port(port: Port) -> dict[str, Any]:
    ranges = {axis: dict(zip(("min", "max", "multiple"), limits, strict=True)) for axis, limits in port.ranges.items()}
    values = {"values": list(port.values)} if port.values else {}
    return {"name": port.name, "dtype": port.dtype, "shape": list(port.shape), "ranges": ranges, **values}


def _metrics(record: Mapping[str, Any]) -> dict[str, Any]:
    final = record["final"]
    kept = ("index", "name", "status", "reason", "before", "after")
    tables = {
        key: [{name: entry[name] for name in kept if name in entry} for entry in record.get(key) or []] for key in ("stages", "controls")
    }
    shipped = {"stage": final["stage"], "reason": final.get("reason", "")}
    scores = {key: final.get(key) for key in ("test", "float_test", "teacher_test")}
    return {"metric": record["metric"], "shipped": shipped, **scores, "latency_ratio": final.get("latency_ratio") or {}, **tables}


def _sources(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [dict(source) for source in (record.get("recommendation") or {}).get("sources") or []]


def _version() -> str:
    try:
        return version("edge-advisor")
    except PackageNotFoundError:
        return "unknown"
