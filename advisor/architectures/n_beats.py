"""N-BEATS forecasts a series with fully connected blocks, each of which explains what the ones before it left over.

Idea: a block reads the past, says how much of it it can explain and what follows from that; the explained part is taken away before the
next block reads, the forecasts are added up. Columns share the weights, so one net learns from many series.
Source: Oreshkin et al. 2019, arXiv:1905.10437 (the generic form). Written from the paper; no code of others is used.
Shape: history (b, length, columns) → columns (b c, lookback) → blocks → forecast (b, horizon, columns).

What differs from the paper, and why: the last block explains nothing, for nobody would read it; the series are centred on their last
value instead of being scaled by it (normalised values may be zero); the generic basis, a linear map of a linear map, is one map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Rows of the past (n, lookback) → (the part of it that is explained, or nothing in the last block; what follows (n, horizon))."""

    def __init__(self, lookback: int, horizon: int, *, width: int, layers: int, explains: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(lookback if not number else width, width) for number in range(layers)])
        self.explained = nn.Linear(width, lookback) if explains else None
        self.forecast = nn.Linear(width, horizon)

    def forward(self, past: Tensor) -> tuple[Tensor | None, Tensor]:
        x = past
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.explained(x) if self.explained is not None else None, self.forecast(x)


class NBeats(nn.Module):
    """`forward(history)`: (b, lookback or more, c) float32 → (b, horizon, c)."""

    def __init__(self, blocks: Sequence[Block], *, lookback: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.lookback = lookback

    def forward(self, history: Tensor) -> Tensor:
        last = history[:, -1:]
        past = (history[:, -self.lookback :] - last).transpose(1, 2)
        forecast: Tensor | None = None
        for block in self.blocks:
            explained, follows = block(past)
            forecast = follows if forecast is None else forecast + follows
            past = past if explained is None else past - explained
        assert forecast is not None
        return forecast.transpose(1, 2) + last


def build(*, columns: int, length: int, horizon: int, lookback: int = 336, blocks: int = 3, width: int = 512, layers: int = 4) -> NBeats:
    """A forecaster of `horizon` steps from the last `lookback` of `length`. `columns` changes nothing: they share the weights."""
    back = min(lookback, length)
    stack = [Block(back, horizon, width=width, layers=layers, explains=number < blocks - 1) for number in range(blocks)]
    return NBeats(stack, lookback=back)
