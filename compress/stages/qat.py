"""Quantization-aware training of the very graph that ships: its weights, step sizes and biases learn from the float teacher.

The static file is read back into torch, every quantizer a learnable fake quantizer where the runtime has it; weights start from
float; the numbers are written back into the same nodes. Recurrent layers stay float while they train and become dynamic int8
last. The teacher answers on the runtime, so it may have any operators.
Helps when post-training quantization lost more than the plan allows, or the target forces one scale a tensor or few levels.
Does not help at 8 bits with a scale a channel, where there is usually nothing to win. Distillation, not labels: hard labels on
a memorised training set make a network over-confident, quantized or not.
Source: Esser et al. 2020, arXiv:1902.08153 (learned steps); Hinton et al. 2015, arXiv:1503.02531 (distillation); settings as measured
for this project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compress.context import Context, Data, Predict
from compress.files import publish
from compress.quantization import Parts, batch_of, finish, parts, prepare, recipe_of
from compress.runtime import predictor
from compress.stages.quantize import Quantize

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compress.graph.module import GraphModule
    from compress.training import LossOf


@dataclass(frozen=True, slots=True)
class Qat:
    """Settings of the stage."""

    steps: int = 300
    batch_size: int = 32
    lr: float = 1e-3  # of weights, biases and step sizes alike
    warmup: float = 0.05
    clip: float = 5.0  # largest gradient norm; recurrent layers need one
    temperature: float = 2.0
    augment: bool = True
    labels: bool = False  # let the task's distillation loss see the labels too
    learn_from: Literal["teacher", "float"] = "teacher"  # the run's teacher where there is one and its answers fit, or the float file
    evaluations: int = 4  # how often the simulation is scored; the best state is written
    val_limit: int = 500
    when: Literal["needed", "always"] = "needed"  # needed: only where quantization lost more than max_loss
    max_loss: float = 0.002  # of the metric, a fraction
    control: bool = True  # also fine-tune the float graph for as long, and quantize that: what plain training would have given

    def __post_init__(self) -> None:
        for key in ("steps", "batch_size", "evaluations", "val_limit"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)!r}, it must be at least 1")
        if not 0 < self.lr <= 1 or not 0 < self.temperature <= 100:
            raise ValueError(f"lr is {self.lr!r} and temperature {self.temperature!r}, allowed: up to 1 and up to 100, both above 0")

    def apply(self, graph: Path, context: Context) -> Path:
        """Train a quantized file; writes its three files into the context's folder and returns the shipped one."""
        from compress.graph.module import load
        from compress.graph.writing import write

        given, made = parts(graph), Parts(context.folder)
        module = load(given.static, floats=given.float, levels=context.target.weight_levels, reduced=context.target.reduce_range)
        teacher = teacher_for(given.float, context, prefer=self.learn_from)
        _fit(module, context, self, name="qat", loss_of=_distilled(teacher, context, self))
        publish(made.float, lambda part: part.write_bytes(given.float.read_bytes()))
        write(module, given.static, made.static)
        return finish(made.static, made.shipped, recipe=recipe_of(given), format=context.target)


@dataclass(frozen=True, slots=True)
class FloatControl:
    """The control that keeps quantization-aware training honest: the float graph trained as long, then quantized as before."""

    steps: int = 300
    batch_size: int = 32
    lr: float = 1e-3
    warmup: float = 0.05
    clip: float = 5.0
    temperature: float = 2.0
    augment: bool = True
    learn_from: Literal["teacher", "float"] = "teacher"  # where there are no labels
    evaluations: int = 4
    val_limit: int = 500

    @classmethod
    def like(cls, stage: Qat) -> FloatControl:
        """The control of a stage: the same steps, batches and rates."""
        return cls(**{item.name: getattr(stage, item.name) for item in fields(cls)})

    def apply(self, graph: Path, context: Context) -> Path:
        """Fine-tune the float file on its labels (or, where there are none, on its teacher) and quantize the result."""
        from compress.graph.module import load
        from compress.graph.writing import write

        base = prepare(graph, context.folder / "before.onnx")
        module = load(base)
        teacher = teacher_for(base, context, prefer=self.learn_from)
        _fit(module, context, self, name="float control", loss_of=_labelled(context, _distilled(teacher, context, self)))
        return Quantize().quantize(write(module, base, Parts(context.folder).float), context)


def teacher_for(floats: Path, context: Context, *, prefer: str) -> Predict:
    """Who is learned from: the run's teacher, where it answers in the same shape, else the float file."""
    own = predictor(floats, threads=context.threads)
    if prefer != "teacher" or context.teacher_graph is None:
        return own
    taught = predictor(context.teacher_graph, threads=context.threads)
    feeds = next(iter(context.data.probes().values()))
    answer, mine = taught(feeds), own(feeds)
    return taught if {name: value.shape for name, value in answer.items()} == {name: value.shape for name, value in mine.items()} else own


def _distilled(teacher: Predict, context: Context, settings: Qat | FloatControl) -> LossOf:
    """The loss against the teacher's answers; labels are shown only where the settings say so."""
    import torch

    names = [port.name for port in context.data.signature.outputs]
    labels = getattr(settings, "labels", False)

    def loss_of(model: nn.Module, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        taught = teacher({key: value.numpy() for key, value in inputs.items()})
        answer = _whole([torch.from_numpy(taught[name]) for name in names])
        student = _answers(model, inputs, context.data)
        return context.task.distil_loss(student, answer, targets if labels and targets else None, temperature=settings.temperature)

    return loss_of


def _labelled(context: Context, otherwise: LossOf) -> LossOf:
    """The task's own loss where a batch has labels."""

    def loss_of(model: nn.Module, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        if not targets:
            return otherwise(model, inputs, targets)
        return context.task.loss(_answers(model, inputs, context.data), targets)

    return loss_of


def _answers(model: nn.Module, inputs: Mapping[str, Tensor], data: Data) -> Any:
    return _whole(model(*(inputs[port.name] for port in data.signature.inputs)))


def _whole(answers: Sequence[Tensor]) -> Any:
    """What a module would return: one output as it is, several as a tuple."""
    return answers[0] if len(answers) == 1 else tuple(answers)


def _fit(module: GraphModule, context: Context, settings: Qat | FloatControl, *, name: str, loss_of: LossOf) -> None:
    """Train the graph in place with the loop every stage shares: checkpoints, exact resume, stop at a non-finite loss."""
    from compress.training import fit

    recipe: dict[str, Any] = {
        key: getattr(settings, key) for key in ("steps", "lr", "warmup", "clip", "augment", "evaluations", "val_limit")
    }
    batch_size = batch_of(context.data, settings.batch_size)
    wrapped = in_order(module, context.data)
    fit(wrapped, context, name=name, loss_of=loss_of, batch_size=batch_size, weight_decay=0.0, keep="best", **recipe)
    module.eval()


def in_order(module: GraphModule, data: Data) -> nn.Module:
    """The graph as a module of positional inputs and outputs, in the order of the data's signature."""
    from torch import nn

    class InOrder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.graph = module

        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            feeds = {port.name: value for port, value in zip(data.signature.inputs, inputs, strict=True)}
            answers = self.graph(feeds)
            return tuple(answers[port.name] for port in data.signature.outputs if port.name in answers)

    return InOrder()
