"""Post-training quantization: integers without training, in the format the target runs fast.

Helps when the network is made of convolutions, LSTMs and matrix products: a quarter of the size, about half the latency, and
at 8 bits with one scale a channel it often loses nothing. Does not help tiny networks, GRUs (no int8 kernel), or processors
whose integer format does not fuse. Calibration is by the range of 256 training inputs; a clipped range (percentile) is tried
second and kept when it scores better. The draw of the samples matters more than the method.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from compress.context import Context, Skipped
from compress.files import publish
from compress.graph.reading import read
from compress.points import score
from compress.quantization import Method, Parts, Recipe, Samples, finish, prepare, quantize_static, recipes
from rules.examples import Metric


@dataclass(frozen=True, slots=True)
class Quantize:
    """Settings of the stage."""

    method: Literal["auto", "minmax", "percentile"] = "auto"  # auto: both, the better by validation score
    samples: int = 256  # training inputs to calibrate on
    percentile: float = 99.99  # share of the values inside a clipped range
    examples: int = 500  # validation examples that choose the method

    def __post_init__(self) -> None:
        if self.samples < 1 or self.examples < 1:
            raise ValueError(f"samples is {self.samples} and examples is {self.examples}, both must be at least 1")
        if not 90.0 <= self.percentile <= 100.0:
            raise ValueError(f"percentile is {self.percentile!r}, allowed: 90 to 100")

    def apply(self, graph: Path, context: Context) -> Path:
        """Write `float.onnx`, `static.onnx` (where anything is static) and `model.onnx` into the context's folder; returns the last."""
        if context.target.precision != "int8":
            raise Skipped(f"the target {context.target.name} runs {context.target.precision}, not int8")
        if done := [node.op for node in read(graph).nodes if "Quantize" in node.op or "QLinear" in node.op or "Integer" in node.op]:
            raise Skipped(f"{graph.name} is quantized already: it has {done[0]}")
        base = prepare(graph, Parts(context.folder).float)
        return self.quantize(base, context)

    def quantize(self, base: Path, context: Context) -> Path:
        """As `apply`, from a prepared float file."""
        methods: list[Method] = ["minmax", "percentile"] if self.method == "auto" else [self.method]
        recipe = self._recipe(base, context)
        if recipe == "dynamic":
            return finish(base, Parts(context.folder).shipped, recipe=recipe, format=context.target)
        tried = {method: self._try(base, context, recipe, method) for method in methods}
        chosen = methods[0] if len(tried) == 1 else best(tried, context, examples=self.examples)
        return _adopt(tried[chosen], Parts(context.folder))

    def _try(self, base: Path, context: Context, recipe: Recipe, method: Method) -> Path:
        """One method's static and finished file, in a folder of its own."""
        found = Parts(context.folder / f"{recipe}-{method}")
        samples = Samples(context.data, self.samples, seed=context.seed)
        if not len(samples):
            raise Skipped("there are no training inputs to calibrate on")
        context.progress.start(f"quantizing ({method}, {len(samples)} samples)", 1)
        quantize_static(base, found.static, samples, recipe=recipe, method=method, percentile=self.percentile, format=context.target)
        finish(found.static, found.shipped, recipe=recipe, format=context.target)
        context.progress.finish()
        return found.shipped

    def _recipe(self, base: Path, context: Context) -> Recipe:
        """The recipe by the graph's content; where two suit it, the faster by one paired measurement. Recorded."""
        suited = recipes(read(base))

        def faster() -> Recipe:
            if len(suited) == 1:
                return suited[0]
            drafts = {"dynamic": finish(base, context.folder / "dynamic" / "model.onnx", recipe="dynamic", format=context.target)}
            drafts["mixed"] = self._try(base, context, "mixed", "minmax")
            probes = context.data.probes()
            times = context.latencies.paired(drafts, next(iter(probes.values())), threads=1)
            return "mixed" if times["mixed"] < times["dynamic"] else "dynamic"

        recipe: Recipe = context.decide("recipe", faster)
        return recipe


def best(tried: Mapping[Method, Path], context: Context, *, examples: int) -> Method:
    """The method whose shipped file scores best on the validation split; the first of equals. Every score is recorded."""
    found: dict[Method, float] = {}
    for method, graph in tried.items():

        def measure(graph: Path = graph) -> float:
            return float(score(graph, context.data, "val", threads=context.threads, limit=examples).value)

        found[method] = context.decide(f"calibration/{method}", measure)
    metric = context.task.metric
    chosen: Method = context.decide("calibration/kept", lambda: min(found, key=lambda method: badness(metric, found[method])))
    return chosen


def badness(metric: Metric, value: float) -> float:
    """A score as something to minimise; what is not a number is worst."""
    signed = value if metric.better == "lower" else -value
    return signed if np.isfinite(signed) else float("inf")


def _adopt(shipped: Path, into: Parts) -> Path:
    """Publish the chosen candidate's files as the stage's own."""
    chosen = Parts(shipped.parent)
    for source, target in ((chosen.static, into.static), (chosen.shipped, into.shipped)):
        publish(target, partial(shutil.copyfile, source))
    return into.shipped
