"""A translator: layers of attention read the source; few layers write the translation, each next word out of what was written.

Idea: reading is done once and in parallel, so it may be deep; writing is paid once a word, so it is shallow. Reading layers attend to the
whole source. Writing layers look back on what was written, by attention (the plain Transformer) or by a recurrence so simple that it can
be trained in parallel (SSRU: a forget gate and a sum), then attend to the source, then a net over each place. Each part stands behind its
own normalisation (pre-norm) and is added to what came in. One table of subwords serves both sides and scores what comes next.
Source: Vaswani et al. 2017, arXiv:1706.03762; pre-norm, Xiong et al. 2020, arXiv:2002.04745; SSRU and the deep encoder with a shallow
decoder, Kim et al. 2019 (aclanthology.org/D19-5632); scheduled sampling in two passes, Mihaylova & Martins 2019, arXiv:1906.07651.
Shape: source (b, s), target (b, t) int64, 0 is padding → logits (b, t, vocabulary), raw.

For writing with a cache: `reader()` is the part that runs once, source → memory (layers, 2, b, heads, s, size); `step()` the part that runs
once a word: ids (b, n), source (b, s), memory, past → logits (b, n, vocabulary), present.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FAR = -1e4  # added to the score of a place that may not be seen
PADDING = 0


class Attention(nn.Module):
    """Attention of one sequence to another: (b, n, width) to keys and values (2, b, heads, m, size)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.pair = nn.Linear(width, 2 * width)

    def known(self, x: Tensor) -> Tensor:
        """Keys and values of (b, m, width): (2, b, heads, m, size)."""
        size = self.out.in_features // self.heads
        found: Tensor = self.pair(x).reshape(-1, x.shape[1], 2, self.heads, size).permute(2, 0, 3, 1, 4)
        return found

    def forward(self, x: Tensor, known: Tensor, mask: Tensor) -> Tensor:
        size = self.out.in_features // self.heads
        query = self.query(x).reshape(-1, x.shape[1], self.heads, size).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, known[0], known[1], attn_mask=mask)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(-1, x.shape[1], self.out.in_features))
        return out


class LookBack(nn.Module):
    """Attention of what is written to itself. `past` (2, b, heads, p, size): keys and values of p earlier places."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        known = self.attention.known(x)
        known = known if past is None else torch.cat([past, known], 3)
        before, here = known.shape[3] - x.shape[1], x.shape[1]
        places = torch.arange(before + here, device=x.device)
        ahead = (places[None] > places[before:, None]).to(x.dtype)
        return self.attention(x, known, FAR * ahead), known


class Recurrence(nn.Module):
    """SSRU: c_t = f_t c_(t-1) + (1 - f_t) W x_t, and out comes ReLU(c_t). `past` (1, b, 1, 1, width): the last c.

    All places at once: c_t is a sum over s of (1 - f_s) W x_s, each faded by the product of the gates between.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(width, width, bias=False), nn.Linear(width, width)

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        gate = self.gate(x)
        added = torch.sigmoid(-gate) * self.value(x)
        faded = F.logsigmoid(gate).cumsum(1)
        places = torch.arange(x.shape[1], device=x.device)
        ahead = (places[None] > places[:, None]).to(x.dtype)[None, :, :, None]
        # (b, t, s, width): how much of place s is left at place t
        left = torch.exp((faded[:, :, None] - faded[:, None]) * (1 - ahead) + FAR * ahead)
        cells = (left * added[:, None]).sum(2)
        if past is not None:
            cells = cells + torch.exp(faded) * past[0, :, 0]
        return torch.relu(cells), cells[:, -1:][None, :, None]


class Reads(nn.Module):
    """One reading layer: (b, s, width) → (b, s, width)."""

    def __init__(self, width: int, *, heads: int, feed: int, dropout: float) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.feed = Attention(width, heads), _feed(width, feed)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        seen = self.before(x)
        x = x + self.dropout(self.attention(seen, self.attention.known(seen), mask))
        out: Tensor = x + self.dropout(self.feed(self.between(x)))
        return out


class Writes(nn.Module):
    """One writing layer: (b, t, width) and the source's keys and values → (b, t, width), and what it keeps for the next word."""

    def __init__(self, width: int, *, heads: int, feed: int, dropout: float, recurrent: bool) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.LayerNorm(width) for _ in range(3))
        self.back = Recurrence(width, heads) if recurrent else LookBack(width, heads)
        self.source, self.feed = Attention(width, heads), _feed(width, feed)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        told, present = self.back(self.first(x), past)
        x = x + self.dropout(told)
        x = x + self.dropout(self.source(self.second(x), memory, mask))
        return x + self.dropout(self.feed(self.third(x))), present


