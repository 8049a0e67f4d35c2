"""QuartzNet writes what it hears with convolutions along time and nothing else: depthwise over seconds, pointwise over channels, CTC.

Idea: a block repeats depthwise separable convolutions with one kernel, adds its input back through a pointwise convolution, and the
kernels grow from block to block until a step sees seconds. One kind of operator from the first layer to the last.
Source: Kriman et al. 2019, arXiv:1910.10261, table 1; the loss is CTC, Graves et al. 2006 (ICML, pages 369-376).
Shape: waveform (b, s) → 64 log-mel bands every 10 ms from frames of 20 ms (b, 64, t) → (b, c, t / 2) → logits (b, t / 2, classes), raw, blank 0.

What differs from the paper, and why: the log-mel bands are computed in the graph and are not normalised by utterance (the first
layer's normalisation does it), so that one second is answered as part of ten. Sizes are read from the submodules.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advisor.architectures.log_mel import LogMel

BANDS = 64


class Separable(nn.Sequential):
    """Depthwise over time, pointwise over channels, normalisation: (b, c, t) → (b, c', t / s)."""

    def __init__(self, inside: int, outside: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv1d(inside, inside, kernel, stride, dilation * (kernel - 1) // 2, dilation, groups=inside, bias=False),
            nn.Conv1d(inside, outside, 1, bias=False),
            nn.BatchNorm1d(outside),
        )


class Block(nn.Module):
    """`repeats` separable convolutions, the input added back before the last ReLU: (b, c, t) → (b, c', t)."""

    def __init__(self, inside: int, outside: int, kernel: int, *, repeats: int, dropout: float) -> None:
        super().__init__()
        sizes = [inside] + [outside] * repeats
        self.layers = nn.ModuleList([Separable(one, outside, kernel) for one in sizes[:-1]])
        self.past = nn.Sequential(nn.Conv1d(inside, outside, 1, bias=False), nn.BatchNorm1d(outside))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self.layers[:-1]:
            out = self.dropout(torch.relu(layer(out)))
        found: Tensor = self.dropout(torch.relu(self.layers[-1](out) + self.past(x)))
        return found


class QuartzNet(nn.Module):
    """The recogniser: waveform (b, s) float32 → logits (b, time, classes)."""

    def __init__(self, front: LogMel, first: nn.Module, blocks: nn.Module, last: nn.Module, head: nn.Conv1d) -> None:
        super().__init__()
        self.front = front
        self.first = first
        self.blocks = blocks
        self.last = last
        self.head = head

    def forward(self, waveform: Tensor) -> Tensor:
        x = self.front(waveform).transpose(1, 2)
        x = self.last(self.blocks(self.first(x)))
        logits: Tensor = self.head(x)
        return logits.transpose(1, 2)


def build(
    *,
    classes: int,
    rate: int,
    channels: Sequence[int] = (256, 256, 512, 512, 512),
    kernels: Sequence[int] = (33, 39, 51, 63, 75),
    ends: Sequence[Sequence[int]] = ((256, 33), (512, 87), (1024, 1)),
    groups: int = 1,
    repeats: int = 5,
    dropout: float = 0.0,
) -> QuartzNet:
    """A QuartzNet for sound of `rate` samples a second; `classes` counts the blank.

    Five kinds of block, `groups` of each, `repeats` convolutions a block; `ends` are (channels, kernel) of the first layer and of the
    two behind the blocks.
    """
    (start, kernel), (wide, far), (widest, _) = ends
    first = nn.Sequential(Separable(BANDS, start, kernel, stride=2), nn.ReLU())
    blocks, inside = [], start
    for outside, kernel in zip(channels, kernels, strict=True):
        for _ in range(groups):
            blocks.append(Block(inside, outside, kernel, repeats=repeats, dropout=dropout))
            inside = outside
    last = nn.Sequential(
        Separable(inside, wide, far, dilation=2),
        nn.ReLU(),
        nn.Conv1d(wide, widest, 1, bias=False),
        nn.BatchNorm1d(widest),
        nn.ReLU(),
    )
    front = LogMel(rate, hop=0.01, overlap=2, bands=BANDS)
    return QuartzNet(front, first, nn.Sequential(*blocks), last, nn.Conv1d(widest, classes, 1))
