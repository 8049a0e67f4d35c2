"""Rows to learn a machine's kernels from: random nets as they ship, float and int8, with their operators and their time.

Every net goes through our own exporter and quantizer. All of them are opened first and then timed in rounds, in random order, on
the thread's own processor time: labels taken one after another drift with whatever else the machine does (`timing.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.context import Progress, Silent, Target
from compress.operators import operators_of
from compress.runtime import session
from compress.timing import low, thread_clock
from rules.facts import Operator

if TYPE_CHECKING:
    from compress.calibration_nets import Net

PRECISIONS = ("fp32", "int8")
CALLS = 3  # in a block: the first finds its caches taken
SLOWEST = 40e-3  # seconds; a slower net takes the time of many


@dataclass(frozen=True, slots=True)
class Row:
    """One graph at one input size: what it is made of and how long it took, seconds."""

    name: str
    family: str
    kind: str
    precision: str
    operators: tuple[Operator, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Timed:
    """A graph that is open and waits to be timed."""

    name: str
    family: str
    kind: str
    precision: str
    operators: tuple[Operator, ...]
    call: Callable[[], Any]


def files(net: Net, folder: Path, target: Target) -> dict[str, Path]:
    """The files of a net as they ship: float, and int8 by the recipe of its content."""
    from compress.export import export
    from compress.graph.reading import read
    from compress.quantization import Samples, finish, prepare, quantize_static, recipes

    graph = export(net.module, net, folder / "fp32.onnx", target=target, check=False)  # type: ignore[arg-type]  # it has all that is asked
    ready, static, int8 = (folder / f"{name}.onnx" for name in ("float", "static", "int8"))
    prepare(graph, ready)
    recipe = recipes(read(ready))[-1]
    if recipe == "dynamic":
        finish(ready, int8, recipe=recipe, format=target)
    else:
        samples = Samples(net, 1, seed=0)  # type: ignore[arg-type]
        quantize_static(ready, static, samples, recipe=recipe, method="minmax", percentile=100.0, format=target)
        finish(static, int8, recipe=recipe, format=target)
    return dict(zip(PRECISIONS, (graph, int8), strict=True))


def opened(net: Net, name: str, kind: str, target: Target) -> Iterator[Timed]:
    """Both files of a net, open, at each of its input sizes."""
    with TemporaryDirectory() as folder:
        for precision, path in files(net, Path(folder), target).items():
            ready = session(path)
            names = [port.name for port in ready.get_inputs()]
            for size, feeds in net.feeds.items():
                call = partial(ready.run, None, {key: np.ascontiguousarray(feeds[key]) for key in names})
                yield Timed(f"{name} {size}", net.family, kind, precision, tuple(operators_of(path, feeds)), call)


def make(*, seconds: float, seed: int, target: Target, progress: Progress | None = None, most: int = 10_000) -> list[Timed]:
    """As many random nets as `seconds` allow, open. A net that does not go through is left out; another takes its place."""
    from compress.calibration_nets import KINDS, draw
    from rules.problems import Problem

    progress, start = progress or Silent(), time.monotonic()
    found: list[Timed] = []
    progress.start("making nets", 100)
    for number in range(most):
        spent = time.monotonic() - start
        if spent > seconds:
            break
        progress.step(min(100, int(100 * spent / seconds)))
        try:
            found.extend(opened(draw(number, seed=seed), f"{seed}/{number}", KINDS[number % len(KINDS)].__name__, target))
        except Problem:
            continue
    progress.finish(f"{len(found)} graphs")
    return found


def timed(
    waiting: list[Timed],
    *,
    seconds: float,
    seed: int,
    slowest: float = SLOWEST,
    progress: Progress | None = None,
    clock: Callable[[], tuple[float, float]] = thread_clock,
) -> list[Row]:
    """The time of each, in rounds of all in random order: a low quantile of the rounds' fastest calls. Slower ones are left out."""
    progress = progress or Silent()
    generator = np.random.Generator(np.random.PCG64(seed))
    once = [_settled(item, clock) for item in waiting]
    kept = [index for index, time_of in enumerate(once) if time_of < slowest]
    start = time.monotonic()
    times: dict[int, list[list[float]]] = {index: [] for index in kept}
    seconds = max(seconds, 1e-3)
    progress.start("timing nets", 100)
    while time.monotonic() - start < seconds or not all(times.values()):
        for index in generator.permutation(kept):
            times[int(index)].append([_once(waiting[index].call, clock) for _ in range(CALLS)])
        progress.step(min(100, int(100 * (time.monotonic() - start) / seconds)))
    rounds = len(times[kept[0]]) if kept else 0
    progress.finish(f"{rounds} rounds")
    return [_row(waiting[index], low(np.array(found))) for index, found in times.items()]


def _settled(item: Timed, clock: Callable[[], tuple[float, float]]) -> float:
    item.call()
    return _once(item.call, clock)


def _once(call: Callable[[], Any], clock: Callable[[], tuple[float, float]]) -> float:
    begin = clock()[1]
    call()
    return clock()[1] - begin


def _row(item: Timed, seconds: float) -> Row:
    return Row(item.name, item.family, item.kind, item.precision, item.operators, seconds)
