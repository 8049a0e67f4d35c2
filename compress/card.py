"""The model card of a bundle: what it is, how to run it, what it costs and what it was measured on, for people.

The front matter is that of the Hugging Face hub (huggingface.co/docs/hub/model-cards), so that a bundle can be uploaded as it is.
Text from a record is escaped for the place it lands in: JSON strings in the front matter (JSON is YAML), cells in tables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from compress.context import Data
from compress.manifest import counts, licences, name_of
from compress.payoff import show
from compress.report.figures import count, figure, points, printed, shown, signed
from compress.report.svg import number, size
from rules.examples import Metric

LONGEST_SETTING = 200  # characters of a step's setting in the card

PIPELINES = {
    "ocr": "image-to-text",
    "text-classification": "text-classification",
    "image-classification": "image-classification",
    "speech-recognition": "automatic-speech-recognition",
}
HERE = Path(__file__).parent


def render(record: Mapping[str, Any], data: Data) -> str:
    """README.md of the bundle."""
    record = shown(record)
    environment = Environment(
        loader=PackageLoader("compress", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters.update(cell=cell, json=_json, count=count, size=size, number=number)
    return environment.get_template("card.md.j2").render(
        record=record,
        name=name_of(record),
        pipeline=PIPELINES.get(str(record["task"])),
        metric=record["metric"],
        value=_value(record),
        rows=_rows(record),
        latency=_latency(record),
        difference=_difference(record),
        stepwise=_stepwise(record),
        labels=len(data.labels),
        charset=_charset(data),
        licences=licences(record),
        counts=counts(record["data"]),
        steps={"preprocess": [_step(step) for step in data.preprocess], "postprocess": [_step(step) for step in data.postprocess]},
    )


def _stepwise(record: Mapping[str, Any]) -> str:
    """What is said of a model that writes and was cut into steps; nothing of another."""
    facts = record.get("stepwise")
    if not facts:
        return ""
    if not facts["parts"]:
        return f"It writes by reading everything again at each call: it could not be cut into steps ({_line(facts['reason'])})."
    metric = Metric(**record["metric"])
    names = " and ".join(f"`{part['role']}.onnx`" for part in facts["parts"])
    cut, whole = (show(metric, facts["scores"][name]) for name in (facts["format"], "whole"))
    return f"Cut into steps in {names} ({facts['format']}): {metric.name} {cut} asked word by word, {whole} of the whole graph, on {facts['examples']} test examples."


def licence_note(record: Mapping[str, Any]) -> str:
    """The LICENSE file: part by part, with what is not stated said so."""
    lines = ["What may be done with each part of this bundle:", ""]
    for entry in licences(record):
        note = f" ({_line(entry['note'])})" if entry["note"] else ""
        lines.append(f"- {entry['what']}: {_line(entry['licence'])}{note}")
    lines += ["", "reader.py is licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0"]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """Text for a cell of a Markdown table: one line, nothing that Markdown or HTML would act on."""
    return (
        re.sub(r"([\\`*_{}\[\]<>|#!&])", r"\\\1", _line(str(value))).replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")
    )


def _line(text: str) -> str:
    return " ".join(text.split())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=True)


def _step(step: Mapping[str, Any]) -> str:
    """A step as the manifest has it; tables that nobody reads on a page are left to the manifest."""
    return _json({key: value if len(_json(value)) <= LONGEST_SETTING else "... (in manifest.json)" for key, value in step.items()})


def _value(record: Mapping[str, Any]) -> float | None:
    test = record["final"].get("test")
    return None if not test else round(printed(record["metric"], test["metric"]), 4)


def _rows(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Before and after, a row a stage."""
    return [_row(stage, record["metric"]) for stage in [*record["stages"], *(record.get("controls") or [])]]


def _row(stage: Mapping[str, Any], metric: Mapping[str, Any]) -> dict[str, str]:
    before, after = stage.get("before"), stage.get("after")
    found = {"stage": stage["name"], "status": stage["status"], "reason": stage["reason"], "metric": "–", "latency": "–", "size": "–"}
    if not after:
        return found
    probe = next(iter(after["latency_ms"]), None)

    def change(show: Any) -> str:
        return f"{show(before)} → {show(after)}" if before else str(show(after))

    found["metric"] = change(lambda point: figure(metric, point["metric"]))
    found["size"] = change(lambda point: size(point["size_bytes"]))
    if probe is not None:
        found["latency"] = change(lambda point: f"{number(point['latency_ms'][probe])} ms" if probe in point["latency_ms"] else "–")
    return found


def _latency(record: Mapping[str, Any]) -> list[str]:
    """One line a probe of the profile, one a ratio."""
    profile = record["final"].get("profile") or {}
    lines = []
    for name, probe in (profile.get("probes") or {}).items():
        wall = probe["wall_ms"]
        lines.append(
            f"{cell(name)}: median {number(wall['p50'])} ms, minimum {number(wall['min'])} ms, p99 {number(wall['p99'])} ms (wall time, batch 1)"
        )
    for name, entry in (record["final"].get("latency_ratio") or {}).items():
        lines.append(f"{1 / entry['ratio']:.1f}× as fast as {cell(name)}, measured interleaved")
    return lines


def _difference(record: Mapping[str, Any]) -> str:
    test, metric = record["final"].get("test"), record["metric"]
    if not test or not test.get("interval"):
        return ""
    low, high = (printed(metric, value) for value in test["interval"])
    return f"{points(metric, test['difference'])} against the {test['against']}, 95 % interval {signed(low)} to {signed(high)} (paired bootstrap)"


def _charset(data: Data) -> str:
    """The characters it knows, where its labels are characters."""
    return "".join(data.labels) if data.labels and all(len(label) == 1 for label in data.labels) else ""
