"""DeepFM adds the products of every two columns to a linear model and a net, all over the same vectors.

Idea: a factorization machine learns the weight of every pair of categories as the product of their vectors, so that pairs which
were never seen together have one too; a net over the same vectors takes what is left. No crosses are written by hand.
Source: Guo et al. 2017, arXiv:1703.04247; the machine, Rendle 2010, doi:10.1109/ICDM.2010.127 (half of square of sum less sum of squares).
Shape: numeric (b, n), categorical (b, m) → vectors (b, n + m, width) → logit (b,).

What differs from the paper, and why: a number times a learned vector takes part in the pairs, where the paper is silent on numbers;
the net takes them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advisor.architectures.table_fields import Fields, Linear, plain, width_of


class DeepFM(nn.Module):
    """`forward(*inputs)`: numeric (b, n) and categorical (b, m), those there are → logit (b,)."""

    def __init__(self, fields: Fields, *, width: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.fields = fields
        self.first = Linear(fields)
        self.directions = nn.Parameter(0.1 * torch.randn(fields.numeric, width)) if fields.numeric else None
        self.deep = plain(fields.size, hidden, dropout=dropout)
        self.head = nn.Linear(width_of(self.deep), 1)

    def pairs(self, vectors: Tensor) -> Tensor:
        """The sum over every two of the products of their vectors: (b, k, width) → (b, 1)."""
        return 0.5 * (vectors.sum(1).square() - vectors.square().sum(1)).sum(1, keepdim=True)

    def forward(self, *inputs: Tensor) -> Tensor:
        parts = [inputs[0].unsqueeze(2) * self.directions] if self.directions is not None else []
        vectors = self.fields.vectors(inputs)
        flat = torch.cat([*inputs[: len(parts)], *([vectors.flatten(1)] if vectors is not None else [])], 1)
        pairs = self.pairs(torch.cat([*parts, *([vectors] if vectors is not None else [])], 1))
        logit: Tensor = self.first(*inputs) + pairs + self.head(self.deep(flat))
        return logit.squeeze(1)


def build(*, numeric: int, categorical: int, rows: int, width: int = 16, hidden: Sequence[int] = (128, 64), dropout: float = 0.1) -> DeepFM:
    """`numeric` and `categorical` count the columns, `rows` those of the embedding table, each `width` wide."""
    fields = Fields(numeric=numeric, categorical=categorical, rows=rows, width=width)
    return DeepFM(fields, width=width, hidden=hidden, dropout=dropout)
