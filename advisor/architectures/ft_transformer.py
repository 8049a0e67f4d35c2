"""FT-Transformer makes a token of every column and lets them attend to each other.

Idea: a number times a learned vector, a row of the embedding table for a category, and one token more that collects the answer. Each
layer is attention over the tokens, then a gated net over each; the answer is read from the collecting token.
Source: Gorishniy et al. 2021, arXiv:2106.11959.
Shape: numeric (b, n), categorical (b, m) → tokens (b, 1 + n + m, width) → logit (b,).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advisor.architectures.table_fields import Fields


class Tokens(nn.Module):
    """A token a column, and the collecting one first: (b, n), (b, m) → (b, 1 + n + m, width)."""

    def __init__(self, fields: Fields, *, categorical: int, width: int) -> None:
        super().__init__()
        self.fields = fields
        spread = width**-0.5
        self.answer = nn.Parameter(torch.empty(1, 1, width).uniform_(-spread, spread))
        self.directions = nn.Parameter(torch.empty(fields.numeric, width).uniform_(-spread, spread)) if fields.numeric else None
        self.places = nn.Parameter(torch.empty(fields.numeric + categorical, width).uniform_(-spread, spread))

    def forward(self, *inputs: Tensor) -> Tensor:
        parts = [inputs[0].unsqueeze(2) * self.directions] if self.directions is not None else []
        vectors = self.fields.vectors(inputs)
        columns = torch.cat([*parts, *([vectors] if vectors is not None else [])], 1) + self.places
        return torch.cat([self.answer.expand(columns.shape[0], -1, -1), columns], 1)


class Layer(nn.Module):
    """Attention over the tokens, then a gated net over each: (b, t, width) → (b, t, width). The first layer has no norm before attention."""

    def __init__(self, width: int, *, heads: int, hidden: int, dropout: float, first: bool) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.Identity() if first else nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * hidden)
        self.down = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *, last: bool) -> Tensor:
        """With `last` only the collecting token is answered: the others are asked no more."""
        size = self.qkv.out_features // (3 * self.heads)
        q, k, v = self.qkv(self.before(x)).reshape(-1, x.shape[1], 3, self.heads, size).permute(2, 0, 3, 1, 4)
        if last:
            x, q = x[:, :1], q[:, :, :1]
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, x.shape[1], self.heads * size)
        x = x + self.out(mixed)
        value, gate = self.up(self.between(x)).chunk(2, -1)
        out: Tensor = x + self.down(self.dropout(value * torch.relu(gate)))
        return out


class FTTransformer(nn.Module):
    """`forward(*inputs)`: numeric (b, n) and categorical (b, m), those there are → logit (b,)."""

    def __init__(self, tokens: Tokens, layers: Sequence[Layer], *, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        x = self.tokens(*inputs)
        for place, layer in enumerate(self.layers, 1):
            x = layer(x, last=place == len(self.layers))
        logit: Tensor = self.head(torch.relu(self.norm(x[:, 0])))
        return logit.squeeze(1)


def build(
    *,
    numeric: int,
    categorical: int,
    rows: int,
    width: int = 192,
    heads: int = 8,
    layers: int = 3,
    ratio: float = 4 / 3,
    dropout: float = 0.1,
) -> FTTransformer:
    """`numeric` and `categorical` count the columns, `rows` those of the embedding table; a token is `width` wide."""
    fields = Fields(numeric=numeric, categorical=categorical, rows=rows, width=width, std=(3 * width) ** -0.5)
    blocks = [Layer(width, heads=heads, hidden=int(width * ratio), dropout=dropout, first=place == 0) for place in range(layers)]
    return FTTransformer(Tokens(fields, categorical=categorical, width=width), blocks, width=width)
