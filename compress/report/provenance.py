"""The end of the page: why this architecture, with sources, and where each number comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.report.figures import count, figure, plain, points
from compress.report.headline import NAMES, Record, against
from compress.report.svg import number


def advice(recommendation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The recommendation's trace: candidates with what was said about them, what would flip it, and the sources by id."""
    if not recommendation:
        return None
    sources = {str(source.get("id")): source for source in recommendation.get("sources") or []}
    return {
        "request": [(key, plain(value)) for key, value in (recommendation.get("request") or {}).items() if value not in (None, False, "")],
        "kept": [_candidate(entry, recommendation.get("pick")) for entry in recommendation.get("kept") or []],
        "refused": [_candidate(entry) for entry in recommendation.get("refused") or []],
        "flips": [flip.get("says") or _flip(flip) for flip in recommendation.get("flips") or []],
        "sources": sources,
        "links": {
            name: source["url"] for name, source in sources.items() if str(source.get("url", "")).startswith(("https://", "http://"))
        },
    }


def _candidate(entry: Mapping[str, Any], pick: str | None = None) -> dict[str, Any]:
    prediction = entry.get("prediction")
    told = f"{number(prediction['low_ms'], 2)} to {number(prediction['high_ms'], 2)} ms ({prediction['kind']})" if prediction else ""
    verdicts = list(entry.get("verdicts") or [])
    binding = next((item for item in verdicts if item.get("effect") == "forbid"), None)
    name = "/".join(str(entry[key]) for key in ("architecture", "variant") if entry.get(key))
    role = "picked" if name == pick else "a reference, not built here" if entry.get("status") == "reference" else "runner-up"
    return {**entry, "name": name, "role": role, "told": told, "verdicts": verdicts, "binding": binding}


def _flip(flip: Mapping[str, Any]) -> str:
    return f"{flip['fact']} {flip['direction']} {plain(flip['threshold'])} (now {plain(flip['now'])}): {flip['pick']}"


def provenance(record: Record) -> list[dict[str, str]]:
    """Each number of the headline: the split, how many examples, how it was taken, the command that takes it again."""
    final, metric, environment = record["final"], record["metric"], record.get("environment") or {}
    runtime = f"onnxruntime {environment.get('onnxruntime', '?')}"
    rows = []
    for key, what in (("test", "shipped"), ("float_test", "float"), ("teacher_test", "teacher")):
        if entry := final.get(key):
            rows.append(
                _source(
                    f"{metric['name']} of the {what} file",
                    figure(metric, entry["metric"]),
                    f"{entry['split']}, {count(entry['samples'])}",
                    f"measured once, at the end, {runtime}",
                    "advisor gate BUNDLE --baseline MODEL --data DIR --max-drop METRIC=X" if key == "test" else "",
                )
            )
    if (test := final.get("test")) and test.get("interval") and any(test["interval"]):
        rows.append(
            _source(
                f"difference to {against(test)}",
                points(metric, test["difference"]),
                f"{test['split']}, {count(test['samples'])}",
                "paired bootstrap over examples, 95 % interval",
                "the same",
            )
        )
    for name, entry in (final.get("latency_ratio") or {}).items():
        rows.append(
            _source(
                f"latency against {NAMES.get(name, name)}",
                f"×{entry['ratio']:.3f}",
                "batch 1, every probe",
                f"measured, interleaved, 1 thread, {runtime}",
                "advisor profile BUNDLE --reference MODEL",
            )
        )
    rows.append(
        _source("size of model.onnx", f"{record['final']['size_bytes']:,} bytes", "–", "the file itself", "advisor bundle verify BUNDLE")
    )
    measured = [stage["after"] for stage in record["stages"] if stage["after"]]
    if measured:
        rows.append(
            _source(
                "stage table",
                "before and after",
                f"{measured[0]['split']}, {count(measured[0]['samples'])}",
                f"measured by the pipeline, latency scaled to one reference, {runtime}",
                "advisor run",
            )
        )
    if (record.get("recommendation") or {}).get("kept"):
        rows.append(_source("predicted latency", "see the recommendation", "–", "estimate from rates, never measured", "advisor recommend"))
    return rows


def _source(what: str, value: str, split: str, how: str, command: str) -> dict[str, str]:
    return {"what": what, "value": value, "split": split, "how": how, "command": command}
