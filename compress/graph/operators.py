"""What each ONNX operator computes, in torch. A table: one short function an operator.

Every function takes the node's attributes and its inputs (None where an optional one is absent) and returns one tensor,
or a tuple for several outputs. Shape arithmetic stays in integer tensors, as in the file. What is not in the table is not
guessed at: `unsupported` names it, and the stage that wanted to train is skipped.
Source: the ONNX operator specifications, opsets 13 to 21 (github.com/onnx/onnx, docs/Operators.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from compress.graph.reading import Graph, Node

Attributes = Mapping[str, Any]
Inputs = Sequence[Tensor | None]
Operator = Callable[[Attributes, Inputs], Tensor | tuple[Tensor, ...]]

DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
}


def unsupported(graph: Graph) -> str:
    """The first operator of the graph that cannot be run here, in words; "" when there is none."""
    for node in graph.nodes:
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if node.op not in OPERATORS:
            return f"operator {node.op} ({node.name or 'unnamed'})"
        problem = LIMITS.get(node.op, _anything)(node)
        if problem:
            return f"operator {node.op} with {problem} ({node.name or 'unnamed'})"
    return ""


def _anything(node: Node) -> str:
    return ""


def _lstm_limits(node: Node) -> str:
    given = node.attributes
    if given.get("layout", 0) or given.get("input_forget", 0) or given.get("clip"):
        return "batch-first layout, coupled gates or clipping"
    plain = ["sigmoid", "tanh", "tanh"] * (2 if given.get("direction") == "bidirectional" else 1)
    if [name.lower() for name in given.get("activations", plain)] != plain:
        return "other activations"
    return "sequence lengths or peepholes" if any(node.inputs[slot] for slot in (4, 7) if slot < len(node.inputs)) else ""


def _pad_limits(node: Node) -> str:
    mode = node.attributes.get("mode", "constant")
    return "" if mode in ("constant", "reflect", "edge") else f"mode {mode!r}"


def _pool_limits(node: Node) -> str:
    before, after = _halves(node.attributes.get("pads", [0, 0]))
    uneven = before != after or node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return "uneven padding" if uneven and node.op == "AveragePool" else ""


def _resize_limits(node: Node) -> str:
    given = node.attributes
    centres, mode = given.get("coordinate_transformation_mode", "half_pixel"), given.get("mode", "nearest")
    known = {"linear": ("half_pixel", "pytorch_half_pixel", "align_corners"), "nearest": ("asymmetric",)}
    if centres not in known.get(mode, ()) or given.get("antialias", 0) or given.get("axes"):
        return f"mode {mode!r}, {centres!r}"
    return "" if mode == "linear" or given.get("nearest_mode", "round_prefer_floor") == "floor" else "nearest pixels that are rounded"


LIMITS: dict[str, Callable[[Node], str]] = {
    "LSTM": _lstm_limits,
    "Pad": _pad_limits,
    "AveragePool": _pool_limits,
    "Resize": _resize_limits,
}


# -- products --------------------------------------------------------------------------------------------------------


def _halves(pads: Sequence[int]) -> tuple[list[int], list[int]]:
    """ONNX writes all beginnings, then all ends."""
    half = len(pads) // 2
    return list(pads[:half]), list(pads[half:])


def _padding(
    a: Attributes, x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after every spatial axis, from `pads` or `auto_pad`."""
    auto = a.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        return _halves(a.get("pads", [0] * 2 * len(kernel))) if auto == "NOTSET" else ([0] * len(kernel), [0] * len(kernel))
    total = [
        max(0, (math.ceil(size / stride) - 1) * stride + (k - 1) * dilation + 1 - size)
        for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True)
    ]
    small = [value // 2 for value in total]
    large = [value - half for value, half in zip(total, small, strict=True)]
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def _pad_ends(x: Tensor, before: Sequence[int], after: Sequence[int], value: float) -> Tensor:
    """Pad the last axes by uneven amounts."""
    amounts = [amount for pair in reversed(list(zip(before, after, strict=True))) for amount in pair]
    return F.pad(x, amounts, value=value)


def padded(a: Attributes, x: Tensor, kernel: Sequence[int]) -> tuple[Tensor, list[int], list[int]]:
    """A convolution's input with its padding in place, and its strides and dilations."""
    strides, dilations = a.get("strides", [1] * len(kernel)), a.get("dilations", [1] * len(kernel))
    before, after = _padding(a, x, kernel, strides, dilations)
    return (_pad_ends(x, before, after, 0.0) if any(before + after) else x), list(strides), list(dilations)


def conv(a: Attributes, inputs: Inputs) -> Tensor:
    """x (b, c, …), weight (o, c / group, …) → (b, o, …), one to three spatial axes."""
    x, weight, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    assert x is not None and weight is not None
    axes = weight.dim() - 2
    strides, dilations = a.get("strides", [1] * axes), a.get("dilations", [1] * axes)
    before, after = _padding(a, x, weight.shape[2:], strides, dilations)
    if before != after:
        x, before = _pad_ends(x, before, after, 0.0), [0] * axes
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[axes]
    return convolve(x, weight, bias, strides, before, dilations, a.get("group", 1))


def gemm(a: Attributes, inputs: Inputs) -> Tensor:
    x, weight = inputs[0], inputs[1]
    assert x is not None and weight is not None
    product = (x.t() if a.get("transA") else x) @ (weight.t() if a.get("transB") else weight)
    product = product if a.get("alpha", 1.0) == 1.0 else product * a["alpha"]
    bias = inputs[2] if len(inputs) > 2 else None
    if bias is None:
        return product
    return product + (bias if a.get("beta", 1.0) == 1.0 else bias * a["beta"])


def lstm(a: Attributes, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """x (t, b, i), weights (directions, 4 h, …) in gate order i o f c → y (t, directions, b, h), last h, last c."""
    x, w, r, bias, _, h0, c0 = [*inputs, *[None] * 7][:7]
    assert x is not None and w is not None and r is not None
    directions, hidden = w.shape[0], r.shape[-1]
    backwards = a.get("direction", "forward") == "reverse"
    start = x.new_zeros(directions, x.shape[1], hidden)
    weights: list[Tensor] = []
    for d in range(directions):
        weights += [_gates(w[d]), _gates(r[d])]
        weights += [] if bias is None else [_gates(half) for half in bias[d].chunk(2)]
    state = (start if h0 is None else h0, start if c0 is None else c0)
    x = x.flip(0) if backwards else x
    y, h, c = torch.lstm(x, state, weights, bias is not None, 1, 0.0, False, directions == 2, False)
    y = y.flip(0) if backwards else y
    return y.reshape(*y.shape[:2], directions, hidden).transpose(1, 2), h, c


def _gates(stacked: Tensor) -> Tensor:
    """Gate order of ONNX (input, output, forget, cell) to that of torch (input, forget, cell, output)."""
    i, o, f, c = stacked.chunk(4)
    return torch.cat([i, f, c, o])


# -- pooling, reduction, normalisation -------------------------------------------------------------------------------


def max_pool(a: Attributes, inputs: Inputs) -> Tensor:
    x = inputs[0]
    assert x is not None
    kernel = a["kernel_shape"]
    strides, dilations = a.get("strides", [1] * len(kernel)), a.get("dilations", [1] * len(kernel))
    before, after = _padding(a, x, kernel, strides, dilations)
    if before != after or any(pad > k // 2 for pad, k in zip(before, kernel, strict=True)):
        x, before = _pad_ends(x, before, after, -math.inf), [0] * len(kernel)
    pool: Any = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(kernel)]
    result: Tensor = pool(x, kernel, strides, before, dilations, bool(a.get("ceil_mode", 0)))
    return result


def average_pool(a: Attributes, inputs: Inputs) -> Tensor:
    kernel = a["kernel_shape"]
    before, _ = _halves(a.get("pads", [0] * 2 * len(kernel)))
    pool: Any = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel)]
    strides = a.get("strides", [1] * len(kernel))
    result: Tensor = pool(inputs[0], kernel, strides, before, bool(a.get("ceil_mode", 0)), bool(a.get("count_include_pad", 0)))
    return result


