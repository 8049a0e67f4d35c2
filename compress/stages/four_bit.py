"""Weights in four bits: the constant side of matrix products in blocks, each block with a scale of its own.

Helps when size rules and the weights are in matrix products, as in a language model: another third less than 8 bits. Does not help speed:
a step is as fast as in 8 bits, a whole passage as slow as in float; convolutions, recurrent layers and tables stay float. Each weight is
rounded to the nearest, or by GPTQ, which needs unlabelled inputs; the better by validation score is kept.
Source: Frantar et al. 2022, arXiv:2210.17323; onnxruntime documentation, "Quantize to Int4/UInt4".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

from compress.context import Context, Skipped
from compress.files import publish, write_bytes
from compress.graph.compact import compact, drop_unused
from compress.graph.front import front
from compress.graph.reading import Graph, Node, read
from compress.nbits import Blocks, Floats, gptq, rounded
from compress.points import score
from compress.quantization import Samples, prepare
from compress.runtime import session
from compress.stages.quantize import badness

METHODS = ("round", "gptq")
SIZES = (16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class FourBit:
    """Settings of the stage."""

    method: Literal["auto", "round", "gptq"] = "auto"  # auto: both, the better by validation score
    block: int = 32  # weights that share a scale: 16, 32, 64 or 128
    samples: int = 128  # training inputs that GPTQ looks at
    examples: int = 500  # validation examples that choose the method

    def __post_init__(self) -> None:
        if self.block not in SIZES:
            raise ValueError(f"block is {self.block!r}, allowed: {', '.join(map(str, SIZES))}")
        if self.samples < 1 or self.examples < 1:
            raise ValueError(f"samples is {self.samples} and examples is {self.examples}, both must be at least 1")

    def apply(self, graph: Path, context: Context) -> Path:
        """Write `model.onnx` into the context's folder. Raises Skipped for a target or a graph that has nothing for it."""
        if context.target.provider != "CPUExecutionProvider":
            raise Skipped(f"{context.target.provider} may have no kernel for weights of 4 bits")
        if done := [node.op for node in read(graph).nodes if "Quantize" in node.op or "QLinear" in node.op or "Integer" in node.op]:
            raise Skipped(f"{graph.name} is quantized already: it has {done[0]}")
        base = prepare(graph, context.folder / "prepared.onnx")
        found = read(base)
        chosen = products(found)
        if not chosen:
            raise Skipped("no matrix product of this graph has constant weights")
        methods: tuple[str, ...] = METHODS if self.method == "auto" else (self.method,)
        made = {method: self._make(base, found, chosen, method, context) for method in methods}
        best: str = context.decide("method", lambda: self._better(made, context))
        return publish(context.folder / "model.onnx", partial(_copy, made[best]))

    def _make(self, base: Path, graph: Graph, chosen: list[Node], method: str, context: Context) -> Path:
        context.progress.start(f"weights in 4 bits ({method})", len(chosen))
        seen = hessians(base, chosen, Samples(context.data, self.samples, seed=context.seed)) if method == "gptq" else {}
        blocks: dict[str, Blocks] = {}
        for number, node in enumerate(chosen, 1):
            weights = graph.initializers[node.inputs[1]]
            blocks[node.outputs[0]] = gptq(weights, seen[node.inputs[0]], size=self.block) if seen else rounded(weights, size=self.block)
            context.progress.step(number)
        context.progress.finish()
        model = compact(replaced(onnx.load(str(base)), blocks))
        return write_bytes(context.folder / method / "model.onnx", model.SerializeToString(deterministic=True))

    def _better(self, made: Mapping[str, Path], context: Context) -> str:
        if len(made) == 1:
            return next(iter(made))
        found = {}
        for method, graph in made.items():

            def measure(graph: Path = graph) -> float:
                return float(score(graph, context.data, "val", threads=context.threads, limit=self.examples).value)

            found[method] = context.decide(f"score/{method}", measure)
        return min(found, key=lambda method: badness(context.task.metric, found[method]))


def products(graph: Graph) -> list[Node]:
    """The matrix products with a constant, two-dimensional right side; a spectrogram's are left alone."""
    aside = {node.outputs[0] for node in front(graph)}
    constant = {name for name, value in graph.initializers.items() if value.ndim == 2 and value.dtype == np.float32}
    return [node for node in graph.nodes if node.op == "MatMul" and node.inputs[1] in constant and node.outputs[0] not in aside]


def hessians(graph: Path, chosen: list[Node], samples: Samples) -> dict[str, Floats]:
    """For each input of the products, the sum over samples and places of its products with itself, (inputs, inputs)."""
    if not len(samples):
        raise Skipped("there are no training inputs to look at")
    model = onnx.load(str(graph))
    names = list(dict.fromkeys(node.inputs[0] for node in chosen))
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    found: dict[str, Floats] = {}
    with TemporaryDirectory() as folder:
        told = Path(folder) / "told.onnx"
        onnx.save(model, str(told))
        opened = session(told)
        while (feeds := samples.get_next()) is not None:
            for name, value in zip(names, opened.run(names, dict(feeds)), strict=True):
                rows = value.reshape(-1, value.shape[-1]).astype(np.float64)
                found[name] = found.get(name, 0.0) + rows.T @ rows
    return found


def replaced(model: onnx.ModelProto, blocks: Mapping[str, Blocks]) -> onnx.ModelProto:
    """`model` with the products of these outputs as MatMulNBits, in place."""
    graph = model.graph
    for place, node in enumerate(graph.node):
        if node.output[0] in blocks:
            held = blocks[node.output[0]]
            names = [f"{node.output[0]}_{part}" for part in ("numbers", "scales", "zeros")]
            graph.initializer.extend(
                [numpy_helper.from_array(np.asarray(part), name) for part, name in zip(held.packed(), names, strict=True)]
            )
            outputs, inputs = held.numbers.shape
            sizes = {"K": inputs, "N": outputs, "bits": 4, "block_size": held.size, "accuracy_level": 4}  # 4: sums in 8-bit integers
            inside = [node.input[0], *names]
            graph.node[place].CopyFrom(
                onnx.helper.make_node("MatMulNBits", inside, node.output, name=node.name, domain="com.microsoft", **sizes)
            )
    if not any(entry.domain == "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return drop_unused(model)


def _copy(source: Path, part: Path) -> None:
    part.write_bytes(source.read_bytes())
