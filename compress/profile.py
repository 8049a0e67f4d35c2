"""A profile: how long a graph takes on this machine, what it holds, where the time goes, and how sure that is.

Everything compared is timed in one interleaved run with a copy of itself beside it (`timing.py`); loading and memory are
measured in fresh processes (`cold.py`); shares per operator come from onnxruntime's own profiler, whose absolute times
are not used, because profiling itself slows small operators.

`profile` returns JSON: schema_version, file {name, sha256, size_bytes}, reference {…}|null, device {fingerprint, …environment},
threads, provider, level, probes {name: {shapes, wall_ms, cpu_ms, low_ms, reference {…}|null, ratio {value, low, high, rounds}|null,
noise {ratio, spread, bound, too_noisy}}}, headline (a probe), cold, warm_load_ms, operators, too_noisy, what.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from compress import cold
from compress.context import Progress, Silent
from compress.files import sha256
from compress.recorded import Recorded, by_operators
from compress.runtime import environment, session
from compress.timing import LOW, Timings, interleaved, low, noise, process_clock, ratio, summary, thread_clock
from rules.examples import Feeds
from rules.problems import bad_input

__all__ = ["Measured", "Recorded", "by_operators", "compare", "fingerprint", "operators", "profile", "render", "trace"]

SCHEMA_VERSION = 1
NOISE_BOUND = 0.05  # two identical sessions that appear further apart than this: too noisy to judge by
LOADS = 5
PROFILED_RUNS = 30


def profile(
    path: Path,
    probes: Mapping[str, Feeds],
    *,
    reference: Path | None = None,
    threads: int = 1,
    rounds: int = 120,
    provider: str = "CPUExecutionProvider",
    seed: int = 0,
    bound: float = NOISE_BOUND,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure `path` on every probe, interleaved with `reference`; the first probe is the headline. About 4 s for small nets.

    Raises Problem: exit 3 when a file does not open or run, exit 4 when the provider is not here.
    """
    if not probes:
        raise bad_input(f"nothing to measure {path} on: the data has no probes")
    progress, alone = progress or Silent(), works_alone(threads, provider)
    files = {"this": path, "copy": path, **({"reference": reference} if reference else {})}
    open_all = {name: session(file, threads=threads, provider=provider) for name, file in files.items()}
    measured = {}
    for number, (name, feeds) in enumerate(probes.items()):
        progress.start(f"profile {path.name} on {name}", rounds)
        times = _time(open_all, feeds, alone=alone, rounds=rounds, seed=seed + number, progress=progress)
        measured[name] = _probe(times, feeds, alone=alone, bound=bound)
        progress.finish(f"{measured[name]['wall_ms']['p50']:.2f} ms")
    del open_all
    headline = next(iter(probes))
    device = environment()
    return {
        "schema_version": SCHEMA_VERSION,
        "file": _file(path),
        "reference": _file(reference) if reference else None,
        "device": {"fingerprint": fingerprint(device), **device},
        "threads": threads,
        "provider": provider,
        "level": "all",
        "headline": headline,
        "probes": measured,
        "too_noisy": any(entry["noise"]["too_noisy"] for entry in measured.values()),
        "warm_load_ms": _loads(path, threads, provider),
        "cold": cold.starts(path, probes[headline], threads=threads, provider=provider),
        "operators": operators(path, probes[headline], threads=threads, provider=provider),
        "what": _words(threads, rounds, alone=alone, paired=reference is not None, bound=bound),
    }


def _time(sessions: Mapping[str, Any], feeds: Feeds, *, alone: bool, rounds: int, seed: int, progress: Progress) -> dict[str, Timings]:
    return interleaved(
        {name: partial(opened.run, None, _wanted(opened, feeds)) for name, opened in sessions.items()},
        rounds=rounds,
        seed=seed,
        clock=thread_clock if alone else process_clock,
        after_round=lambda done, total: progress.step(round(done * rounds / total)),
    )


def _wanted(opened: Any, feeds: Feeds) -> dict[str, np.ndarray]:
    missing = [port.name for port in opened.get_inputs() if port.name not in feeds]
    if missing:
        raise bad_input(f"the graph needs input {missing[0]!r}, the probe has {', '.join(feeds)}")
    return {port.name: np.ascontiguousarray(feeds[port.name]) for port in opened.get_inputs()}


