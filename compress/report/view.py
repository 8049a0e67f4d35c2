"""What the page shows, worked out from the record: the verdict, the rows, the charts, and where each number comes from.

Nothing here measures or judges: the record says what was measured and what was kept, this says it in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compress.report import charts
from compress.report.figures import count, faster, figure, joined, plain, points, printed, share, signed
from compress.report.reading import lines
from compress.report.svg import number, size

Record = Mapping[str, Any]
INTEGER = re.compile(r"QLinear|Integer|^DynamicQuantize(?!Linear)|^Q(Attention|Gemm|EmbedLayer|MoE)|NBits")
GLUE = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Shape", "Gather", "Slice", "Concat"}


def view(record: Record) -> dict[str, Any]:
    """Everything the template needs, by section."""
    return {
        "record": record,
        "metric": record["metric"],
        "verdict": verdict(record),
        "cards": cards(record),
        "badges": badges(record),
        "interval": interval(record),
        "pareto": pareto(record),
        "stages": stages(record),
        "samples": lines(record.get("samples") or []),
        "operators": operators(record),
        "fusion": record["final"].get("fusion") or {},
        "curves": curves(record),
        "advice": advice(record.get("recommendation")),
        "provenance": provenance(record),
        "environment": [(key, plain(value)) for key, value in (record.get("environment") or {}).items()],
        "target": [(key, plain(value)) for key, value in (record.get("target") or {}).items()],
        "data": [(key, plain(value)) for key, value in (record.get("data") or {}).items()],
    }


# -- the verdict -----------------------------------------------------------------------------------------------------------------


def verdict(record: Record) -> dict[str, str]:
    """What shipped and why, in one sentence, and the sentence after it."""
    final, metric = record["final"], record["metric"]
    against, times = _headline_ratio(record)
    facts = [faster(times) + f" as the {against}"] if times else []
    if larger := _teacher_size(record):
        facts.append(f"{share(_shipped_size(record), larger)} of its size" if against.startswith("teacher") else f"{share(_shipped_size(record), larger)} of the teacher's size")
    test = final.get("test")
    if test:
        facts.append(f"{metric['name']} {figure(metric, test['metric'])} on {count(test['samples'])} {test['split']} examples")
    head = f"The file from {final['stage']} ships"
    return {"head": head + (": " + ", ".join(facts) if facts else "") + ".", "why": _why(record)}


def _why(record: Record) -> str:
    reason = str(record["final"].get("reason", ""))
    back = [stage["name"] for stage in record["stages"] if stage["status"] == "rolled back"]
    tail = f" Rolled back because they did not pay: {', '.join(back)}." if back else " No stage had to be rolled back."
    return f"Why this file: {reason}.{tail}" if reason else tail.strip()


def _headline_ratio(record: Record) -> tuple[str, float | None]:
    ratios = record["final"].get("latency_ratio") or {}
    for name, entry in ratios.items():
        return name, float(entry["ratio"])
    return "", None


def _shipped_size(record: Record) -> int:
    return int(record["final"]["size_bytes"])


def _teacher_size(record: Record) -> int | None:
    stage = next((stage for stage in record["stages"] if _is_teacher(stage, record)), None)
    return int(stage["after"]["size_bytes"]) if stage else None


def _is_teacher(stage: Mapping[str, Any], record: Record) -> bool:
    first = next((other for other in record["stages"] if other["name"] == "train" and other["after"]), None)
    return bool(record.get("teacher")) and stage is first


def cards(record: Record) -> list[dict[str, str]]:
    """Four figures with what they are set against."""
    final, metric = record["final"], record["metric"]
    found = []
    if test := final.get("test"):
        against = final.get(f"{test['against']}_test") or final.get("float_test")
        beside = f"{test['against']} {figure(metric, against['metric'])}" if against else ""
        found.append({"what": f"{metric['name']}, {test['split']}", "value": figure(metric, test["metric"]), "beside": beside, "kind": "measured"})
        found += [_also(name, value, against) for name, value in test.get("also", {}).items()]
    larger = _teacher_size(record)
    found.append({"what": "model.onnx", "value": size(_shipped_size(record)), "beside": f"teacher {size(larger)}" if larger else "", "kind": "measured"})
    for name, entry in (final.get("latency_ratio") or {}).items():
        found.append({"what": f"speed against {name}", "value": f"{1 / entry['ratio']:.1f}×", "beside": _milliseconds(entry), "kind": "measured, paired"})
    return found


def _also(name: str, value: float, against: Mapping[str, Any] | None) -> dict[str, str]:
    other = (against or {}).get("also", {}).get(name)
    return {"what": f"{name}, test", "value": f"{100 * value:.1f} %", "beside": f"against {100 * other:.1f} %" if other is not None else "", "kind": "measured"}


def _milliseconds(entry: Mapping[str, Any]) -> str:
    times = entry.get("ms") or {}
    parts = [f"{probe} {number(ms)} ms, was {number(times['against'][probe])}" for probe, ms in times.get("this", {}).items() if probe in times.get("against", {})]
    return "; ".join(parts[:1])


def badges(record: Record) -> list[tuple[str, str]]:
    """Honest labels: `(class, text)`."""
    target, environment = record.get("target") or {}, record.get("environment") or {}
    found = [("plain", f"latency measured on {environment.get('cpu', 'this machine')}, onnxruntime {environment.get('onnxruntime', '?')}, 1 thread")]
    if not target.get("measured_here", True):
        found.append(("warn", f"not measured on the target ({target.get('name', '?')})"))
    if test := record["final"].get("test"):
        found.append(_within(record, test))
    return found


def _within(record: Record, test: Mapping[str, Any]) -> tuple[str, str]:
    allowed = (record.get("plan") or {}).get("max_drop")
    if allowed is None or not test.get("interval"):
        return "plain", f"{points(record['metric'], test['difference'])} against the {test['against']}"
    low, high = _losses(record["metric"], test)
    limit = points(record["metric"], allowed).lstrip("+")
    if high <= allowed:
        return "good", f"loss against the {test['against']} within the {limit} the plan allows"
    if low > allowed:
        return "bad", f"loss against the {test['against']} exceeds the {limit} the plan allows"
    return "warn", f"whether the loss stays within {limit} is not settled by {count(test['samples'])} examples"


def _losses(metric: Mapping[str, Any], test: Mapping[str, Any]) -> tuple[float, float]:
    low, high = test["interval"]
    return (low, high) if metric["better"] == "lower" else (-high, -low)


def interval(record: Record) -> dict[str, Any] | None:
    """The difference to the teacher (or the float file) with its interval, as a strip and a sentence."""
    test, metric = record["final"].get("test"), record["metric"]
    if not test or not test.get("interval"):
        return None
    low, high = (printed(metric, value) for value in test["interval"])
    text = f"{metric['name']} {points(metric, test['difference'])} against the {test['against']}, 95 % interval {signed(low)} to {signed(high)}"
    allowed = (record.get("plan") or {}).get("max_drop")
    limit = None if allowed is None else printed(metric, allowed) * (1 if metric["better"] == "lower" else -1)
    return {"svg": charts.interval(printed(metric, test["difference"]), low, high, limit=limit, text=text, id="interval"), "text": text}


# -- stages ----------------------------------------------------------------------------------------------------------------------


def pareto(record: Record) -> dict[str, Any] | None:
    """The scatter over every measured file, and what to conclude from it."""
    metric = record["metric"]
    entries = [entry for entry in [*record["stages"], *record.get("controls", [])] if entry["after"] and entry["after"]["latency_ms"]]
    if not entries:
        return None
    probe = next(iter(entries[0]["after"]["latency_ms"]))
    marks = [_mark(entry, record, probe) for entry in entries if probe in entry["after"]["latency_ms"]]
    best = charts.front(marks, metric["better"])
    svg = charts.pareto(marks, metric=f"{metric['name']} on validation", unit=metric.get("unit", "%"), better=metric["better"], probe=probe)
    return {"svg": svg, "marks": marks, "front": [mark.label for mark in best], "conclusion": _conclusion(best, marks), "split": _splits(entries)}


def _mark(entry: Mapping[str, Any], record: Record, probe: str) -> charts.Mark:
    after, final = entry["after"], record["final"]
    teacher = _is_teacher(entry, record)
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
    return rows + [{**_row(control, record), "number": "–"} for control in record.get("controls", [])]


def _row(entry: Mapping[str, Any], record: Record) -> dict[str, Any]:
    before, after, metric = entry.get("before"), entry.get("after"), record["metric"]
    probe = next(iter((after or {}).get("latency_ms") or {}), None)
    return {
        "number": entry.get("index", "–"),
        "name": f"{entry['name']} (teacher)" if _is_teacher(entry, record) else entry["name"],
        "status": entry["status"],
        "class": {"kept": "kept", "rolled back": "rolled", "control": "control"}.get(entry["status"], "other"),
        "reason": entry["reason"],
        "ships": bool(after) and after["file"] == record["final"]["file"],
        "metric": _pair(before, after, lambda point: figure(metric, point["metric"])),
        "latency": _pair(before, after, lambda point: f"{number(point['latency_ms'][probe])} ms" if probe in point["latency_ms"] else "–") if probe else ("", "–"),
        "size": _pair(before, after, lambda point: size(point["size_bytes"])),
        "params": count(after["params"]) if after and after.get("params") else "–",
        "seconds": f"{entry['seconds']:.0f} s" if entry.get("seconds") is not None else "–",
        "settings": joined(entry.get("settings") or {}),
        "decisions": joined(entry.get("decisions") or {}),
    }


def _pair(before: Any, after: Any, show: Any) -> tuple[str, str]:
    if not after:
        return "", "–"
    return (show(before) if before else ""), show(after)


# -- operators and training ------------------------------------------------------------------------------------------------------


def operators(record: Record) -> dict[str, Any] | None:
    """Per-operator times of the shipped file in graph order, and the share of each kind."""
    profile = record["final"].get("profile") or {}
    rows = [_bar(row) for row in profile.get("operators") or []]
    rows = [row for row in rows if row is not None]
    total = sum(row.ms for row in rows)
    if not rows or total <= 0:
        return None
    shares = {kind: sum(row.ms for row in rows if row.kind == kind) / total for kind in ("int8", "float", "glue")}
    slowest = max(rows, key=lambda row: row.ms)
    text = f"{slowest.op} {slowest.name} takes {100 * slowest.ms / total:.0f} % of the operator time; {100 * shares['int8']:.0f} % runs in integers, {100 * shares['float']:.0f} % in float, {100 * shares['glue']:.0f} % only converts or moves."
    return {"svg": charts.operators(rows), "rows": rows, "total": total, "conclusion": text}


def _bar(row: Mapping[str, Any]) -> charts.Bar | None:
    milliseconds = row.get("ms", row.get("p50_ms", row.get("mean_ms")))
    if not isinstance(milliseconds, (int, float)):
        return None
    op = str(row.get("op", "?"))
    return charts.Bar(op, str(row.get("name", "")), float(milliseconds), "int8" if INTEGER.search(op) else "glue" if op in GLUE else "float")


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
        drawn = charts.curve(charts.Curve(stage, loss, score, rate), metric=metric["name"], unit=metric.get("unit", "%"), id=f"curve-{index}")
        found.append({"stage": stage, "svg": drawn, "text": f"{count(int(loss[-1][0]))} steps, loss {number(loss[0][1])} → {number(loss[-1][1])}"})
    return found


def _by_stage(entries: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(str(entry.get("stage", "")), []).append(entry)
    return groups


# -- advice and provenance -------------------------------------------------------------------------------------------------------


def advice(recommendation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The recommendation's trace: candidates with what was said about them, what would flip it, and the sources by id."""
    if not recommendation:
        return None
    sources = {str(source.get("id")): source for source in recommendation.get("sources") or []}
    return {
        "request": [(key, plain(value)) for key, value in (recommendation.get("request") or {}).items() if value not in (None, False, "")],
        "kept": [_candidate(entry) for entry in recommendation.get("kept") or []],
        "refused": [_candidate(entry) for entry in recommendation.get("refused") or []],
        "flips": recommendation.get("flips") or [],
        "sources": sources,
        "links": {name: source["url"] for name, source in sources.items() if str(source.get("url", "")).startswith(("https://", "http://"))},
    }


