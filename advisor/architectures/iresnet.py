"""The ResNet that ArcFace is trained with: full resolution at the start, a batch norm first in every block, a dense end.

Idea: faces come small and aligned, so the stem does not halve them; each block normalises before it convolves and adds without an
activation behind; the last map is flattened, not averaged, for each place of an aligned face is a place of its own.
Source: Deng et al. 2018, arXiv:1801.07698 (backbone of section 3.1); He et al. 2016, arXiv:1603.05027 (pre-activation).
Shape: image (b, c, s, s), s a multiple of 16 → maps s/2, s/4, s/8, s/16 → (b, 512 (s/16)²) → embedding (b, d) of length one.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from advisor.architectures.embedding import Embedder

WIDTHS = (64, 128, 256, 512)


class Block(nn.Module):
    """Norm, convolution, norm, PReLU, convolution, norm, and the input on top: (b, c, h, w) → (b, c', h / stride, w / stride)."""

    def __init__(self, inside: int, outside: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inside),
            nn.Conv2d(inside, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.PReLU(outside),
            nn.Conv2d(outside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        changed = stride > 1 or inside != outside
        self.short = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)) if changed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + self.short(x)
        return out


def build(
    *,
    people: int,
    channels: int = 3,
    side: int = 112,
    embedding: int = 512,
    blocks: Sequence[int] = (3, 4, 14, 3),
    widths: Sequence[int] = WIDTHS,
    dropout: float = 0.0,
) -> Embedder:
    """An IResNet for square pictures of `side` pixels; `people` are those that training knows (0: no head at all).

    `blocks` are the repeats of the four stages: (2, 2, 2, 2) is R18, (3, 4, 14, 3) R50, (3, 13, 30, 3) R100.
    """
    if side % 16 or side < 32:
        raise ValueError(f"side is {side}, allowed: multiples of 16 from 32")
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.PReLU(widths[0])]
    inside = widths[0]
    for outside, repeats in zip(widths, blocks, strict=True):
        for number in range(repeats):
            layers.append(Block(inside, outside, stride=1 if number else 2))
            inside = outside
    layers += [nn.BatchNorm2d(inside), nn.Dropout(dropout), nn.Flatten(), nn.Linear(inside * (side // 16) ** 2, embedding)]
    return Embedder(nn.Sequential(*layers, nn.BatchNorm1d(embedding)), embedding=embedding, people=people)
