"""BC-ResNet hears one of a few words: it looks along frequency in two dimensions, along time in one, and adds the latter to every band.

Idea: a block convolves over frequency, averages the bands away, convolves that single row over time, which is cheap, and broadcasts
the result back as a residual. Bands are normalised in five groups of their own, for what is usual differs from the bottom to the top.
Source: Kim, Chang, Lee & Sung 2021, arXiv:2106.04140; the layout of github.com/Qualcomm-AI-research/bcresnet. Bands in groups: Chang et al.
2021, arXiv:2103.13620.
Shape: waveform (b, s) → 40 log-mel bands every 10 ms from frames of 30 ms (b, 1, 40, t) → (b, c, 5, t) → (b, c', 1, t) → logits (b, classes), raw.

What differs from the paper, and why: the log-mel bands are computed in the graph. Few weights and many small operators: count its nodes,
not its multiplications.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advisor.architectures.log_mel import LogMel

GROUPS = 5  # of bands that are normalised together
BANDS = 40


class BandNorm(nn.Module):
    """Batch normalisation of each channel in each group of bands: (b, c, f, t) → the same, f = `bands`. Once trained, one factor and one
    summand a channel and band."""

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels * GROUPS)
        self.bands = bands

    def forward(self, x: Tensor) -> Tensor:
        each = self.bands // GROUPS
        if self.training:
            grouped = x.reshape(x.shape[0], -1, each, x.shape[3])
            return self.norm(grouped).reshape(x.shape[0], -1, self.bands, x.shape[3])  # type: ignore[no-any-return]
        norm = self.norm
        assert norm.running_var is not None and norm.running_mean is not None
        factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        summand = norm.bias - norm.running_mean * factor
        wide = [value.repeat_interleave(each).reshape(-1, self.bands, 1) for value in (factor, summand)]
        return x * wide[0] + wide[1]


class Block(nn.Module):
    """Over frequency, then over time, added to every band: (b, c, f, t) → (b, c', f / s, t). Only an equal shape has a plain residual."""

    def __init__(self, inside: int, outside: int, *, bands: int, stride: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.widen = (
            nn.Sequential(nn.Conv2d(inside, outside, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()) if inside != outside else None
        )
        self.frequency = nn.Conv2d(outside, outside, (3, 1), (stride, 1), (1, 0), groups=outside, bias=False)
        self.bands = BandNorm(outside, bands)
        self.time = nn.Conv2d(outside, outside, (1, 3), padding=(0, dilation), dilation=(1, dilation), groups=outside, bias=False)
        self.norm = nn.BatchNorm2d(outside)
        self.mix = nn.Conv2d(outside, outside, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.bands(self.frequency(x if self.widen is None else self.widen(x)))
        row = F.silu(self.norm(self.time(wide.mean(2, keepdim=True))))
        out = wide + self.dropout(self.mix(row))
        return torch.relu(out if self.widen is not None else out + x)


class BCResNet(nn.Module):
    """The net. `forward(waveform)`: (b, s) float32 → logits (b, classes)."""

    def __init__(self, front: LogMel, stem: nn.Sequential, blocks: nn.Sequential, tail: nn.Sequential, head: nn.Conv2d) -> None:
        super().__init__()
        self.front = front
        self.stem = stem
        self.blocks = blocks
        self.tail = tail
        self.head = head

    def forward(self, waveform: Tensor) -> Tensor:
        x = self.front(waveform).transpose(1, 2).unsqueeze(1)
        x = self.tail(self.blocks(self.stem(x))).mean(3, keepdim=True)
        logits: Tensor = self.head(x).flatten(1)
        return logits


def build(
    *,
    classes: int,
    rate: int,
    width: float = 1.0,
    repeats: Sequence[int] = (2, 2, 4, 4),
    strides: Sequence[int] = (1, 2, 2, 1),
    dilations: Sequence[int] = (1, 2, 4, 8),
    dropout: float = 0.1,
    high: float = 8000.0,
) -> BCResNet:
    """A BC-ResNet for sound of `rate` samples a second; `width` is the number in its name.

    Each of the four stages has `repeats` blocks, the first of them strided over frequency; all of a stage are dilated alike over time.
    """
    base = round(8 * width)
    widths = [2 * base, base, base * 3 // 2, 2 * base, base * 5 // 2, 4 * base]
    stem = nn.Sequential(nn.Conv2d(1, widths[0], 5, (2, 1), 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
    blocks, bands_left = [], BANDS // 2
    for stage, (count, stride, dilation) in enumerate(zip(repeats, strides, dilations, strict=True)):
        inside, outside = widths[stage], widths[stage + 1]
        bands_left //= stride
        blocks.append(Block(inside, outside, bands=bands_left, stride=stride, dilation=dilation, dropout=dropout))
        blocks += [Block(outside, outside, bands=bands_left, stride=1, dilation=dilation, dropout=dropout) for _ in range(count - 1)]
    last = widths[4]
    tail = nn.Sequential(
        nn.Conv2d(last, last, 5, padding=(0, 2), groups=last, bias=False),
        nn.Conv2d(last, widths[5], 1, bias=False),
        nn.BatchNorm2d(widths[5]),
        nn.ReLU(),
    )
    front = LogMel(rate, hop=0.01, overlap=3, bands=BANDS, high=high)
    return BCResNet(front, stem, nn.Sequential(*blocks), tail, nn.Conv2d(widths[5], classes, 1))
