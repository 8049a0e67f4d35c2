"""How much of a metric a bundle lost: scored now on given data, both files on the same examples, or as the manifests record it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compress.context import Data
from compress.limits import Limits
from compress.rows import NOW, RECORDED, Row, Side, judge, unjudged
from compress.statistics import drop
from rules.examples import BESIDE_ERRORS, Score
from rules.problems import bad_input, unknown

HIGHER_ALSO = "further figures of a score are shares that are right: higher is better"
LOWER_ALSO = "it is an error: lower is better"


def drops(this: Side, other: Side | None, data: Data | None, limits: Limits) -> Iterator[Row]:
    if not limits.max_drop:
        return
    if data is None:
        yield from (_recorded_drop(this, other, name, limit) for name, limit in limits.max_drop.items())
        return
    assert this.manifest is not None
    if list(data.labels) != this.manifest["labels"]:
        raise bad_input("the data has other labels than the bundle", remedy="score it on data of the same task and character set")
    if other is None:
        yield from (
            unjudged(f"max_drop.{name}", f"drop of {name}", limit, "a drop needs a --baseline") for name, limit in limits.max_drop.items()
        )
        return
    now, before = _scored(this.graph, data), _scored(other.graph, data)
    yield from (_scored_drop(now, before, name, limit) for name, limit in limits.max_drop.items())


def _scored(graph: Path, data: Data) -> Score:
    from compress.runtime import predictor

    return data.score(predictor(graph), "test")


def _scored_drop(now: Score, before: Score, name: str, limit: float) -> Row:
    """Both files on the same examples: the interval judges. A further figure has no interval, and is judged as it is."""
    key, what = f"max_drop.{name}", f"drop of {name}"
    figures = {"examples": len(now.errors), "bundle": now.value, "baseline": before.value}
    if name.lower() == now.metric.name.lower():
        found = drop(now, before)
        samples = {**figures, "interval": [found.low, found.high]}
        why = f"95 % interval {found.low:+.4f} to {found.high:+.4f}, paired over {found.samples} examples"
        return Row(key, what, found.value, limit, judge(found.low, found.high, limit), NOW, why, samples=samples)
    known = {item.lower(): item for item in now.also}
    if name.lower() not in known:
        raise unknown("metric", name, [now.metric.name, *now.also])
    error = name.lower() in BESIDE_ERRORS
    value = (before.also[known[name.lower()]] - now.also[known[name.lower()]]) * (-1 if error else 1)
    samples = {"examples": len(now.errors), "bundle": now.also[known[name.lower()]], "baseline": before.also[known[name.lower()]]}
    return Row(
        key,
        what,
        value,
        limit,
        "pass" if value <= limit else "fail",
        NOW,
        f"no interval: {LOWER_ALSO if error else HIGHER_ALSO}",
        samples=samples,
    )


def _recorded_drop(this: Side, other: Side | None, name: str, limit: float) -> Row:
    """Without data: what the manifests say, where they speak of the same examples."""
    assert this.manifest is not None
    key, what, metrics = f"max_drop.{name}", f"drop of {name}", this.manifest["metrics"]
    if name.lower() not in _names(metrics):
        raise unknown("metric", name, _names(metrics).values())
    test = metrics.get("test")
    if not test:
        return unjudged(key, what, limit, "the bundle records no test score; give --data")
    if other is None:
        return _against_recorded(test, metrics, name, key, limit)
    if other.manifest is None or not other.manifest["metrics"].get("test"):
        return unjudged(key, what, limit, "the baseline records no test score; give --data")
    before = other.manifest["metrics"]["test"]
    if this.manifest["data"] != other.manifest["data"] or test["samples"] != before["samples"]:
        return unjudged(key, what, limit, "the two were scored on different examples; give --data")
    now_value, then_value = _figure(test, metrics, name), _figure(before, metrics, name)
    if now_value is None or then_value is None:
        return unjudged(key, what, limit, f"{name} is not recorded in both")
    value = _loss(now_value - then_value, metrics, name)
    samples = {"examples": test["samples"], "bundle": now_value, "baseline": then_value}
    return Row(
        key, what, value, limit, "pass" if value <= limit else "fail", RECORDED, "two recorded figures, so no interval", samples=samples
    )


def _against_recorded(test: Mapping[str, Any], metrics: Mapping[str, Any], name: str, key: str, limit: float) -> Row:
    """Without a baseline: the loss against the teacher (or the float file) that the run measured, with its interval."""
    what = f"drop of {name} against its own {test.get('against', 'teacher')}"
    if name.lower() != metrics["metric"]["name"].lower() or not test.get("interval"):
        return unjudged(key, what, limit, "no interval is recorded; give a --baseline and --data")
    low, high = sorted(_loss(edge, metrics, name) for edge in test["interval"])
    why = f"95 % interval {low:+.4f} to {high:+.4f}, paired over {test['samples']} examples"
    samples = {"examples": test["samples"], "bundle": test["metric"], "interval": [low, high]}
    return Row(key, what, _loss(test["difference"], metrics, name), limit, judge(low, high, limit), RECORDED, why, samples=samples)


def _names(metrics: Mapping[str, Any]) -> dict[str, str]:
    found = [metrics["metric"]["name"], *((metrics.get("test") or {}).get("also") or {})]
    return {name.lower(): name for name in found}


def _figure(test: Mapping[str, Any], metrics: Mapping[str, Any], name: str) -> float | None:
    if name.lower() == metrics["metric"]["name"].lower():
        return float(test["metric"])
    return {key.lower(): value for key, value in (test.get("also") or {}).items()}.get(name.lower())


def _loss(difference: float, metrics: Mapping[str, Any], name: str) -> float:
    own = name.lower() == metrics["metric"]["name"].lower()
    lower = metrics["metric"]["better"] == "lower" if own else name.lower() in BESIDE_ERRORS
    return difference if lower else -difference
