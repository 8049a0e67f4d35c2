"""An LSTM reads a series, attention looks back over what it read, and the whole future is forecast at once.

Idea: LSTMs run over the past; the last state asks which earlier states matter (additive attention), and their weighted mean together
with the last state is mapped to all steps ahead. Direct, not step by step: no error is fed back, and the graph stays small.
Source: Bahdanau, Cho & Bengio 2014, arXiv:1409.0473, over the states of one net instead of an encoder's; the choice of the source
article for series.
Shape: history (b, length, columns) → states (t, b, hidden) → context (b, hidden) → forecast (b, horizon, columns).

What differs, and why: the last value is subtracted before the net and added afterwards, which moved its error more than the attention
does. LSTMs are stacked single-layer modules (they prune, export and quantize one by one).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LSTMAttention(nn.Module):
    """`forward(history)`: (b, t, c) float32 → (b, horizon, c), any t."""

    def __init__(self, recurrent: Sequence[nn.LSTM], head: nn.Linear, *, horizon: int, dropout: float) -> None:
        super().__init__()
        self.recurrent = nn.ModuleList(recurrent)
        hidden = recurrent[-1].hidden_size
        self.asks, self.offers = nn.Linear(hidden, hidden, bias=False), nn.Linear(hidden, hidden)
        self.matters = nn.Linear(hidden, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.head = head
        self.horizon = horizon

    def forward(self, history: Tensor) -> Tensor:
        last = history[:, -1:]
        x = (history - last).transpose(0, 1)
        for layer in self.recurrent:
            x = self.dropout(layer(x)[0])
        final = x[-1]
        context = (self.weights(x, final) * x).sum(0)
        forecast: Tensor = self.head(torch.cat([context, final], 1)).reshape(-1, self.horizon, self.head.out_features // self.horizon)
        return forecast + last

    def weights(self, states: Tensor, final: Tensor) -> Tensor:
        """How much each step matters to the last: states (t, b, h), final (b, h) → (t, b, 1), over t they sum to 1."""
        return torch.softmax(self.matters(torch.tanh(self.offers(states) + self.asks(final))), 0)


def build(*, columns: int, length: int, horizon: int, hidden: int = 96, layers: int = 2, dropout: float = 0.1) -> LSTMAttention:
    """A forecaster of `horizon` steps of all `columns`, from a past of any length."""
    stack = [nn.LSTM(hidden if number else columns, hidden) for number in range(layers)]
    return LSTMAttention(stack, nn.Linear(2 * hidden, horizon * columns), horizon=horizon, dropout=dropout)
