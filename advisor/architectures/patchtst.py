"""PatchTST cuts each column of a series into patches and attends over them as over words.

Idea: a column alone, normalised by its own mean and deviation, is cut into overlapping patches; each is embedded and told its place;
attention mixes them; one linear map of them all is the forecast, which gets its mean and deviation back. Columns share the weights
and never meet.
Source: Nie et al. 2022, arXiv:2211.14730; the normalisation is that of Kim et al. 2022 (RevIN, openreview cGDAkQo1C0p), without its
learned scale.
Shape: history (b, length, columns) → columns (b c, 1, lookback) → tokens (b c, n, width), one a patch → forecast (b, horizon, columns).

What differs from the paper, and why: layer instead of batch normalisation (it is what runtimes know in an attention block), before
each part instead of after (it trains without a warm-up), and no residual attention scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5


class Layer(nn.Module):
    """Attention over the patches of a column, then a net over each: (n, t, width) → (n, t, width)."""

    def __init__(self, width: int, *, heads: int, ratio: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(ratio * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        size = self.qkv.out_features // (3 * self.heads)
        q, k, v = self.qkv(self.before(x)).reshape(-1, x.shape[1], 3, self.heads, size).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, x.shape[1], self.heads * size)
        x = x + self.dropout(self.out(mixed))
        out: Tensor = x + self.dropout(self.feed(self.between(x)))
        return out


class PatchTST(nn.Module):
    """`forward(history)`: (b, lookback or more, c) float32 → (b, horizon, c)."""

    def __init__(self, lookback: int, *, patch: int, stride: int, layers: Sequence[Layer], horizon: int, dropout: float) -> None:
        super().__init__()
        width = layers[0].out.out_features
        count = (lookback - patch) // stride + 2  # the end is repeated for one patch more, as in the paper
        self.lookback = lookback
        self.embed = nn.Conv1d(1, width, patch, stride)  # a linear map of every patch
        self.place = nn.Parameter(0.02 * torch.randn(count, width))
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(count * width, horizon)

    def forward(self, history: Tensor) -> Tensor:
        columns = history.shape[2]
        x = history[:, -self.lookback :].transpose(1, 2)
        mean = x.mean(2, keepdim=True)
        size = ((x - mean).pow(2).mean(2, keepdim=True) + EPSILON).sqrt()
        ended = F.pad((x - mean) / size, (0, self.embed.stride[0]), mode="replicate").reshape(-1, 1, x.shape[2] + self.embed.stride[0])
        tokens = self.dropout(self.embed(ended).transpose(1, 2) + self.place)
        tokens = self.norm(self.layers(tokens))
        forecast: Tensor = self.head(tokens.flatten(1)).reshape(-1, columns, self.head.out_features)
        return (forecast * size + mean).transpose(1, 2)


def build(
    *,
    columns: int,
    length: int,
    horizon: int,
    lookback: int = 336,
    patch: int = 16,
    stride: int = 8,
    width: int = 128,
    heads: int = 16,
    layers: int = 3,
    ratio: int = 2,
    dropout: float = 0.2,
) -> PatchTST:
    """A forecaster of `horizon` steps from the last `lookback` of `length`. `columns` changes nothing: they share the weights.

    A past shorter than `patch` is one patch.
    """
    back = min(lookback, length)
    patch = min(patch, back)
    blocks = [Layer(width, heads=heads, ratio=ratio, dropout=dropout) for _ in range(layers)]
    return PatchTST(back, patch=patch, stride=min(stride, patch), layers=blocks, horizon=horizon, dropout=dropout)
