"""Conformer writes what it hears with convolution for the near and attention for the far, in every block, and CTC.

Idea: two strided convolutions leave a step every 40 ms; a block feeds forward by half, attends over the whole utterance, convolves its
neighbourhood, feeds forward by the other half and normalises.
Source: Gulati et al. 2020, arXiv:2005.08100; CTC in place of its transducer, Graves et al. 2006 (ICML, pages 369-376). Positions by
convolution: Baevski et al. 2020, arXiv:2006.11477.
Shape: waveform (b, s) → 80 log-mel bands every 10 ms from frames of 20 ms (b, 1, t, 80) → (b, t / 4, c) → logits (b, t / 4, classes), raw, blank 0.

What differs from the paper, and why: the log-mel bands are computed in the graph; positions come from one grouped convolution instead
of relative ones inside the attention (two products less a layer, and any length exports); no autoregressive decoder. Sizes are read
from the submodules; attention heads alone are a number of their own.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from advisor.architectures.log_mel import LogMel

BANDS = 80


class Subsample(nn.Module):
    """Two strided convolutions over time and bands, one linear layer: (b, 1, t, 80) → (b, t / 4, c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1, groups=width, bias=False),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.out = nn.Linear(width * BANDS // 4, width)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.layers(x).permute(0, 2, 1, 3).flatten(2))
        return found


class Feed(nn.Sequential):
    """Wider, bent, narrow again: (b, t, c) → (b, t, c)."""

    def __init__(self, width: int, *, ratio: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, ratio * width),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(ratio * width, width),
            nn.Dropout(dropout),
        )


class Attend(nn.Module):
    """Every step looks at every other: (b, t, c) → (b, t, c)."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        size = self.qkv.out_features // 3 // self.heads
        query, key, value = self.qkv(self.before(x)).unflatten(2, (3, self.heads, size)).permute(2, 0, 3, 1, 4)  # (b, heads, t, size)
        mixed = F.scaled_dot_product_attention(query, key, value, scale=size**-0.5)
        out: Tensor = self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return out


class Convolve(nn.Module):
    """A gated pointwise convolution, a depthwise one along time, a pointwise one: (b, t, c) → (b, t, c)."""

    def __init__(self, width: int, *, kernel: int, dropout: float) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.gated = nn.Conv1d(width, 2 * width, 1)
        self.along = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.out = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(self.gated(self.before(x).transpose(1, 2)), dim=1)
        x = self.out(F.silu(self.norm(self.along(x))))
        out: Tensor = self.dropout(x.transpose(1, 2))
        return out


class Block(nn.Module):
    """Half a feed-forward, attention, convolution, the other half: (b, t, c) → (b, t, c)."""

    def __init__(self, width: int, *, heads: int, ratio: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.first = Feed(width, ratio=ratio, dropout=dropout)
        self.attend = Attend(width, heads=heads, dropout=dropout)
        self.convolve = Convolve(width, kernel=kernel, dropout=dropout)
        self.second = Feed(width, ratio=ratio, dropout=dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.first(x)
        x = x + self.attend(x)
        x = x + self.convolve(x)
        out: Tensor = self.norm(x + 0.5 * self.second(x))
        return out


class Conformer(nn.Module):
    """The recogniser: waveform (b, s) float32 → logits (b, time, classes)."""

    def __init__(
        self, front: LogMel, subsample: Subsample, position: nn.Conv1d, blocks: nn.Sequential, head: nn.Linear, *, dropout: float
    ) -> None:
        super().__init__()
        self.front = front
        self.subsample = subsample
        self.position = position
        self.dropout = nn.Dropout(dropout)
        self.blocks = blocks
        self.head = head

    def forward(self, waveform: Tensor) -> Tensor:
        x = self.subsample(self.front(waveform).unsqueeze(1))
        x = x + F.silu(self.position(x.transpose(1, 2))).transpose(1, 2)
        logits: Tensor = self.head(self.blocks(self.dropout(x)))
        return logits


def build(
    *,
    classes: int,
    rate: int,
    width: int = 144,
    layers: int = 16,
    heads: int = 4,
    ratio: int = 4,
    kernel: int = 31,
    dropout: float = 0.1,
) -> Conformer:
    """A Conformer for sound of `rate` samples a second; `classes` counts the blank. `width` is a multiple of `heads` and of 16."""
    blocks = [Block(width, heads=heads, ratio=ratio, kernel=kernel, dropout=dropout) for _ in range(layers)]
    position = nn.Conv1d(width, width, 31, padding=15, groups=16)
    front = LogMel(rate, hop=0.01, overlap=2, bands=BANDS)
    return Conformer(front, Subsample(width), position, nn.Sequential(*blocks), nn.Linear(width, classes), dropout=dropout)
