"""What every net shares whose answer is a place: vectors of length one, and the known people's places while it learns.

Idea: a face is compared, not classified. What ships is the direction of the features; the directions of the people that training
knows (the weights of ArcFace's last layer) are part of the module only so that they are trained, stored and resumed with it.
Source: Deng et al. 2018, arXiv:1801.07698 (ArcFace): features and class weights both normalised, their cosines are the logits.
Shape: image (b, c, s, s) → embedding (b, d) of length one; in training, where people are known, also cosines (b, people).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Embedder(nn.Module):
    """A body that makes features (b, d), and what of its answer is for training only."""

    def __init__(self, body: nn.Module, *, embedding: int, people: int = 0) -> None:
        super().__init__()
        self.body = body
        self.centres = nn.Parameter(0.05 * torch.randn(people, embedding)) if people else None

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """image → embedding; in training mode with known people (embedding, cosines)."""
        unit = normalised(self.body(image))
        if self.centres is None or not self.training:
            return unit
        return unit, F.linear(unit, normalised(self.centres))

    def fused(self) -> Embedder:
        """What ships: the same body without the people of the training set."""
        return Embedder(self.body, embedding=0).train(self.training)


def normalised(x: Tensor) -> Tensor:
    """x (…, d) with every vector scaled to length one."""
    unit: Tensor = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(1e-6)
    return unit
