"""A recurrent translator: a bidirectional net reads the source, a recurrent one writes, and at each word attends to what was read.

Idea: the writer's state asks, the reader's states answer (dot products of one projection), and what comes back is joined to the state
before the next word is scored. In training all right words are fed at once; the attention never feeds back into the state (Luong's form),
so writing is one run of the recurrent net.
Source: Bahdanau et al. 2014, arXiv:1409.0473; in the form of Luong et al. 2015, arXiv:1508.04025.
Shape: source (b, s), target (b, t) int64, 0 is padding → logits (b, t, vocabulary), raw.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FAR = -1e4  # added to the score of a place without a word
PADDING = 0
KINDS = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentTranslator(nn.Module):
    """`forward(source, target)`: logits of what comes next at every place of `target`."""

    def __init__(self, embed: nn.Embedding, hidden: int, *, layers: int, kind: str, dropout: float) -> None:
        super().__init__()
        width, cell = embed.embedding_dim, KINDS[kind]
        self.embed, self.dropout = embed, nn.Dropout(dropout)
        self.forwards = nn.ModuleList(cell(width if not n else hidden, hidden // 2, batch_first=True) for n in range(layers))
        self.backwards = nn.ModuleList(cell(width if not n else hidden, hidden // 2, batch_first=True) for n in range(layers))
        self.writer = nn.ModuleList(cell(width if not n else hidden, hidden, batch_first=True) for n in range(layers))
        self.begin = nn.Linear(hidden, hidden)
        self.ask, self.join, self.to_width = nn.Linear(hidden, hidden), nn.Linear(2 * hidden, hidden), nn.Linear(hidden, width)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        there = (source != PADDING).to(self.embed.weight.dtype)
        read = self.read(source, there)
        mean = (read * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp_min(1)
        x = self.dropout(self.embed(target)) + self.to_start(mean)
        for layer in self.writer:
            x = self.dropout(layer(x)[0])
        scores = self.ask(x) @ read.transpose(1, 2) * read.shape[2] ** -0.5 + FAR * (1 - there)[:, None]
        found = torch.softmax(scores, -1) @ read
        joined = torch.tanh(self.join(torch.cat([x, found], -1)))
        logits: Tensor = self.to_width(self.dropout(joined)) @ self.embed.weight.T
        return logits

    def to_start(self, mean: Tensor) -> Tensor:
        """What the whole source says, told to the writer with every word: (b, 1, width)."""
        told: Tensor = self.to_width(torch.tanh(self.begin(mean)))[:, None]
        return told

    def read(self, source: Tensor, there: Tensor) -> Tensor:
        """(b, s) → (b, s, hidden): each word as seen from the left and from the right. Padding changes neither."""
        turned = _turned(there)
        x: Tensor = self.dropout(self.embed(source))
        for left, right in zip(self.forwards, self.backwards, strict=True):
            ahead, behind = left(x)[0], right(_at(x, turned))[0]
            x = self.dropout(torch.cat([ahead, _at(behind, turned)], -1) * there[..., None])
        return x


def _turned(there: Tensor) -> Tensor:
    """Places (b, s) that turn the words of each row round and leave its padding behind them; the same turn them back."""
    count = there.sum(1, keepdim=True).long()
    places = torch.arange(there.shape[1], device=there.device)[None]
    return torch.where(places < count, count - 1 - places, places)


def _at(x: Tensor, places: Tensor) -> Tensor:
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[2]))


def build(
    *, vocabulary: int, length: int, width: int = 256, hidden: int = 512, layers: int = 1, kind: str = "gru", dropout: float = 0.2
) -> RecurrentTranslator:
    """`layers` of `kind` ("gru" or "lstm") with `hidden` units on each side; half of them read from the right. `length` bounds nothing here."""
    return RecurrentTranslator(nn.Embedding(vocabulary, width, padding_idx=PADDING), hidden, layers=layers, kind=kind, dropout=dropout)
