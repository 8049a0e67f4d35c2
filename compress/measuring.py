"""Untrained nets, exported and quantized as the pipeline does it, timed together on this machine: what a prediction is held against.

All files run interleaved in one process beside a copy of the first (`timing.py`), on the calling thread's own processor time; the
weights are random and change no time, calibrated on random inputs. Needs torch; what it is given brings the modules and the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np

from compress.context import Progress, Silent, Target
from compress.export import export
from compress.quantization import Recipe, Samples, finish, prepare, quantize_static
from compress.runtime import session
from compress.timing import Clock, Timings, interleaved, low, noise, thread_clock
from rules.examples import Feeds
from rules.problems import Exit, Problem, bad_environment

RECIPES: Mapping[str, Recipe] = {
    "static": "static",
    "poor": "static",
    "hybrid": "static",
    "dynamic": "dynamic",
    "mixed": "mixed",
}  # by a net's integer form
SAMPLES = 2  # calibration examples: enough for a file that runs
BOUND = 0.05  # two copies of one graph that appear further apart: noisy
COPY = "a copy of the first"


class Net(Protocol):
    """What is to be timed: how it is built, what it is fed, and how its form of 8 bits is called ("none": there is none)."""

    @property
    def name(self) -> str: ...
    @property
    def build(self) -> Callable[[], Any]: ...
    @property
    def data(self) -> Any:
        """`signature`, `probes()`, `count()` and `batches()`, as a task's data or its stand-in has them."""
        ...

    @property
    def feeds(self) -> Feeds: ...
    @property
    def form(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Timed:
    """One file's times, milliseconds a call: an undisturbed one (a low quantile), and quantiles of all calls."""

    name: str
    precision: str
    size_bytes: int
    undisturbed_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    calls: int


@dataclass(frozen=True, slots=True)
class Times:
    """What was timed; `spread`: how far two copies of one graph appeared apart; `failed`: by name, why a net could not be timed."""

    timed: tuple[Timed, ...]
    spread: float
    failed: Mapping[str, str]

    @property
    def noisy(self) -> bool:
        """Whether the copies were so far apart that small differences say nothing."""
        return self.spread > BOUND


def measure(
    nets: Sequence[Net],
    *,
    target: Target,
    precisions: Sequence[str] = ("fp32", "int8"),
    seconds: float = 6.0,
    seed: int = 0,
    progress: Progress | None = None,
    clock: Clock = thread_clock,
) -> Times:
    """Build, export, quantize and time the nets, in those of the precisions that they have.

    A net that cannot be exported or quantized is told of in `failed`. Raises Problem: exit 5 without torch, exit 4 where two copies of
    one graph cannot be told to be the same.
    """
    try:
        import torch
    except ImportError as error:
        raise bad_environment("measuring needs torch, which is not installed", remedy="pip install 'edge-advisor[train]'") from error
    progress, threads, failed = progress or Silent(), torch.get_num_threads(), {}
    files: dict[tuple[str, str], tuple[Path, Feeds]] = {}
    with TemporaryDirectory() as folder:
        try:
            torch.set_num_threads(1)
            for number, net in enumerate(nets):
                progress.start(f"build and export {net.name}", 1)
                try:
                    made = make(net, Path(folder) / str(number), target=target, precisions=precisions, seed=seed)
                except Problem as problem:
                    if problem.code not in (Exit.INPUT, Exit.USAGE):
                        raise
                    failed[net.name] = str(problem)
                    progress.finish("refused")
                    continue
                files |= {(net.name, precision): (path, net.feeds) for precision, path in made.items()}
                progress.finish(", ".join(f"{precision} {path.stat().st_size / 1e6:.3f} MB" for precision, path in made.items()))
        finally:
            torch.set_num_threads(threads)
        return _time(files, failed, seconds=seconds, seed=seed, progress=progress, clock=clock)


def make(net: Net, folder: Path, *, target: Target, precisions: Sequence[str], seed: int = 0) -> dict[str, Path]:
    """The files of an untrained net by precision. Raises Problem (exit 3) where it has no ONNX form."""
    import torch

    torch.manual_seed(seed)
    graph = export(awake(net.build()), net.data, folder / "model.onnx", target=target)
    found = {"fp32": graph, "int8": quantized(graph, net.form, net.data, target=target) if "int8" in precisions else None}
    return {precision: path for precision, path in found.items() if path and precision in precisions}


def awake(module: Any) -> Any:
    """An untrained module as if trained: normalisations that start at nothing would leave kernels of nothing in the file, and two matrices
    that start alike would be stored as one."""
    for part in module.modules():
        scale = getattr(part, "weight", None) if hasattr(part, "running_mean") else None
        if scale is not None and not scale.any():
            scale.data.fill_(0.3)
    for weight in module.parameters():
        if weight.dim() > 1 and not weight.data.flatten().diff().any():
            weight.data += 0.01 * weight.data.clone().normal_()
    return module


def quantized(graph: Path, form: str, data: Any, *, target: Target) -> Path | None:
    """The int8 file beside `graph` by the recipe of its form, as the pipeline makes it; None where there is no form of 8 bits."""
    recipe = RECIPES.get(form)
    if recipe is None:
        return None
    ready, static, int8 = (graph.with_name(f"{name}.onnx") for name in ("float", "static", "int8"))
    prepare(graph, ready)
    if recipe == "dynamic":
        return finish(ready, int8, recipe=recipe, format=target)
    samples = Samples(data, SAMPLES, seed=0)
    quantize_static(ready, static, samples, recipe=recipe, method="minmax", percentile=100.0, format=target)
    return finish(static, int8, recipe=recipe, format=target)


def _time(
    files: Mapping[tuple[str, str], tuple[Path, Feeds]],
    failed: Mapping[str, str],
    *,
    seconds: float,
    seed: int,
    progress: Progress,
    clock: Clock,
) -> Times:
    if not files:
        return Times((), 0.0, failed)
    first = next(iter(files))
    calls = {f"{name} {precision}": _call(*found) for (name, precision), found in files.items()}
    calls[COPY] = _call(*files[first])
    progress.start(f"time {len(files)} files interleaved", 100)
    times = interleaved(
        calls, seconds=seconds, seed=seed, clock=clock, after_round=lambda done, total: progress.step(round(100 * done / total))
    )
    spread = float(noise(times[" ".join(first)].cpu_ms, times[COPY].cpu_ms, bound=BOUND)["spread"])
    if not 0 <= spread < 1:
        what = "two copies of one graph appeared further apart than it takes to run one: too noisy to measure anything"
        raise Problem(what, remedy="when the machine has less to do", code=Exit.UNJUDGED)
    progress.finish(f"two copies of one within {100 * spread:.1f} %")
    found = [_timed(name, precision, path, times[f"{name} {precision}"]) for (name, precision), (path, _) in files.items()]
    return Times(tuple(found), spread, failed)


def _call(path: Path, feeds: Feeds) -> Callable[[], object]:
    opened = session(path, threads=1)
    return partial(opened.run, None, {port.name: np.ascontiguousarray(feeds[port.name]) for port in opened.get_inputs()})


def _timed(name: str, precision: str, path: Path, times: Timings) -> Timed:
    calls = np.ravel(times.cpu_ms)
    p50, p90, p99 = (float(value) for value in np.quantile(calls, (0.5, 0.9, 0.99)))
    undisturbed = min(low(times.cpu_ms), p50)
    return Timed(name, precision, path.stat().st_size, undisturbed, p50, p90, p99, int(calls.size))
