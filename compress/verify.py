"""Does the file say what it should? onnxruntime against the trained model, and against its own other optimisation levels.

A float file is held to a relative difference. An integer file is held to itself: fused integer kernels (level `all`)
against plain arithmetic (level `none`), in steps of the output's quantizer, and by how many decisions change.
A decision is the largest entry along the last axis of an output: a class, or a character at one time step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.context import Data, Predict, Split
from compress.files import sha256
from compress.runtime import Level, predictor
from rules.examples import Feeds

if TYPE_CHECKING:
    import onnx

SCHEMA_VERSION = 1
RELATIVE = 1e-4  # float files: largest difference over the largest output
STEPS = 2.0  # integer files: largest difference in steps of the output's quantizer
DECISIONS = 0.002  # integer files: share of decisions that may change; one may in any case
BATCH = 8
LEVELS: tuple[Level, ...] = ("all", "basic", "none")


@dataclass(slots=True)
class Agreement:
    """Two sets of outputs, compared as they come. `step` is the size of one quantization step of the output, where it has one."""

    step: float | None = None
    undecided: frozenset[str] = frozenset()  # outputs whose largest value is no decision
    largest: float = 0.0  # absolute difference
    scale: float = 0.0  # largest magnitude of the reference
    decisions: int = 0
    changed: int = 0
    readings: int = 0
    misread: int = 0
    broken: list[str] = field(default_factory=list)  # shapes that differ, numbers that are none

    def add(self, got: Feeds, wanted: Feeds) -> None:
        """Compare one batch of outputs."""
        for name, expected in wanted.items():
            actual = got.get(name)
            if actual is None or actual.shape != expected.shape:
                self.broken.append(f"{name} is {None if actual is None else list(actual.shape)}, expected {list(expected.shape)}")
                continue
            if not expected.size:
                continue
            difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max()
            if not np.isfinite(difference):
                self.broken.append(f"{name} is not finite")
                continue
            self.largest = max(self.largest, float(difference))
            self.scale = max(self.scale, float(np.abs(expected).max()))
            if expected.ndim > 1 and expected.shape[-1] > 1 and name not in self.undecided:
                chosen = expected.argmax(-1)
                self.decisions += chosen.size
                self.changed += int((actual.argmax(-1) != chosen).sum())

    @property
    def relative(self) -> float:
        return self.largest / max(self.scale, 1e-12)

    def faults(self, *, relative: float | None, steps: float | None = None, decisions: float | None = None) -> list[str]:
        """What breaks the given bounds, in words; nothing when all hold. A bound of None is not applied."""
        found = list(dict.fromkeys(self.broken))
        if relative is not None and self.relative > relative:
            found.append(f"differs by {self.relative:.1e} of the largest output, allowed {relative:.0e}")
        if steps is not None and self.step and self.largest / self.step > steps:
            found.append(f"differs by {self.largest / self.step:.1f} output steps, allowed {steps:g}")
        if decisions is not None and self.changed > max(1, decisions * self.decisions):
            found.append(f"{self.changed} of {self.decisions} decisions changed, allowed {100 * decisions:g} %")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the record."""
        return {
            "max_abs": self.largest,
            "max_rel": self.relative,
            "steps": self.largest / self.step if self.step else None,
            "decisions": self.decisions,
            "decisions_changed": self.changed,
            "readings": self.readings,
            "readings_changed": self.misread,
        }


def agree(predict: Predict, examples: Iterable[tuple[Feeds, Feeds]], *, step: float | None = None) -> Agreement:
    """Compare a predictor with stored outputs, e.g. golden vectors."""
    found = Agreement(step)
    for inputs, wanted in examples:
        found.add(predict(inputs), wanted)
    return found


def verify(
    graph: Path,
    reference: Predict | None,
    data: Data,
    *,
    split: Split = "val",
    limit: int = 64,
    tolerance: float | None = None,
    steps: float = STEPS,
    decisions: float = DECISIONS,
) -> dict[str, Any]:
    """Compare `graph` on real inputs with `reference`, and its optimisation levels with each other; JSON with "passed".

    `tolerance` is the relative bound: 1e-4 where it is not given and the file is float. An integer file's levels are held to
    `steps` and `decisions`; against a reference it is only reported, unless a tolerance is given: that is what its score is for.
    """
    step, integer = output_step(graph)
    bounds: dict[str, float | None] = (
        {"relative": tolerance, "steps": steps, "decisions": decisions}
        if integer
        else {"relative": RELATIVE if tolerance is None else tolerance}
    )
    readers = {level: predictor(graph, level=level) for level in LEVELS}
    pairs: dict[str, tuple[Level, Level | None]] = {f"{level} against none": (level, "none") for level in LEVELS[:2]}
    if reference:
        pairs |= {f"{level} against the model": (level, None) for level in LEVELS}
    undecided = frozenset(port.name for port in data.signature.outputs if not port.decides)
    found = {name: Agreement(step, undecided) for name in pairs}
    count = 0
    for batch in data.batches(split, batch_size=BATCH, limit=limit):
        count += len(batch.ids)
        out: dict[Level | None, Feeds] = {level: readers[level](batch.inputs) for level in LEVELS}
        out[None] = reference(batch.inputs) if reference else {}
        for name, (ours, theirs) in pairs.items():
            _add(found[name], out[ours], out[theirs], data)
    faults = [
        f"{name}: {fault}"
        for name, (_, other) in pairs.items()
        for fault in _faults(found[name], bounds, itself=other is not None, integer=integer)
    ]
    faults += [] if count else ["no examples to verify on"]
    return {
        "schema_version": SCHEMA_VERSION,
        "passed": not faults,
        "faults": faults,
        "sha256": sha256(graph),
        "kind": "integer" if integer else "float",
        "split": split,
        "samples": count,
        "output_step": step,
        "tolerance": bounds,
        "comparisons": {name: agreement.as_dict() for name, agreement in found.items()},
    }


def _faults(agreement: Agreement, bounds: dict[str, float | None], *, itself: bool, integer: bool) -> list[str]:
    if itself and integer:  # the relative bound is for the model; the levels of an integer file have steps and decisions
        return agreement.faults(relative=None, steps=bounds["steps"], decisions=bounds["decisions"])
    return agreement.faults(relative=bounds["relative"])


def _add(agreement: Agreement, got: Feeds, wanted: Feeds, data: Data) -> None:
    agreement.add(got, wanted)
    if not agreement.broken:
        ours, theirs = data.read(got), data.read(wanted)
        agreement.readings += len(theirs)
        agreement.misread += sum(a != b for a, b in zip(ours, theirs, strict=True))


def output_step(graph: Path) -> tuple[float | None, bool]:
    """The step of the quantizer behind the first output, where there is one; and whether the file computes with integers at all."""
    import onnx

    model = onnx.load(str(graph), load_external_data=False)
    integer = any("Quantize" in node.op_type or "Integer" in node.op_type or node.op_type == "MatMulNBits" for node in model.graph.node)
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers.get(model.graph.output[0].name)
    while node is not None and node.op_type in ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast"):
        node = makers.get(node.input[0])
    if node is None or node.op_type != "DequantizeLinear":
        return None, integer
    return _scale(model.graph, node.input[1]), integer


def _scale(graph: onnx.GraphProto, name: str) -> float | None:
    import onnx

    for tensor in graph.initializer:
        if tensor.name == name:
            return float(np.max(onnx.numpy_helper.to_array(tensor)))
    return None
