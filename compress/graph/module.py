"""A parsed graph as an `nn.Module`: floats train, integers are fake-quantized exactly where the file quantizes.

Weights start from the float file where there is one, each moved into the cell of the integer it has in the quantized file
(plain rounding leaves it where it is; a rounding that was optimised is kept). Step sizes are learned as a factor e^δ on the
scale of the file, so they stay positive and δ = 0 is the file itself, bit for bit. A step size belongs to the *name* of its
initializer: tensors that share it in the file share it here. Zero points are fixed.
Source of the idea of training step sizes: Esser et al. 2020, arXiv:1902.08153.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.context import Skipped
from compress.graph.front import front
from compress.graph.operators import OPERATORS, unsupported
from compress.graph.quantizers import fake_quantize, round_bias
from compress.graph.reading import Bias, Graph, Node, Weight, along, read

MARGIN = 1e-3  # how far inside its cell, in steps, a weight starts that the float file puts outside

# operator → the input slots whose float initializers are trained; scalars and single values never are
TRAINED = {
    "Conv": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
    "LSTM": (1, 2, 3),
    "LayerNormalization": (1, 2),
    "BatchNormalization": (1, 2),
    "PRelu": (1,),
    "Add": (0, 1),
    "Mul": (0, 1),
}
MOVING = {"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Split", "Expand", "Identity"}
BOUNDS = {
    np.dtype(np.uint8): (0, 255),
    np.dtype(np.int8): (-128, 127),
    np.dtype(np.uint16): (0, 65535),
    np.dtype(np.int16): (-32768, 32767),
}


class GraphModule(nn.Module):
    """`forward(feeds) → {output name: tensor}`, differentiable in `tensors` (floats) and `log_steps` (learned step sizes)."""

    start: Tensor  # the step sizes of the file

    def __init__(self, graph: Graph, *, floats: Mapping[str, np.ndarray] | None = None, levels: int = 256, reduced: bool = False) -> None:
        super().__init__()
        self.graph = graph
        self.levels, self.reduced = levels, reduced
        self.tensors = nn.ParameterList()
        self.places: dict[str, int] = {}  # float tensor of the graph → its index in `tensors`
        self.fixed: dict[str, Tensor] = {}
        self.steps: dict[str, slice] = {}  # scale initializer → its part of `log_steps`
        self._steps()
        for output, weight in graph.weights.items():
            self._weight(output, weight, (floats or {}).get(weight.source))
        for output, bias in graph.biases.items():
            self._bias(output, bias, (floats or {}).get(bias.source))
        self._floats()
        self.program = list(_program(graph))
        self.idle = idle(graph)

    # -- what is learned ---------------------------------------------------------------------------------------------

    def _steps(self) -> None:
        """One entry of `log_steps` for every step size of a weight or an activation."""
        names = dict.fromkeys([weight.scale for weight in self.graph.weights.values()] + [node.inputs[1] for node in self.graph.quantizers])
        missing = [name for name in names if name not in self.graph.initializers]
        if missing:
            raise Skipped(f"the graph computes the scale {missing[0]}; only constant scales can be trained")
        values = [self.graph.initializers[name] for name in names]
        sizes = [value.size for value in values]
        ends = np.cumsum([0, *sizes])
        self.steps = {name: slice(int(start), int(stop)) for name, start, stop in zip(names, ends, ends[1:], strict=False)}
        flat = np.concatenate([value.reshape(-1) for value in values]).astype(np.float32) if values else np.zeros(0, np.float32)
        self.register_buffer("start", torch.from_numpy(flat), persistent=False)
        self.log_steps = nn.Parameter(torch.zeros(len(flat)))

    def _weight(self, output: str, weight: Weight, source: np.ndarray | None) -> None:
        stored, scale = self.graph.initializers[weight.name], self.graph.initializers[weight.scale]
        steps, zero = along(scale, weight.axis, stored.ndim), self._zero(weight.zero_point, weight.axis, stored.ndim)
        value = (stored.astype(np.float32) - zero) * steps
        if source is not None and source.shape == stored.shape and weight.product:
            value = self._in_cell(source.astype(np.float32), stored, steps, zero, weight)
        self._learn(output, value)

    def _in_cell(self, source: np.ndarray, stored: np.ndarray, steps: np.ndarray, zero: np.ndarray, weight: Weight) -> np.ndarray:
        """`source`, each value moved into the rounding cell of its stored integer; values that already round to it stay."""
        low, high = self.weight_bounds(weight)
        relative = stored.astype(np.float32) - zero
        rounded = np.clip(np.round(source / steps), low, high)
        inner = np.clip(source / steps, relative - 0.5 + MARGIN, relative + 0.5 - MARGIN) * steps
        return np.where(rounded == relative, source, inner).astype(np.float32)

    def _bias(self, output: str, bias: Bias, source: np.ndarray | None) -> None:
        stored = self.graph.initializers[bias.name]
        value = stored.astype(np.float64) * self.graph.initializers[bias.scale].reshape(-1)
        step = self.graph.initializers[bias.scale].reshape(-1)
        if source is not None and source.shape == stored.shape and np.all(np.abs(source - value) <= step):
            value = source
        self._learn(output, value)

    def _floats(self) -> None:
        given = {id(node) for node in front(self.graph)}  # constants of a transform, not weights
        for node in self.graph.nodes:
            for slot in () if id(node) in given else TRAINED.get(node.op, ()):
                name = node.inputs[slot] if slot < len(node.inputs) else ""
                value = self.graph.initializers.get(name)
                if value is not None and name not in self.places and value.dtype == np.float32 and value.ndim and value.size > 1:
                    self._learn(name, value)
        integers = {weight.name for weight in self.graph.weights.values()} | {bias.name for bias in self.graph.biases.values()}
        for name, value in self.graph.initializers.items():
            if name not in self.places and name not in self.steps and name not in integers:
                self.fixed[name] = torch.from_numpy(np.array(value, order="C"))

    def _learn(self, name: str, value: np.ndarray) -> None:
        self.places[name] = len(self.tensors)
        self.tensors.append(nn.Parameter(torch.from_numpy(np.array(value, dtype=np.float32, order="C"))))

    # -- the grid ----------------------------------------------------------------------------------------------------

    def weight_bounds(self, weight: Weight) -> tuple[int, int]:
        """Lowest and highest level of a weight, relative to its zero point: what the quantizer that made the file allows."""
        kind = self.graph.initializers[weight.name].dtype
        zero = int(np.asarray(self.graph.initializers[weight.zero_point]).reshape(-1)[0]) if weight.zero_point else 0
        low, high = BOUNDS[kind]
        if weight.product:
            low, high = grid(kind, zero, levels=self.levels, reduced=self.reduced)
        return low - zero, high - zero

    def _zero(self, name: str, axis: int | None, dims: int) -> np.ndarray:
        return along(self.graph.initializers[name].astype(np.float32), axis, dims) if name else np.zeros((), np.float32)

    def all_steps(self) -> dict[str, Tensor]:
        """Every learned step size by the name of its initializer, in that initializer's shape."""
        sizes = [part.stop - part.start for part in self.steps.values()]
        parts = torch.split(self.start * self.log_steps.exp(), sizes) if sizes else ()
        shapes = [self.graph.initializers[name].shape for name in self.steps]
        return {name: part.reshape(shape) for name, part, shape in zip(self.steps, parts, shapes, strict=True)}

    # -- running -----------------------------------------------------------------------------------------------------

    def forward(self, feeds: Mapping[str, Tensor], until: Collection[str] = ()) -> dict[str, Tensor]:
        """The graph's outputs, or the tensors named in `until`, from its named inputs."""
        wanted = set(until or self.graph.outputs)
        missing = wanted
        steps = self.all_steps()
        values: dict[str, Tensor] = {**self.fixed, **{name: feeds[name] for name in self.graph.inputs}}
        values.update({name: self.tensors[place] for name, place in self.places.items()})
        batch = values[self.graph.inputs[0]].shape[0] if self.graph.inputs else 1
        for node, dead in self.program:
            self._run(node, values, steps, batch)
            missing = missing - set(node.outputs)
            if not missing:
                break
            for name in dead - wanted:
                values.pop(name, None)
        return {name: values[name] for name in (until or self.graph.outputs)}

    def _run(self, node: Node, values: dict[str, Tensor], steps: Mapping[str, Tensor], batch: int) -> None:
        output = node.outputs[0]
        if node.op == "QuantizeLinear" and output in self.idle:
            values[output] = values[node.inputs[0]]
        elif node.op == "QuantizeLinear":
            low, high = self.activation_bounds(node)
            axis = int(node.attributes.get("axis", 1))
            values[output] = fake_quantize(values[node.inputs[0]], steps[node.inputs[1]], low, high, axis=axis, per=batch)
        elif node.op == "DequantizeLinear":
            values[output] = self._dequantized(node, values, steps)
        else:
            result = OPERATORS[node.op](node.attributes, [values[name] if name else None for name in node.inputs])
            values.update(zip(node.outputs, result if isinstance(result, tuple) else (result,), strict=False))

    def _dequantized(self, node: Node, values: Mapping[str, Tensor], steps: Mapping[str, Tensor]) -> Tensor:
        output = node.outputs[0]
        if weight := self.graph.weights.get(output):
            low, high = self.weight_bounds(weight)
            return fake_quantize(self.tensors[self.places[output]], steps[weight.scale], low, high, axis=weight.axis or 0)
        if bias := self.graph.biases.get(output):
            return round_bias(self.tensors[self.places[output]], self.bias_steps(bias, steps))
        return values[node.inputs[0]]

    def bias_steps(self, bias: Bias, steps: Mapping[str, Tensor]) -> Tensor:
        """The step size of a bias: the product of its activation's and its weight's, or its own."""
        if not bias.weight:
            return torch.from_numpy(np.asarray(self.graph.initializers[bias.scale]))
        return steps[bias.activation] * steps[bias.weight] * bias.factor

    def activation_bounds(self, node: Node) -> tuple[int, int]:
        """Lowest and highest level of an activation quantizer, relative to its zero point."""
        point = self.graph.initializers[node.inputs[2]] if len(node.inputs) > 2 else np.zeros((), np.uint8)
        zero = int(np.asarray(point).reshape(-1)[0])
        low, high = BOUNDS[point.dtype]
        return low - zero, high - zero


