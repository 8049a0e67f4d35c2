"""Train: fit a module to labelled examples with the task's own loss.

Helps when: there are labels, and the module has fresh or foreign weights.
Does not help when: a larger, better teacher is at hand; then `distil` gives a small module the same labels and more.
Costs: about three forward passes an example and epoch. Changes the weights, never the shape.
Source: AdamW, arXiv:1711.05101; one cycle, arXiv:1708.07120.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from compress.context import Context
from compress.training import Recipe, fit, forward

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Train(Recipe):
    """Settings of the stage: those of the training loop."""

    epochs: int = 12

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Train `model` in place on the training split. Raises Problem as `compress.training.fit` does."""

        def loss_of(model: nn.Module, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
            return context.task.loss(forward(model, inputs, context.data), targets)

        return fit(model, context, name="train", loss_of=loss_of, **asdict(self))
