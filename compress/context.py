"""What a stage may use, and what a task must bring. Plain values and protocols; importing this costs no torch.

A task is any object with these attributes (`advisor/tasks/ocr.py` is one, a user's own module is another):
its data in arrays, its loss and distillation loss in torch, its metric over the arrays a runtime returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from compress.journal import Journal
from compress.ranks import ALONE, Ranks
from rules.examples import Batch, Explanation, Feeds, Metric, Sample, Score, Signature

if TYPE_CHECKING:
    import onnx
    import torch
    from torch import Tensor, nn

Predict = Callable[[Feeds], dict[str, np.ndarray]]

Split = Literal["train", "val", "test"]


class Data(Protocol):
    """A task's data, opened. Same call, same bytes: all randomness comes from (seed, epoch, index)."""

    @property
    def labels(self) -> Sequence[str]: ...

    @property
    def signature(self) -> Signature: ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Source, licence, counts, how it was split; JSON."""
        ...

    @property
    def preprocess(self) -> Sequence[Mapping[str, Any]]:
        """Declarative steps from a raw file to the input array."""
        ...

    @property
    def postprocess(self) -> Sequence[Mapping[str, Any]]:
        """Declarative steps from the output array to a reading."""
        ...

    def count(self, split: Split) -> int: ...

    def batches(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        augment: bool = False,
        shuffle: bool = False,
        limit: int | None = None,
    ) -> Iterable[Batch]: ...

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score: ...

    def read(self, outputs: Feeds) -> list[str]:
        """What the outputs of one batch say, one reading an example."""
        ...

    def probes(self) -> Mapping[str, Feeds]:
        """Named batch-1 inputs that latency is measured on, e.g. {"w128": ..., "w320": ...}; the first is the headline."""
        ...

    def samples(self, split: Split, count: int) -> list[Sample]:
        """A few raw examples for golden vectors and the report."""
        ...


class Task(Protocol):
    """What a stage needs to know of a task. Losses take torch tensors; everything else is arrays."""

    @property
    def name(self) -> str: ...

    @property
    def metric(self) -> Metric: ...

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> Data: ...

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor: ...

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor: ...


class Explains(Protocol):
    """What a task may have beside: explanations for the report, made of the float module that what ships was made from."""

    def explain(self, model: nn.Module, data: Any) -> Sequence[Explanation]: ...


class ExplainsAnswers(Protocol):
    """What a task may have instead or as well: explanations made of what the shipped file answers, whatever is inside."""

    def explain_answers(self, predict: Predict, data: Any) -> Sequence[Explanation]: ...


class Writes(Protocol):
    """What a task may have whose nets write: the module cut into steps, by role, each with what it is fed (`compress.stepwise`)."""

    def stepwise(self, model: nn.Module, data: Any) -> Mapping[str, tuple[nn.Module, Data]]: ...


class Decodes(Protocol):
    """What a task may have whose bundles hold graphs beside the net, by role, each with what it is fed (`compress.beside`)."""

    def behind(self, main: onnx.ModelProto, data: Any) -> Mapping[str, tuple[onnx.ModelProto, Data]]: ...


@dataclass(frozen=True, slots=True)
class Target:
    """What the shipped file must suit: integer format, opset, channel alignment, threads. Derived from a device (`target.py`)."""

    name: str = "this-machine"
    precision: Literal["int8", "fp16", "fp32"] = "int8"
    activation: Literal["uint8", "int8"] = "uint8"
    weight: Literal["int8", "uint8"] = "int8"
    per_channel: bool = True
    reduce_range: bool = False
    weight_levels: int = 256  # 16: a stress test, four-bit weights inside an int8 file
    opset: int = 17
    ir_version: int = 8
    align: int = 16
    threads: int = 1
    provider: str = "CPUExecutionProvider"
    measured_here: bool = True  # False: profiled on this machine, not on the target


class Latencies(Protocol):
    """Where latency comes from: a paired measurement, or in tests a recorded table, so that noise decides nothing."""

    def paired(self, graphs: Mapping[str, Path], feeds: Feeds, *, threads: int) -> dict[str, float]:
        """Milliseconds per call of each graph, interleaved in one run, a low quantile of each."""
        ...


class Progress(Protocol):
    """Where long work reports to. `rich` on a terminal, one line a finished unit elsewhere, silence in tests."""

    def start(self, what: str, total: int) -> None: ...
    def step(self, done: int, note: str = "") -> None: ...
    def finish(self, note: str = "") -> None: ...
    def say(self, line: str) -> None: ...


class Silent:
    """Progress that nobody watches."""

    def start(self, what: str, total: int) -> None: ...
    def step(self, done: int, note: str = "") -> None: ...
    def finish(self, note: str = "") -> None: ...
    def say(self, line: str) -> None: ...


@dataclass(slots=True)
class Context:
    """What a stage may use. `folder` is the stage's own: checkpoints and files it makes go there, atomically."""

    task: Task
    data: Data
    folder: Path
    journal: Journal
    latencies: Latencies
    target: Target = field(default_factory=Target)
    progress: Progress = field(default_factory=Silent)
    seed: int = 0
    threads: int = 2
    device: str = "cpu"  # torch device of module stages
    ranks: Ranks = ALONE  # the processes that train together; graph stages are the first one's alone
    teacher: nn.Module | None = None  # module stages distil from it, where there is one
    float_graph: Path | None = None  # graph stages: the float file; teacher of last resort
    teacher_graph: Path | None = None  # graph stages: the exported teacher, where there is one
    curves: list[dict[str, Any]] = field(default_factory=list)  # {"stage","step","loss",...} for the report

    def decide(self, key: str, compute: Callable[[], Any]) -> Any:
        """A measured decision, recorded under the stage's name before it is acted on."""
        return self.journal.decide(f"{self.folder.name}/{key}", compute)


class ModuleStage(Protocol):
    """Turns a module into a better one. A frozen dataclass of settings."""

    def apply(self, model: nn.Module, context: Context) -> nn.Module: ...


class GraphStage(Protocol):
    """Turns an ONNX file into a better one, written into `context.folder`. A frozen dataclass of settings."""

    def apply(self, graph: Path, context: Context) -> Path: ...


class Skipped(Exception):
    """A stage that has nothing to do here, with the reason. The pipeline prints it and keeps what it had."""


def tensors(arrays: Feeds, device: str = "cpu") -> dict[str, torch.Tensor]:
    """The arrays of a batch as tensors."""
    import torch

    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in arrays.items()}
