"""An early-exit net answers easy pictures after half of its layers and goes on only for the others: dynamic depth.

Idea: a residual net with a second head behind its middle. If that head is sure of every picture of the batch, the rest is not computed;
a picture it is sure of keeps its answer whatever shares its batch. While training, every other picture is answered early and the rest
late, so that one loss teaches both heads.
Source: BranchyNet, Teerapittayanon et al. 2017, arXiv:1709.01686 (here with the largest probability in place of the entropy).
Shape: image (b, 3, side, side) → logits (b, classes), raw, of the head that answered. The exported graph has an ONNX `If`.

It pays where most pictures are easy and come one by one; the slowest answer is that of the whole net and a little more. Post-training
tools do not look into the branches of an `If`, so it ships in float.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from advisor.architectures.resnet_small import Block


class Head(nn.Module):
    """The mean over the picture and one linear layer: (b, c, h, w) → (b, classes)."""

    def __init__(self, inside: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(inside, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.score(x.mean((2, 3)))
        return logits


class EarlyExit(nn.Module):
    """The classifier. `forward(image)`: (b, 3, side, side) float32 → logits (b, classes)."""

    def __init__(self, first: nn.Sequential, rest: nn.Sequential, exits: tuple[Head, Head], *, sure: float) -> None:
        super().__init__()
        self.first, self.rest = first, rest
        self.early, self.late = exits
        self.sure = sure

    def forward(self, image: Tensor) -> Tensor:
        middle = self.first(image)
        early = self.early(middle)
        if self.training:
            odd = (torch.arange(len(image), device=image.device) % 2 == 1)[:, None]
            return torch.where(odd, early, self.late(self.rest(middle)))
        certain = self.certain(early)
        return early if bool(certain.all()) else torch.where(certain, early, self.late(self.rest(middle)))

    def certain(self, early: Tensor) -> Tensor:
        """Which pictures the early head answers, (b, 1)."""
        return early.softmax(-1).amax(-1, keepdim=True) >= self.sure

    def fused(self) -> nn.Module:
        """A copy whose branch survives the export: tracing would follow one of the two for good."""
        scripted: nn.Module = torch.jit.script(Answering(deepcopy(self).eval()).eval())
        return scripted


class Answering(nn.Module):
    """What `EarlyExit` does when it answers, in the words that scripting knows."""

    def __init__(self, net: EarlyExit) -> None:
        super().__init__()
        self.first, self.rest, self.early, self.late = net.first, net.rest, net.early, net.late
        self.sure = float(net.sure)

    def forward(self, image: Tensor) -> Tensor:
        middle = self.first(image)
        early = self.early(middle)
        certain = early.softmax(-1).amax(-1, keepdim=True) >= self.sure
        logits: Tensor = early
        if not bool(certain.all()):
            logits = torch.where(certain, early, self.late(self.rest(middle)))
        return logits


def build(*, classes: int, side: int, widths: Sequence[int] = (16, 32, 64), depth: int = 2, after: int = 2, sure: float = 0.9) -> EarlyExit:
    """A residual net for small pictures with `depth` blocks at each of `widths`, and a head behind the first `after` widths.

    `sure`: the probability from which the early head's answer stands.
    """
    if side < 2 ** len(widths) or depth < 1 or not 0 < after < len(widths):
        raise ValueError(f"{len(widths)} stages of {depth} blocks with a head behind {after} do not fit a picture of {side} pixels")
    stem = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
    stages, inside = [], widths[0]
    for stage, outside in enumerate(widths):
        blocks = [Block(inside if index == 0 else outside, outside, stride=2 if stage and not index else 1) for index in range(depth)]
        stages.append(nn.Sequential(*blocks))
        inside = outside
    exits = Head(widths[after - 1], classes), Head(inside, classes)
    return EarlyExit(nn.Sequential(*stem, *stages[:after]), nn.Sequential(*stages[after:]), exits, sure=sure)
