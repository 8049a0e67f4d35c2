"""Deep Speech 2 writes what it hears with two convolutions over the spectrogram, bidirectional LSTMs along it, and CTC.

Idea: convolutions over time and frequency halve the steps and quarter the bands; what is left of a step is read in both directions.
Source: Amodei et al. 2015, arXiv:1512.02595; the loss is CTC, Graves et al. 2006 (ICML, pages 369-376).
Shape: waveform (b, s) → 80 log-mel bands every 10 ms from frames of 20 ms (b, 1, t, 80) → (b, c, t / 2, 20) → (t / 2, b, 20 c)
→ logits (b, t / 2, classes), raw, blank 0.

What differs from the paper, and why: log-mel bands made in the graph instead of a linear spectrogram, LSTMs instead of plain recurrent
layers and no normalisation between them, ReLU instead of a clipped one (it vanishes into the quantized convolution), LSTMs stacked as
single layers (they prune, export and quantize one by one). Sizes are read from the submodules, so a pruned net still runs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advisor.architectures.log_mel import LogMel

BANDS = 80


class Convolution(nn.Module):
    """Convolution over time and bands, normalisation, ReLU: (b, c, t, f) → (b, c', t / st, f / sf)."""

    def __init__(self, inside: int, outside: int, kernel: tuple[int, int], *, stride: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, stride, (kernel[0] // 2, kernel[1] // 2), bias=False)
        self.norm = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class ConvBiLSTM(nn.Module):
    """The recogniser: waveform (b, s) float32 → logits (b, time, classes)."""

    def __init__(self, front: LogMel, layers: nn.Sequential, recurrent: nn.ModuleList, head: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        self.front = front
        self.layers = layers
        self.recurrent = recurrent
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward(self, waveform: Tensor) -> Tensor:
        x = self.layers(self.front(waveform).unsqueeze(1))
        x = x.permute(2, 0, 1, 3).flatten(2)  # (b, c, t, f) → (t, b, c f)
        for lstm in self.recurrent:
            x = lstm(self.dropout(x))[0]
        logits: Tensor = self.head(self.dropout(x))
        return logits.transpose(0, 1)


def build(
    *, classes: int, rate: int, channels: int = 32, hidden: int = 512, layers: int = 3, kernel: int = 11, dropout: float = 0.0
) -> ConvBiLSTM:
    """A net for sound of `rate` samples a second; `classes` counts the blank. `kernel` is the convolutions' extent over time."""
    convolutions = nn.Sequential(
        Convolution(1, channels, (kernel, 41), stride=(2, 2)), Convolution(channels, channels, (kernel, 21), stride=(1, 2))
    )
    sizes = [channels * BANDS // 4] + [2 * hidden] * layers
    recurrent = nn.ModuleList([nn.LSTM(size, hidden, bidirectional=True) for size in sizes[:-1]])
    front = LogMel(rate, hop=0.01, overlap=2, bands=BANDS)
    return ConvBiLSTM(front, convolutions, recurrent, nn.Linear(sizes[-1], classes), dropout=dropout)
