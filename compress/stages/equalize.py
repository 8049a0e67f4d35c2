"""Cross-layer equalization: move scale between neighbouring layers, so that one step size fits every channel, then quantize again.

Where a convolution feeds another through ReLU or pooling alone, dividing a channel's weights by s and multiplying its readers'
by s changes nothing in float. s is chosen so that both have the same range. ReLU6 caps a channel and blocks this: it is replaced
by ReLU, but only where the float network scores as well without the cap.
Helps when a target forces one scale a tensor, above all depthwise networks. Does not help, and may hurt, with a scale a channel:
it is kept by its score alone. No training, no labels in the repair.
Source: Nagel et al. 2019, arXiv:1906.04721.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from compress.context import Context, Skipped
from compress.files import write_bytes
from compress.graph.compact import drop_unused
from compress.graph.reading import Graph, Node, along, read
from compress.graph.writing import patch
from compress.payoff import drop, show
from compress.points import score
from compress.quantization import Parts, parts
from compress.stages.quantize import Quantize

PASSING = {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Dropout"}  # f(s · x) = s · f(x) for s > 0
WIDEST = 1e3  # a channel is not scaled by more than this in one sweep


@dataclass(frozen=True, slots=True)
class Equalize:
    """Settings of the stage; the last four are those of `quantize`."""

    sweeps: int = 5  # over all pairs: chains of three settle only together
    relu6_loss: float = 0.001  # how much of the metric ReLU instead of ReLU6 may cost in float
    when: Literal["needed", "always"] = "always"  # needed: only where quantization lost more than max_loss
    max_loss: float = 0.002  # of the metric, a fraction
    method: Literal["auto", "minmax", "percentile"] = "auto"
    samples: int = 256
    percentile: float = 99.99
    examples: int = 500

    def __post_init__(self) -> None:
        if self.sweeps < 1:
            raise ValueError(f"sweeps is {self.sweeps!r}, it must be at least 1")
        self.quantizer()

    def quantizer(self) -> Quantize:
        """How the equalized file is quantized."""
        return Quantize(method=self.method, samples=self.samples, percentile=self.percentile, examples=self.examples)

    def apply(self, graph: Path, context: Context) -> Path:
        """Equalize the float file beside `graph` and quantize it. Raises Skipped where no two layers are neighbours."""
        given = parts(graph).float
        base = self._uncapped(given, context)
        found = list(pairs(read(base)))
        if not found:
            capped = any(node.op == "Clip" for node in read(base).nodes)
            reason = "no convolution of this graph feeds another through ReLU or pooling alone"
            raise Skipped(f"{reason}; ReLU6 stays because float loses without it" if capped and base == given else reason)
        patch(base, Parts(context.folder).float, equalized(read(base), found, sweeps=self.sweeps))
        context.progress.say(f"  {len(found)} pairs of layers equalized")
        return self.quantizer().quantize(Parts(context.folder).float, context)

    def _uncapped(self, given: Path, context: Context) -> Path:
        """The float file without ReLU6 where that makes more pairs and costs nothing; else the file itself."""
        open_file = without_caps(given, context.folder / "uncapped.onnx")
        if open_file is None or len(list(pairs(read(open_file)))) == len(list(pairs(read(given)))):
            return given

        def compare() -> dict[str, float]:
            found = {"relu6": given, "relu": open_file}
            return {
                name: float(score(path, context.data, "val", threads=context.threads, limit=self.examples).value)
                for name, path in found.items()
            }

        scores = context.decide("relu6", compare)
        metric = context.task.metric
        holds = bool(context.decide("relu6/removed", lambda: drop(metric, scores["relu6"], scores["relu"]) <= self.relu6_loss))
        change = f"{metric.name} {show(metric, scores['relu6'])} → {show(metric, scores['relu'])}"
        context.progress.say(f"  ReLU6 {'replaced by ReLU' if holds else 'kept'}: {change} in float")
        return open_file if holds else given


@dataclass(frozen=True, slots=True)
class Pair:
    """Two layers with nothing between them that minds a scale. `first` makes the channels, `second` reads them."""

    first: Node
    second: Node


def pairs(graph: Graph) -> Iterator[Pair]:
    """Every pair of neighbouring layers with constant weights."""
    readers = graph.readers()
    for node in graph.nodes:
        if (
            node.op == "Conv"
            and node.inputs[1] in graph.initializers
            and all(name in graph.initializers for name in node.inputs[2:] if name)
        ):
            second = _next(node, graph, readers)
            if second is not None:
                yield Pair(node, second)


def _next(first: Node, graph: Graph, readers: Mapping[str, Sequence[Node]]) -> Node | None:
    """The layer that alone reads what `first` makes, through passing operators."""
    channels = graph.initializers[first.inputs[1]].shape[0]
    name, flat = first.outputs[0], False
    while name not in graph.outputs and len(readers.get(name, ())) == 1:
        node = readers[name][0]
        if node.op in PASSING or _spatial_mean(node, graph):
            flat = flat or node.op in ("GlobalAveragePool", "ReduceMean")
        elif not (flat and node.op in ("Flatten", "Squeeze")):
            return node if node.inputs[0] == name and _reads_channels(node, graph, channels, flat=flat) else None
        name = node.outputs[0]
    return None


def _spatial_mean(node: Node, graph: Graph) -> bool:
    if node.op != "ReduceMean":
        return False
    axes = (
        graph.initializers[node.inputs[1]].tolist()
        if len(node.inputs) > 1 and node.inputs[1] in graph.initializers
        else node.attributes.get("axes", [])
    )
    return sorted(axes) in ([2], [2, 3], [-1], [-2, -1])


def _reads_channels(node: Node, graph: Graph, channels: int, *, flat: bool) -> bool:
    """Whether the layer's weights are constant and their input axis is the channels."""
    weight = graph.initializers.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if weight is None:
        return False
    if node.op == "Conv":
        return int(weight.shape[1]) * int(node.attributes.get("group", 1)) == channels
    if node.op == "Gemm":
        axis = 1 if node.attributes.get("transB") else 0
        return flat and not node.attributes.get("transA") and int(weight.shape[axis]) == channels
    return flat and node.op == "MatMul" and weight.ndim == 2 and weight.shape[0] == channels


