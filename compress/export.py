"""The door between the two kinds of stage: an `nn.Module` becomes an ONNX file that says the same.

The TorchScript exporter comes first: recurrent nets keep a dynamic time axis only there, and quantization-aware
training was proven on its graphs. What it cannot export goes through the dynamo exporter with unnamed dynamic axes,
because a named one silently becomes fixed when a constraint fails. Neither is believed: the file is opened on the
runtime, its axes are checked to be symbolic, and it is run at three shapes against the module.
The same weights give the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.context import Data, Target, tensors
from compress.files import publish
from compress.runtime import one_line, predictor, session
from rules.examples import Feeds, Port, Signature
from rules.problems import Problem, bad_input

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

MOST_SCATTER = 0.1
LEGACY_OPSET = 17  # the newest that both the TorchScript exporter and onnxruntime's quantizer were proven on


def export(model: nn.Module, data: Data, path: Path, *, target: Target, tolerance: float = 1e-4, check: bool = True) -> Path:
    """Write `model` to `path` with the names and dynamic axes of `data.signature`; it is checked before it is published.

    `tolerance` bounds |onnx - torch| / max |torch| at three shapes. `check=False` is for drafts that are timed and thrown away. Raises Problem (exit 3) naming the operator, the axis
    or the difference that stands in the way.
    """
    examples = list(shapes(data.signature, data.probes()))
    module = fused(deepcopy(model).cpu().eval())
    with TemporaryDirectory() as folder:
        draft = Path(folder) / "model.onnx"
        _trace(module, data.signature, examples[1], draft, target)
        _finish(draft, module, data.signature, target)
        if check:
            _check_axes(draft, data.signature)
            _check_outputs(draft, module, data.signature, examples, tolerance)
        content = draft.read_bytes()
    return publish(path, lambda part: part.write_bytes(content))


def fused(model: nn.Module) -> nn.Module:
    """The module in the form it answers in: one with a method `fused` (branches that training has and the file has not) gives that."""
    make = getattr(model, "fused", None)
    found: nn.Module = make() if callable(make) else model
    return found


def shapes(signature: Signature, probes: Mapping[str, Feeds]) -> Iterator[dict[str, np.ndarray]]:
    """Three sets of inputs cut from the probes, with batches of 1, 3 and 2 and two sizes of every other dynamic axis."""
    feeds = list(probes.values())
    batch = signature.inputs[0].shape[0]
    sizes = _sizes(signature, feeds)
    for number, count in enumerate((1, 3, 2)):
        chosen = {axis: options[number % len(options)] for axis, options in sizes.items()}
        chosen |= {batch: count} if isinstance(batch, str) else {}
        yield {port.name: _cut(port, feeds, chosen) for port in signature.inputs}


def _sizes(signature: Signature, feeds: list[Feeds]) -> dict[str, list[int]]:
    """For each dynamic axis the sizes the probes have, and where that is one only, a neighbour its range allows."""
    found: dict[str, list[int]] = {}
    for port in signature.inputs:
        for index, axis in enumerate(port.shape):
            if isinstance(axis, str):
                have = sorted({feed[port.name].shape[index] for feed in feeds})
                low, high, step = port.ranges.get(axis, (1, 2**31, 1))
                if len(have) == 1:
                    have += [size for size in (have[0] + step, have[0] - step) if low <= size <= high][:1]
                found.setdefault(axis, have)
    return found


def _cut(port: Port, feeds: list[Feeds], chosen: Mapping[str, int]) -> np.ndarray:
    """One input of the chosen size. Rows come from different probes, wrapped round and shifted, so that no two are alike."""
    dynamic = [index for index, axis in enumerate(port.shape) if isinstance(axis, str)]
    rows = chosen.get(str(port.shape[0]), 1) if 0 in dynamic else 1
    made = []
    for row in range(rows):
        array = feeds[row % len(feeds)][port.name]
        for index in dynamic:
            size = chosen[str(port.shape[index])] if index else 1
            array = np.take(array, (np.arange(size) + 3 * row) % array.shape[index], axis=index)
        made.append(array)
    return np.ascontiguousarray(np.concatenate(made, axis=0) if 0 in dynamic else made[0])


def _trace(module: nn.Module, signature: Signature, example: Feeds, path: Path, target: Target) -> None:
    """Run the exporters in turn; the first that succeeds wins. Recurrent nets have one chance only."""
    from torch import nn

    exporters = [_legacy, _dynamo]
    if any(isinstance(part, nn.RNNBase) for part in module.modules()):
        exporters = [_legacy]
    failures = []
    for exporter in exporters:
        try:
            with _quiet():
                exporter(module, signature, example, path, min(target.opset, LEGACY_OPSET) if exporter is _legacy else target.opset)
            return
        except MemoryError:
            raise
        except Exception as error:  # the exporters raise whatever their tracers met
            failures.append(error)
    raise _refusal(module, failures) from failures[0]


def _legacy(module: nn.Module, signature: Signature, example: Feeds, path: Path, opset: int) -> None:
    import torch

    axes = {
        port.name: {index: axis for index, axis in enumerate(port.shape) if isinstance(axis, str)}
        for port in (*signature.inputs, *signature.outputs)
    }
    torch.onnx.export(
        module,
        _arguments(signature, example),
        str(path),
        input_names=[port.name for port in signature.inputs],
        output_names=[port.name for port in signature.outputs],
        dynamic_axes=axes,
        opset_version=opset,
        dynamo=False,
    )


def _dynamo(module: nn.Module, signature: Signature, example: Feeds, path: Path, opset: int) -> None:
    import torch
    from torch.export import Dim

    dynamic = tuple({index: Dim.DYNAMIC for index, axis in enumerate(port.shape) if isinstance(axis, str)} for port in signature.inputs)
    torch.onnx.export(
        module,
        _arguments(signature, example),
        str(path),
        input_names=[port.name for port in signature.inputs],
        output_names=[port.name for port in signature.outputs],
        dynamic_shapes=dynamic,
        opset_version=max(opset, 18),
        external_data=False,
        dynamo=True,
        verbose=False,
    )


def _arguments(signature: Signature, feeds: Feeds) -> tuple[Tensor, ...]:
    """The module's positional arguments, in the signature's order."""
    arrays = tensors({port.name: feeds[port.name] for port in signature.inputs})
    return tuple(arrays.values())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters talk on every channel; nothing they say outlives this block, and no filter is touched outside it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _refusal(module: nn.Module, failures: list[Exception]) -> Problem:
    """The line for a module no exporter takes: the operator where one is named, else what each exporter said."""
    name = type(module).__name__
    operator = next(
        (found for failure in failures if (found := re.search(r"\b(?:aten|torchvision|prim|quantized)::?[\w.]+", str(failure)))), None
    )
    if operator:
        return bad_input(f"{name} cannot be exported: ONNX has no form for operator {operator[0]!r}", remedy="replace it in forward()")
    said = "; ".join(one_line(failure, 160) for failure in failures)
    return bad_input(f"{name} cannot be exported: {said}", remedy="forward() must take the inputs of the task's signature, in that order")


def _finish(path: Path, module: nn.Module, signature: Signature, target: Target) -> None:
    """Names of axes, versions as the target wants them, provenance; then the format's own checker."""
    import onnx

    model = onnx.load(str(path))
    _cap_versions(model, target)
    _name_axes(model.graph.input, signature.inputs, module)
    _name_axes(model.graph.output, signature.outputs, module)
    _forget_traces(model)
    ranges = {port.name: {axis: list(limits) for axis, limits in port.ranges.items()} for port in signature.inputs}
    onnx.helper.set_model_props(model, {"module": type(module).__qualname__, "ranges": json.dumps(ranges, sort_keys=True)})
    try:
        onnx.checker.check_model(model, full_check=True)  # infers shapes too
    except Exception as error:
        raise bad_input(f"the exporter wrote an invalid graph for {type(module).__name__}: {one_line(error)}") from error
    path.write_bytes(model.SerializeToString(deterministic=True))


