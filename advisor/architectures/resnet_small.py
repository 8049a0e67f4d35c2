"""ResNet-8 sees small pictures: one residual block at each of three widths, then the mean over the picture.

Idea: a block adds to its input what two convolutions make of it; the next stage has twice the channels and half the side. With more
blocks a stage it is the ResNet-20 family of the same paper.
Source: He et al. 2015, arXiv:1512.03385; this size is the reference net of MLPerf Tiny, Banbury et al. 2021, arXiv:2106.07597.
Shape: image (b, 3, side, side) → maps (b, c, side / 4, side / 4) → logits (b, classes), raw; any side of 8 or more.

What differs from MLPerf's: convolutions before a normalisation have no bias, which it would cancel (176 fewer numbers). Sizes are read
from the submodules, so a pruned net still runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """x + two convolutions of x, then ReLU: (b, c, h, w) → (b, c', h / stride, w / stride)."""

    def __init__(self, inside: int, outside: int, *, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.past = nn.Conv2d(inside, outside, 1, stride) if inside != outside or stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.second(torch.relu(self.norm1(self.first(x)))))
        return torch.relu(inner + self.past(x))


class SmallResNet(nn.Module):
    """The classifier. `forward(image)`: (b, 3, side, side) float32 → logits (b, classes)."""

    def __init__(self, stem: nn.Conv2d, blocks: Sequence[Block], head: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        self.stem = stem
        self.norm = nn.BatchNorm2d(stem.out_channels)
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward(self, image: Tensor) -> Tensor:
        x = self.blocks(torch.relu(self.norm(self.stem(image))))
        logits: Tensor = self.head(self.dropout(x.mean((2, 3))))
        return logits


def build(*, classes: int, side: int, widths: Sequence[int] = (16, 32, 64), depth: int = 1, dropout: float = 0.0) -> SmallResNet:
    """A residual net for small pictures: `depth` blocks at each of `widths`, each width after the first at half the side."""
    if side < 2 ** (len(widths) + 1) // 2 or depth < 1:
        raise ValueError(f"{len(widths)} stages of {depth} blocks do not fit a picture of {side} pixels")
    blocks, inside = [], widths[0]
    for stage, outside in enumerate(widths):
        for index in range(depth):
            blocks.append(Block(inside, outside, stride=2 if stage and not index else 1))
            inside = outside
    return SmallResNet(nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), blocks, nn.Linear(inside, classes), dropout=dropout)
