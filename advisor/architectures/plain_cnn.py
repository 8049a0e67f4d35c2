"""A plain CNN: convolution, normalisation, ReLU, pooling, over and over, then the mean over the picture and one linear layer.

Idea: the net before residual ones, and the honest baseline beside every other classifier: nothing in it but what each needs.
Source: Simonyan & Zisserman 2014, arXiv:1409.1556, with batch normalisation, Ioffe & Szegedy 2015, arXiv:1502.03167, and the mean
in place of its three dense layers, Lin et al. 2013, arXiv:1312.4400.
Shape: image (b, 3, side, side) → maps (b, c, side / 2^stages, …) → logits (b, classes), raw.

`dilation` widens what a pixel of the last stage sees without more weights, `groups` divides the channels of the inner convolutions
(as many groups as channels: depthwise), each as one number, so that what they do can be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Stage(nn.Module):
    """So many convolutions of one width, then half the side: (b, c, h, w) → (b, c', h / 2, w / 2)."""

    def __init__(self, inside: int, outside: int, *, repeats: int, dilation: int, groups: int) -> None:
        super().__init__()
        widths = [inside] + [outside] * repeats
        self.convs = nn.ModuleList(
            nn.Conv2d(
                before,
                after,
                3,
                padding=dilation if index else 1,
                dilation=dilation if index else 1,
                groups=groups if index else 1,
                bias=False,
            )
            for index, (before, after) in enumerate(pairwise(widths))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outside) for _ in range(repeats))

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))
        return nn.functional.max_pool2d(x, 2)


class PlainCNN(nn.Module):
    """The classifier. `forward(image)`: (b, 3, side, side) float32 → logits (b, classes)."""

    def __init__(self, stages: Sequence[Stage], head: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.stages(image).mean((2, 3))))
        return logits


def build(
    *,
    classes: int,
    side: int,
    widths: Sequence[int] = (32, 64, 128),
    repeats: int = 2,
    dilation: int = 1,
    groups: int = 1,
    dropout: float = 0.0,
) -> PlainCNN:
    """A plain CNN with a stage for each of `widths`; each has `repeats` convolutions and halves the side."""
    if side < 2 ** len(widths):
        raise ValueError(f"{len(widths)} stages that halve do not fit a picture of {side} pixels")
    stages = [
        Stage(inside, outside, repeats=repeats, dilation=dilation, groups=groups)
        for inside, outside in zip((3, *widths[:-1]), widths, strict=True)
    ]
    return PlainCNN(stages, nn.Linear(widths[-1], classes), dropout=dropout)
