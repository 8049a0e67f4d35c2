"""Post-training quantization of an ONNX file: prepare, calibrate, quantize, and make the rest dynamic last.

A quantized stage leaves three files side by side. `float.onnx` is the float file as the quantizer saw it (shapes inferred,
constants folded). `static.onnx` has constant scales wherever the recipe puts them; recurrent layers are still float there, and
every later graph stage works on it. `model.onnx` ships: as `static.onnx`, recurrent layers and what is dynamic made int8 last.

Recipe by content: networks of convolutions and plain products are static throughout; attention keeps softmax, norms, GELU,
residual sums and the product of two activations float and runs its constant-weight products dynamically. A spectrogram that a net
makes for itself stays float up to its logarithm (`graph/front.py`).
Source: measured for this project on onnxruntime 1.32, x86 with VNNI; formats as in onnxruntime's documentation,
"Quantize ONNX models". No torch.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx

from compress.context import Data, Skipped, Target
from compress.files import write_bytes
from compress.graph.answers import release, tail
from compress.graph.compact import compact, drop_unused
from compress.graph.front import front
from compress.graph.reading import Graph, Weight, along, bias_step, parse, read
from compress.graph.writing import bias_integers, integers, patch
from compress.recurrent import dynamic_lstm
from compress.runtime import one_line
from compress.tables import narrow_tables
from rules.examples import Feeds
from rules.problems import bad_input

Recipe = Literal["static", "dynamic", "mixed"]
Method = Literal["minmax", "percentile"]

CONVOLUTIONAL = ["Conv", "ConvTranspose", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool"]  # static part of "mixed"
STRIDE = 16  # calibration samples held at a time


@dataclass(frozen=True, slots=True)
class Parts:
    """The files of one quantized stage, side by side in its folder."""

    folder: Path

    @property
    def float(self) -> Path:
        return self.folder / "float.onnx"

    @property
    def static(self) -> Path:
        return self.folder / "static.onnx"

    @property
    def shipped(self) -> Path:
        return self.folder / "model.onnx"


def parts(graph: Path) -> Parts:
    """The files beside a quantized `model.onnx`. Raises Skipped where a stage has nothing with constant scales to work on."""
    found = Parts(graph.parent)
    if not found.float.exists():
        raise Skipped(f"{graph.name} was not quantized here: its float file is not beside it")
    if not found.static.exists():
        raise Skipped("everything in this graph is quantized dynamically: there are no constant scales to repair")
    return found


# -- recipe ----------------------------------------------------------------------------------------------------------


def recipes(graph: Graph) -> list[Recipe]:
    """The recipes that suit a float graph, the first by content alone; where there are two, speed decides."""
    if not attention(graph):
        return ["static"]
    return ["dynamic", "mixed"] if sum(node.op == "Conv" for node in graph.nodes) > 1 else ["dynamic"]


def attention(graph: Graph) -> bool:
    """Whether products of two activations meet a softmax."""
    products = any(node.op == "MatMul" and not any(name in graph.initializers for name in node.inputs) for node in graph.nodes)
    return products and any(node.op == "Softmax" for node in graph.nodes)


def recipe_of(found: Parts) -> Recipe:
    """The recipe a static file was made by."""
    return "mixed" if attention(read(found.float)) else "static"


# -- prepare ---------------------------------------------------------------------------------------------------------


def prepare(source: Path, target: Path) -> Path:
    """The float file as the quantizer wants it: shapes inferred, constants folded, batch norms folded into convolutions."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source = source.absolute()
    with TemporaryDirectory() as folder, quiet():
        draft = Path(folder) / "float.onnx"
        try:
            with contextlib.chdir(folder):  # where symbolic inference gives up it leaves the graph in the current folder
                quant_pre_process(str(source), str(draft))
        except Exception:  # symbolic shapes are a help, not a need: sizes it cannot infer stay unknown
            try:
                quant_pre_process(str(source), str(draft), skip_symbolic_shape=True)
            except Exception as error:
                raise bad_input(f"{source} cannot be prepared for quantization: {one_line(error)}") from error
        model = onnx.load(str(draft))
    _trim_imports(model)
    return write_bytes(target, model.SerializeToString(deterministic=True))


