"""The operators of an ONNX file as onnxruntime will run them, each with its sizes: what costs, calibration and benches count.

The file is optimised at the "extended" level: there integer operators and fusions have their final names, while the layouts of
convolutions, which differ from one instruction set to the next, come only at "all" and are marked instead (`blocked`,
`relaid_bytes`). Shapes are those of a run: every value of the optimised graph is asked for once, because prepacked weights and
inlined functions leave no trace in the runtime's own profile. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from rules.examples import Feeds
from rules.facts import Operator

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort

CONVOLUTIONS = {"Conv", "FusedConv", "QLinearConv", "ConvInteger"}
PRODUCTS = {
    *("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "QGemm", "QLinearMatMul", "MatMulInteger"),
    *("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QAttention", "MatMulNBits"),
}
RECURRENT = {"LSTM": 4, "DynamicQuantizeLSTM": 4, "GRU": 3, "RNN": 1}  # gates
POOLS = {"MaxPool", "AveragePool", "QLinearAveragePool"}
WHOLE = {"GlobalAveragePool", "GlobalMaxPool", "QLinearGlobalAveragePool"}
BLOCK = 16  # onnxruntime's widest channel block; convolutions with fewer inputs read the plain layout
QUARTER = 4  # what it reorders channels in multiples of
KEEPS_FLOAT = {
    *("Add", "Sum", "Mul", "Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "Concat", "BatchNormalization", "Resize")
}
KEEPS_INTEGER = {
    *("QLinearAdd", "QLinearMul", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearConcat", "QuantizeLinear", "DequantizeLinear"),
    *("Add", "Mul", "Div", "Sub", "Relu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "Erf", "LeakyRelu", "Resize"),
}


def operators_of(path: Path, feeds: Feeds | None = None) -> list[Operator]:
    """The operators of a float or quantized graph in the order they run, with their sizes on these inputs.

    Without `feeds` the graph gets zeros, and 1 for every open axis. Raises Problem (exit 3) where the file does not open.
    """
    graph, values = _run(path, feeds)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    layout = _Layout()
    return [layout.marked(node, _operator(node, weights, values), values) for node in graph.node if node.op_type != "Constant"]


def _run(path: Path, feeds: Feeds | None) -> tuple[onnx.GraphProto, dict[str, np.ndarray]]:
    """The optimised graph, and every value of it by name."""
    import onnx

    with TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        _open(_whole(path), optimised)
        model = onnx.load(str(optimised))
        known = {value.name for value in model.graph.output}
        made = [name for node in model.graph.node for name in node.output if name and name not in known]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
        opened = _open(model.SerializeToString())
    inputs = dict(feeds) if feeds is not None else zeros(opened)
    asked = {port.name: inputs[port.name] for port in opened.get_inputs()}
    names = [value.name for value in opened.get_outputs()]
    return model.graph, asked | dict(zip(names, opened.run(names, asked), strict=True))


def _whole(path: Path) -> str | bytes:
    """The file; where it branches (`If`), one with the longer branch in its place: what the slowest answer runs."""
    import onnx

    model = onnx.load(str(path))
    graph = model.graph
    if not any(node.op_type == "If" for node in graph.node):
        return str(path)
    while any(node.op_type == "If" for node in graph.node):
        nodes = list(graph.node)
        place = next(place for place, node in enumerate(nodes) if node.op_type == "If")
        branch = max((part.g for part in nodes[place].attribute), key=lambda found: len(found.node))
        called = dict(zip((value.name for value in branch.output), nodes[place].output, strict=True))
        graph.initializer.extend(branch.initializer)
        for node in branch.node:
            node.input[:] = [called.get(name, name) for name in node.input]
            node.output[:] = [called.get(name, name) for name in node.output]
        nodes[place : place + 1] = list(branch.node)
        del graph.node[:]
        graph.node.extend(nodes)
    whole: bytes = model.SerializeToString()
    return whole


def _open(model: str | bytes, optimised: Path | None = None) -> ort.InferenceSession:
    import onnxruntime as ort

    from compress.runtime import one_line
    from rules.problems import bad_input

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if optimised is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(optimised)
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exception classes share no root but this one
        raise bad_input(f"{model if isinstance(model, str) else 'the graph'} cannot be opened: {one_line(error)}") from error


def zeros(opened: ort.InferenceSession) -> dict[str, np.ndarray]:
    """Inputs of the right kinds: zeros, 1 for every open axis."""
    kinds = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool"}
    return {
        port.name: np.zeros([size if isinstance(size, int) else 1 for size in port.shape], kinds.get(port.type, "float32"))
        for port in opened.get_inputs()
    }


def _operator(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto], values: Mapping[str, np.ndarray]) -> Operator:
    held = [weights[name] for name in node.input if name in weights]
    inside = [values[name] for name in node.input if name in values]
    outside = [values[name] for name in node.output if name]
    sizes = _sizes(node, held, inside, outside)
    return Operator(
        op=node.op_type,
        macs=_macs(node.op_type, sizes),
        weight_bytes=sum(prod(tensor.dims) * _width(tensor.data_type) for tensor in held),
        in_bytes=sum(array.nbytes for array in inside),
        out_bytes=sum(array.nbytes for array in outside),
        name=node.name or f"{node.op_type} {node.output[0]}",
        dtype=_kind(node, inside, outside),
        width=int(outside[0].shape[-1]) if outside and outside[0].ndim else 1,
        **sizes,  # type: ignore[arg-type]  # whole numbers, none of them `blocked`
    )


def _kind(node: onnx.NodeProto, inside: list[np.ndarray], outside: list[np.ndarray]) -> str:
    array = inside[0] if node.op_type == "DequantizeLinear" and inside else outside[0] if outside else None
    return {"float32": "float"}.get(str(array.dtype), str(array.dtype)) if array is not None else ""


def _sizes(node: onnx.NodeProto, held: list[onnx.TensorProto], inside: list[np.ndarray], outside: list[np.ndarray]) -> dict[str, int]:
    """rows, inputs, outputs, groups, window and steps, as `Operator` defines them."""
    shape = outside[0].shape if outside else ()
    if node.op_type in CONVOLUTIONS or node.op_type == "ConvTranspose":
        return _convolution(node, held, inside, shape)
    if node.op_type in PRODUCTS and inside:
        return _product(node, held, inside, shape)
    if node.op_type in RECURRENT:
        time, batch, width = inside[0].shape
        units, directions = (
            int(_attribute(node, "hidden_size", 0)),
            2 if _attribute(node, "direction", b"forward") == b"bidirectional" else 1,
        )
        return {"rows": batch, "inputs": width, "outputs": units, "groups": directions, "steps": time}
    if node.op_type in POOLS:
        return {"window": prod(_attribute(node, "kernel_shape", [1]))}
    if node.op_type in WHOLE and inside:
        return {"window": max(1, inside[0].size // max(1, outside[0].size))}
    between = 4 if node.op_type == "Resize" and _attribute(node, "mode", b"nearest") != b"nearest" else 1  # neighbours of a new value
    return {"rows": int(prod(shape[:-1])) if shape else 1, "window": between}


def _convolution(node: onnx.NodeProto, held: list[onnx.TensorProto], inside: list[np.ndarray], shape: tuple[int, ...]) -> dict[str, int]:
    kernel = [int(size) for size in next((tensor.dims for tensor in held if len(tensor.dims) > 2), shape)]
    groups = int(_attribute(node, "group", 1))
    if node.op_type == "ConvTranspose":  # its weight is (in, out / groups, kernel…), and its work is done at the input's positions
        rows = inside[0].shape[0] * prod(inside[0].shape[2:])
        return {"rows": rows, "inputs": kernel[0] // groups, "outputs": kernel[1], "groups": groups, "window": prod(kernel[2:])}
    rows = shape[0] * prod(shape[2:])
    return {"rows": rows, "inputs": kernel[1], "outputs": kernel[0] // groups, "groups": groups, "window": prod(kernel[2:])}


def _product(node: onnx.NodeProto, held: list[onnx.TensorProto], inside: list[np.ndarray], shape: tuple[int, ...]) -> dict[str, int]:
    flipped = bool(_attribute(node, "transA", 0))
    inner = inside[0].shape[-2 if flipped and inside[0].ndim > 1 else -1] if inside[0].ndim else 1
    width = shape[-1] if shape else 1
    constant = any(len(tensor.dims) > 1 for tensor in held)
    groups = 1 if constant else max(1, prod(shape[:-2]))
    return {"rows": prod(shape) // max(1, width * groups), "inputs": inner, "outputs": width, "groups": groups}


def _macs(op: str, sizes: Mapping[str, int]) -> int:
    if op in RECURRENT:
        gates = RECURRENT[op] * sizes["outputs"] * (sizes["inputs"] + sizes["outputs"])
        return sizes["rows"] * sizes["steps"] * sizes["groups"] * gates
    if "outputs" not in sizes:
        return 0
    return sizes["rows"] * sizes["inputs"] * sizes["outputs"] * sizes["groups"] * sizes.get("window", 1)


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    import onnx

    return next((onnx.helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def _width(kind: int) -> int:
    import onnx

    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


class _Layout:
    """Which values the runtime may keep with their channels in blocks (float) or last (integers), following the graph once.

    Source: onnxruntime, core/optimizer/nchwc_transformer.cc and nhwc_transformer.cc.
    """

    def __init__(self) -> None:
        self._blocked: set[str] = set()
        self._plain: set[str] = set()  # blocked values of which a plain copy was made

    def marked(self, node: onnx.NodeProto, operator: Operator, values: Mapping[str, np.ndarray]) -> Operator:
        from dataclasses import replace

        inside = [name for name in node.input if name in values]
        blocked = self._takes(node, operator, inside, values)
        if blocked:
            self._blocked.update(name for name in node.output if name)
            first = node.op_type in ("Conv", "FusedConv") and operator.groups == 1 and operator.inputs < BLOCK
            foreign = [] if first else [name for name in inside if name not in self._blocked and values[name].ndim > 2]
        else:
            foreign = [name for name in inside if name in self._blocked - self._plain]
            self._plain.update(foreign)
        return replace(operator, blocked=blocked, relaid_bytes=sum(values[name].nbytes for name in foreign))

    def _takes(self, node: onnx.NodeProto, operator: Operator, inside: list[str], values: Mapping[str, np.ndarray]) -> bool:
        shape = values[node.output[0]].shape if node.output and node.output[0] in values else ()
        if node.op_type == "QLinearConv":
            return len(shape) > 2
        if node.op_type in ("Conv", "FusedConv"):
            return len(shape) == 4 and _suits(operator)
        large = [name for name in inside if values[name].ndim > 2]
        if not large or not all(name in self._blocked for name in large):
            return False
        whole = all(values[name].shape == values[large[0]].shape for name in large)
        if node.op_type in POOLS | WHOLE:
            return True
        integer = operator.dtype in ("uint8", "int8")
        return (whole or node.op_type == "QLinearConcat" or integer) and node.op_type in (KEEPS_INTEGER | KEEPS_FLOAT)


def _suits(operator: Operator) -> bool:
    """Whether a float convolution is computed in blocks of channels."""
    if operator.groups == 1:
        return operator.inputs < BLOCK or operator.inputs % QUARTER == 0
    if operator.inputs == operator.outputs == 1:
        return operator.groups % QUARTER == 0
    return operator.inputs % BLOCK == 0 and operator.outputs % BLOCK == 0
