"""Examining a graph that may mean harm: what it would load and how much it would allocate, before anything runs it.

Run as a program (`python -m compress.hostile FILE BYTES SECONDS`) it limits itself first, then examines, opens and
once runs the file, and prints one JSON line: the ports, or the refusal.
Sources: CVE-2022-25882, CVE-2024-27318, CVE-2026-27489 (external data outside the model's folder).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rules.problems import Exit, Problem, bad_input

if TYPE_CHECKING:
    import onnx

    from rules.examples import Signature

MOST_ELEMENTS = 2**27  # of one tensor a graph makes out of nothing: half a gigabyte of float32
GROWERS = ("ConstantOfShape", "Expand", "Tile", "Range", "RandomNormal", "RandomUniform", "Resize", "Pad", "EyeLike", "OneHot")


def examine(path: Path) -> onnx.ModelProto:
    """Read `path` without its external data and check it. Raises Problem (exit 3)."""
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError is not importable from one stable place
        raise bad_input(f"{path} is no ONNX file, or a damaged one", remedy=_guess(path)) from error
    if not model.HasField("graph") or not model.graph.node or not model.opset_import:
        raise bad_input(f"{path} is no ONNX file: it has no graph", remedy=_guess(path))
    for tensor in _stored(model):
        _check_location(tensor, path)
    _check_sizes(model, path)
    return model


def _guess(path: Path) -> str | None:
    head = path.open("rb").read(8)
    kinds = {b"PK\x03\x04": "a zip archive, as torch.save writes", b"\x89HDF": "HDF5, as Keras writes", b"\x80": "a pickle", b"": "empty"}
    for start, kind in kinds.items():
        if head.startswith(start) and (start or not head):
            return f"it looks like {kind}" if start else "it is empty"
    return "torch.onnx.export writes one"


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and every graph inside its nodes' attributes."""
    waiting = [graph]
    while waiting:
        current = waiting.pop()
        yield current
        for node in current.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _stored(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor written in the file, wherever it hides."""
    nodes = [node for function in model.functions for node in function.node]
    for graph in graphs(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        nodes += graph.node
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_location(tensor: onnx.TensorProto, path: Path) -> None:
    """External data must be a regular file inside the model's folder, reached through no link."""
    import onnx

    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    entry = {item.key: item.value for item in tensor.external_data}
    location, folder = entry.get("location", ""), path.resolve().parent
    data = folder / location
    inside = bool(location) and not Path(location).is_absolute() and data.resolve().is_relative_to(folder)
    if not inside or data.resolve() != data or (data.exists() and data.stat().st_nlink > 1):
        raise bad_input(f"{path}: tensor {tensor.name!r} keeps its data in {location!r}, outside the model's folder or through a link")
    if not data.is_file():
        raise bad_input(f"{path}: tensor {tensor.name!r} keeps its data in {location!r}, which is missing")
    try:
        offset, length = int(entry.get("offset", 0)), int(entry.get("length", 0))
    except ValueError:
        offset, length = -1, -1
    if offset < 0 or length < 0 or offset + length > data.stat().st_size:
        raise bad_input(f"{path}: tensor {tensor.name!r} reaches past the end of {location!r}")


def _check_sizes(model: onnx.ModelProto, path: Path) -> None:
    """Refuse a node whose output is statically known to be absurdly large."""
    for graph in graphs(model.graph):
        known = dict(_constants(graph))
        for node in graph.node:
            if node.op_type in GROWERS and (size := _made(node, known)) > MOST_ELEMENTS:
                raise bad_input(f"{path}: {node.op_type} {node.name!r} makes {size:.0e} values, more than the {MOST_ELEMENTS:.0e} allowed")
    for name, size in _inferred(model):
        if size > MOST_ELEMENTS:
            raise bad_input(f"{path}: tensor {name!r} has {size:.0e} values, more than the {MOST_ELEMENTS:.0e} allowed")


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, np.ndarray]]:
    """The small constants of a graph, by name. Large ones are weights and of no interest."""
    import onnx

    tensors = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    tensors.append((node.output[0], attribute.t))
                elif attribute.ints or attribute.HasField("i"):
                    yield node.output[0], np.array(list(attribute.ints) or [attribute.i], np.int64)
    for name, tensor in tensors:
        if prod(tensor.dims) <= 64 and tensor.data_location != onnx.TensorProto.EXTERNAL:
            try:
                yield name, onnx.numpy_helper.to_array(tensor)
            except Exception:  # a damaged constant: the runtime will say so
                continue


