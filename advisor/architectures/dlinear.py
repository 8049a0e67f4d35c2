"""DLinear forecasts a series with two matrices: one for its trend, one for what remains.

Idea: a moving average is the trend; a linear map over time carries the trend into the future, another one the remainder, and their
sum is the forecast. All columns share both. The weights say which past step speaks for which future one.
Source: Zeng et al. 2022, arXiv:2205.13504.
Shape: history (b, length, columns) → columns (b, c, lookback), twice → forecast (b, horizon, columns).

The weights start as 1 / lookback, so that the first forecast is the mean of the past; a history longer than `lookback` is read from its
end.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from advisor.architectures.forecast_detector import Detector, ahead


class DLinear(nn.Module):
    """`forward(history)`: (b, t, c) float32 → (b, horizon, c), t at least the maps' inputs."""

    def __init__(self, lookback: int, horizon: int, *, kernel: int) -> None:
        super().__init__()
        self.trend, self.rest = nn.Linear(lookback, horizon), nn.Linear(lookback, horizon)
        self.kernel = kernel
        for part in (self.trend, self.rest):
            nn.init.constant_(part.weight, 1 / lookback)

    def forward(self, history: Tensor) -> Tensor:
        x = history[:, -self.trend.in_features :].transpose(1, 2)
        smooth = average(x, self.kernel)
        forecast: Tensor = self.trend(smooth) + self.rest(x - smooth)
        return forecast.transpose(1, 2)


def average(x: Tensor, kernel: int) -> Tensor:
    """The moving average along the last axis, as long as it was: beyond its ends the first and the last value go on."""
    return F.avg_pool1d(F.pad(x, (kernel // 2, kernel - 1 - kernel // 2), mode="replicate"), kernel, 1)


def build(*, columns: int, length: int, horizon: int | None = None, lookback: int = 336, kernel: int = 25) -> nn.Module:
    """A forecaster of `horizon` steps from the last `lookback` of `length`; without `horizon` a detector over windows of `length`.

    `columns` changes nothing: they share the weights.
    """
    if horizon is None:
        steps = ahead(length)
        return Detector(DLinear(min(lookback, length - steps), steps, kernel=kernel), steps=steps)
    return DLinear(min(lookback, length), horizon, kernel=kernel)
