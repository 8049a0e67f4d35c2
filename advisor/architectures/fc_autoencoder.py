"""A fully connected autoencoder gives back what is normal; what it gives back badly is an anomaly.

Idea: a window is squeezed through a code of a few numbers and rebuilt. Trained on normal windows alone, it has no room for anything
else; the score is the mean squared error of the whole window, and it is an output of the graph.
Source: the anomaly benchmark of MLPerf Tiny, Banbury et al. 2021, arXiv:2106.07597, after the baseline of DCASE 2020 task 2, Koizumi
et al. 2020, arXiv:2006.05822.
Shape: window (b, length, columns) → (b, length · columns) → code (b, 8) → rebuilt (b, length, columns) and score (b,).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from advisor.architectures.forecast_detector import score


class Dense(nn.Module):
    """A linear map, normalised, ReLU: (b, n) → (b, n')."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.map = nn.Linear(inside, outside, bias=False)
        self.norm = nn.BatchNorm1d(outside)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.map(x)))


class Autoencoder(nn.Module):
    """`forward(window)`: (b, length, columns) float32 → (rebuilt (b, length, columns), score (b,))."""

    def __init__(self, layers: Sequence[Dense], head: nn.Linear) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.head = head

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor]:
        rebuilt = self.head(self.layers(window.flatten(1))).reshape(-1, window.shape[1], window.shape[2])
        return rebuilt, score(rebuilt, window)


def build(*, columns: int, length: int, width: int = 128, depth: int = 4, code: int = 8) -> Autoencoder:
    """An autoencoder of windows: `depth` layers of `width` on either side of the `code`."""
    sizes = [length * columns, *[width] * depth, code, *[width] * depth]
    layers = [Dense(inside, outside) for inside, outside in pairwise(sizes)]
    return Autoencoder(layers, nn.Linear(sizes[-1], sizes[0]))
