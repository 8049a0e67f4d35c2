"""What nets over tables share: one embedding table for every column of categories, the numbers beside it, and plain layers.

Idea: the columns of categories have their rows in one table, each column its own part of it; which part is settled where a row of
the user's table becomes indices (`advisor/data/tables.py`), so that the graph is one gather. A table may have no numbers or no
categories; its net then has one input.
Source: the one table with offsets as in most click-through code since Rendle 2010 (libFM), doi:10.1109/ICDM.2010.127.
Shape: numeric (b, n) float32, categorical (b, m) int64 of rows of the table → vectors (b, m, width), flat (b, n + m width).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Fields(nn.Module):
    """`forward(*inputs)`: numeric (b, n) and categorical (b, m), those there are → the numbers and every vector, flat."""

    def __init__(self, *, numeric: int, categorical: int, rows: int, width: int, std: float = 0.1) -> None:
        super().__init__()
        if numeric + categorical < 1:
            raise ValueError("a table without columns")
        self.numeric = numeric
        self.table = nn.Embedding(rows, width) if categorical else None
        self.size = numeric + categorical * width  # of the flat vector
        if self.table is not None:
            nn.init.normal_(self.table.weight, std=std)

    def split(self, inputs: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """The numbers and the indices; None for what the table has none of."""
        return (inputs[0] if self.numeric else None), (inputs[-1] if self.table is not None else None)

    def vectors(self, inputs: Sequence[Tensor]) -> Tensor | None:
        """The row of every category, (b, m, width)."""
        return None if self.table is None else self.table(inputs[-1])

    def forward(self, *inputs: Tensor) -> Tensor:
        numbers, vectors = self.split(inputs)[0], self.vectors(inputs)
        parts = [numbers] if numbers is not None else []
        return torch.cat([*parts, *([vectors.flatten(1)] if vectors is not None else [])], 1)


class Linear(nn.Module):
    """A weight a category and one a number, summed: the linear model over the same inputs, (b, 1)."""

    def __init__(self, fields: Fields) -> None:
        super().__init__()
        self.weights = nn.Embedding(fields.table.num_embeddings, 1) if fields.table is not None else None
        self.numbers = nn.Linear(fields.numeric, 1) if fields.numeric else None
        if self.weights is not None:
            nn.init.zeros_(self.weights.weight)

    def forward(self, *inputs: Tensor) -> Tensor:
        parts = [self.weights(inputs[-1]).sum(1)] if self.weights is not None else []
        if self.numbers is not None:
            parts.append(self.numbers(inputs[0]))
        total: Tensor = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        return total


def plain(inside: int, hidden: Sequence[int], *, dropout: float) -> nn.Sequential:
    """Linear layers with ReLU, dropout after each: (b, inside) → (b, hidden[-1])."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inside, width), nn.ReLU(), nn.Dropout(dropout)]
        inside = width
    return nn.Sequential(*layers)


def width_of(layers: nn.Sequential) -> int:
    """How wide the output of `plain` is, whatever was pruned."""
    return [layer.out_features for layer in layers if isinstance(layer, nn.Linear)][-1]
