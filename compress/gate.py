"""The gate: may this bundle replace the last one? Each limit becomes a row with what was found, on what basis, and every sample behind it.

A row passes, fails, is not judged (what it needs is missing) or is too noisy (its interval straddles the limit, or two copies of one
file appear apart). Too noisy is never reported as pass or fail. Latency is measured here, interleaved with the baseline, or taken from a
profile made on the target; a metric is scored anew on given data, both files on the same examples, or taken from the manifests.
The manners (levels, named aggregation, all samples shown) are those of Lighthouse CI.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress import bundle as bundles
from compress.context import Data, Task
from compress.drops import drops
from compress.files import sha256
from compress.limits import Limits, flag, read_config, read_profile
from compress.rows import NOW, RECORDED, Row, Side, Status, judge, unjudged
from rules.examples import Feeds
from rules.problems import Exit, Problem, bad_input

Measure = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class GateResult:
    """All rows of one gate."""

    bundle: str
    baseline: str
    rows: tuple[Row, ...]

    @property
    def exit_code(self) -> int:
        """1 when a limit fails, else 4 when one is too noisy or not judged, else 0. A row that only warns never counts."""
        found = {row.status for row in self.rows if row.level == "error"}
        return Exit.FAILED if "fail" in found else Exit.UNJUDGED if found & {"too noisy", "not judged"} else Exit.DONE


def gate(
    bundle: Path,
    *,
    limits: Limits,
    baseline: Path | None = None,
    data: Data | None = None,
    measured: Mapping[str, Any] | None = None,
    measure: Measure | None = None,
) -> GateResult:
    """Judge `bundle`. `measure` times two files interleaved (`profile.profile`); tests give a recorded one.

    Raises Problem: exit 2 when no limit is given, exit 3 for a bundle, baseline, profile or data that cannot be used.
    """
    if not (limits.max_drop or limits.max_latency_ratio is not None or limits.max_size_bytes is not None):
        raise Problem(
            "no limit is given, so there is nothing to judge", remedy="--max-drop cer=0.005, --max-latency-ratio 1.05, --max-size-mb 1"
        )
    if not bundle.is_dir():
        raise bad_input(f"no bundle folder {bundle}")
    findings = bundles.integrity(bundle)
    sound = Row(
        "sound", "every file as it was made", len(findings), 0, "fail" if findings else "pass", NOW, str(findings[0]) if findings else ""
    )
    if findings:
        return GateResult(str(bundle), str(baseline or ""), (sound,))
    this, other = _side(bundle), _side(baseline) if baseline else None
    rows = [sound, *drops(this, other, data, limits), *_latency(this, other, data, measured, measure, limits), *_size(this, limits)]
    return GateResult(this.name, other.name if other else "", tuple(_leveled(row, limits) for row in rows))


def _side(path: Path) -> Side:
    from compress.runtime import check_graph

    manifest = bundles.read_manifest(path) if path.is_dir() else None
    graph = path / manifest["graphs"][0]["file"] if manifest else path
    check_graph(graph)
    return Side(graph, manifest)


def _leveled(row: Row, limits: Limits) -> Row:
    level = limits.levels.get(row.key.partition(":")[0], "error")
    return Row(row.key, row.what, row.found, row.limit, row.status, row.basis, row.why, level, row.samples)


# -- latency and size ------------------------------------------------------------------------------------------------------------


def _latency(
    this: Side, other: Side | None, data: Data | None, measured: Mapping[str, Any] | None, measure: Measure | None, limits: Limits
) -> Iterator[Row]:
    limit = limits.max_latency_ratio
    if limit is None:
        return
    if measured is not None and measured["file"]["sha256"] != sha256(this.graph):
        raise bad_input(
            "the profile was made of another model than this bundle's", remedy="run the bundle's own reader.py --profile on the target"
        )
    if other is None:
        yield unjudged("max_latency_ratio", "latency ratio", limit, "a ratio needs a --baseline")
    elif measured is not None:
        yield from _from_profile(measured, other, limit)
    else:
        found = (measure or _profile())(this.graph, probes(this, data), reference=other.graph, threads=1)
        yield from _paired(found, limit, NOW)


def _profile() -> Measure:
    from compress.profile import profile

    return profile


def probes(side: Side, data: Data | None) -> Mapping[str, Feeds]:
    """What the files are timed on: the data's probes, or arrays of the shapes that the manifest names."""
    if data is not None:
        return data.probes()
    assert side.manifest is not None
    kinds = {port["name"]: port["dtype"] for port in side.manifest["graphs"][0]["inputs"]}
    generator = np.random.default_rng(0)
    shapes = side.manifest["probes"].items()
    return {name: {key: generator.random(shape).astype(kinds[key]) for key, shape in feeds.items()} for name, feeds in shapes}