def load(path: Path, *, floats: Path | None = None, levels: int = 256, reduced: bool = False) -> GraphModule:
    """The file as a module. `floats` is the float file its weights came from; `levels` and `reduced` as in the target.

    Raises Skipped, naming the operator, when the graph has one that is not in the table.
    """
    graph = read(path)
    problem = unsupported(graph) or _odd(graph)
    if problem:
        raise Skipped(f"the graph has {problem}, which cannot be trained through")
    return GraphModule(graph, floats=read(floats).initializers if floats else None, levels=levels, reduced=reduced)


def grid(kind: np.dtype[Any], zero: int, *, levels: int, reduced: bool) -> tuple[int, int]:
    """Lowest and highest stored value of a weight: 16 levels around the zero point, 7 bits, or 8 (signed: symmetric, 255 levels)."""
    if levels != 256:
        return zero - levels // 2, zero + levels // 2 - 1
    if kind == np.int8:
        return (-64, 64) if reduced else (-127, 127)
    return (0, 127) if reduced else BOUNDS[np.dtype(kind)]


def _odd(graph: Graph) -> str:
    """Quantizers in an arrangement that has no fake-quantized form."""
    makers = graph.makers()
    for node in graph.nodes:
        if node.op == "DequantizeLinear" and node.inputs[0] not in graph.initializers:
            maker = makers.get(node.inputs[0])
            if maker is None or maker.op != "QuantizeLinear" or maker.inputs[1:] != node.inputs[1:]:
                return f"a DequantizeLinear without its QuantizeLinear ({node.name})"
    for node in graph.quantizers:
        if any(reader.op != "DequantizeLinear" for reader in graph.readers().get(node.outputs[0], [])) or node.outputs[0] in graph.outputs:
            return f"integers outside a quantizer pair ({node.name})"
    kinds = [
        graph.initializers[node.inputs[2]].dtype
        for node in graph.quantizers
        if len(node.inputs) > 2 and node.inputs[2] in graph.initializers
    ]
    kinds += [graph.initializers[weight.name].dtype for weight in graph.weights.values()]
    strange = [str(kind) for kind in kinds if kind not in BOUNDS]
    return f"{strange[0]} numbers" if strange else ""


def idle(graph: Graph) -> frozenset[str]:
    """Quantizers whose input is on their grid already: they repeat one that reached them through an operator that moves values only."""
    makers = graph.makers()
    found = set()
    for node in graph.quantizers:
        maker = makers.get(node.inputs[0])
        while maker is not None and maker.op in MOVING:
            maker = makers.get(maker.inputs[0])
        if maker is not None and maker.op == "DequantizeLinear" and maker.inputs[0] in makers and maker.inputs[1:] == node.inputs[1:]:
            found.add(node.outputs[0])
    return frozenset(found)


def _program(graph: Graph) -> Iterator[tuple[Node, frozenset[str]]]:
    """Every node with the tensors that nobody reads after it, so that memory is freed when no gradient is wanted."""
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    for index, node in enumerate(graph.nodes):
        dead = frozenset(name for name in node.inputs if name and last[name] == index)
        if node.op == "Split":
            node = replace(node, attributes={**node.attributes, "outputs": len(node.outputs)})
        yield node, dead
