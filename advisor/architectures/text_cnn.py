"""TextCNN looks for short phrases anywhere in a text: convolutions over three, four and five words, and the strongest answer of each.

Idea: a filter is a phrase, its maximum over the text says how well the text has it, and one linear layer weighs the phrases.
Source: Kim 2014, arXiv:1408.5882 (CNN-rand: the words are learned with the rest).
Shape: tokens (b, n) int64, 0 behind the last → (b, width, n) → one number a filter (b, filters) → logits (b, classes), raw.

What differs from the paper, and why: subwords stand for words. Zeros are put around the tokens in the graph, as many behind them as the
widest filter reads: every text then has one phrase of nothing but padding, and more padding changes nothing. Sizes are read from the
submodules.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PADDING = 0


class TextCNN(nn.Module):
    """`forward(tokens)`: (b, n) int64 → (b, classes)."""

    def __init__(self, words: nn.Embedding, phrases: Sequence[nn.Conv1d], head: nn.Linear, *, dropout: float, dropout_words: float) -> None:
        super().__init__()
        self.words = words
        self.phrases = nn.ModuleList(phrases)
        self.head = head
        self.dropout = nn.Dropout(dropout)
        self.dropout_words = nn.Dropout(dropout_words)

    def forward(self, tokens: Tensor) -> Tensor:
        widest = max(conv.kernel_size[0] for conv in self.phrases if isinstance(conv, nn.Conv1d))
        tokens = F.pad(tokens, (widest // 2, widest), value=PADDING)
        x = self.dropout_words(self.words(tokens)).transpose(1, 2)
        found = torch.cat([torch.relu(conv(x)).amax(2) for conv in self.phrases], 1)
        logits: Tensor = self.head(self.dropout(found))
        return logits


def build(
    *,
    classes: int,
    vocabulary: int,
    length: int,
    width: int = 128,
    filters: int = 100,
    kernels: Sequence[int] = (3, 4, 5),
    dropout: float = 0.5,
    dropout_words: float = 0.0,
) -> TextCNN:
    """A classifier of texts of any length (`length` is not needed). `width` numbers a word, `filters` of each of the `kernels`."""
    phrases = [nn.Conv1d(width, filters, kernel) for kernel in kernels]
    head = nn.Linear(filters * len(phrases), classes)
    return TextCNN(nn.Embedding(vocabulary, width), phrases, head, dropout=dropout, dropout_words=dropout_words)
