"""Reading an ONNX file: its nodes in order, its initializers, and which of them are quantized weights and biases.

Three things a quantized file holds are told apart here (QDQ format, opset 10 and later):
a DequantizeLinear of an integer initializer is a weight (or a table of constants), of an int32 initializer a bias,
a QuantizeLinear of anything else an activation quantizer. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from compress.context import Skipped

OLDEST_OPSET = 13  # before it softmax and the reductions mean something else
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # operators with a weight in slot 1


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of the file. An absent optional input is the empty string."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Weight:
    """An integer initializer that is dequantized: a weight of a product, or another table of constants."""

    name: str  # the integer initializer
    scale: str
    zero_point: str  # "" means zero
    axis: int | None  # None: one scale for the whole tensor
    product: bool  # feeds a convolution or matrix product as its weight

    @property
    def source(self) -> str:
        """The name this tensor has in the float file."""
        return self.name.removesuffix("_quantized")


@dataclass(frozen=True, slots=True)
class Bias:
    """An int32 initializer that is dequantized. Where `activation` and `weight` are named its scale is their product."""

    name: str
    scale: str
    activation: str = ""
    weight: str = ""
    factor: float = 1.0

    @property
    def source(self) -> str:
        """The name this tensor has in the float file."""
        return self.name.removesuffix("_quantized")


@dataclass(frozen=True, slots=True)
class Graph:
    """A parsed file. `weights` and `biases` are keyed by the float tensor their DequantizeLinear makes."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    initializers: Mapping[str, np.ndarray]
    weights: Mapping[str, Weight]
    biases: Mapping[str, Bias]
    opset: int

    @property
    def quantizers(self) -> tuple[Node, ...]:
        """The activation quantizers, in the order of the file."""
        return tuple(node for node in self.nodes if node.op == "QuantizeLinear")

    def makers(self) -> dict[str, Node]:
        """Which node makes a tensor."""
        return {output: node for node in self.nodes for output in node.outputs if output}

    def readers(self) -> dict[str, list[Node]]:
        """Which nodes read a tensor."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                found.setdefault(name, []).append(node)
        return found


def read(path: Path) -> Graph:
    """Parse an ONNX file. Raises Skipped when its opset is older than 13."""
    return parse(onnx.load(str(path)))


def parse(model: onnx.ModelProto) -> Graph:
    """The parsed form of a loaded model."""
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise Skipped(f"the graph has opset {opset}; {OLDEST_OPSET} or later is needed to train through it")
    nodes = tuple(_node(node) for node in model.graph.node)
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in nodes:
        if node.op == "Constant":
            initializers[node.outputs[0]] = _constant(node)
    nodes = tuple(node for node in nodes if node.op != "Constant")
    weights, biases = _dequantized(nodes, initializers)
    return Graph(
        nodes=nodes,
        inputs=tuple(value.name for value in model.graph.input if value.name not in initializers),
        outputs=tuple(value.name for value in model.graph.output),
        initializers=initializers,
        weights=weights,
        biases=biases,
        opset=opset,
    )


def _node(node: onnx.NodeProto) -> Node:
    attributes = {attribute.name: _attribute(attribute) for attribute in node.attribute}
    op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    return Node(op, node.name, tuple(node.input), tuple(node.output), attributes)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode()
    if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
        return list(value)
    if attribute.type == onnx.AttributeProto.STRINGS:
        return [item.decode() for item in value]
    return value


def _constant(node: Node) -> np.ndarray:
    kind, value = next(iter(node.attributes.items()))
    if kind in ("value_int", "value_ints"):
        return np.asarray(value, dtype=np.int64)
    if kind in ("value_float", "value_floats"):
        return np.asarray(value, dtype=np.float32)
    return np.asarray(value)


def _dequantized(nodes: tuple[Node, ...], initializers: Mapping[str, np.ndarray]) -> tuple[dict[str, Weight], dict[str, Bias]]:
    """The weights and biases among the initializers."""
    roots = {node.outputs[0]: node for node in nodes if node.op == "DequantizeLinear" and node.inputs[0] in initializers}
    slots = {(name, slot): node for node in nodes for slot, name in enumerate(node.inputs)}
    weights: dict[str, Weight] = {}
    biases: dict[str, Bias] = {}
    for output, node in roots.items():
        name, scale = node.inputs[0], node.inputs[1]
        if initializers[name].dtype == np.int32:
            biases[output] = _bias(node, slots, nodes, initializers)
            continue
        reader = slots.get((output, 1))
        axis = int(node.attributes.get("axis", 1)) if initializers[scale].ndim else None
        product = reader is not None and reader.op in PRODUCTS
        weights[output] = Weight(name, scale, node.inputs[2] if len(node.inputs) > 2 else "", axis, product)
    return weights, biases


def _bias(node: Node, slots: Mapping[tuple[str, int], Node], nodes: tuple[Node, ...], initializers: Mapping[str, np.ndarray]) -> Bias:
    """A bias, tied to the scales of the product it is added in where it has that product's scale."""
    name, scale = node.inputs[0], node.inputs[1]
    reader = slots.get((node.outputs[0], 2))
    makers = {output: item for item in nodes for output in item.outputs}
    sides = [makers.get(reader.inputs[slot]) for slot in (0, 1)] if reader is not None else []
    if len(sides) < 2 or any(side is None or side.op != "DequantizeLinear" or side.inputs[1] not in initializers for side in sides):
        return Bias(name, scale)
    activation, weight = (side.inputs[1] for side in sides if side is not None)
    factor = float(reader.attributes.get("beta", 1.0)) if reader is not None else 1.0
    tied = factor * initializers[activation] * initializers[weight]
    if np.allclose(initializers[scale].reshape(-1), tied.reshape(-1), rtol=1e-3, atol=0.0):
        return Bias(name, scale, activation, weight, factor)
    return Bias(name, scale)


def bias_step(bias: Bias, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The step size of a bias: the product of its activation's and its weight's where it is tied to them, else its own."""
    if not bias.weight:
        return values[bias.scale]
    return np.asarray(values[bias.activation] * values[bias.weight] * np.float32(bias.factor), dtype=np.float32)


def along(value: np.ndarray, axis: int | None, dims: int) -> np.ndarray:
    """Per-channel values in a shape that broadcasts over a tensor of `dims` axes."""
    if axis is None or value.ndim == 0:
        return value.reshape(())
    return value.reshape([-1 if index == axis % dims else 1 for index in range(dims)])
