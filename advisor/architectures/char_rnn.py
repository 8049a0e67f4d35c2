"""A recurrent net that writes: each sign changes a state, and the state says what may follow.

Idea: signs are looked up in a table, go through layers that hand a state from step to step, and a linear map scores every sign that may
come next. The state is of one size however long the text grows. `kind` is the cell: the plain one forgets within some ten steps, the
gated ones (GRU, LSTM) hold on to what matters.
Source: Elman 1990; Hochreiter & Schmidhuber 1997; Cho et al. 2014, arXiv:1406.1078; as a writer of text, Graves 2013, arXiv:1308.0850.
Shape: ids (b, t) int64 → (t, b, width) → states (t, b, hidden) → logits (b, t, vocabulary).

Layers are stacked single-layer modules (they prune, export and quantize one by one). `step()` gives the net with its state as an input
and an output: past (layers, cells, b, hidden), where an LSTM has two cells and the others one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

KINDS: dict[str, Callable[[int, int], nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class CharRNN(nn.Module):
    """`forward(ids)`: (b, t) int64 → (b, t, vocabulary), any t."""

    def __init__(self, embed: nn.Embedding, recurrent: Sequence[nn.RNNBase], head: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        self.embed = embed
        self.recurrent = nn.ModuleList(recurrent)
        self.head = head
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.dropout(self.embed(ids)).transpose(0, 1)
        for layer in self.recurrent:
            x = self.dropout(layer(x)[0])
        logits: Tensor = self.head(x.transpose(0, 1))
        return logits

    def step(self) -> Step:
        """The same net, which takes its state and gives it."""
        return Step(self)

    @property
    def past(self) -> tuple[int | str, ...]:
        """The shape of its state."""
        first = self.recurrent[0]
        return (len(self.recurrent), 2 if isinstance(first, nn.LSTM) else 1, "batch", int(first.hidden_size))  # type: ignore[arg-type]


class Step(nn.Module):
    """`forward(ids, past)`: (b, n) int64 and the state so far (zeros at the beginning) → (b, n, vocabulary) and the state after them."""

    def __init__(self, net: CharRNN) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        x = self.net.embed(ids).transpose(0, 1)
        states = []
        for place, layer in enumerate(self.net.recurrent):
            cells = [past[place, cell : cell + 1] for cell in range(2 if isinstance(layer, nn.LSTM) else 1)]
            x, after = layer(x, tuple(cells) if len(cells) > 1 else cells[0])
            states.append(torch.cat(after if isinstance(after, tuple) else [after]))
        return self.net.head(x.transpose(0, 1)), torch.stack(states)


def build(
    *, vocabulary: int, length: int, kind: str = "lstm", width: int = 256, hidden: int = 256, layers: int = 2, dropout: float = 0.1
) -> CharRNN:
    """A net of `layers` cells of `kind` ("rnn", "gru" or "lstm"). `length` changes nothing: it reads texts of any.

    Raises ValueError for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, allowed: {', '.join(KINDS)}")
    stack = [KINDS[kind](hidden if number else width, hidden) for number in range(layers)]
    return CharRNN(nn.Embedding(vocabulary, width), stack, nn.Linear(hidden, vocabulary), dropout=dropout)
