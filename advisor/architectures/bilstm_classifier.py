"""A bidirectional LSTM reads a text both ways and keeps the strongest answer of every unit.

Idea: each word is understood from what stands before it and behind it; the maximum over the text says whether a unit found its thing
anywhere.
Source: Schuster & Paliwal 1997 (IEEE Transactions on Signal Processing 45:2673-2681); the maximum over time as in Conneau et al. 2017,
arXiv:1705.02364.
Shape: tokens (b, n) int64, 0 behind the last → (b, n, width) → (b, n, 2 hidden) a layer → (b, 2 hidden) → logits (b, classes), raw.

What differs from a plain bidirectional layer: the way back is an LSTM of its own over the turned text, and what is turned is the text
without its padding. So padding is read last both ways and changes nothing, without sequence lengths in the file, which the kernels of 8
bits do not all take. Sizes are read from the submodules.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

PADDING = 0


class BothWays(nn.Module):
    """One layer: (b, n, i) → (b, n, 2 hidden)."""

    def __init__(self, inside: int, hidden: int) -> None:
        super().__init__()
        self.onward = nn.LSTM(inside, hidden, batch_first=True)
        self.back = nn.LSTM(inside, hidden, batch_first=True)

    def forward(self, x: Tensor, turned: Tensor) -> Tensor:
        """`turned` (b n,): where each place of the turned texts stands in the flattened batch."""
        back = turn(self.back(turn(x, turned))[0], turned)
        return torch.cat([self.onward(x)[0], back], 2)


class BiLSTM(nn.Module):
    """`forward(tokens)`: (b, n) int64 → (b, classes)."""

    def __init__(self, words: nn.Embedding, layers: Sequence[BothWays], head: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        self.words = words
        self.layers = nn.ModuleList(layers)
        self.head = head
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        there = (tokens != PADDING).to(self.words.weight.dtype)
        turned = places(there)
        x = self.words(tokens)
        for layer in self.layers:
            x = layer(self.dropout(x), turned)
        found = torch.relu((x * there.unsqueeze(2)).amax(1))  # never below zero, as where there is padding
        logits: Tensor = self.head(self.dropout(found))
        return logits


def places(there: Tensor) -> Tensor:
    """1 where a word is (b, n) → the places (b n,) of the texts read backwards, padding where it is."""
    count = there.sum(1, keepdim=True).long()
    step = torch.arange(there.shape[1], device=there.device).unsqueeze(0)
    inside = (step < count).long()
    backwards = inside * (count - 1 - step) + (1 - inside) * step
    first = torch.arange(there.shape[0], device=there.device).unsqueeze(1) * there.shape[1]
    return (first + backwards).flatten()


def turn(x: Tensor, turned: Tensor) -> Tensor:
    """The texts read backwards; twice is once too much and gives x again."""
    return x.flatten(0, 1).index_select(0, turned).reshape(x.shape)


def build(
    *, classes: int, vocabulary: int, length: int, width: int = 128, hidden: int = 128, layers: int = 2, dropout: float = 0.3
) -> BiLSTM:
    """A classifier of texts of any length (`length` is not needed): `width` numbers a word, `hidden` units a direction."""
    sizes = [width, *[2 * hidden] * (layers - 1)]
    return BiLSTM(
        nn.Embedding(vocabulary, width), [BothWays(size, hidden) for size in sizes], nn.Linear(2 * hidden, classes), dropout=dropout
    )
