"""Writing trained numbers back into the file they came from: the nodes stay, only initializer contents change.

Weights are rounded onto their grid, biases onto the product of their two step sizes, shapes and types stay what they were
(a scale that was 0-d stays 0-d: some kernels refuse anything else).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from compress.files import write_bytes
from compress.graph.module import GraphModule

INT32 = np.iinfo(np.int32)


def write(module: GraphModule, source: Path, target: Path) -> Path:
    """The file `source`, which `module` was loaded from, with the module's numbers, at `target`."""
    model = onnx.load(str(source))
    fresh = numbers(module)
    for tensor in model.graph.initializer:
        if tensor.name in fresh:
            _replace(tensor, fresh[tensor.name])
    return write_bytes(target, model.SerializeToString(deterministic=True))


def numbers(module: GraphModule) -> dict[str, np.ndarray]:
    """What every trained initializer of the file becomes."""
    graph = module.graph
    with torch.no_grad():
        steps = {name: value.detach().numpy() for name, value in module.all_steps().items()}
        values = {name: module.tensors[place].detach().numpy() for name, place in module.places.items()}
    fresh: dict[str, np.ndarray] = dict(steps)
    for output, weight in graph.weights.items():
        fresh[weight.name] = _integers(module, values[output], steps[weight.scale], weight)
    for output, bias in graph.biases.items():
        step = steps[bias.activation] * steps[bias.weight] * bias.factor if bias.weight else graph.initializers[bias.scale]
        step = np.asarray(step, dtype=np.float32)
        rounded = np.round(values[output].astype(np.float64) / step.astype(np.float64))
        fresh[bias.name] = np.clip(rounded, INT32.min, INT32.max).astype(np.int32)
        fresh[bias.scale] = step.reshape(graph.initializers[bias.scale].shape)
    fresh.update({name: value for name, value in values.items() if name not in graph.weights and name not in graph.biases})
    return fresh


def _integers(module: GraphModule, value: np.ndarray, step: np.ndarray, weight: Any) -> np.ndarray:
    """A weight on its grid, zero point added, in the type the file has."""
    stored = module.graph.initializers[weight.name]
    low, high = module.weight_bounds(weight)
    dims = [-1 if weight.axis is not None and axis == weight.axis % value.ndim else 1 for axis in range(value.ndim)]
    zero = module.graph.initializers[weight.zero_point].astype(np.float32) if weight.zero_point else np.zeros((), np.float32)
    step, zero = (item.reshape(dims) if item.ndim else item for item in (step, zero))
    return (np.clip(np.round(value / step), low, high) + zero).astype(stored.dtype)


def _replace(tensor: onnx.TensorProto, value: np.ndarray) -> None:
    """New contents for an initializer of the same shape and type."""
    old = numpy_helper.to_array(tensor)
    array = np.array(value, dtype=old.dtype, order="C").reshape(old.shape)
    if array.tobytes() != old.tobytes():
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
