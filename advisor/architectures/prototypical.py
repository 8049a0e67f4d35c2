"""A prototypical network: four convolutions into a space in which the mean of a few pictures stands for what they show.

Idea: trained on many small tasks, each "which of these few, given one to five pictures of each?", so that something new is enrolled
by a mean and nothing is trained again. No head, and no list of the people of the training set.
Source: Snell et al. 2017, arXiv:1703.05175; the four blocks are Vinyals et al. 2016's, arXiv:1606.04080.
Shape: image (b, c, s, s) → four halvings → (b, d, s/16, s/16) → embedding (b, d) of length one.

What differs from the paper, and why: distances are between vectors of length one (a squared distance is then 2 - 2 cosine, scaled in
the loss), because whoever compares embeddings expects cosines; and pictures larger than 28 pixels, of which the paper flattens the
last map, are averaged over it, so that the embedding's size does not depend on the picture's. At 28 pixels that map is one place.
"""

from __future__ import annotations

from torch import nn

from advisor.architectures.embedding import Embedder


def build(*, people: int, channels: int = 3, side: int = 28, embedding: int = 64, width: int = 64, blocks: int = 4) -> Embedder:
    """A four-block net for square pictures of `side` pixels. `people` is what the data gives every net of its task, and is not used."""
    if side < 2**blocks:
        raise ValueError(f"side is {side}, and {blocks} halvings need {2**blocks}")
    layers: list[nn.Module] = []
    inside = channels
    for number in range(blocks):
        outside = embedding if number == blocks - 1 else width
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU(), nn.MaxPool2d(2)]
        inside = outside
    return Embedder(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), embedding=embedding)
