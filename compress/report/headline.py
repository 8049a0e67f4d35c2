"""The top of the page: what shipped and why in one sentence, its figures beside what they replace, and the labels that keep them honest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.report import charts
from compress.report.figures import count, faster, figure, points, printed, share, signed
from compress.report.svg import number, size
from rules.examples import BESIDE_ERRORS

Record = Mapping[str, Any]
NAMES = {"teacher fp32": "the teacher in fp32", "own fp32": "its own fp32 file"}


def verdict(record: Record) -> dict[str, str]:
    """What shipped and why, in one sentence, and the sentence after it."""
    final, metric = record["final"], record["metric"]
    name, times = _headline_ratio(record)
    facts = [f"{faster(times)} as {name}"] if times else []
    if larger := _teacher_size(record):
        facts.append(f"{share(_shipped_size(record), larger)} of {'its' if name == NAMES['teacher fp32'] else 'the teacher’s'} size")
    test = final.get("test")
    if test:
        facts.append(f"{metric['name']} {figure(metric, test['metric'])} on {count(test['samples'])} {test['split']} examples")
    head = f"{_what(record)} ships"
    return {"head": head + (": " + ", ".join(facts) if facts else "") + ".", "why": _why(record)}


def _what(record: Record) -> str:
    stage, precision = record["final"]["stage"], (record.get("target") or {}).get("precision", "quantized")
    return {"export": "The float file", "fp16": "The fp16 file"}.get(stage, f"The {precision} file from {stage}")


def against(test: Mapping[str, Any]) -> str:
    """What a test score was compared with: `the teacher`, `the float file`."""
    return {"float": "the float file"}.get(test["against"], f"the {test['against']}")


def _compared(test: Mapping[str, Any] | None) -> bool:
    """Whether there is a comparison to speak of: a file does not differ from itself."""
    return bool(test) and bool((test or {}).get("interval")) and any((test or {})["interval"])


def _why(record: Record) -> str:
    reason = str(record["final"].get("reason", ""))
    back = [stage["name"] for stage in record["stages"] if stage["status"] == "rolled back"]
    tail = f" Rolled back because they did not pay: {', '.join(back)}." if back else " No stage had to be rolled back."
    return f"Why this file: {reason}.{tail}" if reason else tail.strip()


def _headline_ratio(record: Record) -> tuple[str, float | None]:
    ratios = record["final"].get("latency_ratio") or {}
    for name, entry in ratios.items():
        return NAMES.get(name, str(name)), float(entry["ratio"])
    return "", None


def _shipped_size(record: Record) -> int:
    return int(record["final"]["size_bytes"])


def _teacher_size(record: Record) -> int | None:
    stage = next((stage for stage in record["stages"] if is_teacher(stage, record)), None)
    return int(stage["after"]["size_bytes"]) if stage else None


def is_teacher(stage: Mapping[str, Any], record: Record) -> bool:
    first = next((other for other in record["stages"] if other["name"] == "train" and other["after"]), None)
    return bool(record.get("teacher")) and stage is first


def cards(record: Record) -> list[dict[str, str]]:
    """Four figures with what they are set against."""
    final, metric = record["final"], record["metric"]
    found = []
    if test := final.get("test"):
        other = final.get(f"{test['against']}_test") or final.get("float_test")
        beside = f"{test['against']} {figure(metric, other['metric'])}" if other and _compared(test) else ""
        found.append(
            {"what": f"{metric['name']}, {test['split']}", "value": figure(metric, test["metric"]), "beside": beside, "kind": "measured"}
        )
        found += [_also(name, value, other if _compared(test) else None) for name, value in test.get("also", {}).items()]
    larger = _teacher_size(record)
    found.append(
        {
            "what": "model.onnx",
            "value": size(_shipped_size(record)),
            "beside": f"teacher {size(larger)}" if larger else "",
            "kind": "measured",
        }
    )
    for name, entry in (final.get("latency_ratio") or {}).items():
        probe, times = _milliseconds(entry)
        found.append(
            {"what": f"speed vs {name}", "value": f"{1 / entry['ratio']:.1f}×", "beside": times, "kind": f"measured, interleaved{probe}"}
        )
    return found


def _also(name: str, value: float, against: Mapping[str, Any] | None) -> dict[str, str]:
    other = (against or {}).get("also", {}).get(name)
    return {
        "what": f"{name}, test",
        "value": _beside(name, value),
        "beside": f"against {_beside(name, other)}" if other is not None else "",
        "kind": "measured",
    }


def _beside(name: str, value: float) -> str:
    """A further figure: a share that is right in percent, an error as a number."""
    return number(value, 4) if name in BESIDE_ERRORS else f"{100 * value:.1f} %"


def _milliseconds(entry: Mapping[str, Any]) -> tuple[str, str]:
    """The headline probe's name and its times: `", w128"`, `"3.41 → 0.402 ms"`."""
    times = entry.get("ms") or {}
    after, before = times.get("this") or {}, times.get("against") or {}
    probe = next((name for name in after if name in before), None)
    return (f", {probe}", f"{number(before[probe])} → {number(after[probe])} ms") if probe else ("", "")


def badges(record: Record) -> list[tuple[str, str]]:
    """Honest labels: `(class, text)`."""
    target, environment = record.get("target") or {}, record.get("environment") or {}
    found = [
        (
            "plain",
            f"latency measured on {environment.get('cpu', 'this machine')}, onnxruntime {environment.get('onnxruntime', '?')}, 1 thread",
        )
    ]
    if not target.get("measured_here", True):
        found.append(("warn", f"not measured on the target ({target.get('name', '?')})"))
    test = record["final"].get("test")
    if test and _compared(test):
        found.append(_within(record, test))
    return found


def _within(record: Record, test: Mapping[str, Any]) -> tuple[str, str]:
    allowed = (record.get("plan") or {}).get("max_drop")
    if allowed is None or not test.get("interval"):
        return "plain", f"{points(record['metric'], test['difference'])} against {against(test)}"
    low, high = _losses(record["metric"], test)
    limit = points(record["metric"], allowed).lstrip("+")
    if high <= allowed:
        return "good", f"loss against {against(test)} within the {limit} the plan allows"
    if low > allowed:
        return "bad", f"loss against {against(test)} exceeds the {limit} the plan allows"
    return "warn", f"whether the loss stays within {limit} is not settled by {count(test['samples'])} examples"


def _losses(metric: Mapping[str, Any], test: Mapping[str, Any]) -> tuple[float, float]:
    low, high = test["interval"]
    return (low, high) if metric["better"] == "lower" else (-high, -low)


def interval(record: Record) -> dict[str, Any] | None:
    """The difference to the teacher (or the float file) with its interval, as a strip and a sentence."""
    test, metric = record["final"].get("test"), record["metric"]
    if not test or not _compared(test):
        return None
    low, high = (printed(metric, value) for value in test["interval"])
    text = f"{metric['name']} {points(metric, test['difference'])} against {against(test)}, 95 % interval {signed(low)} to {signed(high)}"
    allowed = (record.get("plan") or {}).get("max_drop")
    limit = None if allowed is None else printed(metric, allowed) * (1 if metric["better"] == "lower" else -1)
    return {"svg": charts.interval(printed(metric, test["difference"]), low, high, limit=limit, text=text, id="interval"), "text": text}
