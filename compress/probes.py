"""What a model is timed on: a bundle's own probes filled from its golden inputs, or arrays of the shapes that its inputs declare.

A dynamic axis has no length of its own: batch is taken as 1, every other one must be said (`--shape image=1x1x32x128`).
A bundle's probes keep their names, so that profiles made here, on a board and in the run are compared probe by probe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.runtime import ports, predictor, session
from rules.examples import Feeds, Port
from rules.problems import Problem, bad_input, unknown

MOST_ELEMENTS = 2**26  # of one input: a quarter of a gigabyte of float32


def model_file(path: Path) -> Path:
    """The graph behind PATH: itself, or the `model.onnx` of a bundle folder."""
    if path.is_dir():
        path = path / "model.onnx"
    if not path.is_file():
        raise bad_input(f"no model file {path}", remedy="give a model.onnx or a bundle folder")
    return path


def probes_for(path: Path, shapes: Sequence[str], *, reference: Path | None = None, seed: int = 0) -> dict[str, Feeds]:
    """Named inputs to time `path` with: those of a bundle, else arrays of the declared or given shapes. Each is tried once,
    on the reference too, where there is one.

    Raises Problem: exit 2 for a shape that is none, is missing or does not fit the input; exit 3 where the graph fails on it.
    """
    graph = model_file(path)
    inputs = ports(session(graph)).inputs
    wanted = _parse(shapes, [port.name for port in inputs])
    found = _of_bundle(path, inputs) if path.is_dir() and not shapes else {}
    if not found:
        generator = np.random.default_rng(seed)
        made = {port.name: _array(port, wanted.get(port.name), generator) for port in inputs}
        found = {",".join(_text(array.shape) for array in made.values()): made}
    for file in filter(None, (graph, reference)):
        predict = predictor(file)
        for feeds in found.values():
            predict(feeds)
    return found


# -- of a bundle ---------------------------------------------------------------------------------------------------------


def _of_bundle(bundle: Path, inputs: Sequence[Port]) -> dict[str, Feeds]:
    """The probes that the manifest names, filled with golden values; without a manifest the golden inputs, by their shape."""
    golden = _golden(bundle, inputs)
    named = _declared(bundle, inputs)
    if not golden or not named:
        return golden
    values = next(iter(golden.values()))
    return {name: {key: _stretched(values[key], shape) for key, shape in of.items()} for name, of in named.items()}


def _declared(bundle: Path, inputs: Sequence[Port]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes of the manifest's probes. Raises Problem (exit 3) for a manifest that is none, or is of another graph."""
    path = bundle / "manifest.json"
    if not path.is_file():
        return {}
    try:
        probes = json.loads(path.read_bytes())["probes"]
        return {str(name): {port.name: _size_of(feeds[port.name], port) for port in inputs} for name, feeds in probes.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        raise bad_input(
            f"{path} names no probes that fit the model: {error}", remedy=f"advisor bundle verify {bundle} lists all"
        ) from error


def _size_of(shape: Sequence[Any], port: Port) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != len(port.shape) or any(size < 1 for size in sizes) or _product(sizes) > MOST_ELEMENTS:
        raise ValueError(f"{port.name} {_text(sizes)}")
    return sizes


def _golden(bundle: Path, inputs: Sequence[Port]) -> dict[str, Feeds]:
    """The golden inputs, one of each shape. Raises Problem (exit 3) for a file that is no tensor, or none of this graph."""
    probes: dict[str, Feeds] = {}
    for folder in sorted((bundle / "golden").glob("test_data_set_*")):
        files = {port.name: folder / f"input_{index}.pb" for index, port in enumerate(inputs)}
        if all(file.is_file() for file in files.values()):
            feeds = {port.name: _tensor(files[port.name], port) for port in inputs}
            probes.setdefault(",".join(_text(array.shape) for array in feeds.values()), feeds)
    return probes


def _tensor(file: Path, port: Port) -> np.ndarray:
    import onnx
    from onnx import numpy_helper

    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(file.read_bytes())
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError("it points to another file")
        array = numpy_helper.to_array(tensor)
    except Exception as error:  # protobuf's DecodeError is not importable from one stable place
        raise bad_input(f"{file} is no tensor file: {' '.join(str(error).split())}") from error
    if array.dtype != port.dtype or not _fits(port, array.shape) or not array.size:
        raise bad_input(f"{file} holds {array.dtype} {_text(array.shape)}, input {port.name!r} is {port.dtype} {_text(port.shape)}")
    return array


def _stretched(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The values cut or repeated along every axis to `shape`."""
    for axis, size in enumerate(shape):
        values = np.take(values, np.arange(size) % values.shape[axis], axis=axis)
    return np.ascontiguousarray(values)


# -- of a bare graph -----------------------------------------------------------------------------------------------------


def _parse(shapes: Sequence[str], inputs: Sequence[str]) -> Mapping[str, tuple[int, ...]]:
    wanted: dict[str, tuple[int, ...]] = {}
    for text in shapes:
        name, _, shape = text.rpartition("=")
        name = name or (inputs[0] if len(inputs) == 1 else name)
        if name not in inputs:
            raise unknown("input", name, inputs, remedy=f"--shape {inputs[0]}=1x1x32x128")
        if name in wanted:
            raise Problem(f"--shape {name} is given twice")
        try:
            wanted[name] = tuple(int(size) for size in shape.split("x"))
        except ValueError:
            raise Problem(f"--shape {text!r} is no shape", remedy=f"--shape {name}=1x1x32x128") from None
        if any(size < 1 for size in wanted[name]) or _product(wanted[name]) > MOST_ELEMENTS:
            raise Problem(f"--shape {text!r}: sizes are from 1, and at most 2^26 elements in all")
    return wanted


def _array(port: Port, wanted: tuple[int, ...] | None, generator: np.random.Generator) -> np.ndarray:
    """Normal noise; zeros and ones for integers, which are valid as token ids and as masks."""
    shape = wanted or tuple(_size(port, index, axis) for index, axis in enumerate(port.shape))
    if not _fits(port, shape):
        raise Problem(f"input {port.name!r} has shape {_text(port.shape)}, got {_text(shape)}")
    if port.dtype.startswith("float"):
        return np.asarray(generator.standard_normal(shape, dtype=np.float32)).astype(port.dtype)
    try:
        return np.asarray(generator.integers(0, 2, shape)).astype(port.dtype)
    except TypeError:
        raise bad_input(f"input {port.name!r} takes {port.dtype}, only numbers can be made up") from None


def _fits(port: Port, shape: Sequence[int]) -> bool:
    return len(shape) == len(port.shape) and all(
        axis == size for axis, size in zip(port.shape, shape, strict=True) if isinstance(axis, int)
    )


def _size(port: Port, index: int, axis: int | str) -> int:
    if isinstance(axis, int):
        return axis
    if index == 0:
        return 1
    example = "x".join(str(size) if isinstance(size, int) else "1" if place == 0 else "N" for place, size in enumerate(port.shape))
    raise Problem(
        f"input {port.name!r} is {_text(port.shape)}: axis {axis!r} has no length of its own",
        remedy=f"--shape {port.name}={example}, N a number",
    )


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def _text(shape: Sequence[int | str]) -> str:
    return "x".join(map(str, shape))