def global_average_pool(a: Attributes, inputs: Inputs) -> Tensor:
    x = inputs[0]
    assert x is not None
    return x.mean(dim=tuple(range(2, x.dim())), keepdim=True)


def _reduction(reduce: Callable[..., Tensor]) -> Operator:
    def run(a: Attributes, inputs: Inputs) -> Tensor:
        x = inputs[0]
        assert x is not None
        axes = _axes(a, inputs)
        if axes is None and a.get("noop_with_empty_axes", 0):
            return x
        return reduce(x, dim=tuple(range(x.dim())) if axes is None else tuple(axes), keepdim=bool(a.get("keepdims", 1)))

    return run


def _axes(a: Attributes, inputs: Inputs, slot: int = 1) -> list[int] | None:
    """The axes of a node: an input in later opsets, an attribute in earlier ones."""
    given = inputs[slot] if len(inputs) > slot else None
    return a.get("axes") if given is None else given.reshape(-1).tolist()


def layer_normalization(a: Attributes, inputs: Inputs) -> Tensor:
    x, weight, bias = [*inputs, None][:3]
    assert x is not None
    axis = a.get("axis", -1) % x.dim()
    return F.layer_norm(x, x.shape[axis:], weight, bias, a.get("epsilon", 1e-5))


def batch_normalization(a: Attributes, inputs: Inputs) -> Tensor:
    """Inference form: the statistics of the file."""
    x, weight, bias, mean, variance = inputs[:5]
    assert x is not None
    return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, a.get("epsilon", 1e-5))


