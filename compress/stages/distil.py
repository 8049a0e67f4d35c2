"""Distil: train a small module to answer as a larger, trained teacher does, and as the labels say.

Helps when: the teacher is clearly better than the student would become alone, and the student is half its width or less.
Does not help when: the student is nearly as large as the teacher, or the teacher is no better; then `train` costs a third less.
Costs: what `train` costs, and one forward pass of the teacher an example and epoch. Changes the weights, never the shape.
Source: Hinton, Vinyals & Dean 2015, arXiv:1503.02531; the loss itself is the task's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from compress.context import Context, Skipped
from compress.forward import Precision, answering, autocast, forward
from compress.training import LossOf, Recipe, fit

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Distil(Recipe):
    """Settings of the stage: those of the training loop, and two of its own."""

    epochs: int = 12
    lr: float = 3e-3  # the peak of the cycle
    temperature: float = 2.0  # softens both answers before they are compared
    teacher_precision: Literal["fp32", "bf16"] = "fp32"  # the teacher only answers: bf16 is enough where the processor has it

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        if not 0 < self.temperature <= 100:
            raise ValueError(f"temperature is {self.temperature!r}, allowed: above 0 to 100")

    def recipe(self) -> dict[str, Any]:
        """The settings that are the training loop's."""
        return {key: value for key, value in asdict(self).items() if key not in ("temperature", "teacher_precision")}

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Train `model` in place towards `context.teacher`, which stays as it is. Raises Skipped where there is no teacher."""
        if context.teacher is None:
            raise Skipped("there is no teacher to learn from")
        if context.teacher is model:
            raise Skipped("the teacher is the student itself")
        teacher = answering(context.teacher, context.device)
        return fit(
            model, context, name="distil", loss_of=towards(teacher, context, self.temperature, self.teacher_precision), **self.recipe()
        )


def towards(teacher: nn.Module, context: Context, temperature: float, precision: Precision = "fp32") -> LossOf:
    """The loss of a student against `teacher`: for `compress.training.fit`, here and wherever a stage recovers towards one."""
    import torch

    from compress.together import shared

    taught = shared(teacher, context.ranks)

    def loss_of(model: nn.Module, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad(), autocast(precision, context.device):
            wanted = forward(taught, inputs, context.data)
        return context.task.distil_loss(forward(model, inputs, context.data), wanted, targets, temperature=temperature)

    return loss_of
