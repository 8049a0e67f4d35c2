"""ViTSTR-like: a plain vision Transformer reads a text line; what it thinks of each place is a character, or none.

Idea: the line is cut into patches of 8 x 4 pixels, each a token; blocks of self-attention over all of them, as in any vision
Transformer, and no other part: no convolutions that narrow step by step, no recurrence, no decoder. The tokens above one another are
averaged, and each column of them says a character or the CTC blank.
Source: Atienza 2021, arXiv:2105.08582 (ViTSTR), a Transformer of Dosovitskiy et al. 2020, arXiv:2010.11929, in the sizes of Touvron et
al. 2020, arXiv:2012.12877 (DeiT); the position of a patch comes from a depthwise convolution: Chu et al. 2021, arXiv:2102.10882.
Shape: image (b, 1, 32, w) → patches (b, c, 4, t) → tokens (b, 4 t, c) → logits (b, t, classes), t = w / 4, raw, blank 0.

What differs from the paper, and why: there the first 25 tokens are the first 25 characters, wherever they stand, so that a text longer
than that cannot be said and a picture has one size; here a token speaks of its own place and CTC joins what they say, so that lines of any
width and length are read. Position is convolutional instead of a learned table, which would have one width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from advisor.architectures.svtr import Far

PATCH = (8, 4)  # rows and columns of a line 32 pixels high


class ViTSTR(nn.Module):
    """The recogniser: image (b, 1, 32, w) float32 → logits (b, t, classes), t = w / 4."""

    def __init__(self, blocks: Sequence[Far], head: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        width = head.in_features
        self.embed = nn.Conv2d(1, width, PATCH, PATCH)
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward(self, image: Tensor) -> Tensor:
        patches = self.embed(image)
        patches = patches + self.position(patches)
        tokens = self.blocks(patches.flatten(2).transpose(1, 2))
        columns = self.norm(tokens).transpose(1, 2).reshape_as(patches).mean(2).transpose(1, 2)  # (b, t, c)
        logits: Tensor = self.head(self.dropout(columns))
        return logits


def build(*, classes: int, width: int = 192, depth: int = 12, heads: int = 3, ratio: int = 4, dropout: float = 0.0) -> ViTSTR:
    """A ViTSTR-like recogniser for lines 32 pixels high.

    `classes` counts the blank; `width` is a multiple of `heads`; `ratio` is how much wider a block is inside.
    """
    blocks = [Far(width, heads=heads, ratio=ratio) for _ in range(depth)]
    return ViTSTR(blocks, nn.Linear(width, classes), dropout=dropout)
