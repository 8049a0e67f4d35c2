"""The record of a run: everything the bundle, the report and a sceptic need, as plain JSON.

Test figures are taken once, at the end, on the test split: teacher, float and shipped file on the same examples,
with paired bootstrap intervals of their differences.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compress import stepwise
from compress.files import write_json
from compress.fusion import left_float
from compress.payoff import show
from compress.pipeline import Run
from compress.plan import as_table
from compress.points import score
from compress.profile import profile
from compress.report.nodes import measure
from compress.runtime import environment, predictor
from compress.statistics import paired_interval
from compress.torch_device import device_name
from compress.verify import verify
from rules.examples import Explanation, Sample, Score
from rules.problems import Problem

SHOWN = 24  # sample lines read for the report; the worst disagreements are shown first


def finish(run: Run) -> dict[str, Any]:
    """Score, profile and verify what ships; write `record.json`. Every measurement is journaled, so this resumes too."""
    stage, graph, _, verdict = run.shipped()
    float_graph = run.state.float_graph
    assert float_graph is not None
    scores = _scores(run, graph, float_graph)
    final = {
        "stage": stage,
        "file": str(graph.relative_to(run.folder)),
        "reason": verdict.reason,
        "size_bytes": graph.stat().st_size,
        "profile": run.journal.decide("final/profile", lambda: _profile(run, graph)),
        "verify": run.journal.decide("final/verify", lambda: _verify(run, graph)),
        "fusion": run.journal.decide("final/fusion", lambda: _fusion(graph)),
        "latency_ratio": _ratios(run, graph),
        **scores,
    }
    record = {**_header(run), "stages": run.state.stages, "controls": run.state.controls, "curves": run.state.curves, "final": final}
    record["answers"] = getattr(run.job.data, "answers", "text")  # how a reading stands to the truth: `rules.examples.Answers`
    record["legend"] = getattr(run.job.data, "legend", "")  # what is drawn in their pictures
    record["samples"] = _samples(run, graph, float_graph)
    record["explanations"] = _explanations(run, graph)
    record["stepwise"] = stepwise.made(run, graph)
    write_json(run.folder / "record.json", record)
    return record


def _header(run: Run) -> dict[str, Any]:
    job = run.job
    return {
        "schema_version": 1,
        "task": job.task.name,
        "metric": asdict(job.task.metric),
        "model": {
            **(asdict(job.student) if job.student else {"builds": str(job.graph)}),
            "params": run.state.point.params if run.state.point else None,
        },
        "teacher": asdict(job.teacher) if job.teacher else None,
        "plan": as_table(job.plan),
        "seed": job.plan.seed,
        "target": asdict(job.target),
        "recommendation": dict(job.recommendation) if job.recommendation else None,
        "environment": {**environment(), "trained_on": device_name(job.train_on)},
        "data": dict(job.data.provenance),
    }


def _scores(run: Run, graph: Path, float_graph: Path) -> dict[str, Any]:
    """Test scores of teacher, float and shipped file; differences paired over the same examples."""
    return dict(run.journal.decide("final/test", lambda: _score_all(run, graph, float_graph)))


def _score_all(run: Run, graph: Path, float_graph: Path) -> dict[str, Any]:
    files = {"test": graph, "float_test": float_graph, "teacher_test": run.state.teacher_graph}
    found: dict[str, Score | None] = {}
    run.progress.start("scoring on the test split", len(files))
    for number, (name, file) in enumerate(files.items(), 1):
        found[name] = score(file, run.job.data, "test", threads=run.job.threads) if file else None
        run.progress.step(number)
    shipped, against = found["test"], found["teacher_test"] or found["float_test"]
    assert shipped is not None and against is not None
    result = {name: _figures(value) for name, value in found.items()}
    low, high = paired_interval(shipped, against, seed=run.job.plan.seed)
    result["test"].update(
        against="teacher" if found["teacher_test"] else "float", difference=shipped.value - against.value, interval=[low, high]
    )
    run.progress.finish(f"{shipped.metric.name} {show(shipped.metric, shipped.value)} on {len(shipped.errors)} examples")
    return result


def _figures(found: Score | None) -> Any:
    if found is None:
        return None
    return {"metric": found.value, "also": dict(found.also), "samples": len(found.errors), "split": "test"}


def _profile(run: Run, graph: Path) -> dict[str, Any]:
    reference = run.state.teacher_graph or run.state.float_graph
    probes = run.job.data.probes()
    found = profile(graph, probes, reference=reference, threads=1)
    return {**found, "nodes": measure(graph, next(iter(probes.values())))}


def _ratios(run: Run, graph: Path) -> dict[str, Any]:
    """Paired latency against the teacher's float file and against the student's own."""
    ratios: dict[str, Any] = {}
    for name, against in {"teacher fp32": run.state.teacher_graph, "own fp32": run.state.float_graph}.items():
        if against is not None and against != graph:
            value, times = run.latency_ratio(graph, against)
            ratios[name] = {"ratio": value, "ms": times}
    return ratios


def _verify(run: Run, graph: Path) -> dict[str, Any]:
    assert run.state.float_graph is not None
    return {
        "float": verify(run.state.float_graph, None, run.job.data),
        "shipped": verify(graph, None, run.job.data),
    }


def _fusion(graph: Path) -> dict[str, Any]:
    found = left_float(graph)
    return {"int8": dict(found.int8), "float": [asdict(node) for node in found.float], "boundaries": found.boundaries}


def _samples(run: Run, graph: Path, float_graph: Path) -> list[dict[str, Any]]:
    """A few raw test examples with their readings, worst disagreements first."""
    shipped, reference = predictor(graph), predictor(float_graph)
    rows = [_row(run, sample, reference, shipped) for sample in run.job.data.samples("test", SHOWN)]
    return sorted(rows, key=lambda row: (row["float"] == row["int8"], row["int8"] == row["truth"]))


def _row(run: Run, sample: Sample, reference: Any, shipped: Any) -> dict[str, Any]:
    data = run.job.data
    write = getattr(data, "write", None)  # of a model that is asked again with what it wrote
    predicts = {"float": reference, "shipped": shipped}
    if write:
        said = {name: write(predict, sample.inputs)[0] for name, predict in predicts.items()}
        picture = sample.picture or sample.raw
    else:
        outputs = {name: predict(sample.inputs) for name, predict in predicts.items()}
        said = {name: data.read(found)[0] for name, found in outputs.items()}
        picture = sample.draw(outputs) if sample.draw else sample.picture or sample.raw
    encoded = base64.b64encode(picture).decode("ascii")
    return {"name": sample.name, "png_base64": encoded, "truth": sample.truth, "float": str(said["float"]), "int8": str(said["shipped"])}


def _explanations(run: Run, graph: Path) -> list[dict[str, Any]]:
    """What the task shows of its answers, where it can: of the float module, which what ships was made from, and of the shipped file."""
    task, data = run.job.task, run.job.data
    explain, explain_answers = getattr(task, "explain", None), getattr(task, "explain_answers", None)
    found: list[dict[str, Any]] = []
    if explain is not None and run.state.module is not None:
        module = run.state.module().eval()
        found += _told(run, "float", lambda: explain(module, data))
    if explain_answers is not None:
        found += _told(run, "shipped", lambda: explain_answers(predictor(graph), data))
    return found


def _told(run: Run, of: str, make: Callable[[], Sequence[Explanation]]) -> list[dict[str, Any]]:
    run.progress.say("explaining some answers")
    try:
        return [_explanation(one, of) for one in make()]
    except Problem as problem:
        run.progress.say(f"  nothing to show: {problem}")
        return []


def _explanation(one: Explanation, of: str) -> dict[str, Any]:
    seen = [{"name": each.name, "says": each.says, "png_base64": base64.b64encode(each.picture).decode("ascii")} for each in one.seen]
    told = {"lines": list(one.lines), "rules": list(one.rules), "figures": dict(one.figures)}
    return {"title": one.title, "caveat": one.caveat, "source": one.source, "of": of, **told, "seen": seen}


def headline(record: Mapping[str, Any]) -> list[str]:
    """What a person wants to know when a run ends, a line each."""
    final, metric = record["final"], record["metric"]
    lines = [f"ships: {final['stage']} ({final['size_bytes'] / 1000:.0f} kB), {final['reason']}"]
    test = final["test"]
    factor, unit, points = (100, " %", " points") if metric["unit"] == "%" else (1, metric["unit"], "")
    low, high = (factor * value for value in test["interval"])
    lines.append(
        f"{metric['name']} on {test['samples']} test examples: {factor * test['metric']:.4g}{unit}, {factor * test['difference']:+.3g}{points} against the {test['against']} (95 % interval {low:+.3g} to {high:+.3g})"
    )
    for name, entry in final["latency_ratio"].items():
        lines.append(f"latency: {1 / entry['ratio']:.1f}× as fast as the {name} (paired, 1 thread)")
    return lines
