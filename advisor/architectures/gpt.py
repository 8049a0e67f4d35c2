"""A small GPT: every place of a text attends to itself and to what is before it, and says what may follow.

Idea: signs and their places are looked up in tables; layers of attention, which may not look ahead, and of a net over each place, each
behind its own normalisation (pre-norm) and added to what came in; the table of signs, turned round, scores what follows. What a layer
has computed for earlier places never changes, so writing keeps it (the key-value cache) and computes one place a step.
Source: Radford et al. 2019 (GPT-2), in the sizes of Karpathy's nanoGPT; Vaswani et al. 2017, arXiv:1706.03762. With `experts`: a mixture
of experts, Shazeer et al. 2017, arXiv:1701.06538 (`experts.py`).
Shape: ids (b, t) int64 → (b, t, width) → logits (b, t, vocabulary), t at most `length`.

`step()` gives the net with its cache as an input and an output: past (layers, 2, b, heads, p, size), keys and values of p earlier places,
p = 0 at the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advisor.architectures.experts import Experts


class Layer(nn.Module):
    """Attention to what is before, then a net over each place: (b, t, width) → (b, t, width)."""

    def __init__(self, width: int, *, heads: int, feed: nn.Module, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.feed = feed
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.asked(x)
        return self.answered(x, F.scaled_dot_product_attention(q, k, v, is_causal=True))

    def step(self, x: Tensor, past: Tensor, sees: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward` with (2, b, heads, p, size) before it; also gives those with the new places. `sees`: (t, p + t), true where it may look."""
        q, k, v = self.asked(x)
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        return self.answered(x, F.scaled_dot_product_attention(q, k, v, attn_mask=sees)), torch.stack([k, v])

    def asked(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (b, heads, t, size) each."""
        size = self.qkv.out_features // (3 * self.heads)
        q, k, v = self.qkv(self.before(x)).reshape(-1, x.shape[1], 3, self.heads, size).permute(2, 0, 3, 1, 4)
        return q, k, v

    def answered(self, x: Tensor, mixed: Tensor) -> Tensor:
        mixed = mixed.transpose(1, 2).reshape(-1, x.shape[1], self.out.in_features)
        x = x + self.dropout(self.out(mixed))
        out: Tensor = x + self.dropout(self.feed(self.between(x)))
        return out


class GPT(nn.Module):
    """`forward(ids)`: (b, t) int64 → (b, t, vocabulary), t from 1 to `length`."""

    def __init__(self, embed: nn.Embedding, layers: Sequence[Layer], *, length: int, dropout: float) -> None:
        super().__init__()
        width = embed.embedding_dim
        self.embed = embed
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.dropout(self.embed(ids) + self.place[: ids.shape[1]])
        for layer in self.layers:
            x = layer(x)
        return self.scored(x)

    def scored(self, x: Tensor) -> Tensor:
        return F.linear(self.norm(x), self.embed.weight)

    def step(self) -> Step:
        """The same net, which takes its cache and gives it."""
        return Step(self)

    @property
    def past(self) -> tuple[int | str, ...]:
        """The shape of its cache."""
        first: Layer = self.layers[0]  # type: ignore[assignment]
        return (len(self.layers), 2, "batch", first.heads, "past", first.qkv.out_features // (3 * first.heads))


class Step(nn.Module):
    """`forward(ids, past)`: (b, n) int64 and the cache so far → (b, n, vocabulary) and the cache with the new places."""

    def __init__(self, net: GPT) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        before, here = past.shape[4], ids.shape[1]
        places = torch.arange(before + here, device=ids.device)
        sees = places[None] <= places[before:, None]
        x = self.net.embed(ids) + self.net.place[before : before + here]
        held = []
        for number, layer in enumerate(self.net.layers):
            x, now = layer.step(x, past[number], sees)  # type: ignore[operator]
            held.append(now)
        return self.net.scored(x), torch.stack(held)


def build(
    *,
    vocabulary: int,
    length: int,
    width: int = 256,
    heads: int = 4,
    layers: int = 4,
    ratio: int = 4,
    experts: int = 0,
    chosen: int = 2,
    dropout: float = 0.0,
) -> GPT:
    """A net of `layers` layers for texts of `length` signs. The net over each place is `ratio` times as wide inside.

    With `experts` there are so many of them, `chosen` of which answer at each place; together these are as wide as the one net.
    """

    def feed() -> nn.Module:
        if experts:
            return Experts(width, ratio * width // chosen, experts=experts, chosen=chosen)
        return nn.Sequential(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))

    net = GPT(
        nn.Embedding(vocabulary, width),
        [Layer(width, heads=heads, feed=feed(), dropout=dropout) for _ in range(layers)],
        length=length,
        dropout=dropout,
    )
    _begin(net, layers)
    return net


def _begin(net: nn.Module, layers: int) -> None:
    """GPT-2's initial weights: small, and smaller still where a layer is added to what came in."""
    for name, part in net.named_modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            added = name.endswith((".out", ".feed.2", ".feed.down"))
            nn.init.normal_(part.weight, std=0.02 / (2 * layers) ** 0.5 if added else 0.02)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