# -- shapes ----------------------------------------------------------------------------------------------------------


def reshape(a: Attributes, inputs: Inputs) -> Tensor:
    x, shape = inputs
    assert x is not None and shape is not None
    sizes = shape.tolist()
    if not a.get("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def squeeze(a: Attributes, inputs: Inputs) -> Tensor:
    x, axes = inputs[0], _axes(a, inputs)
    assert x is not None
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def unsqueeze(a: Attributes, inputs: Inputs) -> Tensor:
    x, axes = inputs[0], _axes(a, inputs)
    assert x is not None and axes is not None
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def flatten(a: Attributes, inputs: Inputs) -> Tensor:
    x = inputs[0]
    assert x is not None
    axis = a.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def slice_(a: Attributes, inputs: Inputs) -> Tensor:
    x, starts, ends, axes, steps = [*inputs, None, None][:5]
    assert x is not None and starts is not None and ends is not None
    along = list(range(starts.numel())) if axes is None else axes.reshape(-1).tolist()
    paces = [1] * len(along) if steps is None else steps.reshape(-1).tolist()
    for axis, start, end, pace in zip(along, starts.reshape(-1).tolist(), ends.reshape(-1).tolist(), paces, strict=True):
        chosen = range(x.shape[axis])[start:end:pace]  # Python clamps bounds as ONNX does
        x = x.narrow(axis, chosen.start, len(chosen)) if pace == 1 else x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64))
    return x


def gather(a: Attributes, inputs: Inputs) -> Tensor:
    x, index = inputs
    assert x is not None and index is not None
    return x[(slice(None),) * (a.get("axis", 0) % x.dim()) + (index.long(),)]


def split(a: Attributes, inputs: Inputs) -> tuple[Tensor, ...]:
    x, sizes = [*inputs, None][:2]
    assert x is not None
    axis = a.get("axis", 0)
    if sizes is None:
        count = a["num_outputs"] if "num_outputs" in a else a["outputs"]
        return torch.split(x, math.ceil(x.shape[axis] / count), axis)
    return torch.split(x, sizes.tolist(), axis)


def expand(a: Attributes, inputs: Inputs) -> Tensor:
    x, shape = inputs
    assert x is not None and shape is not None
    return x.expand(
        torch.broadcast_shapes(x.shape, tuple(shape.tolist()))  # type: ignore[no-untyped-call]
    )


def pad(a: Attributes, inputs: Inputs) -> Tensor:
    x, pads, value, axes = [*inputs, None, None][:4]
    assert x is not None and pads is not None
    before, after = [0] * x.dim(), [0] * x.dim()
    for axis, low, high in zip(range(x.dim()) if axes is None else axes.tolist(), *_halves(pads.tolist()), strict=True):
        before[axis], after[axis] = low, high
    mode = a.get("mode", "constant")
    if mode == "constant":
        return _pad_ends(x, before, after, 0.0 if value is None else float(value))
    for axis in range(x.dim()):
        x = x.index_select(axis, _mirrored(x.shape[axis], before[axis], after[axis], reflect=mode == "reflect"))
    return x


def _mirrored(size: int, before: int, after: int, *, reflect: bool) -> Tensor:
    index = torch.arange(-before, size + after)
    if not reflect:
        return index.clamp(0, size - 1)
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def resize(a: Attributes, inputs: Inputs) -> Tensor:
    """x (b, c, …) with new sizes of the axes behind the channels, given themselves or as scales."""
    x, _, scales, sizes = [*inputs, None, None, None][:4]
    assert x is not None
    if sizes is not None and sizes.numel():
        wanted = sizes.tolist()[2:]
    else:
        assert scales is not None
        wanted = [math.floor(size * scale) for size, scale in zip(x.shape[2:], scales.tolist()[2:], strict=True)]
    if a.get("mode", "nearest") == "nearest":
        return F.interpolate(x, size=wanted, mode="nearest")
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(wanted)]
    return F.interpolate(x, size=wanted, mode=mode, align_corners=a.get("coordinate_transformation_mode") == "align_corners")


def constant_of_shape(a: Attributes, inputs: Inputs) -> Tensor:
    shape = inputs[0]
    assert shape is not None
    value = a.get("value", np.zeros(1, dtype=np.float32))
    return torch.from_numpy(np.full(tuple(shape.tolist()), value.reshape(-1)[0], dtype=value.dtype))


def shape(a: Attributes, inputs: Inputs) -> Tensor:
    x = inputs[0]
    assert x is not None
    return torch.tensor(x.shape[a.get("start", 0) : a.get("end")], dtype=torch.int64)


