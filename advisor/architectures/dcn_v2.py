"""DCN-V2 multiplies the input with itself, a layer at a time, beside a plain net.

Idea: x' = x0 * (W x + b) + x. Each layer raises the degree of the crosses between columns by one, and W says which are worth it. W is
of low rank, because the crosses that matter are few.
Source: Wang et al. 2020, arXiv:2008.13535 (the parallel form, with one expert).
Shape: numeric (b, n), categorical (b, m) → flat x (b, n + m width) → crossed (b, n + m width), deep (b, hidden) → logit (b,).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advisor.architectures.table_fields import Fields, plain, width_of


class Cross(nn.Module):
    """One cross layer: (first (b, d), x (b, d)) → (b, d). Rank 0: a full matrix."""

    def __init__(self, size: int, *, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(size, rank, bias=False) if rank else nn.Identity()
        self.up = nn.Linear(rank or size, size)

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        out: Tensor = first * self.up(self.down(x)) + x
        return out


class DCN(nn.Module):
    """`forward(*inputs)`: numeric (b, n) and categorical (b, m), those there are → logit (b,)."""

    def __init__(self, fields: Fields, *, layers: int, rank: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.fields = fields
        self.crosses = nn.ModuleList([Cross(fields.size, rank=rank) for _ in range(layers)])
        self.deep = plain(fields.size, hidden, dropout=dropout)
        self.head = nn.Linear(fields.size + width_of(self.deep), 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        first = crossed = self.fields(*inputs)
        for layer in self.crosses:
            crossed = layer(first, crossed)
        logit: Tensor = self.head(torch.cat([crossed, self.deep(first)], 1))
        return logit.squeeze(1)


def build(
    *,
    numeric: int,
    categorical: int,
    rows: int,
    width: int = 16,
    layers: int = 2,
    rank: int = 32,
    hidden: Sequence[int] = (128, 64),
    dropout: float = 0.1,
) -> DCN:
    """`numeric` and `categorical` count the columns, `rows` those of the embedding table, each `width` wide; `rank` 0: full crosses."""
    fields = Fields(numeric=numeric, categorical=categorical, rows=rows, width=width)
    return DCN(fields, layers=layers, rank=rank, hidden=hidden, dropout=dropout)
