"""A forecaster as a detector of anomalies: what comes out otherwise than forecast is one.

Idea: the first three quarters of a window are its past, the last quarter is forecast from them; the score is the mean squared error
of that forecast. Learns from normal recordings alone.
Source: Munir et al. 2019, "DeepAnT", DOI 10.1109/ACCESS.2018.2886457, which forecasts one step and looks at its error; a quarter of
the window is forecast here, so that what lasts is seen as a whole.
Shape: window (b, length, columns) → expected (b, length, columns), whose last quarter is forecast, and score (b,).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def ahead(length: int) -> int:
    """How many steps of a window of `length` are forecast from the others."""
    return max(1, length // 4)


class Detector(nn.Module):
    """Wraps `forecaster`: past (b, length - steps, columns) → forecast (b, steps, columns)."""

    def __init__(self, forecaster: nn.Module, *, steps: int) -> None:
        super().__init__()
        self.forecaster = forecaster
        self.steps = steps

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor]:
        past, came = window[:, : -self.steps], window[:, -self.steps :]
        forecast = self.forecaster(past)
        return torch.cat([past, forecast], 1), score(forecast, came)


def score(expected: Tensor, came: Tensor) -> Tensor:
    """Mean squared error of each example: twice (b, t, c) → (b,)."""
    return (expected - came).pow(2).flatten(1).mean(1)