def _candidate(entry: Mapping[str, Any]) -> dict[str, Any]:
    prediction = entry.get("prediction")
    told = f"{number(prediction['low_ms'], 2)} to {number(prediction['high_ms'], 2)} ms ({prediction['kind']})" if prediction else ""
    verdicts = list(entry.get("verdicts") or [])
    binding = next((item for item in verdicts if item.get("effect") == "forbid"), None)
    return {**entry, "told": told, "verdicts": verdicts, "binding": binding}


def provenance(record: Record) -> list[dict[str, str]]:
    """Each number of the headline: the split, how many examples, how it was taken, the command that takes it again."""
    final, metric, environment = record["final"], record["metric"], record.get("environment") or {}
    runtime = f"onnxruntime {environment.get('onnxruntime', '?')}"
    rows = []
    for key, what in (("test", "shipped"), ("float_test", "float"), ("teacher_test", "teacher")):
        if entry := final.get(key):
            rows.append(_source(f"{metric['name']} of the {what} file", figure(metric, entry["metric"]), f"{entry['split']}, {count(entry['samples'])}", f"measured once, at the end, {runtime}", "advisor gate BUNDLE --data DIR" if key == "test" else ""))
    if (test := final.get("test")) and test.get("interval"):
        rows.append(_source(f"difference to the {test['against']}", points(metric, test["difference"]), f"{test['split']}, {count(test['samples'])}", "paired bootstrap over examples, 95 % interval", "advisor gate BUNDLE --baseline MODEL --data DIR"))
    for name, entry in (final.get("latency_ratio") or {}).items():
        rows.append(_source(f"latency against {name}", f"×{entry['ratio']:.3f}", "batch 1, every probe", f"measured, interleaved, 1 thread, {runtime}", "advisor profile BUNDLE --reference MODEL"))
    rows.append(_source("size of model.onnx", f"{_shipped_size(record):,} bytes", "–", "the file itself", "advisor bundle verify BUNDLE"))
    measured = [stage["after"] for stage in record["stages"] if stage["after"]]
    if measured:
        rows.append(_source("stage table", "before and after", f"{measured[0]['split']}, {count(measured[0]['samples'])}", f"measured by the pipeline, latency scaled to one reference, {runtime}", "advisor run"))
    if (record.get("recommendation") or {}).get("kept"):
        rows.append(_source("predicted latency", "see the recommendation", "–", "estimate from rates, never measured", "advisor recommend"))
    return rows


def _source(what: str, value: str, split: str, how: str, command: str) -> dict[str, str]:
    return {"what": what, "value": value, "split": split, "how": how, "command": command}
