"""TCN reads a series with convolutions that never look ahead, each level twice as far back as the one before.

Idea: a stack of residual blocks, two causal convolutions each, dilated by 1, 2, 4 …; the last step of the top level has seen the
receptive field, and a linear map of it is the forecast of all steps and columns at once.
Source: Bai, Kolter & Koltun 2018, arXiv:1803.01271.
Shape: history (b, length, columns) → (b, channels, length) → its last step (b, channels) → forecast (b, horizon, columns).

What differs from the paper, and why: batch normalisation instead of weight normalisation (it vanishes into the convolution), the whole
horizon is forecast at once, and the last value is subtracted before the net and added after it, which helps a net over a series more
than its architecture does (Zeng et al. 2022, arXiv:2205.13504, on NLinear). Sizes are read from the submodules.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advisor.architectures.forecast_detector import Detector, ahead


class Causal(nn.Module):
    """A convolution over time that sees this step and earlier ones, normalised: (b, c, t) → (b, c', t)."""

    def __init__(self, inside: int, outside: int, *, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inside, outside, kernel, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(outside)

    def forward(self, x: Tensor) -> Tensor:
        back = (self.conv.kernel_size[0] - 1) * self.conv.dilation[0]
        out: Tensor = self.norm(self.conv(F.pad(x, (back, 0))))
        return out


class Block(nn.Module):
    """Two causal convolutions around which the input goes on: (b, c, t) → (b, c', t)."""

    def __init__(self, inside: int, outside: int, *, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.first = Causal(inside, outside, kernel=kernel, dilation=dilation)
        self.second = Causal(outside, outside, kernel=kernel, dilation=dilation)
        self.beside = nn.Conv1d(inside, outside, 1) if inside != outside else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(torch.relu(self.first(x)))
        return torch.relu(self.beside(x) + self.dropout(torch.relu(self.second(y))))


class TCN(nn.Module):
    """`forward(history)`: (b, t, c) float32 → (b, horizon, c), any t."""

    def __init__(self, blocks: Sequence[Block], head: nn.Linear, *, horizon: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.head = head
        self.horizon = horizon

    def states(self, series: Tensor) -> Tensor:
        """What each step knows of itself and of earlier ones: (b, t, c) → (b, channels, t)."""
        out: Tensor = self.blocks(series.transpose(1, 2))
        return out

    def forward(self, history: Tensor) -> Tensor:
        last = history[:, -1:]
        top = self.states(history - last)[:, :, -1]
        forecast: Tensor = self.head(top).reshape(-1, self.horizon, self.head.out_features // self.horizon)
        return forecast + last


def build(
    *,
    columns: int,
    length: int,
    horizon: int | None = None,
    channels: int = 64,
    levels: int = 6,
    kernel: int = 3,
    dropout: float = 0.1,
) -> nn.Module:
    """A forecaster of `horizon` steps of all `columns`; without `horizon` a detector over windows of `length`.

    Level k is dilated by 2 ** k: six levels with a kernel of 3 see 253 steps back.
    """
    steps = ahead(length) if horizon is None else horizon
    inside = [columns, *[channels] * (levels - 1)]
    blocks = [Block(width, channels, kernel=kernel, dilation=2**level, dropout=dropout) for level, width in enumerate(inside)]
    net = TCN(blocks, nn.Linear(channels, steps * columns), horizon=steps)
    return Detector(net, steps=steps) if horizon is None else net