def _probe(times: Mapping[str, Timings], feeds: Feeds, *, alone: bool, bound: float) -> dict[str, Any]:
    judged = {name: timings.judged(alone=alone) for name, timings in times.items()}
    reference = times.get("reference")
    return {
        "shapes": {name: list(array.shape) for name, array in feeds.items()},
        **_figures(times["this"], alone),
        "reference": _figures(reference, alone) if reference else None,
        "ratio": ratio(judged["this"], judged["reference"]) if reference else None,
        "noise": noise(judged["this"], judged["copy"], bound=bound),
    }


def _figures(timings: Timings, alone: bool) -> dict[str, Any]:
    """Processor time is the thread's own, and only told where one thread did the work."""
    return {
        "wall_ms": summary(timings.wall_ms),
        "cpu_ms": summary(timings.cpu_ms) if alone else None,
        "low_ms": low(timings.judged(alone=alone)),
        "calls": int(timings.wall_ms.size),
    }


def works_alone(threads: int, provider: str) -> bool:
    """Whether the calling thread does all the work, so that its processor time is the work."""
    return threads == 1 and provider == "CPUExecutionProvider"


def _file(path: Path) -> dict[str, Any]:
    return {"name": path.name, "sha256": sha256(path), "size_bytes": path.stat().st_size}


