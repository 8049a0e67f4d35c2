"""What the runtime really runs: every convolution, matrix product or recurrent layer that stayed float, with the reason.

A quantized file is a request; the runtime's optimiser decides what becomes an integer kernel. So its own optimised graph is
written out and read. Being integer is not being fast: that is measured elsewhere. Needs no torch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from compress.runtime import Level, session

RECURRENT = {"LSTM", "GRU", "RNN"}
HEAVY = {"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Attention"} | RECURRENT
INTEGER = {
    *("QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    *("DynamicQuantizeLSTM", "MatMulNBits", "QAttention"),
}


@dataclass(frozen=True, slots=True)
class FloatNode:
    """A heavy operator that runs in float. `weights` counts its constant inputs' values."""

    op: str
    name: str
    weights: int
    reason: str


@dataclass(frozen=True, slots=True)
class FusionReport:
    """What became an integer kernel, what stayed float and why, and how often the graph changes between the two."""

    int8: Counter[str]
    float: tuple[FloatNode, ...]
    boundaries: int  # QuantizeLinear and DequantizeLinear that the runtime executes

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the record."""
        nodes = [{"op": node.op, "name": node.name, "weights": node.weights, "reason": node.reason} for node in self.float]
        return {"int8": dict(sorted(self.int8.items())), "float": nodes, "boundaries": self.boundaries}


def left_float(path: Path, level: Level = "all") -> FusionReport:
    """Read the graph as the runtime optimises it at `level`. Raises Problem (exit 3) when it cannot open the file."""
    graph = optimised(path, level).graph
    given = {output: node.name for node in onnx.load(str(path)).graph.node for output in node.output}
    constants = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    stayed = []
    for node in graph.node:
        if node.op_type in HEAVY:
            weights = sum(constants.get(name, 0) for name in node.input)
            name = node.name.removesuffix("_nchwc")  # blocked convolutions are named after what they make
            stayed.append(FloatNode(node.op_type, given.get(name, name), weights, _reason(node, constants, makers)))
    return FusionReport(
        int8=Counter(node.op_type for node in graph.node if node.op_type in INTEGER),
        float=tuple(stayed),
        boundaries=sum(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.node),
    )


def optimised(path: Path, level: Level = "all") -> onnx.ModelProto:
    """The runtime's own optimised graph of a file."""
    import onnxruntime as ort

    with TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        session(path, level=level, options=options)
        return onnx.load(options.optimized_model_filepath)


def _reason(node: onnx.NodeProto, constants: dict[str, int], makers: dict[str, onnx.NodeProto]) -> str:
    """Why a heavy operator runs in float."""
    if node.op_type in RECURRENT:
        if node.op_type == "LSTM":
            return "the recurrent layer was not made dynamic int8"
        return f"recurrent layer {node.op_type} has no int8 kernel in onnxruntime"
    sides = [makers.get(name) for name in node.input[:2]]
    quantized = [side is not None and side.op_type == "DequantizeLinear" for side in sides]
    if all(quantized):
        return "quantized, but the runtime has no fused kernel for these integer formats, or its output has no quantizer"
    if quantized[1:] == [True]:
        return "activation quantizer missing"
    if len(node.input) > 1 and node.input[1] not in constants:
        return "both operands are activations: left float"
    return "weight not quantized"