def _trim_imports(model: onnx.ModelProto) -> None:
    """Drop operator sets that no node uses: the optimiser declares all it knows, and an older runtime refuses some."""
    used = {node.domain or "" for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if ("" if entry.domain == "ai.onnx" else entry.domain) in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """onnxruntime's quantizer prints and warns as it goes; standard output is for results."""
    import onnxruntime as ort

    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    ort.set_default_logger_severity(3)  # errors; sessions of the quantizer use the default logger
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
        ort.set_default_logger_severity(2)  # its own default


# -- calibrate and quantize ------------------------------------------------------------------------------------------


def batch_of(data: Data, wanted: int) -> int:
    """The batch size to use: the one the graph's inputs fix, else the one wanted."""
    fixed = [port.shape[0] for port in data.signature.inputs if port.shape and isinstance(port.shape[0], int)]
    return int(fixed[0]) if fixed else wanted


class Samples:
    """Calibration inputs, one example at a time, drawn from the training split without labels; onnxruntime reads them in strides."""

    def __init__(self, data: Data, count: int, *, seed: int) -> None:
        self._batch = batch_of(data, 1)
        available = min(count, data.count("train")) // self._batch
        self._count = available // STRIDE * STRIDE if available > STRIDE else available
        self._feeds = self._draw(data, seed)
        self._left = self._count

    def _draw(self, data: Data, seed: int) -> Iterator[Feeds]:
        for batch in data.batches("train", batch_size=self._batch, seed=seed, shuffle=True, limit=self._count * self._batch):
            yield dict(batch.inputs)

    def __len__(self) -> int:
        return self._count

    @property
    def stride(self) -> int:
        """How many examples are held at a time; divides their number."""
        return min(STRIDE, self._count)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = end_index - start_index

    def get_next(self) -> Feeds | None:
        if self._left == 0:
            return None
        self._left -= 1
        return next(islice(self._feeds, 1), None)


def quantize_static(
    source: Path, target: Path, samples: Samples, *, recipe: Recipe, method: Method, percentile: float, format: Target
) -> Path:
    """`source` (prepared) with QuantizeLinear and DequantizeLinear pairs where the recipe and the target's format put them."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize

    kinds = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
    stride = samples.stride if method == "minmax" else 1  # a histogram is filled example by example: shapes differ
    extra: dict[str, Any] = {"CalibStridedMinMax": stride}
    if method == "percentile":
        extra["CalibPercentile"] = percentile
    if format.activation == "int8":  # as TensorRT wants it: zero points of zero, biases float
        extra |= {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    graph = read(source)
    end = tail(graph)
    with TemporaryDirectory() as folder, quiet():
        draft = Path(folder) / "static.onnx"
        quantize(
            str(source),
            str(draft),
            samples,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=CONVOLUTIONAL if recipe == "mixed" else None,
            activation_type=kinds[format.activation],
            weight_type=kinds[format.weight],
            per_channel=format.per_channel,
            reduce_range=format.reduce_range,
            calibrate_method=CalibrationMethod.MinMax if method == "minmax" else CalibrationMethod.Percentile,
            nodes_to_exclude=[*end.between, *(node.name for node in front(graph))],
            extra_options=extra,
        )
        model = drop_unused(release(onnx.load(str(draft)), end.products))
    write_bytes(target, model.SerializeToString(deterministic=True))
    return coarsen(target, source, levels=format.weight_levels) if format.weight_levels != 256 else target


def finish(static: Path, target: Path, *, recipe: Recipe, format: Target) -> Path:
    """The file that ships: recurrent layers, and for attention the products with constant weights, made dynamic int8."""
    saturates = format.reduce_range or format.weight == "uint8"
    model = dynamic_lstm(onnx.load(str(static)), reduced=saturates)
    if recipe == "static":
        return write_bytes(target, compact(model).SerializeToString(deterministic=True))
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kinds = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
    with TemporaryDirectory() as folder, quiet():
        draft, done = Path(folder) / "draft.onnx", Path(folder) / "done.onnx"
        onnx.save(model, str(draft))
        quantize_dynamic(
            str(draft),
            str(done),
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=[node.name for node in front(parse(model))],
            per_channel=format.per_channel,
            reduce_range=format.reduce_range,
            weight_type=kinds[format.weight],
            extra_options={"MatMulConstBOnly": True},
        )
        model = narrow_tables(onnx.load(str(done)))
    return write_bytes(target, compact(model).SerializeToString(deterministic=True))


# -- fewer levels ----------------------------------------------------------------------------------------------------


def coarsen(quantized: Path, floats: Path, *, levels: int) -> Path:
    """Restrict the weights of an int8 file to `levels` values around zero, with the step sizes that lose least. In place.

    A stress test: the file is as large and as slow as before, its weights are what a format of that many levels could hold.
    """
    graph, source = read(quantized), read(floats).initializers
    fresh: dict[str, np.ndarray] = {}
    for weight in graph.weights.values():
        if weight.product and weight.source in source:
            fresh |= _coarse_weight(graph, weight, source[weight.source], levels)
    values = {**graph.initializers, **fresh}
    for bias in graph.biases.values():
        step = bias_step(bias, values)
        stored: np.ndarray = graph.initializers[bias.name].astype(np.float64) * graph.initializers[bias.scale].reshape(-1)
        value = source.get(bias.source, stored)
        fresh |= {bias.name: bias_integers(value, step), bias.scale: step}
    return patch(quantized, quantized, fresh)


def _coarse_weight(graph: Graph, weight: Weight, value: np.ndarray, levels: int) -> dict[str, np.ndarray]:
    scale, stored = graph.initializers[weight.scale], graph.initializers[weight.name]
    middle = np.full(scale.shape, 128 if stored.dtype == np.uint8 else 0, dtype=stored.dtype)
    bounds = (-(levels // 2), levels // 2 - 1)
    step = best_steps(value.astype(np.float32), weight.axis, bounds).reshape(scale.shape)
    numbers = {weight.name: integers(value, step, middle, weight, bounds=bounds), weight.scale: step}
    return numbers | ({weight.zero_point: middle} if weight.zero_point else {})


def best_steps(value: np.ndarray, axis: int | None, bounds: tuple[int, int]) -> np.ndarray:
    """The step size of each channel with the least squared rounding error, out of forty."""
    others = tuple(index for index in range(value.ndim) if axis is None or index != axis % value.ndim)
    largest = np.maximum(np.abs(value).max(axis=others), 1e-12)
    best, least = largest / bounds[1], np.full(largest.shape, np.inf)
    for share in np.linspace(0.3, 1.1, 41):
        step = (share * largest / bounds[1]).astype(np.float32)
        wide = along(np.asarray(step), axis, value.ndim)
        error = np.square(np.clip(np.round(value / wide), *bounds) * wide - value).sum(axis=others)
        best, least = np.where(error < least, step, best), np.minimum(error, least)
    return np.asarray(best, dtype=np.float32)
