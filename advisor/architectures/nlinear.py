"""NLinear forecasts a series with one matrix over its differences from the last value.

Idea: subtract the last value of the window, map the past to the future linearly, add the value again: a level that the training never
saw changes nothing. All columns share the matrix.
Source: Zeng et al. 2022, arXiv:2205.13504.
Shape: history (b, length, columns) → columns (b, c, lookback) → forecast (b, horizon, columns).
"""

from __future__ import annotations

from torch import Tensor, nn


class NLinear(nn.Module):
    """`forward(history)`: (b, t, c) float32 → (b, horizon, c), t at least the map's inputs."""

    def __init__(self, lookback: int, horizon: int) -> None:
        super().__init__()
        self.map = nn.Linear(lookback, horizon)
        nn.init.constant_(self.map.weight, 1 / lookback)

    def forward(self, history: Tensor) -> Tensor:
        last = history[:, -1:]
        past = (history[:, -self.map.in_features :] - last).transpose(1, 2)
        forecast: Tensor = self.map(past).transpose(1, 2) + last
        return forecast


def build(*, columns: int, length: int, horizon: int, lookback: int = 336) -> NLinear:
    """A forecaster of `horizon` steps from the last `lookback` of `length`. `columns` changes nothing: they share the weights."""
    return NLinear(min(lookback, length), horizon)
