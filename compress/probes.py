"""What a model is timed on: a bundle's golden inputs, or arrays of the shapes that its inputs declare.

A dynamic axis has no length of its own: batch is taken as 1, every other one must be said (`--shape image=1x1x32x128`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.runtime import ports, session
from rules.examples import Feeds, Port
from rules.problems import Problem, bad_input, unknown


def model_file(path: Path) -> Path:
    """The graph behind PATH: itself, or the `model.onnx` of a bundle folder."""
    if path.is_dir():
        path = path / "model.onnx"
    if not path.is_file():
        raise bad_input(f"no model file {path}", remedy="give a model.onnx or a bundle folder")
    return path


def probes_for(path: Path, shapes: Sequence[str], *, seed: int = 0) -> dict[str, Feeds]:
    """Named inputs to time `path` with: golden inputs of a bundle, else random arrays of the declared shapes."""
    if path.is_dir() and not shapes:
        golden = _golden(path)
        if golden:
            return golden
    inputs = ports(session(model_file(path))).inputs
    wanted = _parse(shapes, [port.name for port in inputs])
    generator = np.random.default_rng(seed)
    feeds = {port.name: _array(port, wanted.get(port.name), generator) for port in inputs}
    label = ",".join("x".join(map(str, array.shape)) for array in feeds.values())
    return {label: feeds}


def _golden(bundle: Path) -> dict[str, Feeds]:
    import onnx
    from onnx import numpy_helper

    wanted = ports(session(bundle / "model.onnx")).inputs
    probes: dict[str, Feeds] = {}
    for folder in sorted((bundle / "golden").glob("test_data_set_*")):
        feeds = {}
        for index, port in enumerate(wanted):
            file = folder / f"input_{index}.pb"
            if file.is_file():
                tensor = onnx.TensorProto()
                tensor.ParseFromString(file.read_bytes())
                feeds[port.name] = numpy_helper.to_array(tensor)
        if len(feeds) == len(wanted):
            label = "x".join(map(str, next(iter(feeds.values())).shape))
            probes.setdefault(label, feeds)
    return probes


def _parse(shapes: Sequence[str], inputs: Sequence[str]) -> dict[str, tuple[int, ...]]:
    wanted = {}
    for text in shapes:
        name, _, shape = text.rpartition("=")
        name = name or (inputs[0] if len(inputs) == 1 else name)
        if name not in inputs:
            raise unknown("input", name, inputs)
        try:
            wanted[name] = tuple(int(size) for size in shape.split("x"))
        except ValueError:
            raise Problem(f"--shape {text!r} is no shape", remedy="--shape image=1x1x32x128") from None
        if any(size < 1 for size in wanted[name]) or int(np.prod(wanted[name])) > 2**28:
            raise Problem(f"--shape {text!r}: sizes are from 1, and at most 2^28 elements in all")
    return wanted


def _array(port: Port, wanted: tuple[int, ...] | None, generator: np.random.Generator) -> np.ndarray:
    shape = wanted or tuple(_size(port, axis) for axis in port.shape)
    if len(shape) != len(port.shape) or any(isinstance(axis, int) and axis != size for axis, size in zip(port.shape, shape, strict=False)):
        raise Problem(f"input {port.name!r} has shape {_text(port.shape)}, got {_text(shape)}")
    if port.dtype.startswith("float"):
        return generator.standard_normal(shape).astype(port.dtype)
    return generator.integers(0, 2, shape).astype(port.dtype)


def _size(port: Port, axis: int | str) -> int:
    if isinstance(axis, int):
        return axis
    if axis == port.shape[0]:
        return 1
    raise Problem(f"input {port.name!r} is {_text(port.shape)}: axis {axis!r} has no length of its own", remedy=f"--shape {port.name}=1x…")


def _text(shape: Sequence[int | str]) -> str:
    return "x".join(map(str, shape))
