"""MobileFaceNet compares faces on a phone: inverted bottlenecks, and a learned average instead of a plain one.

Idea: a MobileNetV2 whose last map is not averaged but weighed place by place (a depthwise convolution as large as the map), because
the middle of an aligned face says more than its corners; resolution falls early, so most blocks see few pixels.
Source: Chen et al. 2018, arXiv:1804.07573 (table 1), trained by ArcFace, Deng et al. 2018, arXiv:1801.07698.
Shape: image (b, c, s, s), s a multiple of 16 → stem s/2 → blocks s/4, s/8, s/16 → (b, 512, 1, 1) → embedding (b, d) of length one.

What differs from the paper, and why: the activation is a choice. PReLU is the paper's; ReLU is fused into integer convolutions, which
PReLU is not. `width` scales every layer, `depth` the repeats, for small pictures and few people.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from advisor.architectures.embedding import Embedder

STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))  # expansion, channels, repeats, stride
STEM, LAST = 64, 512

Activation = Callable[[int], nn.Module]
ACTIVATIONS: dict[str, Activation] = {"prelu": nn.PReLU, "relu": lambda channels: nn.ReLU()}


def convolution(
    inside: int, outside: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, activation: Activation | None = None
) -> nn.Sequential:
    """Convolution padded to keep the size, batch norm, and an activation where one is given."""
    parts: list[nn.Module] = [nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outside)]
    return nn.Sequential(*parts, *([activation(outside)] if activation else []))


class Bottleneck(nn.Module):
    """Widen, look around channel by channel, narrow without an activation: (b, c, h, w) → (b, c', h / stride, w / stride)."""

    def __init__(self, inside: int, outside: int, *, wide: int, stride: int, activation: Activation) -> None:
        super().__init__()
        self.kept = stride == 1 and inside == outside
        self.body = nn.Sequential(
            convolution(inside, wide, activation=activation),
            convolution(wide, wide, 3, stride=stride, groups=wide, activation=activation),
            convolution(wide, outside),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.kept else out


def build(
    *,
    people: int,
    channels: int = 3,
    side: int = 112,
    embedding: int = 128,
    width: float = 1.0,
    depth: float = 1.0,
    activation: Literal["prelu", "relu"] = "prelu",
) -> Embedder:
    """A MobileFaceNet for square pictures of `side` pixels; `people` are those that training knows (0: no head at all)."""
    if side % 16 or side < 32:
        raise ValueError(f"side is {side}, allowed: multiples of 16 from 32")
    act = ACTIVATIONS[activation]
    stem, last = scaled(STEM, width), scaled(LAST, width)
    layers: list[nn.Module] = [
        convolution(channels, stem, 3, stride=2, activation=act),
        convolution(stem, stem, 3, groups=stem, activation=act),
    ]
    inside = stem
    for ratio, outside, repeats, stride in STAGES:
        outside = scaled(outside, width)
        for number in range(max(1, round(repeats * depth))):
            layers.append(Bottleneck(inside, outside, wide=ratio * inside, stride=1 if number else stride, activation=act))
            inside = outside
    whole = nn.Sequential(nn.Conv2d(last, last, side // 16, groups=last, bias=False), nn.BatchNorm2d(last))
    layers += [convolution(inside, last, activation=act), whole, convolution(last, embedding), nn.Flatten()]
    return Embedder(nn.Sequential(*layers), embedding=embedding, people=people)


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, a multiple of 16."""
    return max(16, round(channels * width / 16) * 16)
