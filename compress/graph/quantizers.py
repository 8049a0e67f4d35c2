"""Rounding as the runtime rounds, with gradients: a learned step size for every quantizer of the graph.

Forward is exactly what QuantizeLinear then DequantizeLinear do: divide by the scale, round half to even, saturate.
Backward passes the gradient straight through inside the range and stops it outside; the scale gets the gradient of the
rounding error, weighted so that its steps are as large as those of the weights.
Source: Esser et al. 2020 (learned step size quantization), arXiv:1902.08153.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class FakeQuantize(torch.autograd.Function):
    """x (any shape) → clamp(round(x / scale), low, high) · scale; `low` and `high` are relative to the zero point.

    `scale` is 0-d, or 1-d along `axis`. `gain` weighs the gradient of the scale.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int, axis: int, gain: float) -> Tensor:
        steps = _along(scale, axis, x.dim())
        result = (x / steps).round_().clamp_(low, high).mul_(steps)
        ctx.save_for_backward(x, scale, result)
        ctx.bounds, ctx.axis, ctx.gain = (low - 0.5, high + 0.5), axis, gain
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, scale, result = ctx.saved_tensors
        passed = _inside(grad, x, scale, ctx.axis, ctx.bounds)
        if not ctx.needs_input_grad[1]:
            return passed, None, None, None, None, None
        # d(result)/d(scale) is the rounding error in steps inside the range, and the bound itself outside
        error = result - _inside(x, x, scale, ctx.axis, ctx.bounds)
        if scale.dim():
            slope = (grad * error).sum([axis for axis in range(x.dim()) if axis != ctx.axis % x.dim()]) / scale
        else:
            slope = _dot(grad, error) / scale
        return passed, slope * ctx.gain, None, None, None, None


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """The sum of products, walking memory in order where both lie channels last."""
    if x.dim() == 4 and all(side.is_contiguous(memory_format=torch.channels_last) for side in (x, y)):
        x, y = x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)
    return torch.dot(x.reshape(-1), y.reshape(-1))


def _inside(values: Tensor, x: Tensor, scale: Tensor, axis: int, bounds: tuple[float, float]) -> Tensor:
    """`values` where x rounds to a level without being clipped, 0 elsewhere."""
    if scale.dim() == 0:
        step = scale.item()
        # one vectorised pass; a comparison and a selection through booleans cost four times as much on a CPU
        kept: Tensor = torch.ops.aten.hardtanh_backward(values, x, bounds[0] * step, bounds[1] * step)
        return kept
    steps = _along(scale, axis, x.dim())
    return torch.where((x > bounds[0] * steps) & (x < bounds[1] * steps), values, 0.0)


def fake_quantize(x: Tensor, scale: Tensor, low: int, high: int, *, axis: int = 0, per: int = 1) -> Tensor:
    """`FakeQuantize` with the gradient weight of the paper: 1 / √(values a step size serves · levels). `per` is the batch size."""
    served = max(1, x.numel() // max(1, scale.numel()) // per)
    result: Tensor = FakeQuantize.apply(x, scale, low, high, axis, (served * max(high, 1)) ** -0.5)  # type: ignore[no-untyped-call]
    return result


def round_bias(bias: Tensor, scale: Tensor) -> Tensor:
    """A bias on its int32 grid. Its scale is not learned: it is the product of the activation's and the weight's."""
    step = scale.detach()
    return bias + (torch.round(bias / step) * step - bias).detach()


def _along(scale: Tensor, axis: int, dims: int) -> Tensor:
    if scale.dim() == 0:
        return scale
    shape = [1] * dims
    shape[axis] = -1
    return scale.reshape(shape)
