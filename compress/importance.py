"""What each channel is worth: how much the loss would change, to first order, if its gate closed; or simply how large it is.

Source: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", arXiv:1906.10771 (gates, squared); the gate of a
channel is put where it is read, so that one derivative speaks for all that makes it and all that hears it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels import Group, makers, readers
from compress.context import Context, tensors
from compress.training import forward, reproducible

BATCH = 4  # small, so that opposite gradients of different examples do not cancel before they are squared

Rows = Callable[[nn.Module, str], list[Tensor]]


def taylor(model: nn.Module, groups: Sequence[Group], context: Context, *, batches: int) -> dict[str, np.ndarray]:
    """Mean over small training batches of (Σ weight · gradient over all that reads a unit)², (width,) a group.

    Comparable between groups: all of it is a change of the same loss.
    """
    totals = {group.name: np.zeros(group.width) for group in groups}
    net = deepcopy(model).eval().requires_grad_(True)
    stream = context.data.batches("train", batch_size=BATCH, seed=context.seed, shuffle=True)
    with reproducible(context.threads), torch.enable_grad():
        for number, batch in enumerate(stream):
            if number == batches:
                break
            net.zero_grad(set_to_none=True)
            loss = context.task.loss(forward(net, tensors(batch.inputs), context.data), tensors(batch.targets))
            if bool(torch.isfinite(loss)):
                torch.autograd.backward(loss)
                for group in groups:
                    totals[group.name] += _per_unit(net, group, lambda module, side: readers(module, side, _product)) ** 2
    return {name: total / batches for name, total in totals.items()}


def magnitude(model: nn.Module, groups: Sequence[Group]) -> dict[str, np.ndarray]:
    """L2 norm of everything that makes or reads a unit, over the mean of its group."""
    found = {}
    for group in groups:
        norms = np.sqrt(_per_unit(model, group, lambda module, side: readers(module, side, _square) + makers(module, side, _square)))
        found[group.name] = norms / max(float(norms.mean()), 1e-12)
    return found


def lost(scores: np.ndarray, now: int, width: int) -> float:
    """Importance lost by narrowing from `now` to `width` units, the least important first; never quite nothing."""
    ordered = np.sort(scores)
    return float(ordered[len(scores) - now : len(scores) - width].sum()) + 1e-12


def removed(groups: Sequence[Group], scores: Mapping[str, np.ndarray], widths: Mapping[str, int]) -> dict[str, list[int]]:
    """The least important units of each group beyond its width. Ties go by position."""
    return {
        group.name: sorted(np.argsort(scores[group.name], kind="stable")[: group.width - widths[group.name]].tolist())
        for group in groups
        if widths[group.name] < group.width
    }


def _product(parameter: Tensor) -> Tensor:
    return parameter.detach() * (0 if parameter.grad is None else parameter.grad)


def _square(parameter: Tensor) -> Tensor:
    return parameter.detach() ** 2


def _per_unit(model: nn.Module, group: Group, rows_of: Rows) -> np.ndarray:
    """Sums over the channels of each unit, in every module of the group, (width,)."""
    total = np.zeros(group.width)
    for part in group.cuts:
        for rows in rows_of(model.get_submodule(part.module), part.side):
            sums = rows.reshape(len(rows), -1).sum(1).double().cpu().numpy()
            for unit, channels in enumerate(part.index):
                total[unit] += sums[sorted({channel % len(sums) for channel in channels})].sum()
    return total
