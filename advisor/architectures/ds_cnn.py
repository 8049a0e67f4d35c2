"""DS-CNN hears one of a few words: an ordinary convolution over cepstra, then depthwise separable ones, a mean, a layer of classes.

Idea: a depthwise 3x3 convolution mixes neighbours, a pointwise one mixes channels; together they cost a ninth of an ordinary one.
Source: Zhang, Suda, Lai & Chandra 2017, "Hello Edge", arXiv:1711.07128; sizes of the small net as in MLPerf Tiny
(github.com/mlcommons/tiny, benchmark/training/keyword_spotting/keras_model.py), of the medium one as in github.com/ARM-software/ML-KWS-for-MCU.
Shape: waveform (b, s) → 10 cepstra every 20 ms from frames of 40 ms (b, 1, t, 10) → (b, c, t / 2, 5) → logits (b, classes), raw.

What differs from the paper, and why: the cepstra are computed in the graph, and the mean is over all that is there, so that a clip may
have any length. Every size is read from the submodules, so a pruned net still runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advisor.architectures.log_mel import LogMel


class Convolution(nn.Module):
    """Convolution, normalisation, ReLU: (b, c, t, f) → (b, c', t / st, f / sf)."""

    def __init__(self, inside: int, outside: int, kernel: tuple[int, int], *, stride: tuple[int, int] = (1, 1), groups: int = 1) -> None:
        super().__init__()
        padding = (kernel[0] // 2, (kernel[1] - 1) // 2)
        self.conv = nn.Conv2d(inside, outside, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class DSCNN(nn.Module):
    """The net. `forward(waveform)`: (b, s) float32 → logits (b, classes)."""

    def __init__(self, front: LogMel, layers: nn.Sequential, head: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        self.front = front
        self.layers = layers
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward(self, waveform: Tensor) -> Tensor:
        x = self.layers(self.front(waveform).unsqueeze(1))
        x = nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)
        logits: Tensor = self.head(self.dropout(x))
        return logits


def build(
    *,
    classes: int,
    rate: int,
    channels: int = 64,
    layers: int = 4,
    strides: Sequence[Sequence[int]] = ((2, 2),),
    coefficients: int = 10,
    bands: int = 40,
    high: float = 4000.0,
    dropout: float = 0.2,
) -> DSCNN:
    """A DS-CNN for sound of `rate` samples a second: one ordinary layer, then `layers` separable ones, `channels` wide.

    `strides` are (time, cepstra) of the first layers, the others keep the size.
    """
    steps = [(stride[0], stride[1]) for stride in strides] + [(1, 1)] * (1 + layers - len(strides))
    front = LogMel(rate, hop=0.02, overlap=2, bands=bands, high=high, coefficients=coefficients)
    stack = [Convolution(1, channels, (10, 4), stride=steps[0])]
    for stride in steps[1:]:
        stack += [Convolution(channels, channels, (3, 3), stride=stride, groups=channels), Convolution(channels, channels, (1, 1))]
    return DSCNN(front, nn.Sequential(*stack), nn.Linear(channels, classes), dropout=dropout)
