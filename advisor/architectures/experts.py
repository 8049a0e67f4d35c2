"""A mixture of experts: several small nets over each place of a text, of which a few are chosen to answer.

Idea: a linear map scores the experts at each place; the best `chosen` answer, weighted by their chances, the others not at all. Here all
are computed and the others multiplied by nothing: one graph for every input, two plain products that quantize like any, and no time is
saved. A gather of the chosen ones' weights would save it, where one place is computed at a time.
So that no expert is left without work, training adds how unevenly they are chosen to the loss, without any loss knowing of it.
Source: Shazeer et al. 2017, arXiv:1701.06538; the balance as in Fedus et al. 2021 (Switch Transformer), arXiv:2101.03961, section 2.2.
Shape: (b, t, width) → hidden (b, t, experts · inside) → (b, t, width).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BALANCE = 0.01  # weight of the balance in the loss: the paper's alpha


class Experts(nn.Module):
    """`forward(x)`: (b, t, width) → (b, t, width). Each expert has `inside` hidden units; their outputs share one bias."""

    def __init__(self, width: int, inside: int, *, experts: int, chosen: int) -> None:
        super().__init__()
        if not 0 < chosen <= experts:
            raise ValueError(f"chosen is {chosen}, allowed: 1 to {experts}, as many as there are experts")
        self.experts, self.chosen = experts, chosen
        self.score = nn.Linear(width, experts, bias=False)
        self.up, self.down = nn.Linear(width, experts * inside), nn.Linear(experts * inside, width)

    def forward(self, x: Tensor) -> Tensor:
        chances = self.score(x).softmax(-1)
        share = self.share(chances)
        hidden = F.gelu(self.up(x))
        apart = hidden.reshape(*x.shape[:2], self.experts, self.up.out_features // self.experts)
        out: Tensor = self.down((apart * share.unsqueeze(-1)).flatten(-2))
        if self.training:
            out = Added.apply(out, BALANCE * self.unevenness(chances, share))  # type: ignore[no-untyped-call]
        return out

    def share(self, chances: Tensor) -> Tensor:
        """What each expert contributes: the chances of the chosen, 1 together, and 0 for the others. (b, t, experts)"""
        least = chances.topk(self.chosen, -1).values[..., -1:]
        kept = torch.where(chances >= least, chances, torch.zeros_like(chances))
        return kept / kept.sum(-1, keepdim=True)

    def unevenness(self, chances: Tensor, share: Tensor) -> Tensor:
        """1 where all are chosen equally often, up to the number of experts: experts · sum of (how often chosen · mean chance)."""
        often = (share > 0).float().flatten(0, -2).mean(0) / self.chosen
        return self.experts * (often * chances.flatten(0, -2).mean(0)).sum()


class Added(torch.autograd.Function):
    """Gives `out` unchanged, and a further loss its gradient: as if it had been added to the one that is learned from."""

    @staticmethod
    def forward(context: Any, out: Tensor, loss: Tensor) -> Tensor:
        context.like = loss.detach()
        return out

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, torch.ones_like(context.like)