def _paired(found: Mapping[str, Any], limit: float, basis: str) -> Iterator[Row]:
    """A row a probe of a profile that was interleaved with the baseline."""
    for name, probe in found["probes"].items():
        ratio, noise = probe["ratio"], probe["noise"]
        status = "too noisy" if noise["too_noisy"] else judge(ratio["low"], ratio["high"], limit)
        why = f"95 % interval {ratio['low']:.3f} to {ratio['high']:.3f} over {ratio['rounds']} rounds; a copy appears {100 * noise['spread']:.1f} % apart"
        samples = {
            "low_ms": probe["low_ms"],
            "wall_ms": probe["wall_ms"],
            "baseline": {key: probe["reference"][key] for key in ("low_ms", "wall_ms")},
            "interval": [ratio["low"], ratio["high"]],
            "device": found["device"]["cpu"],
        }
        yield Row(f"max_latency_ratio:{name}", f"latency ratio, {name}", ratio["value"], limit, status, basis, why, samples=samples)


def _from_profile(measured: Mapping[str, Any], other: Side, limit: float) -> Iterator[Row]:
    """From the target: paired there with this very baseline, or beside the baseline's own recorded profile of the same device."""
    from compress.profile import compare

    if measured.get("reference") and measured["reference"]["sha256"] == sha256(other.graph):
        yield from _paired(measured, limit, RECORDED)
        return
    if other.manifest is None:
        yield unjudged(
            "max_latency_ratio",
            "latency ratio",
            limit,
            "the profile was not made beside this baseline: reader.py --profile OUT --reference BASELINE",
        )
        return
    found = compare(measured, other.manifest["latency"]["profile"])
    if not found["comparable"]:
        yield unjudged("max_latency_ratio", "latency ratio", limit, found["why"])
        return
    for name, value in found["ratios"].items():
        status: Status = "pass" if value <= limit else "fail"
        yield Row(
            f"max_latency_ratio:{name}",
            f"latency ratio, {name}",
            value,
            limit,
            status,
            RECORDED,
            found["why"],
            samples={"device": measured["device"]["cpu"]},
        )


def _size(this: Side, limits: Limits) -> Iterator[Row]:
    if limits.max_size_bytes is not None:
        found = this.graph.stat().st_size
        yield Row(
            "max_size_mb",
            f"size of {this.graph.name}, bytes",
            found,
            limits.max_size_bytes,
            "pass" if found <= limits.max_size_bytes else "fail",
            NOW,
        )


# -- what the command line gives -------------------------------------------------------------------------------------------------


def from_options(
    bundle: Path,
    *,
    open_task: Callable[[str], Task],
    baseline: Path | None = None,
    data: Path | None = None,
    measured: Path | None = None,
    config: Path | None = None,
    drops: Sequence[str] = (),
    max_latency_ratio: float | None = None,
    max_size_mb: float | None = None,
) -> GateResult:
    """The gate as `advisor gate` is called: limits from a file, overridden by flags; the task of the bundle opens the data."""
    limits = read_config(config) if config else Limits()
    limits = Limits(
        {**limits.max_drop, **dict(map(flag, drops))},
        limits.max_latency_ratio if max_latency_ratio is None else max_latency_ratio,
        limits.max_size_bytes if max_size_mb is None else round(max_size_mb * 1e6),
        limits.levels,
    )
    opened = _open(bundle, data, open_task) if data else None
    return gate(bundle, limits=limits, baseline=baseline, data=opened, measured=read_profile(measured) if measured else None)


def _open(bundle: Path, data: Path, open_task: Callable[[str], Task]) -> Data:
    """The data as the bundle's task opens it: with the plan's settings, and with those that its provenance says to reopen it by."""
    found = bundles.read_manifest(bundle)
    settings = {**(found["plan"].get("settings") or {}), **(found["data"].get("reopen") or {})}
    named = str(found["plan"].get("task") or found["task"])  # somebody's own task is in the plan as package.module:TASK
    task, seed = open_task(named), int(found["seeds"].get("run", 0))
    if ":" not in named:
        return task.open(data, seed=seed, settings=settings)
    from compress.contract import open_data

    return open_data(task, named, data, seed=seed, settings=settings)


def render(result: GateResult, form: str) -> str:
    """The result as "table" (or "text"), "json", "md" or "junit"."""
    from compress import verdicts

    return {"table": verdicts.text, "text": verdicts.text, "json": verdicts.as_json, "md": verdicts.markdown, "junit": verdicts.junit}[
        form
    ](result)


def as_dict(result: GateResult) -> dict[str, Any]:
    """Plain data, with a schema version."""
    rows = [asdict(row) for row in result.rows]
    plain = {
        "schema_version": 1,
        "bundle": result.bundle,
        "baseline": result.baseline or None,
        "exit_code": int(result.exit_code),
        "rows": rows,
    }
    return dict(json.loads(json.dumps(plain)))