# -- elementwise -----------------------------------------------------------------------------------------------------


def div(a: Attributes, inputs: Inputs) -> Tensor:
    """Integer division truncates, as ONNX says."""
    x, y = inputs
    assert x is not None and y is not None
    return torch.div(x, y, rounding_mode=None if x.is_floating_point() else "trunc")


def clip(a: Attributes, inputs: Inputs) -> Tensor:
    x, low, high = [*inputs, None, None][:3]
    assert x is not None
    return x if low is None and high is None else torch.clamp(x, low, high)


def hard_sigmoid(a: Attributes, inputs: Inputs) -> Tensor:
    x = inputs[0]
    assert x is not None
    slope, middle = float(a.get("alpha", 0.2)), float(a.get("beta", 0.5))
    return (x * slope + middle).clamp(0.0, 1.0)


def _one(compute: Callable[[Any], Tensor]) -> Operator:
    return lambda a, inputs: compute(inputs[0])


def _two(compute: Callable[[Any, Any], Tensor]) -> Operator:
    return lambda a, inputs: compute(inputs[0], inputs[1])


def _fold(compute: Callable[[Any, Any], Tensor]) -> Operator:
    def run(a: Attributes, inputs: Inputs) -> Tensor:
        result: Any = inputs[0]
        for other in inputs[1:]:
            result = compute(result, other)
        total: Tensor = result
        return total

    return run


OPERATORS: dict[str, Operator] = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": _two(torch.matmul),
    "LSTM": lstm,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "ReduceMean": _reduction(torch.mean),
    "ReduceSum": _reduction(torch.sum),
    "ReduceMax": _reduction(torch.amax),
    "ReduceL2": _reduction(torch.linalg.vector_norm),
    "LayerNormalization": layer_normalization,
    "BatchNormalization": batch_normalization,
    "Softmax": lambda a, i: F.softmax(i[0], dim=a.get("axis", -1)),  # type: ignore[arg-type]
    "LogSoftmax": lambda a, i: F.log_softmax(i[0], dim=a.get("axis", -1)),  # type: ignore[arg-type]
    "Reshape": reshape,
    "Transpose": lambda a, i: i[0].permute(a.get("perm", list(range(i[0].dim()))[::-1])),  # type: ignore[union-attr]
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Flatten": flatten,
    "Slice": slice_,
    "Gather": gather,
    "Split": split,
    "Concat": lambda a, i: torch.cat([x for x in i if x is not None], a["axis"]),
    "Expand": expand,
    "Pad": pad,
    "Resize": resize,
    "ConstantOfShape": constant_of_shape,
    "Shape": shape,
    "Cast": lambda a, i: i[0].to(DTYPES[a["to"]]),  # type: ignore[union-attr]
    "Identity": _one(lambda x: x),
    "Dropout": _one(lambda x: x),
    "Relu": _one(torch.relu),
    "LeakyRelu": lambda a, i: F.leaky_relu(i[0], a.get("alpha", 0.01)),  # type: ignore[arg-type]
    "PRelu": _two(lambda x, slope: torch.where(x < 0, x * slope, x)),
    "Clip": clip,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": _one(F.hardswish),
    "Sigmoid": _one(torch.sigmoid),
    "Tanh": _one(torch.tanh),
    "Erf": _one(torch.erf),
    "Gelu": lambda a, i: F.gelu(i[0], approximate=a.get("approximate", "none")),  # type: ignore[arg-type]
    "Softplus": _one(F.softplus),
    "Exp": _one(torch.exp),
    "Log": _one(torch.log),
    "Sqrt": _one(torch.sqrt),
    "Reciprocal": _one(torch.reciprocal),
    "Neg": _one(torch.neg),
    "Abs": _one(torch.abs),
    "Floor": _one(torch.floor),
    "Not": _one(torch.logical_not),
    "Add": _two(torch.add),
    "Sub": _two(torch.sub),
    "Mul": _two(torch.mul),
    "Div": div,
    "Pow": _two(lambda x, y: torch.pow(x, y.to(x.dtype))),
    "Equal": _two(torch.eq),
    "Greater": _two(torch.gt),
    "Less": _two(torch.lt),
    "And": _two(torch.logical_and),
    "Where": lambda a, i: torch.where(i[0], i[1], i[2]),  # type: ignore[arg-type]
    "Max": _fold(torch.maximum),
    "Min": _fold(torch.minimum),
    "Range": lambda a, i: torch.arange(*[x.item() for x in i if x is not None], dtype=i[0].dtype),  # type: ignore[union-attr]
    "Tile": lambda a, i: i[0].repeat(*i[1].tolist()),  # type: ignore[union-attr]
}
