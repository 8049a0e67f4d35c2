"""Writing numbers back into the file they came from: the nodes stay, only initializer contents change.

Weights are rounded onto their grid, biases onto the product of their two step sizes, shapes and types stay what they were
(a scale that was 0-d stays 0-d: some kernels refuse anything else).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from compress.files import write_bytes
from compress.graph.reading import Weight, along, bias_step

if TYPE_CHECKING:
    from compress.graph.module import GraphModule

Numbers = Mapping[str, np.ndarray]  # new contents of initializers, by name
INT32 = np.iinfo(np.int32)


def write(module: GraphModule, source: Path, target: Path) -> Path:
    """The file `source`, which `module` was loaded from, with the module's numbers, at `target`."""
    return patch(source, target, numbers(module))


def patch(source: Path, target: Path, fresh: Numbers) -> Path:
    """The file `source` with new contents for the initializers named in `fresh`, at `target`, atomically."""
    model = onnx.load(str(source))
    for tensor in model.graph.initializer:
        if tensor.name in fresh:
            _replace(tensor, fresh[tensor.name])
    return write_bytes(target, model.SerializeToString(deterministic=True))


def _replace(tensor: onnx.TensorProto, value: np.ndarray) -> None:
    """New contents for an initializer of the same shape and type."""
    old = numpy_helper.to_array(tensor)
    array = np.array(value, dtype=old.dtype, order="C").reshape(old.shape)
    if array.tobytes() != old.tobytes():
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def numbers(module: GraphModule) -> dict[str, np.ndarray]:
    """What every trained initializer of the module's file becomes."""
    graph = module.graph
    steps: dict[str, np.ndarray] = {name: value.detach().numpy() for name, value in module.all_steps().items()}
    values: dict[str, np.ndarray] = {name: module.tensors[place].detach().numpy() for name, place in module.places.items()}
    fresh = dict(steps)
    for output, weight in graph.weights.items():
        zero = graph.initializers[weight.zero_point] if weight.zero_point else np.zeros((), np.int8)
        fresh[weight.name] = integers(values[output], steps[weight.scale], zero, weight, bounds=module.weight_bounds(weight))
    for output, bias in graph.biases.items():
        step = bias_step(bias, {**graph.initializers, **steps})
        fresh[bias.name] = bias_integers(values[output], step)
        fresh[bias.scale] = step
    fresh.update({name: value for name, value in values.items() if name not in graph.weights and name not in graph.biases})
    return fresh


def integers(value: np.ndarray, step: np.ndarray, zero: np.ndarray, weight: Weight, *, bounds: tuple[int, int]) -> np.ndarray:
    """A weight on its grid, zero point added, as int32. `bounds` are relative to the zero point."""
    steps, zeros = along(step, weight.axis, value.ndim), along(zero.astype(np.int32), weight.axis, value.ndim)
    relative: np.ndarray = np.clip(np.round(value / steps), *bounds).astype(np.int32)
    stored: np.ndarray = relative + zeros
    return stored


def bias_integers(value: np.ndarray, step: np.ndarray) -> np.ndarray:
    """A bias on its int32 grid."""
    rounded: Any = np.round(value.astype(np.float64) / step.astype(np.float64).reshape(-1))
    stored: np.ndarray = np.clip(rounded, INT32.min, INT32.max).astype(np.int32)
    return stored