def _cap_versions(model: onnx.ModelProto, target: Target) -> None:
    """Refuse an opset the target cannot read; write the oldest IR version that the opset allows and the target asks for."""
    import onnx

    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset > target.opset:
        raise bad_input(
            f"this module exports at opset {opset}, {target.name} reads up to {target.opset}", remedy="choose a target with a newer runtime"
        )
    least = onnx.helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    model.ir_version = max(least, min(model.ir_version, target.ir_version))


def _name_axes(values: Any, declared: tuple[Port, ...], module: nn.Module) -> None:
    """Write the signature's axis names over whatever the exporter made up, and its fixed sizes where it left them open."""
    found = {value.name: value for value in values}
    for port in declared:
        if port.name not in found:
            raise bad_input(
                f"{type(module).__name__} does not use input or make output {port.name!r}", remedy=f"the graph has {', '.join(found)}"
            )
        axes = found[port.name].type.tensor_type.shape.dim
        if len(axes) != len(port.shape):
            raise bad_input(f"{port.name!r} has {len(axes)} axes, its signature {list(port.shape)} has {len(port.shape)}")
        for axis, size in zip(axes, port.shape, strict=True):
            if isinstance(size, str) and not axis.HasField("dim_value"):
                axis.dim_param = size
            elif isinstance(size, int) and not axis.HasField("dim_value"):
                axis.dim_value = size


