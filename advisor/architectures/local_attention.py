"""An encoder whose subwords attend to their neighbours only, so that time and memory grow with the length and not with its square.

Idea: the text is cut into blocks of `window` subwords; each attends to its own block and the two beside it, and there to what is at most
`window` away. A layer sees that far; depth carries it further. Places are told by turning queries and keys, so no length is built in.
Source: sliding-window attention, Beltagy et al. 2020, arXiv:2004.05150, in the block-wise form that needs no kernel of its own; turned
queries and keys, Su et al. 2021, arXiv:2104.09864; both together in Warner et al. 2024, arXiv:2412.13663 (ModernBERT, from which the
gated layers come too).
Shape: tokens (b, n) int64, 0 behind the last → (b, n, width) → mean (b, width) → logits (b, classes), raw.

What differs from ModernBERT, and why: every layer is local (no global one in three), which keeps the time linear; the mean over the
subwords answers. Sizes are read from the submodules.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PADDING = 0
FAR = -1e4  # added to the score of what is too far, or padding
BASE = 10_000.0  # of the turns


class Local(nn.Module):
    """Attention to what is near, then a gated layer: (b, n, c) → (b, n, c), n a multiple of the window."""

    def __init__(self, width: int, *, heads: int, ratio: float, window: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.before = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.between = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 2 * round(ratio * width), bias=False)
        self.down = nn.Linear(round(ratio * width), width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        """`mask` (b blocks, 1, window, 3 window) is added to the scores; `turns` are cosines and sines (n, c / heads)."""
        size = self.qkv.out_features // 3 // self.heads
        query, key, value = self.qkv(self.before(x)).unflatten(2, (3, self.heads, size)).unbind(2)  # (b, n, heads, size)
        query, key = turned(query, *turns), turned(key, *turns)
        query = query.reshape(-1, self.window, self.heads, size).transpose(1, 2)  # (b blocks, heads, window, size)
        key, value = (beside(part, self.window).reshape(-1, 3 * self.window, self.heads, size).transpose(1, 2) for part in (key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=size**-0.5)
        mixed = mixed.transpose(1, 2).reshape(*x.shape[:2], -1)
        x = x + self.dropout(self.out(mixed))
        wide = self.up(self.between(x))
        half = self.down.in_features
        found: Tensor = x + self.dropout(self.down(wide[..., :half] * F.gelu(wide[..., half:])))
        return found


class LocalEncoder(nn.Module):
    """`forward(tokens)`: (b, n) int64 → (b, classes)."""

    def __init__(self, words: nn.Embedding, layers: Sequence[Local], head: nn.Linear, *, window: int, dropout: float) -> None:
        super().__init__()
        self.window = window
        self.words = words
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(words.embedding_dim, bias=False)
        self.head = head
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        wanted = (tokens.shape[1] + self.window - 1) // self.window * self.window
        tokens = F.pad(tokens, (0, self.window), value=PADDING)[:, :wanted]  # whole blocks
        there = (tokens != PADDING).to(self.words.weight.dtype)
        mask, turns = near(there, self.window), self._turns(tokens)
        x = self.dropout(self.words(tokens))
        for layer in self.layers:
            x = layer(x, mask, turns)
        mean = (self.norm(x) * there.unsqueeze(2)).sum(1) / there.sum(1, keepdim=True).clamp_min(1)
        logits: Tensor = self.head(self.dropout(mean))
        return logits

    def _turns(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        first: Local = self.layers[0]  # type: ignore[assignment]
        size = first.qkv.out_features // 3 // first.heads
        pace = BASE ** -(torch.arange(0, size, 2, device=tokens.device, dtype=self.words.weight.dtype) / size)
        place = torch.arange(tokens.shape[1], device=tokens.device, dtype=self.words.weight.dtype)
        angle = (place.unsqueeze(1) * pace).repeat(1, 2)
        return angle.cos(), angle.sin()


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """x (b, n, heads, size) turned by its place: pairs of numbers as points in a plane."""
    half = cosine.shape[1] // 2
    return x * cosine.unsqueeze(1) + torch.cat([-x[..., half:], x[..., :half]], -1) * sine.unsqueeze(1)


def blocks(x: Tensor, window: int) -> Tensor:
    """(b, n, …) → (b, blocks, window, …)."""
    return x.reshape(x.shape[0], -1, window, *x.shape[2:])


def beside(x: Tensor, window: int) -> Tensor:
    """(b, n, …) → (b, blocks, 3 window, …): each block with the ones before and behind it, zeros beyond the ends."""
    three = blocks(F.pad(x, (*[0, 0] * (x.dim() - 2), window, window)), window)
    return torch.cat([three[:, :-2], three[:, 1:-1], three[:, 2:]], 2)


def near(there: Tensor, window: int) -> Tensor:
    """1 where a word is (b, n) → what is added to the scores (b blocks, 1, window, 3 window): 0 for words at most `window` away."""
    place = torch.arange(window, device=there.device, dtype=there.dtype)
    distance = torch.arange(-window, 2 * window, device=there.device, dtype=there.dtype) - place.unsqueeze(1)
    far = (distance.abs() > window).to(there.dtype)  # (window, 3 window)
    gone = 1 - beside(there, window).reshape(-1, 1, 1, 3 * window)
    return FAR * (far + gone).clamp_max(1)


def build(
    *,
    classes: int,
    vocabulary: int,
    length: int,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    ratio: float = 2.0,
    window: int = 32,
    dropout: float = 0.1,
) -> LocalEncoder:
    """A classifier of texts of any length (`length` is not needed). `width` / `heads` is even; a subword sees `window` each way a layer."""
    parts = [Local(width, heads=heads, ratio=ratio, window=window, dropout=dropout) for _ in range(layers)]
    words = nn.Embedding(vocabulary, width)
    nn.init.normal_(words.weight, std=0.02)
    return LocalEncoder(words, parts, nn.Linear(width, classes), window=window, dropout=dropout)
