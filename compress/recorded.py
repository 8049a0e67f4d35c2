"""Latencies that come from a table or a formula instead of a clock, so that a test or a repeated run decides the same.

Nothing here is a measurement, and nothing here may be shown as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rules.examples import Feeds

if TYPE_CHECKING:
    import onnx

NODE_NS, BYTE_NS, FLOAT_MAC_NS, INTEGER_MAC_NS = 2000.0, 0.05, 0.1, 0.03  # round figures of the size a small x86 core has
FREE = ("Constant", "Identity", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Reshape", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True, slots=True)
class Recorded:
    """Latencies from a table by file name, or from a function of file and inputs (`context.Latencies`)."""

    table: Mapping[str, float] | Callable[[Path, Feeds], float]

    def paired(self, graphs: Mapping[str, Path], feeds: Feeds, *, threads: int) -> dict[str, float]:
        """The recorded milliseconds of each graph. Raises KeyError for a file the table does not have."""
        if callable(self.table):
            return {name: float(self.table(path, feeds)) for name, path in graphs.items()}
        return {name: float(self.table[path.name]) for name, path in graphs.items()}


def by_operators(path: Path, feeds: Feeds) -> float:
    """Made-up milliseconds of a graph: so much a node, a byte it writes, a multiplication with its weights; integers at a third.

    A pure function of the file and the shapes of `feeds`: fewer channels or integer weights cost less, and nothing else matters.
    """
    import onnx

    model = onnx.load(str(path))
    sizes = _sizes(model, feeds)
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    spent = sum(_node(node, sizes, weights, makers) for node in model.graph.node if node.op_type not in FREE)
    return spent * 1e-6


def _sizes(model: onnx.ModelProto, feeds: Feeds) -> dict[str, tuple[int, ...]]:
    """The shape of every intermediate result, found by running the graph with all of them as outputs."""
    import onnx
    import onnxruntime as ort

    probe = onnx.ModelProto.FromString(model.SerializeToString())
    del probe.graph.output[:]
    names = [name for node in probe.graph.node for name in node.output if name]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    opened = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = opened.run(names, {port.name: feeds[port.name] for port in opened.get_inputs()})
    return {name: np.shape(result) for name, result in zip(names, results, strict=True)}


def _node(
    node: onnx.NodeProto, sizes: Mapping[str, tuple[int, ...]], weights: Mapping[str, tuple[int, ...]], makers: Mapping[str, onnx.NodeProto]
) -> float:
    """Nanoseconds of one node."""
    out = sizes.get(node.output[0], ())
    found = [_weight(name, weights, makers) for name in node.input[1:3]]
    integer = "Quantize" in node.op_type or "Integer" in node.op_type or any(quantized for _, quantized in found)
    if "LSTM" in node.op_type or "GRU" in node.op_type:
        macs = out[0] * out[2] * sum(prod(shape) for shape, _ in found) if len(out) == 4 else 0
    elif "Conv" in node.op_type and found:
        macs = prod(out) * prod(found[0][0][1:])
    elif "MatMul" in node.op_type or node.op_type == "Gemm":
        shape = found[0][0] if found else ()
        macs = prod(out) * (prod(shape) // max(1, out[-1] if out else 1))
    else:
        macs = 0
    return NODE_NS + BYTE_NS * (1 if integer else 4) * prod(out) + (INTEGER_MAC_NS if integer else FLOAT_MAC_NS) * macs


def _weight(name: str, weights: Mapping[str, tuple[int, ...]], makers: Mapping[str, onnx.NodeProto]) -> tuple[tuple[int, ...], bool]:
    """The shape of a weight, and whether it is kept as integers behind a DequantizeLinear."""
    if name in weights:
        return weights[name], False
    maker = makers.get(name)
    if maker is None or not maker.input:
        return (), False
    if maker.op_type == "DequantizeLinear" and maker.input[0] in weights:
        return weights[maker.input[0]], True
    return (_weight(maker.input[0], weights, makers)) if maker.op_type in ("Identity", "Transpose") else ((), False)