class Translator(nn.Module):
    """`forward(source, target)`: logits of what comes next at every place of `target`."""

    places: Tensor

    def __init__(
        self, embed: nn.Embedding, reads: list[Reads], writes: list[Writes], *, length: int, dropout: float, sampling: float
    ) -> None:
        super().__init__()
        self.embed, self.sampling = embed, sampling
        self.reads, self.writes = nn.ModuleList(reads), nn.ModuleList(writes)
        self.read_norm, self.write_norm = nn.LayerNorm(embed.embedding_dim), nn.LayerNorm(embed.embedding_dim)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("places", _waves(length + 1, embed.embedding_dim), persistent=False)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, mask = self.remembered(source), _mask(source, self.embed.weight.dtype)
        if self.training and self.sampling:
            target = self.sampled(target, memory, mask)
        return self.continued(target, memory, mask)[0]

    def remembered(self, source: Tensor) -> Tensor:
        """What writing needs of the source: keys and values of every writing layer, (layers, 2, b, heads, s, size)."""
        mask, x = _mask(source, self.embed.weight.dtype), self.placed(source, 0)
        for layer in self.reads:
            x = layer(x, mask)
        x = self.read_norm(x)
        return torch.stack([layer.source.known(x) for layer in self.writes])  # type: ignore[operator, union-attr]

    def continued(self, ids: Tensor, memory: Tensor, mask: Tensor, past: Tensor | None = None, *, before: int = 0) -> tuple[Tensor, Tensor]:
        """Logits (b, n, vocabulary) behind each of `ids`, and what the layers keep."""
        x, held = self.placed(ids, before), []
        for number, layer in enumerate(self.writes):
            x, present = layer(x, memory[number], mask, None if past is None else past[number])
            held.append(present)
        return F.linear(self.write_norm(x), self.embed.weight), torch.stack(held)

    def placed(self, ids: Tensor, before: int) -> Tensor:
        x = math.sqrt(self.embed.embedding_dim) * self.embed(ids) + self.places[before : before + ids.shape[1]]
        out: Tensor = self.dropout(x)
        return out

    @torch.no_grad()
    def sampled(self, target: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """`target` with a share of its words as the net would have written them there: what it will be fed when it translates."""
        own = self.continued(target, memory, mask)[0].argmax(-1)
        own = torch.cat([target[:, :1], own[:, :-1]], 1)
        swap = (torch.rand(target.shape, device=target.device) < self.sampling) & (target != PADDING)
        return torch.where(swap, own, target)

    @property
    def heads(self) -> int:
        layer: Writes = self.writes[0]  # type: ignore[assignment]
        return layer.source.heads

    @property
    def past(self) -> tuple[int | str, ...]:
        """The shape of what is kept from word to word; "past" is the axis that grows, where one does."""
        layers, width = len(self.writes), self.embed.embedding_dim
        if isinstance(self.writes[0].back, Recurrence):
            return (layers, 1, "batch", 1, 1, width)
        return (layers, 2, "batch", self.heads, "past", width // self.heads)

    @property
    def memory(self) -> tuple[int | str, ...]:
        """The shape of what is kept of the source."""
        return (len(self.writes), 2, "batch", self.heads, "source", self.embed.embedding_dim // self.heads)

    def reader(self) -> Reader:
        """The part that runs once a sentence."""
        return Reader(self)

    def step(self) -> Step:
        """The part that runs once a word."""
        return Step(self)


class Reader(nn.Module):
    """`forward(source)`: (b, s) → memory."""

    def __init__(self, net: Translator) -> None:
        super().__init__()
        self.net = net

    def forward(self, source: Tensor) -> Tensor:
        return self.net.remembered(source)


class Step(nn.Module):
    """`forward(ids, place, source, memory, past)`: n further words, `place` (1,) of which were before → logits (b, n, vocabulary), present."""

    def __init__(self, net: Translator) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids: Tensor, place: Tensor, source: Tensor, memory: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        net = self.net
        numbers = place + torch.arange(ids.shape[1], device=ids.device)
        x, held = math.sqrt(net.embed.embedding_dim) * net.embed(ids) + net.places[numbers], []
        for number, layer in enumerate(net.writes):
            x, present = layer(x, memory[number], _mask(source, x.dtype), past[number])
            held.append(present)
        return F.linear(net.write_norm(x), net.embed.weight), torch.stack(held)


def _mask(source: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of the source's places: (b, 1, 1, s)."""
    return (FAR * (source == PADDING).to(dtype))[:, None, None]


def _feed(width: int, inside: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, inside), nn.ReLU(), nn.Linear(inside, width))


def _waves(length: int, width: int) -> Tensor:
    """Sines and cosines of a place, (length, width)."""
    steps = torch.arange(length)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([steps.sin(), steps.cos()], -1).flatten(1)[:, :width]


def build(
    *,
    vocabulary: int,
    length: int,
    width: int = 256,
    heads: int = 4,
    reading: int = 6,
    writing: int = 2,
    feed: int = 1024,
    recurrent: bool = True,
    dropout: float = 0.1,
    sampling: float = 0.0,
) -> Translator:
    """`reading` layers for the source, `writing` ones for the translation, `feed` units inside each net over a place.

    `recurrent` writing layers (SSRU) keep `width` numbers each from word to word; the others keep keys and values of every word. `sampling`:
    the share of target words that in training are what the net would have written.
    """
    embed = nn.Embedding(vocabulary, width, padding_idx=PADDING)
    reads = [Reads(width, heads=heads, feed=feed, dropout=dropout) for _ in range(reading)]
    writes = [Writes(width, heads=heads, feed=feed, dropout=dropout, recurrent=recurrent) for _ in range(writing)]
    net = Translator(embed, reads, writes, length=length, dropout=dropout, sampling=sampling)
    for part in net.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
    nn.init.normal_(embed.weight, std=width**-0.5)
    with torch.no_grad():
        embed.weight[PADDING] = 0
    return net
