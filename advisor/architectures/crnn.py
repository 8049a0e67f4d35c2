"""CRNN reads a text line of any width: convolutions see it, recurrent layers read it along, CTC spells it.

Idea: convolution blocks shrink the height to one row and the width to a quarter; every column of that row is one time step,
bidirectional LSTMs give each step its left and right context, a linear layer scores the characters and the CTC blank (index 0).
Source: Shi, Bai & Yao 2015, arXiv:1507.05717; the loss is CTC, Graves et al. 2006 (ICML, pages 369-376).
Shape: image (b, 1, 32, w) → features (b, c, 1, t) → sequence (t, b, c) → logits (b, t, classes), t = w / 4, all of them raw.

What differs from the paper, and why: a third of the width and fewer layers (an edge device reads it), ReLU everywhere (it vanishes
into the quantized convolution), the height is collapsed by a learned (h, 1) convolution, LSTMs are stacked single-layer modules
(they prune, export and quantize one by one). Every size is read from the submodules, so a pruned net still runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HEIGHT = 32


class Block(nn.Module):
    """Convolution, normalisation, ReLU and, where the stage shrinks, max pooling: (b, c, h, w) → (b, c', h / sh, w / sw)."""

    def __init__(self, inside: int, outside: int, *, stride: tuple[int, int], pool: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outside)
        self.pool = nn.MaxPool2d(pool) if pool != (1, 1) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(torch.relu(self.norm(self.conv(x))))
        return out

    def columns(self, widths: Tensor) -> Tensor:
        """How many columns of the result belong to a line of `widths` columns, (b,) → (b,)."""
        widths = (widths - 1) // self.conv.stride[1] + 1
        return widths // self.pool.kernel_size[1] if isinstance(self.pool, nn.MaxPool2d) else widths  # type: ignore[index]


class Collapse(nn.Module):
    """A learned sum over the rows: (b, c, h, w) → (b, c', 1, w)."""

    def __init__(self, inside: int, outside: int, *, height: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, (height, 1), bias=False)
        self.norm = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))

    def columns(self, widths: Tensor) -> Tensor:
        return widths


class CRNN(nn.Module):
    """The recogniser. `forward(image, widths=None)`: image (b, 1, 32, w) float32 → logits (b, t, classes), t = w / 4.

    With `widths` ((b,) int64, in pixels) whatever lies to the right of a line is ignored, so that a line in a padded batch
    reads as it does alone; its own steps are the first `steps(widths)`, the rest repeat the head's answer to silence.
    Without it no mask appears in the graph: this is the form that is exported.
    """

    def __init__(self, blocks: Sequence[Block | Collapse], recurrent: Sequence[nn.LSTM], head: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        self.blocks: Any = nn.ModuleList(blocks)  # of Block and Collapse
        self.recurrent: Any = nn.ModuleList(recurrent)  # of nn.LSTM
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward(self, image: Tensor, widths: Tensor | None = None) -> Tensor:
        x = self.features(image) if widths is None else self.masked_features(image, widths)
        x = x.squeeze(2).permute(2, 0, 1)  # (b, c, 1, t) → (t, b, c); with a row too many permute refuses its four axes
        lengths = None if widths is None else self.steps(widths).cpu()
        for lstm in self.recurrent:
            x = read(lstm, self.dropout(x), lengths)
        logits: Tensor = self.head(self.dropout(x))
        return logits.transpose(0, 1)

    def features(self, image: Tensor) -> Tensor:
        for block in self.blocks:
            image = block(image)
        return image

    def masked_features(self, image: Tensor, widths: Tensor) -> Tensor:
        """As `features`, with zeros right of each line after every block: what its padding would be if it were alone."""
        image = mask(image, widths)
        for block in self.blocks:
            widths = block.columns(widths)
            image = mask(block(image), widths)
        return image

    def steps(self, widths: Tensor) -> Tensor:
        """Time steps of lines that are `widths` pixels wide, (b,) → (b,)."""
        for block in self.blocks:
            widths = block.columns(widths)
        return widths


def mask(x: Tensor, widths: Tensor) -> Tensor:
    """Zero the columns of x (b, c, h, w) from `widths` on."""
    column = torch.arange(x.shape[-1], device=x.device)
    return x.masked_fill(column >= widths.to(x.device)[:, None, None, None], 0.0)


def read(lstm: nn.LSTM, x: Tensor, lengths: Tensor | None) -> Tensor:
    """One recurrent layer over (t, b, c), over each line's own steps where `lengths` are given."""
    if lengths is None:
        out: Tensor = lstm(x)[0]
        return out
    packed, _ = lstm(pack_padded_sequence(x, lengths, enforce_sorted=False))
    return pad_packed_sequence(packed, total_length=x.shape[0])[0]


def build(
    *,
    classes: int,
    channels: Sequence[int] = (32, 64, 128, 128, 192),
    strides: Sequence[Sequence[int]] = ((2, 2), (2, 2), (2, 1), (2, 1), (1, 1)),
    strided: int = 0,
    repeats: Sequence[int] = (),
    hidden: int = 128,
    layers: int = 2,
    dropout: float = 0.0,
) -> CRNN:
    """A CRNN for lines 32 pixels high.

    `classes` counts the blank. Each stage has `repeats` convolutions (one unless given) of `channels` outputs and shrinks by
    `strides` (rows, columns): the first `strided` stages by a strided convolution, the others by max pooling behind the last.
    """
    if not len(channels) == len(strides) == len(repeats or channels):
        raise ValueError(f"one stride and one repeat a stage: {len(channels)} channels, {len(strides)} strides, {len(repeats)} repeats")
    blocks: list[Block | Collapse] = []
    inside, height = 1, HEIGHT
    for stage, (outside, stride) in enumerate(zip(channels, strides, strict=True)):
        count = repeats[stage] if repeats else 1
        for index in range(count):
            shrink = (stride[0], stride[1]) if index == (0 if stage < strided else count - 1) else (1, 1)
            step, pool = (shrink, (1, 1)) if stage < strided else ((1, 1), shrink)
            blocks.append(Block(inside, outside, stride=step, pool=pool))
            inside = outside
        height //= stride[0]
    if height * prod(rows for rows, _ in strides) != HEIGHT:
        raise ValueError(f"strides {list(strides)} do not divide {HEIGHT} rows")
    if height > 1:
        blocks.append(Collapse(inside, inside, height=height))
    sizes = [inside] + [2 * hidden] * layers
    recurrent = [nn.LSTM(size, hidden, bidirectional=True) for size in sizes[:-1]]
    return CRNN(blocks, recurrent, nn.Linear(sizes[-1], classes), dropout=dropout)
