"""A dual encoder answers a picture and a text each with a place in one space; what belongs together lies close.

Idea: two towers that meet only in a dot product, so that either side is computed once and kept. The picture goes through a
convolutional net and a projection, the words through a small Transformer, are averaged and projected; nothing is asked of both at once.
Source: Radford et al. 2021, arXiv:2103.00020 (CLIP); its picture tower here is EfficientNet-Lite0 as timm keeps it, or plain strided
convolutions for small pictures; pre-norm blocks, Xiong et al. 2020, arXiv:2002.04745.
Shape: image (b, 3, side, side), words (b, length) int64, 0 behind the last word → embeddings (b, d) of length one, picture's and text's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advisor.architectures.embedding import normalised

FAR = -1e4  # added to the score of a place without a word
PADDING = 0


class Mixing(nn.Module):
    """Self-attention over the words, then each word by itself: (b, n, c) → (b, n, c)."""

    def __init__(self, width: int, *, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`mask` (b, 1, 1, n) is added to the scores."""
        size = self.qkv.out_features // 3 // self.heads
        query, key, value = self.qkv(self.before(x)).unflatten(2, (3, self.heads, size)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=size**-0.5)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        out: Tensor = x + self.feed(x)
        return out


class Text(nn.Module):
    """Words (b, length) → features (b, d): the mean over the words there are."""

    def __init__(self, vocabulary: int, length: int, embedding: int, *, width: int, layers: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.02 * torch.randn(1, length, width))
        self.blocks = nn.ModuleList(Mixing(width, heads=heads, ratio=ratio) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, embedding, bias=False)
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, words: Tensor) -> Tensor:
        there = (words != PADDING).to(self.places.dtype)
        x = self.words(words) + self.places
        mask = ((1 - there) * FAR)[:, None, None]
        for block in self.blocks:
            x = block(x, mask)
        share = there / there.sum(1, keepdim=True).clamp_min(1)
        out: Tensor = self.project((self.norm(x) * share[:, :, None]).sum(1))
        return out


class DualEncoder(nn.Module):
    """Both towers side by side."""

    def __init__(self, picture: nn.Module, text: Text) -> None:
        super().__init__()
        self.picture = picture
        self.text = text

    def forward(self, image: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        return normalised(self.picture(image)), normalised(self.text(words))


def strided(embedding: int, widths: Sequence[int]) -> nn.Sequential:
    """Plain convolutions, each halving the picture, their mean and a projection: (b, 3, side, side) → (b, d)."""
    layers: list[nn.Module] = []
    for inside, outside in zip((3, *widths[:-1]), widths, strict=True):
        layers += [nn.Conv2d(inside, outside, 3, 2, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
        layers += [nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], embedding))


def build(
    *,
    side: int,
    length: int,
    vocabulary: int,
    embedding: int,
    picture: str | Sequence[int] = "efficientnet_lite0",
    stride: int = 0,
    width: int = 192,
    layers: int = 4,
    heads: int = 4,
    ratio: int = 4,
    weights: str = "",
) -> DualEncoder:
    """A dual encoder of places of `embedding` numbers.

    `picture` is a net of timm, or the widths of plain strided convolutions; `stride` how much timm's net shrinks a picture in all, where
    less than its own 32; `weights` its pretrained ones ("hub", or a local .safetensors). `width`, `layers`, `heads` and `ratio` are the
    text tower's.
    """
    if isinstance(picture, str):
        from advisor.architectures.timm_classifier import build as of_timm

        tower: nn.Module = of_timm(classes=embedding, side=side, net=picture, stride=stride, weights=weights)
    else:
        tower = strided(embedding, picture)
    return DualEncoder(tower, Text(vocabulary, length, embedding, width=width, layers=layers, heads=heads, ratio=ratio))
