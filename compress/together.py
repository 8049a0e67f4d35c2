"""One batch, several processes: each answers its share, all see every answer, and the sum of their gradients is the batch's own.

Idea: a share of the loss is not the loss. Some count tokens, some compare the examples of a batch with each other. So the answers are
gathered and every process computes the whole batch's loss from them; its own rows alone carry a gradient. Batch norms take their
statistics from all shares, as they would from the batch. What comes out is what one process computes, up to the order of additions;
only dropout draws other masks. A batch with fewer examples than processes is answered whole by each.
Source: synchronous data parallelism as in Li et al. 2020, "PyTorch Distributed", arXiv:2006.15704; norms as Zhang et al. 2018,
arXiv:1803.08904 (section 3.3, synchronised batch normalisation).
Shape: an input (b, …) becomes rows [r·b / n, (r + 1)·b / n) of process r of n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from compress.ranks import Ranks, reached


def shared(model: nn.Module, ranks: Ranks) -> Any:
    """`model`, called as a function of the whole batch, of which this process answers its share. Alone: the model itself."""
    if ranks.size == 1:
        return model

    def answer(*inputs: Tensor) -> Any:
        rows = len(inputs[0])
        if rows < ranks.size:
            return _each(model(*inputs), lambda value: _scaled(value, 1 / ranks.size))
        ends = [rows * rank // ranks.size for rank in range(ranks.size + 1)]
        own = slice(ends[ranks.rank], ends[ranks.rank + 1])
        with OneNorm():
            found = model(*(value[own] if len(value) == rows else value for value in inputs))
        return _each(found, lambda value: _gathered(value, ends, ranks.rank))

    return answer


def _each(found: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return change(found) if isinstance(found, Tensor) else type(found)(change(value) for value in found)


class _Scaled(torch.autograd.Function):
    """The value; its gradient times a number: of a batch that each process answers whole, each brings its part."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


class _Gathered(torch.autograd.Function):
    """Every process's rows in order; the gradient of the own ones."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, ends: list[int], rank: int) -> Tensor:
        counts = [end - start for start, end in pairwise(ends)]
        if not mine.dim() or len(mine) != counts[rank]:
            raise ValueError(f"an answer of shape {list(mine.shape)} to {counts[rank]} examples: its first axis must count them")
        ctx.own = (ends[rank], counts[rank])
        padded = mine.new_zeros((max(counts), *mine.shape[1:]))
        padded[: len(mine)] = mine
        found = [torch.empty_like(padded) for _ in counts]
        with reached():
            dist.all_gather(found, padded)
        return torch.cat([rows[:count] for rows, count in zip(found, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.narrow(0, *ctx.own), None, None


class _Summed(torch.autograd.Function):
    """The sum over the processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _total(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _total(gradient)


_scaled: Callable[[Tensor, float], Tensor] = _Scaled.apply
_gathered: Callable[[Tensor, list[int], int], Tensor] = _Gathered.apply
_summed: Callable[[Tensor], Tensor] = _Summed.apply


def _total(value: Tensor) -> Tensor:
    total = value.detach().clone(memory_format=torch.contiguous_format)
    with reached():
        dist.all_reduce(total)
    return total


class OneNorm(TorchFunctionMode):
    """Inside, a batch norm in training takes the statistics of all shares, whichever module asks for it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.batch_norm:
            return _norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As `torch.nn.functional.batch_norm`, over all shares; computed in float32."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    x = input.float()
    axes = [0, *range(2, x.dim())]
    sizes = [1, -1] + [1] * (x.dim() - 2)
    counted = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
    first = _summed(torch.cat([x.sum(axes), counted]))
    count = float(first[-1].detach())
    mean = first[:-1] / count
    middle = x - mean.view(sizes)
    variance = _summed(middle.square().sum(axes)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * (count / max(count - 1, 1))).to(running_var.dtype), momentum)
    found = middle * torch.rsqrt(variance + eps).view(sizes)
    found = found if weight is None else found * weight.view(sizes)
    return (found if bias is None else found + bias.view(sizes)).to(input.dtype)


def sum_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
    """Every gradient becomes the sum over the processes, in one exchange. A parameter that none of them used keeps none."""
    if ranks.size == 1:
        return
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    parts = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in learned]
    used = torch.tensor([float(p.grad is not None) for p in learned], device=parts[0].device)
    total = _total(torch.cat([*(part.float() for part in parts), used]))
    place = 0
    for parameter, count in zip(learned, total[len(total) - len(learned) :].tolist(), strict=True):
        found = total[place : place + parameter.numel()].view(parameter.shape).to(parameter.dtype)
        parameter.grad = torch.empty_like(parameter).copy_(found) if count else None
        place += parameter.numel()


def alike(model: nn.Module, ranks: Ranks) -> None:
    """Give every process the first one's weights and buffers, once all are here."""
    if ranks.size == 1:
        return
    with reached(), torch.no_grad():
        for value in model.state_dict().values():
            sent = value.contiguous()
            dist.broadcast(sent, 0)
            value.copy_(sent)
        dist.barrier()
