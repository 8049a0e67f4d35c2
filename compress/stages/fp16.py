"""Half precision: every float of the graph in 16 bits, inputs and outputs as they were.

Helps when a GPU runs it: half the bytes, and kernels for half precision. Does not help a CPU: the runtime computes in float32 all the same,
half the file and no speed. Recurrent layers stay float32 only where the runtime refuses the file otherwise.
Source: onnxruntime documentation, "Mixed precision models" (onnxruntime.transformers.float16).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from compress.context import Context
from compress.files import write_bytes
from compress.graph.front import front
from compress.graph.reading import parse
from compress.quantization import quiet
from compress.runtime import one_line, predictor
from rules.examples import Feeds
from rules.problems import Problem, bad_input

RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True, slots=True)
class Fp16:
    """Settings of the stage."""

    keep_float: tuple[str, ...] = ()  # operator types that stay float32, beside those the runtime needs so
    tolerance: float = 0.02  # largest difference from the float file, relative to its largest output

    def apply(self, graph: Path, context: Context) -> Path:
        """Write `model.onnx` into the context's folder. Raises Problem (exit 3) when it strays from the float file."""
        target = context.folder / "model.onnx"
        feeds = next(iter(context.data.probes().values()))
        expected = predictor(graph, threads=context.threads)(feeds)
        try:
            strayed = self._convert(graph, target, self.keep_float, feeds, expected, context)
        except Problem:  # the runtime has no half-precision form of something: recurrent layers are what it usually lacks
            strayed = self._convert(graph, target, (*self.keep_float, *RECURRENT), feeds, expected, context)
        if not strayed <= self.tolerance:
            raise bad_input(
                f"in half precision {graph.name} strays {strayed:.3f} from float, {self.tolerance} is allowed",
                remedy="keep_float names operators",
            )
        return target

    def _convert(self, graph: Path, target: Path, keep_float: Sequence[str], feeds: Feeds, expected: Feeds, context: Context) -> float:
        """Write the converted file; returns how far it strays. Raises Problem when it cannot be converted or opened."""
        write_bytes(target, half(onnx.load(str(graph)), keep_float).SerializeToString(deterministic=True))
        found = predictor(target, threads=context.threads)(feeds)
        return max(_difference(found[name], expected[name]) for name in expected)


def half(model: onnx.ModelProto, keep_float: Sequence[str]) -> onnx.ModelProto:
    """The graph in float16, inputs and outputs unchanged; float32 stay the operators in `keep_float` and a spectrogram (`graph/front.py`)."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    inside = front(parse(model))
    read = {name for node in inside for name in node.inputs}
    constants = [node.name for node in model.graph.node if node.op_type == "Constant" and node.output[0] in read]
    spectrogram = [*constants, *(node.name for node in inside)]
    with quiet():
        try:
            converted: onnx.ModelProto = convert_float_to_float16(
                model,
                keep_io_types=True,
                op_block_list=[*DEFAULT_OP_BLOCK_LIST, *keep_float],
                node_block_list=spectrogram,
                disable_shape_infer=False,
            )
        except Exception as error:
            raise bad_input(f"the graph cannot be converted to half precision: {one_line(error)}") from error
    return converted


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    largest = float(np.abs(expected).max()) or 1.0
    return float(np.abs(found.astype(np.float64) - expected).max()) / largest
