"""X3D: a tiny net for pictures grown into time, step by step, until the next step was no longer worth its work.

Idea: bottlenecks whose middle convolution is depthwise and looks at 3x3x3, so that time costs little; every other one weighs its channels
by what the whole clip holds (squeeze and excitation). Time is never shortened. What was grown are frames, side, depth and width; S and
XS are one net on clips of 13 and of 4 frames.
Source: Feichtenhofer 2020, arXiv:2004.04730, table 3 and section 4; the sizes of its S form, https://github.com/facebookresearch/SlowFast.
Shape: clip (b, frames, 3, side, side) → (b, 3, frames, side, side) → logits (b, classes), raw; any number of frames and any side.

What differs, and why: the published head pools before its wide layer as one window of fixed size; here the mean is taken over whatever is
there, so that other sizes run.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from advisor.published import begin

SHARE, LEAST, STEP = 0.0625, 8, 8  # of the channels of a gate: their share of those it weighs, the fewest, a multiple
Stride = tuple[int, int, int]


class Gate(nn.Module):
    """Squeeze and excitation (Hu et al. 2017, arXiv:1709.01507): (b, c, t, h, w) → the same, each channel weighed by 0 to 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = squeezed(channels)
        self.down = nn.Conv3d(channels, inner, 1)
        self.up = nn.Conv3d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.up(self.down(x.mean((2, 3, 4), keepdim=True)).relu()).sigmoid()
        return x * weight


class Block(nn.Module):
    """A bottleneck, wide in the middle: (b, c, t, h, w) → (b, c', t, h / stride, w / stride)."""

    def __init__(self, inside: int, outside: int, *, inner: int, stride: int, gated: bool) -> None:
        super().__init__()
        step = (1, stride, stride)
        self.widen = normed(inside, inner)
        self.look = normed(inner, inner, 3, stride=step, groups=inner)
        self.gate: nn.Module = Gate(inner) if gated else nn.Identity()
        self.narrow = normed(inner, outside)
        self.past: nn.Module = normed(inside, outside, stride=step) if stride > 1 or inside != outside else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        seen = self.gate(self.look(self.widen(x).relu()))
        found: Tensor = self.narrow(seen * seen.sigmoid())
        added: Tensor = self.past(x) + found
        return added.relu()


class X3d(nn.Module):
    """The recogniser. `forward(clip)`: (b, frames, 3, side, side) float32 → logits (b, classes)."""

    def __init__(self, stem: nn.Module, blocks: Sequence[Block], head: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential(*blocks)
        self.head = head
        self.classifier = classifier

    def forward(self, clip: Tensor) -> Tensor:
        found = self.head(self.blocks(self.stem(clip.transpose(1, 2))))
        logits: Tensor = self.classifier(found.mean((2, 3, 4)))
        return logits


def squeezed(channels: int) -> int:
    """Channels of a gate: a sixteenth, a multiple of eight that loses less than a tenth of it."""
    wanted = channels * SHARE
    found = max(LEAST, int(wanted + STEP / 2) // STEP * STEP)
    return found + STEP if found < 0.9 * wanted else found


def normed(inside: int, outside: int, kernel: int = 1, *, stride: Stride = (1, 1, 1), groups: int = 1) -> nn.Sequential:
    """A 3-D convolution that keeps the size but for its stride, and its normalisation."""
    return nn.Sequential(nn.Conv3d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm3d(outside))


def build(
    *,
    classes: int,
    frames: int,
    side: int,
    widths: Sequence[int] = (24, 48, 96, 192),
    depths: Sequence[int] = (3, 5, 11, 7),
    expansion: float = 2.25,
    features: int = 2048,
    shrink: int = 2,
    dropout: float = 0.5,
    weights: str = "",
) -> X3d:
    """Stages of `widths` channels and `depths` blocks, each `expansion` times wider inside, and a layer of `features` before the classes.

    The stem shrinks a frame `shrink` times, each stage twice; small frames want a stem that does not. `weights`: a local .safetensors file
    of this very net. It takes any number of frames and any side, whatever `frames` and `side` say. Raises Problem (exit 3) for such a file
    that is not there or does not fit.
    """
    first = widths[0]
    stem = nn.Sequential(
        nn.Conv3d(3, first, (1, 3, 3), (1, shrink, shrink), (0, 1, 1), bias=False),
        nn.Conv3d(first, first, (5, 1, 1), padding=(2, 0, 0), groups=first, bias=False),
        nn.BatchNorm3d(first),
        nn.ReLU(),
    )
    blocks, inside = [], first
    for width, depth in zip(widths, depths, strict=True):
        for place in range(depth):
            blocks.append(Block(inside, width, inner=int(expansion * width), stride=1 if place else 2, gated=place % 2 == 0))
            inside = width
    inner = int(expansion * inside)
    classifier = nn.Sequential(nn.Linear(inner, features, bias=False), nn.ReLU(), nn.Dropout(dropout), nn.Linear(features, classes))
    model = X3d(stem, blocks, nn.Sequential(normed(inside, inner), nn.ReLU()), classifier)
    if weights:
        begin(model, weights)
    return model