def _forget_traces(model: onnx.ModelProto) -> None:
    """Drop source paths and notes of the tracer: they differ from machine to machine and say where the user keeps their code."""
    model.doc_string = ""
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]


def _check_axes(path: Path, signature: Signature) -> None:
    """Every axis the signature calls dynamic must be symbolic on the runtime: exporters fix axes without a word."""
    opened = session(path)
    infos = {info.name: info.shape for info in (*opened.get_inputs(), *opened.get_outputs())}
    for port in (*signature.inputs, *signature.outputs):
        for index, (got, wanted) in enumerate(zip(infos[port.name], port.shape, strict=True)):
            if isinstance(wanted, str) and isinstance(got, int):
                raise bad_input(
                    f"axis {index} ({wanted}) of {port.name!r} was exported as the fixed size {got}",
                    remedy="forward() must not turn it into a number",
                )
            if isinstance(wanted, int) and got != wanted:
                raise bad_input(f"axis {index} of {port.name!r} was exported as {got!r}, its signature says {wanted}")


def _check_outputs(path: Path, module: nn.Module, signature: Signature, examples: list[dict[str, np.ndarray]], tolerance: float) -> None:
    """The file and the module must agree at every shape, relative to the largest output."""
    predict = predictor(path)
    for feeds in examples:
        got = predict(feeds)
        for port, wanted in zip(signature.outputs, _run(module, signature, feeds), strict=True):
            sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            if got[port.name].shape != wanted.shape:
                raise bad_input(f"the exported {port.name!r} is {list(got[port.name].shape)} on {sizes}, the module's {list(wanted.shape)}")
            difference = relative(got[port.name], wanted)
            if not difference <= tolerance and not difference <= scatter(module, signature, feeds).get(port.name, 0.0):
                raise bad_input(f"the exported graph differs from the module by {difference:.1e} on {sizes}, allowed {tolerance:.0e}")


def scatter(module: nn.Module, signature: Signature, feeds: Feeds) -> dict[str, float]:
    """How far the module's own rounding carries each output: four times its distance from itself in double precision, a tenth at most.

    A deep net with weights at random can be so unsteady that no two ways to add agree; that is no fault of an export. Empty where the
    module cannot be computed in double precision.
    """
    try:
        exact = _run(deepcopy(module).double(), signature, {name: _double(array) for name, array in feeds.items()})
    except (RuntimeError, TypeError):
        return {}
    single = _run(module, signature, feeds)
    return {
        port.name: min(MOST_SCATTER, 4 * relative(one, other)) for port, one, other in zip(signature.outputs, single, exact, strict=True)
    }


def _double(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _run(module: nn.Module, signature: Signature, feeds: Feeds) -> list[np.ndarray]:
    """The module's outputs in the signature's order, whether it returns a tensor, a tuple or a dictionary."""
    import torch

    with torch.no_grad():
        out = module(*_arguments(signature, feeds))
    if isinstance(out, Mapping):
        out = [out[port.name] for port in signature.outputs] if signature.outputs[0].name in out else list(out.values())
    out = [out] if isinstance(out, torch.Tensor) else list(out)
    return [value.numpy() for value in out]


def relative(got: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference over the largest magnitude; not-a-number counts as infinite."""
    if not wanted.size:
        return 0.0
    difference = np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max()
    scale = max(float(np.abs(wanted.astype(np.float64)).max()), 1e-12)
    return float(difference / scale) if np.isfinite(difference) else float("inf")