def _made(node: onnx.NodeProto, known: Mapping[str, np.ndarray]) -> float:
    """How many values `node` makes, as far as its constant inputs tell; 0 when they do not."""
    inputs = [known.get(name) for name in node.input]
    shape = {item.name: list(item.ints) for item in node.attribute if item.ints}.get("shape", [])
    first, second = [*inputs, None, None][:2]
    if node.op_type in ("RandomNormal", "RandomUniform"):
        return float(prod(shape))
    if node.op_type == "ConstantOfShape":
        return _volume(first)
    if node.op_type in ("Expand", "Tile"):
        return _volume(second)
    if node.op_type == "Range" and len(inputs) == 3 and all(value is not None for value in inputs):
        start, limit, delta = (float(np.ravel(value)[0]) for value in inputs)  # type: ignore[arg-type]
        return abs((limit - start) / delta) if delta else float("inf")
    if node.op_type == "Resize":
        return _volume(inputs[3] if len(inputs) > 3 else inputs[2] if len(inputs) > 2 else None)
    if node.op_type == "OneHot":
        return _volume(second)
    return float(np.abs(second.astype(np.float64)).max(initial=0)) if node.op_type == "Pad" and second is not None else 0.0


def _volume(values: np.ndarray | None) -> float:
    return 0.0 if values is None else float(np.prod(np.ravel(values).astype(np.float64)))


def _inferred(model: onnx.ModelProto) -> Iterator[tuple[str, int]]:
    """Sizes that shape inference works out where every axis is fixed. A graph it stumbles over has none."""
    import onnx

    if model.ByteSize() > 2**30:
        return
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:
        return
    for value in [*graph.value_info, *graph.input, *graph.output]:
        axes = value.type.tensor_type.shape.dim
        if all(axis.HasField("dim_value") for axis in axes):
            yield value.name, prod(axis.dim_value for axis in axes)


def main(arguments: list[str]) -> int:
    """The child's whole life: limits, examination, opening, one run."""
    path = Path(arguments[0])
    _limit(int(arguments[1]), int(arguments[2]))
    try:
        answer = _open(path)
    except Problem as problem:
        answer = {"environment" if problem.code == Exit.ENVIRONMENT else "refused": str(problem)}
    except MemoryError:
        answer = {"refused": f"{path} asks for more memory than a model of its size may"}
    print(json.dumps(answer), flush=True)
    return 0


def _limit(size: int, seconds: int) -> None:
    import resource

    for kind, most in ((resource.RLIMIT_AS, size), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):  # macOS refuses some limits; the wall limit of the parent remains
            continue


def _open(path: Path) -> dict[str, Any]:
    from compress.runtime import ports, session

    examine(path)
    opened = session(path)
    signature = ports(opened)
    _try(opened, signature, path)
    return {side: [[port.name, port.dtype, list(port.shape)] for port in getattr(signature, side)] for side in ("inputs", "outputs")}


def _try(opened: Any, signature: Signature, path: Path) -> None:
    """One run on zeros: only a want of memory refuses the file. Other failures mean our made-up sizes do not fit it."""
    from compress.runtime import one_line

    try:
        shapes = {port.name: [size if isinstance(size, int) and size > 0 else 1 for size in port.shape] for port in signature.inputs}
        opened.run(None, {port.name: np.zeros(shapes[port.name], port.dtype) for port in signature.inputs})
    except MemoryError:
        raise
    except Exception as error:
        if "allocate memory" in str(error) or "bad_alloc" in str(error):
            raise bad_input(f"{path} asks for more memory than a model of its size may: {one_line(error)}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
