"""TabNet looks at a table in a few steps, at each through a mask that lets only some of its features pass.

Idea: what is known so far asks for features by a mask that is truly sparse (sparsemax); each step works on what passes, adds its
share to the decision and says what to look at next. A feature that was looked at is asked for less again.
Source: Arik & Pfister 2019, arXiv:1908.07442; sparsemax, Martins & Astudillo 2016, arXiv:1602.02068.
Shape: numeric (b, n), categorical (b, m) → flat features (b, d) → masks (b, d), one a step → logit (b,).

What differs from the paper, and why: batch normalisation over the batch as it is (no ghost batches: training batches are small
here already), and no added loss that makes masks sparser, because a task's loss knows no masks. Masks are attention, with its caveat:
they say where the net looked, not why it decided.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advisor.architectures.table_fields import Fields

EPSILON = 1e-3  # of the norms, as in the authors' code: behind a sparse mask many features hardly vary
HALF = 0.5**0.5  # keeps the variance of a sum of two


def sparsemax(x: Tensor) -> Tensor:
    """The point of the simplex nearest to x (b, d): by sorting and summing up, so that it exports. Most of it is exactly 0."""
    size = x.shape[1]
    ordered = torch.topk(x, size, dim=1).values
    above = ordered.cumsum(1) - 1
    counts = torch.arange(1, size + 1, dtype=x.dtype, device=x.device)
    inside = (counts * ordered > above).to(x.dtype)  # 1 for those that stay, the largest first
    kept = inside.sum(1, keepdim=True)
    level = ((ordered * inside).sum(1, keepdim=True) - 1) / kept
    return torch.relu(x - level)


class Gated(nn.Module):
    """A linear map, normalised, half of which gates the other half: (b, i) → (b, o)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.BatchNorm1d(linear.out_features, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.norm(self.linear(x)).chunk(2, 1)
        out: Tensor = value * torch.sigmoid(gate)
        return out


class Transformer(nn.Module):
    """Gated layers, the first of them shared by all steps, each added to what it got: (b, d) → (b, width)."""

    def __init__(self, shared: list[nn.Linear], own: list[nn.Linear]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Gated(linear) for linear in (*shared, *own)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[0](x)
        for layer in self.layers[1:]:
            x = (x + layer(x)) * HALF
        return x


class Step(nn.Module):
    """What to look at, and what is made of it."""

    def __init__(self, ask: nn.Linear, transform: Transformer) -> None:
        super().__init__()
        self.ask = ask
        self.norm = nn.BatchNorm1d(ask.out_features, eps=EPSILON)
        self.transform = transform

    def mask(self, asked: Tensor, left: Tensor) -> Tensor:
        """(b, attention), how much each feature may be asked for still (b, d) → (b, d)."""
        return sparsemax(self.norm(self.ask(asked)) * left)


class TabNet(nn.Module):
    """`forward(*inputs)`: numeric (b, n) and categorical (b, m), those there are → logit (b,)."""

    def __init__(self, fields: Fields, start: Transformer, steps: list[Step], *, decision: int, relaxation: float) -> None:
        super().__init__()
        self.fields = fields
        self.norm = nn.BatchNorm1d(fields.size, eps=EPSILON)
        self.start = start
        self.steps: Sequence[Step] = nn.ModuleList(steps)  # type: ignore[assignment]
        self.decision = decision  # the first of a transformer's outputs decide, the rest ask
        self.relaxation = relaxation
        self.head = nn.Linear(decision, 1)

    def looked(self, *inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The logit (b,) and every step's mask (b, d)."""
        x = self.norm(self.fields(*inputs))
        asked = self.start(x)[:, self.decision :]
        left, masks, decided = torch.ones_like(x), [], []
        for step in self.steps:
            masks.append(step.mask(asked, left))
            left = left * (self.relaxation - masks[-1])
            made = step.transform(x * masks[-1])
            decided.append(torch.relu(made[:, : self.decision]))
            asked = made[:, self.decision :]
        logit: Tensor = self.head(torch.stack(decided).sum(0))
        return logit.squeeze(1), masks

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.looked(*inputs)[0]


def build(
    *,
    numeric: int,
    categorical: int,
    rows: int,
    width: int = 1,
    decision: int = 8,
    attention: int = 8,
    steps: int = 3,
    relaxation: float = 1.3,
    shared: int = 2,
    own: int = 2,
) -> TabNet:
    """`numeric` and `categorical` count the columns, `rows` those of the embedding table, each `width` wide (1 in the paper)."""
    fields = Fields(numeric=numeric, categorical=categorical, rows=rows, width=width, std=1.0)
    out = decision + attention
    together = [nn.Linear(fields.size if place == 0 else out, 2 * out, bias=False) for place in range(shared)]

    def transformer() -> Transformer:
        return Transformer(together, [nn.Linear(out, 2 * out, bias=False) for _ in range(own)])

    looks = [Step(nn.Linear(attention, fields.size, bias=False), transformer()) for _ in range(steps)]
    return TabNet(fields, transformer(), looks, decision=decision, relaxation=relaxation)
