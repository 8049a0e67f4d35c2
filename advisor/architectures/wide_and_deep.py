"""Wide & Deep adds a linear model over categories, and their hand-made crosses, to a net over their vectors.

Idea: the wide side remembers exceptions, a weight for every category and for every cross that somebody wrote down; the deep side
generalises. Both are trained together, their logits summed.
Source: Cheng et al. 2016, arXiv:1606.07792.
Shape: numeric (b, n), categorical (b, m) → logit (b,).

What differs from the paper, and why: crosses are columns of the data (the setting `crosses` of the task), so the deep side has a
vector for each as well; one optimiser trains both sides, where the paper takes FTRL for the wide one.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from advisor.architectures.table_fields import Fields, Linear, plain, width_of


class WideAndDeep(nn.Module):
    """`forward(*inputs)`: numeric (b, n) and categorical (b, m), those there are → logit (b,)."""

    def __init__(self, fields: Fields, *, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.fields = fields
        self.wide = Linear(fields)
        self.deep = plain(fields.size, hidden, dropout=dropout)
        self.head = nn.Linear(width_of(self.deep), 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        logit: Tensor = self.wide(*inputs) + self.head(self.deep(self.fields(*inputs)))
        return logit.squeeze(1)


def build(
    *, numeric: int, categorical: int, rows: int, width: int = 16, hidden: Sequence[int] = (128, 64), dropout: float = 0.1
) -> WideAndDeep:
    """`numeric` and `categorical` count the columns, `rows` those of the embedding table, each `width` wide."""
    fields = Fields(numeric=numeric, categorical=categorical, rows=rows, width=width)
    return WideAndDeep(fields, hidden=hidden, dropout=dropout)