def equalized(graph: Graph, found: Sequence[Pair], *, sweeps: int) -> dict[str, np.ndarray]:
    """New contents of the weights and biases: every pair's channels with the same range on both sides."""
    names = {name for pair in found for name in (*pair.first.inputs[1:], pair.second.inputs[1]) if name}
    values = {name: graph.initializers[name].astype(np.float64) for name in names}
    for _ in range(sweeps):
        for pair in found:
            _balance(pair, values)
    return values


def _balance(pair: Pair, values: dict[str, np.ndarray]) -> None:
    made, read_by = values[pair.first.inputs[1]], _inputs(pair.second, values)
    large, small = np.abs(made.reshape(len(made), -1)).max(axis=1), np.abs(read_by).max(axis=1)
    alive = (large > 0) & (small > 0)
    scale = np.ones_like(large)
    scale[alive] = np.clip(np.sqrt(large[alive] / small[alive]), 1 / WIDEST, WIDEST)
    _store_inputs(pair.second, values, read_by * scale[:, None])
    for name in pair.first.inputs[1:]:
        if name:
            values[name] = values[name] / along(scale, 0, values[name].ndim)


def _inputs(node: Node, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """A layer's weights by the channel they read, (channels, rest)."""
    weight = values[node.inputs[1]]
    if node.op != "Conv":
        return weight.T if node.attributes.get("transB") else weight
    groups = node.attributes.get("group", 1)
    grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return grouped.transpose(0, 2, 1, 3).reshape(groups * weight.shape[1], -1)


def _store_inputs(node: Node, values: dict[str, np.ndarray], changed: np.ndarray) -> None:
    """The inverse of `_inputs`."""
    weight = values[node.inputs[1]]
    if node.op != "Conv":
        values[node.inputs[1]] = changed.T if node.attributes.get("transB") else changed
        return
    groups = node.attributes.get("group", 1)
    grouped = changed.reshape(groups, weight.shape[1], weight.shape[0] // groups, -1)
    values[node.inputs[1]] = grouped.transpose(0, 2, 1, 3).reshape(weight.shape)


def without_caps(source: Path, target: Path) -> Path | None:
    """The float file with every Clip from 0 to a constant replaced by Relu, at `target`; None where there is none."""
    graph, model = read(source), onnx.load(str(source))
    changed = False
    for node in model.graph.node:
        low = graph.initializers.get(node.input[1]) if node.op_type == "Clip" and len(node.input) > 1 else None
        if low is not None and float(low) == 0.0:
            node.op_type = "Relu"
            del node.input[1:]
            changed = True
    drop_unused(model)
    return write_bytes(target, model.SerializeToString(deterministic=True)) if changed else None
