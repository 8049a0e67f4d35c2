"""CNN + LSTM: convolutions look at the frames, an LSTM reads along the clip what they saw, and every frame has its say.

Idea: either a two-dimensional net for pictures looks at each frame alone (LRCN), or four 3-D convolutions look at each frame and the two
before it, halving the picture and keeping the time. The mean over the picture is one step of the LSTM; each step scores the classes, and
the scores are averaged over the steps, as LRCN does. Nothing looks ahead: the 3-D convolutions are padded on the side of the past only,
so a frame's scores never change with what follows, and `stream` answers frame by frame.
Source: LRCN, Donahue et al. 2014, arXiv:1411.4389; 3x3x3 convolutions, Tran et al. 2014, arXiv:1412.0767; pictures' nets of timm.
Shape: clip (b, frames, 3, side, side) → features (b, frames, c) → sequence (frames, b, c) → logits (b, classes), raw; any number of frames.

What differs from the papers, and why: LRCN averages probabilities and starts from CaffeNet; here logits are averaged, which for a linear
head is the score of the mean step, one product a clip, and trains with the task's cross entropy. C3D pools and looks ahead; here strides
halve the picture from the first layer on. Sizes are read from the submodules, so a pruned net still runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advisor.architectures import timm_classifier
from rules.problems import Problem

PAST = 2  # frames before its own that a 3x3x3 convolution sees


class Block(nn.Module):
    """Causal 3x3x3 convolution, normalisation, ReLU: (b, c, t, h, w) → (b, c', t, h / 2, w / 2), each step from itself and two before."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inside, outside, 3, (1, 2, 2), (0, 1, 1), bias=False)
        self.norm = nn.BatchNorm3d(outside)

    def forward(self, x: Tensor) -> Tensor:
        return self.over(F.pad(x, (0, 0, 0, 0, PAST, 0)))

    def over(self, x: Tensor) -> Tensor:
        """As `forward`, where `x` brings the two steps before its first: (b, c, 2 + t, h, w)."""
        return torch.relu(self.norm(self.conv(x)))


class Volumes(nn.Module):
    """3-D convolutions over the clip: (b, t, 3, side, side) → (b, t, c)."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, clip: Tensor) -> Tensor:
        return pooled(self.blocks(clip.transpose(1, 2)))


class Pictures(nn.Module):
    """A net for pictures, without its head, on every frame: (b, t, 3, side, side) → (b, t, c)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, clip: Tensor) -> Tensor:
        each: Tensor = self.net(clip.flatten(0, 1))
        return each.reshape(*clip.shape[:2], -1)


class CnnLstm(nn.Module):
    """The recogniser. `forward(clip)`: (b, frames, 3, side, side) float32 → logits (b, classes), the mean of the frames' own."""

    def __init__(self, eyes: Volumes | Pictures, lstm: nn.LSTM, head: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        self.eyes = eyes
        self.lstm = lstm
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward(self, clip: Tensor) -> Tensor:
        steps: Tensor = self.lstm(self.dropout(self.eyes(clip)).transpose(0, 1))[0]
        logits: Tensor = self.head(self.dropout(steps.mean(0)))  # the head is linear: the mean's scores are the scores' mean
        return logits


class Stream(nn.Module):
    """The same net, frame by frame. `forward(frame, *memory)`: (b, 3, side, side) and what it returned the time before → (logits, *memory).

    Without memory a clip begins. Logits are those of the frame; a clip's are their mean. It remembers the LSTM's state and, of every 3-D
    convolution, the two steps before.
    """

    def __init__(self, net: CnnLstm) -> None:
        super().__init__()
        self.net = net

    def forward(self, frame: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        net = self.net
        seen, past = self._seen(frame, memory)
        state = (memory[-2], memory[-1]) if memory else None
        step, (output, cell) = net.lstm(seen.transpose(0, 1), state)
        return (net.head(step[0]), *past, output, cell)

    def _seen(self, frame: Tensor, memory: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Features of the frame, (b, 1, c), and what its 3-D convolutions will ask for with the next."""
        eyes = self.net.eyes
        if isinstance(eyes, Pictures):
            return eyes(frame[:, None]), []
        x, past = frame[:, :, None], []
        for place, block in enumerate(eyes.blocks):
            x = torch.cat([memory[place], x], 2) if memory else F.pad(x, (0, 0, 0, 0, PAST, 0))
            past.append(x[:, :, 1:])
            x = block.over(x)  # type: ignore[operator]  # a Sequential forgets that it holds Blocks
        return pooled(x), past


def pooled(x: Tensor) -> Tensor:
    """The mean over the picture at each step: (b, c, t, h, w) → (b, t, c)."""
    return x.mean((3, 4)).transpose(1, 2)


def stream(model: CnnLstm) -> Stream:
    """A copy of the net that takes one frame and what it remembers of those before."""
    return Stream(deepcopy(model).eval())


def build(
    *,
    classes: int,
    frames: int,
    side: int,
    net: str = "",
    widths: Sequence[int] = (32, 64, 128, 128),
    hidden: int = 256,
    dropout: float = 0.0,
    stride: int = 0,
    weights: str = "",
    **settings: Any,
) -> CnnLstm:
    """An LSTM of `hidden` units over timm's `net` on every frame or, without one, over 3-D convolutions of `widths` channels.

    It takes any number of frames, whatever `frames` says, and the 3-D convolutions any side. `stride`, `weights` and `settings` as for
    `timm_classifier.build`. Raises Problem (exit 2) for weights of the 3-D convolutions: nobody has published any.
    """
    eyes: Volumes | Pictures
    if net:
        pictures: Any = timm_classifier.build(classes=0, side=side, net=net, stride=stride, weights=weights, **settings)
        eyes, features = Pictures(pictures), int(pictures.num_features)
    elif weights:
        raise Problem(
            "nobody has published weights of these 3-D convolutions", remedy="leave weights out of the plan: it trains from nothing"
        )
    else:
        sizes = [3, *widths]
        eyes, features = Volumes([Block(*pair) for pair in pairwise(sizes)]), sizes[-1]
    return CnnLstm(eyes, nn.LSTM(features, hidden), nn.Linear(hidden, classes), dropout=dropout)
