"""An encoder of MiniLM's size: six layers of BERT, 384 wide, as transformers keeps it, with a linear layer on the mean of what it read.

Idea: every subword attends to every other; what the net is worth comes from the texts that it, or its teacher, has read before.
Source: Wang et al. 2020, arXiv:2002.10957 (MiniLM); Devlin et al. 2018, arXiv:1810.04805 (BERT). The mean over the subwords as in
Reimers & Gurevych 2019, arXiv:1908.10084.
Shape: tokens (b, n) int64, 0 behind the last, n at most 512 → (b, n, width) → mean (b, width) → logits (b, classes), raw.

Weights are random unless `weights` names a folder of transformers with a model.safetensors; such weights want the vocabulary that they
were trained with. With few labels `frozen` keeps them and only the head learns. Needs transformers (the extra `text`).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from advisor.vision_operators import ensure
from rules.problems import Problem, bad_environment

PADDING = 0
POSITIONS = 512  # that BERT has learned, or will


class Encoder(nn.Module):
    """`forward(tokens)`: (b, n) int64 → (b, classes)."""

    def __init__(self, bert: nn.Module, head: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        self.bert = bert
        self.head = head
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        there = tokens != PADDING
        x: Tensor = self.bert(input_ids=tokens, attention_mask=there.long()).last_hidden_state
        share = there.to(x.dtype)
        mean = (x * share.unsqueeze(2)).sum(1) / share.sum(1, keepdim=True).clamp_min(1)
        logits: Tensor = self.head(self.dropout(mean))
        return logits


def build(
    *,
    classes: int,
    vocabulary: int,
    length: int,
    width: int = 384,
    layers: int = 6,
    heads: int = 12,
    ratio: int = 4,
    dropout: float = 0.1,
    weights: str = "",
    frozen: bool = False,
) -> Encoder:
    """A classifier of texts of up to `length` subwords, 512 where that is less.

    Raises Problem: exit 5 without transformers, exit 2 where `weights` do not fit the texts.
    """
    ensure()
    try:
        from transformers import BertConfig, BertModel
    except ImportError:
        raise bad_environment(
            "minilm-encoder needs transformers, which is not installed", remedy="pip install 'edge-advisor[text]'"
        ) from None
    if weights:
        bert: Any = BertModel.from_pretrained(weights, add_pooling_layer=False, use_safetensors=True)
    else:
        config = BertConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=ratio * width,
            max_position_embeddings=max(POSITIONS, length),
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        bert = BertModel(config, add_pooling_layer=False)
    if bert.config.vocab_size < vocabulary or bert.config.max_position_embeddings < length:
        what = f"{weights} knows {bert.config.vocab_size:,} subwords and {bert.config.max_position_embeddings} places"
        raise Problem(f"{what}, the data has {vocabulary:,} and {length}", remedy="give the texts in the vocabulary of these weights")
    bert.requires_grad_(not frozen)
    return Encoder(bert, nn.Linear(bert.config.hidden_size, classes), dropout=dropout)
