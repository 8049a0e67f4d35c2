"""The middle of the page: every measured file in one scatter and one table, time by operator, training curves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compress.report import charts
from compress.report.figures import count, figure, joined, printed
from compress.report.headline import Record, is_teacher
from compress.report.svg import number, size

INTEGER = re.compile(r"QLinear|Integer|^DynamicQuantize(?!Linear)|^Q(Attention|Gemm|EmbedLayer|MoE)|NBits")
GLUE = {
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Cast",
    "Shape",
    "Gather",
    "Slice",
    "Concat",
}


def pareto(record: Record) -> dict[str, Any] | None:
    """The scatter over every measured file, and what to conclude from it."""
    metric = record["metric"]
    entries = [entry for entry in [*record["stages"], *(record.get("controls") or [])] if entry["after"] and entry["after"]["latency_ms"]]
    if len(entries) < 2:  # one file alone has nothing to be compared with
        return None
    probe = next(iter(entries[0]["after"]["latency_ms"]))
    marks = [_mark(entry, record, probe) for entry in entries if probe in entry["after"]["latency_ms"]]
    best = charts.front(marks, metric["better"])
    svg = charts.pareto(marks, metric=f"{metric['name']} on validation", unit=metric.get("unit", "%"), better=metric["better"], probe=probe)
    return {
        "svg": svg,
        "marks": marks,
        "front": [mark.label for mark in best],
        "conclusion": _conclusion(best, marks),
        "split": _splits(entries),
    }


def _mark(entry: Mapping[str, Any], record: Record, probe: str) -> charts.Mark:
    after, final = entry["after"], record["final"]
    teacher = is_teacher(entry, record)
    return charts.Mark(
        label="teacher" if teacher else str(entry["name"]),
        status=str(entry["status"]),
        latency_ms=float(after["latency_ms"][probe]),
        value=printed(record["metric"], after["metric"]),
        size_bytes=int(after["size_bytes"]),
        ships=after["file"] == final["file"],
        teacher=teacher,
    )


def _conclusion(best: Sequence[charts.Mark], marks: Sequence[charts.Mark]) -> str:
    ships = next((mark for mark in marks if mark.ships), None)
    if ships is None:
        return "The shipped file is not among these points."
    if ships in best:
        return f"{ships.label} ships: no measured file is both faster and more accurate."
    beating = [mark.label for mark in best if mark.latency_ms <= ships.latency_ms]
    return f"{ships.label} ships although {', '.join(beating) or 'another file'} is ahead here: speed within the noise of a measurement does not decide, the score does."


def _splits(entries: Sequence[Mapping[str, Any]]) -> str:
    found = sorted({f"{count(entry['after']['samples'])} {entry['after']['split']} examples" for entry in entries})
    return ", ".join(found)


def stages(record: Record) -> list[dict[str, Any]]:
    """One row a stage, controls after them: before, after, what became of it and why."""
    rows = [_row(stage, record) for stage in record["stages"]]
    return rows + [{**_row(control, record), "number": "–"} for control in record.get("controls") or []]


def _row(entry: Mapping[str, Any], record: Record) -> dict[str, Any]:
    before, after, metric = entry.get("before"), entry.get("after"), record["metric"]
    probe = next(iter((after or {}).get("latency_ms") or {}), None)
    return {
        "number": entry.get("index", "–"),
        "name": f"{entry['name']} (teacher)" if is_teacher(entry, record) else entry["name"],
        "status": entry["status"],
        "class": {"kept": "kept", "rolled back": "rolled", "control": "control"}.get(entry["status"], "other"),
        "reason": entry["reason"],
        "ships": bool(after) and (after or {})["file"] == record["final"]["file"],
        "metric": _pair(before, after, lambda point: figure(metric, point["metric"])),
        "latency": _pair(before, after, lambda point: _milliseconds(point, probe)),
        "size": _pair(before, after, lambda point: size(point["size_bytes"])),
        "params": count(after["params"]) if after and after.get("params") else "–",
        "seconds": f"{entry['seconds']:.0f} s" if entry.get("seconds") is not None else "–",
        "settings": joined(entry.get("settings") or {}),
        "decisions": joined(entry.get("decisions") or {}),
    }


def _milliseconds(point: Mapping[str, Any], probe: str | None) -> str:
    found = point["latency_ms"].get(probe)
    return "–" if found is None else f"{number(found)} ms"


def _pair(before: Any, after: Any, show: Any) -> tuple[str, str]:
    if not after:
        return "", "–"
    return (show(before) if before else ""), show(after)


def operators(record: Record) -> dict[str, Any] | None:
    """Per-operator times of the shipped file in graph order, and the share of each kind."""
    profile = record["final"].get("profile") or {}
    rows = [_bar(row) for row in profile.get("nodes") or []]
    total = sum(row.ms for row in rows)
    if not rows or total <= 0:
        return None
    shares = {kind: sum(row.ms for row in rows if row.kind == kind) / total for kind in ("int8", "float", "glue")}
    slowest = max(rows, key=lambda row: row.ms)
    text = f"{slowest.op} {slowest.name} takes {100 * slowest.ms / total:.0f} % of the operator time; {100 * shares['int8']:.0f} % runs in integers, {100 * shares['float']:.0f} % in float, {100 * shares['glue']:.0f} % only converts or moves."
    return {"svg": charts.operators(rows), "rows": rows, "total": total, "conclusion": text}


def _bar(row: Mapping[str, Any]) -> charts.Bar:
    op = str(row["op"])
    return charts.Bar(op, str(row["name"]), float(row["ms"]), "int8" if INTEGER.search(op) else "glue" if op in GLUE else "float")


def curves(record: Record) -> list[dict[str, Any]]:
    """One small chart a trained stage."""
    metric = record["metric"]
    found = []
    for index, (stage, entries) in enumerate(_by_stage(record.get("curves") or []).items()):
        loss = tuple((float(entry["step"]), float(entry["loss"])) for entry in entries if entry.get("loss") is not None)
        if len(loss) < 2:
            continue
        score = tuple((float(entry["step"]), printed(metric, entry["val"])) for entry in entries if entry.get("val") is not None)
        rate = tuple((float(entry["step"]), float(entry["lr"])) for entry in entries if entry.get("lr") is not None)
        drawn = charts.curve(
            charts.Curve(stage, loss, score, rate), metric=metric["name"], unit=metric.get("unit", "%"), id=f"curve-{index}"
        )
        found.append(
            {"stage": stage, "svg": drawn, "text": f"{count(int(loss[-1][0]))} steps, loss {number(loss[0][1])} → {number(loss[-1][1])}"}
        )
    return found


def _learned(loss: Sequence[tuple[float, float]], entries: Sequence[Mapping[str, Any]], metric: Mapping[str, Any]) -> str:
    scores = [entry["val"] for entry in entries if entry.get("val") is not None]
    text = f"{count(int(loss[-1][0]))} steps, loss {number(loss[0][1])} → {number(loss[-1][1])}"
    return text + (f", {metric['name']} {figure(metric, scores[-1])} at the end" if scores else "")


def _by_stage(entries: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(str(entry.get("stage", "")), []).append(entry)
    return groups