def fingerprint(device: Mapping[str, Any]) -> str:
    """Which machine and runtime a profile belongs to: two with the same one may be compared."""
    parts = [device["cpu"], device["machine"], device["cores"], device["isa"], device["onnxruntime"], device["providers"]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _loads(path: Path, threads: int, provider: str) -> dict[str, float]:
    """Opening the file again in a process that has the runtime running, milliseconds."""
    found = []
    for _ in range(LOADS):
        start = time.perf_counter()
        session(path, threads=threads, provider=provider)
        found.append(1e3 * (time.perf_counter() - start))
    return {"min": min(found), "p50": float(np.median(found))}


def operators(path: Path, feeds: Feeds, *, threads: int = 1, provider: str = "CPUExecutionProvider") -> list[dict[str, Any]]:
    """Share of each operator type in the time of all operators, largest first: [{op, nodes, share, ms, slowest}], ms a run.

    Profiling slows small operators: the shares are for reading, the milliseconds only for adding up to them.
    """
    spent: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for event in trace(path, feeds, threads=threads, provider=provider):
        spent[event["args"]["op_name"]][event["name"].removesuffix("_kernel_time")] += event["dur"] / 1e3 / PROFILED_RUNS
    total = sum(sum(nodes.values()) for nodes in spent.values()) or 1.0
    rows: list[dict[str, Any]] = []
    for op, nodes in spent.items():
        slowest = max(nodes, key=lambda node: nodes[node])
        rows.append({"op": op, "nodes": len(nodes), "ms": sum(nodes.values()), "share": sum(nodes.values()) / total, "slowest": slowest})
    return sorted(rows, key=lambda row: (-row["ms"], row["op"]))


def trace(
    path: Path, feeds: Feeds, *, threads: int = 1, provider: str = "CPUExecutionProvider", runs: int = PROFILED_RUNS
) -> list[dict[str, Any]]:
    """onnxruntime's kernel events of `runs` runs after two warm-up runs, in order: name, dur (µs), args (op_name, shapes)."""
    import onnxruntime as ort

    with TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "trace")
        opened = session(path, threads=threads, provider=provider, options=options)
        wanted = _wanted(opened, feeds)
        for _ in range(runs + 2):
            opened.run(None, wanted)
        events = json.loads(Path(opened.end_profiling()).read_text(encoding="utf-8"))
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    return kernels[2 * len(kernels) // (runs + 2) :]


def _words(threads: int, rounds: int, *, alone: bool, paired: bool, bound: float) -> str:
    clock = "processor time of the calling thread" if alone else "wall time"
    beside = (
        "interleaved in random order with the reference and with a copy of itself"
        if paired
        else "interleaved in random order with a copy of itself"
    )
    return (
        f"One call of onnxruntime's session.run, batch 1, {threads} thread{'s' if threads > 1 else ''}, inputs and outputs in memory, after warm-up: "
        f"no file reading, no decoding of images or of outputs. Up to {rounds} rounds, {beside}. "
        f"low_ms and ratios: the {100 * LOW:.0f} % quantile of the rounds' fastest calls, by {clock}; intervals: bootstrap over rounds, 95 %. "
        f"Too noisy: the copy appears more than {100 * bound:.0f} % apart. cold: fresh processes, files in the disk cache; "
        "model_bytes: growth of resident memory by loading, running_bytes: after running too, peak_bytes: of the whole process."
    )


def render(found: Mapping[str, Any]) -> str:
    """A profile as a plain table, for people."""
    device, cold_start = found["device"], {key: entry["median"] for key, entry in found["cold"].items()}
    lines = [
        f"{found['file']['name']}  {found['file']['size_bytes'] / 1000:.0f} kB   on {device['cpu']}, {found['threads']} thread(s), {found['provider']}, "
        f"onnxruntime {device['onnxruntime']}",
        "",
        f"{'milliseconds, wall':<24}{'min':>9}{'p50':>9}{'p90':>9}{'p99':>9}{'low':>9}   against {(found['reference'] or {'name': 'no reference'})['name']}",
    ]
    lines += [_row(name, probe) for name, probe in found["probes"].items()]
    lines += [
        "",
        f"load: warm {found['warm_load_ms']['p50']:.1f} ms, cold {cold_start['load_ms']:.1f} ms (and {cold_start['import_ms']:.0f} ms to import onnxruntime)",
    ]
    if "running_bytes" in cold_start:
        lines.append(
            f"memory: {cold_start['running_bytes'] / 1e6:.1f} MB for the model, {cold_start['peak_bytes'] / 1e6:.0f} MB peak of the whole process"
        )
    shares = ", ".join(f"{row['op']} {100 * row['share']:.0f} %" for row in found["operators"][:6])
    lines += [f"time goes to: {shares}", "", found["what"]]
    return "\n".join(lines)


def _row(name: str, probe: Mapping[str, Any]) -> str:
    times = "".join(f"{probe['wall_ms'][key]:>9.3f}" for key in ("min", "p50", "p90", "p99")) + f"{probe['low_ms']:>9.3f}"
    ratio = probe["ratio"]
    against = f"   ×{ratio['value']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})" if ratio else "   –"
    noise = probe["noise"]
    warning = (
        f"   TOO NOISY: a copy appears {100 * noise['spread']:.0f} % apart"
        if noise["too_noisy"]
        else f"   A/A within {100 * noise['spread']:.1f} %"
    )
    return f"{name:<24}{times}{against}{warning}"


def compare(after: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """`after / before` of two profiles, per probe both have: {"comparable", "why", "ratios": {probe: ratio}}.

    Where both were timed beside the same reference file, its time cancels the difference between the two runs. Profiles of
    different machines, runtimes or thread counts are not comparable, and no ratio is given.
    """
    reason = ""
    if after["device"]["fingerprint"] != before["device"]["fingerprint"]:
        reason = f"measured on different devices: {after['device']['cpu']} and {before['device']['cpu']}"
    elif after["threads"] != before["threads"] or after["provider"] != before["provider"]:
        reason = "measured with different threads or providers"
    elif after["too_noisy"] or before["too_noisy"]:
        reason = "one of them was too noisy"
    shared = [name for name in after["probes"] if name in before["probes"]]
    if not reason and not shared:
        reason = "they have no probe in common"
    if reason:
        return {"comparable": False, "why": reason, "ratios": {}}
    same = bool(after["reference"] and before["reference"] and after["reference"]["sha256"] == before["reference"]["sha256"])
    ratios = {name: _quotient(after["probes"][name], before["probes"][name], same) for name in shared}
    return {"comparable": True, "why": "by the same reference" if same else "on the same device, in two runs", "ratios": ratios}


def _quotient(after: Mapping[str, Any], before: Mapping[str, Any], same: bool) -> float:
    if same:
        return float(after["ratio"]["value"] / before["ratio"]["value"])
    return float(after["low_ms"] / before["low_ms"])


@dataclass(frozen=True, slots=True)
class Measured:
    """Latencies as they are: all graphs interleaved in one run, low quantiles (`context.Latencies`)."""

    rounds: int = 120
    seconds: float = 6.0
    seed: int = 0
    provider: str = "CPUExecutionProvider"

    def paired(self, graphs: Mapping[str, Path], feeds: Feeds, *, threads: int) -> dict[str, float]:
        """Milliseconds per call of each graph: the thread's processor time where there is one thread, else wall time."""
        sessions = {name: session(path, threads=threads, provider=self.provider) for name, path in graphs.items()}
        alone = works_alone(threads, self.provider)
        times = interleaved(
            {name: partial(opened.run, None, _wanted(opened, feeds)) for name, opened in sessions.items()},
            rounds=self.rounds,
            seconds=self.seconds,
            seed=self.seed,
            clock=thread_clock if alone else process_clock,
        )
        return {name: low(timings.judged(alone=alone)) for name, timings in times.items()}
