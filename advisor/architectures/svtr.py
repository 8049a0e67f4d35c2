"""SVTR-like reads a text line with attention alone: it mixes what is near, then what is far, and CTC spells the result.

Idea: two strided convolutions cut the line into patches, 8 rows of w / 4. Three stages mix them, in the first by convolution (strokes
of one character), later by self-attention over the whole line (which characters go together); between stages the rows are merged
by half, at the end to one. No recurrence: every step is computed at once.
Source: Du et al. 2022, arXiv:2205.00159 (SVTR); the position of a patch comes from a depthwise convolution, so that the width stays
free: Chu et al. 2021, arXiv:2102.10882.
Shape: image (b, 1, 32, w) → maps (b, c, h, t) → tokens (b, h t, c) inside a block → logits (b, t, classes), t = w / 4, raw, blank 0.

What differs from the paper, and why: local mixing is a depthwise convolution instead of attention under a window mask (a mask would
fix the width or be rebuilt in the graph); position is convolutional instead of a learned table. Sizes are read from the submodules;
attention heads alone are a number of their own (a pruner of `qkv` must keep whole heads).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Embed(nn.Sequential):
    """Patches: (b, 1, 32, w) → (b, c, 8, w / 4) by two strided convolutions."""

    def __init__(self, outside: int) -> None:
        super().__init__(*_half(1, outside // 2, (2, 2)), nn.GELU(), *_half(outside // 2, outside, (2, 2)), nn.GELU())


def _half(inside: int, outside: int, stride: tuple[int, int]) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside)


class Near(nn.Module):
    """Mixes neighbours, then channels: (b, c, h, t) → (b, c, h, t), by convolutions alone."""

    def __init__(self, width: int, *, ratio: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False), nn.BatchNorm2d(width))
        self.feed = nn.Sequential(
            nn.Conv2d(width, ratio * width, 1, bias=False),
            nn.BatchNorm2d(ratio * width),
            nn.GELU(),
            nn.Conv2d(ratio * width, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(x)
        out: Tensor = x + self.feed(x)
        return out


class Far(nn.Module):
    """Mixes the whole line, then channels: tokens (b, n, c) → (b, n, c). Heads split the width; their number costs nothing."""

    def __init__(self, width: int, *, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.before(x))
        out: Tensor = x + self.feed(x)
        return out

    def attend(self, x: Tensor) -> Tensor:
        size = self.qkv.out_features // 3 // self.heads
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, size)).permute(2, 0, 3, 1, 4)  # each (b, heads, n, size)
        mixed = F.scaled_dot_product_attention(query, key, value, scale=size**-0.5)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Stage(nn.Module):
    """Position, near blocks, far blocks, then two rows become one: (b, c, h, t) → (b, c', h / 2, t)."""

    def __init__(self, width: int, outside: int, *, near: Sequence[Near], far: Sequence[Far]) -> None:
        super().__init__()
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.near = nn.Sequential(*near)
        self.far = nn.Sequential(*far)
        self.merge = nn.Sequential(*_half(width, outside, (2, 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.near(x + self.position(x))
        if len(self.far):
            x = self.far(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape_as(x)
        merged: Tensor = self.merge(x)
        return merged


class SVTR(nn.Module):
    """The recogniser: image (b, 1, 32, w) float32 → logits (b, t, classes), t = w / 4."""

    def __init__(self, embed: Embed, stages: Sequence[Stage], head: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        self.embed = embed
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(head.in_features)
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image)
        for stage in self.stages:
            x = stage(x)
        x = x.squeeze(2).permute(0, 2, 1)  # (b, c, 1, t) → (b, t, c); with a row too many permute refuses its four axes
        logits: Tensor = self.head(self.dropout(self.norm(x)))
        return logits


def build(
    *,
    classes: int,
    widths: Sequence[int] = (48, 96, 128),
    near: Sequence[int] = (2, 1, 0),
    far: Sequence[int] = (0, 1, 3),
    heads: int = 4,
    ratio: int = 3,
    dropout: float = 0.0,
) -> SVTR:
    """An SVTR-like recogniser for lines 32 pixels high.

    `classes` counts the blank. Each of the three stages has a width (a multiple of `heads`), first `near` blocks and then `far`
    ones; `ratio` is how much wider a block is inside.
    """
    if not len(widths) == len(near) == len(far) == 3:
        raise ValueError(f"three stages merge eight rows into one, got {len(widths)} widths, {len(near)} near, {len(far)} far")
    stages = []
    for width, outside, close, distant in zip(widths, (*widths[1:], widths[-1]), near, far, strict=True):
        blocks = [Near(width, ratio=ratio) for _ in range(close)]
        stages.append(Stage(width, outside, near=blocks, far=[Far(width, heads=heads, ratio=ratio) for _ in range(distant)]))
    return SVTR(Embed(widths[0]), stages, nn.Linear(widths[-1], classes), dropout=dropout)
