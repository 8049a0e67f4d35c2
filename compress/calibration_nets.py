"""Random small nets of the families we build, to learn a machine's kernels from: none is meant to be trained.

Each draws its widths anew, odd ones too, because odd widths are where the runtime's kernels differ most; its settings, its sizes
and its inputs follow from one seed. One net is timed at several input sizes, which are its `probes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rules.examples import Batch, Feeds, Port, Signature

ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.PReLU,
    nn.ReLU,
    nn.ReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.Hardswish,
    nn.SiLU,
    nn.GELU,
    nn.LeakyReLU,
)
GRIDS = (1, 2, 4, 8, 8, 16, 16, 16, 16)


@dataclass(frozen=True)
class Net:
    """A net with what export and quantization ask for: its signature and its inputs, the first of which calibrates."""

    family: str
    module: nn.Module
    signature: Signature
    feeds: Mapping[str, Feeds]

    def probes(self) -> Mapping[str, Feeds]:
        return self.feeds

    def count(self, split: str) -> int:
        return 1

    def batches(self, split: str, **_: Any) -> Iterator[Batch]:
        return iter([Batch(next(iter(self.feeds.values())), {}, ("0",))])


def draw(number: int, *, seed: int = 0) -> Net:
    """The net of this number. The families come round in turn, so that any prefix of the numbers holds all of them."""
    dice = Random(f"{seed}/{number}")
    torch.manual_seed(dice.randrange(2**31))
    kind = KINDS[number % len(KINDS)]
    return kind(dice)


# -- dice ------------------------------------------------------------------------------------------------------------


def width(dice: Random, low: int, high: int) -> int:
    """A width from `low` to `high`, small ones as likely as large ones, on a grid of 1 to 16."""
    grid = dice.choice(GRIDS)
    value = low * (high / low) ** dice.random()
    return int(max(grid, low // grid * grid, round(value / grid) * grid))


def activation(dice: Random) -> nn.Module:
    return dice.choice(ACTIVATIONS)()


def image(dice: Random, channels: int, sizes: list[tuple[int, int]]) -> dict[str, Feeds]:
    generator = np.random.default_rng(dice.randrange(2**31))
    return {f"{h}x{w}": {"x": generator.standard_normal((1, channels, h, w), dtype=np.float32)} for h, w in sizes}


def pictured(family: str, module: nn.Module, channels: int, sizes: list[tuple[int, int]], dice: Random, out: tuple[int | str, ...]) -> Net:
    axis = {"height": (8, 1024, 8), "width": (8, 4096, 8)}
    port = Port("x", "float32", ("batch", channels, "height", "width"), axis)
    return Net(family, module, Signature((port,), (Port("y", "float32", out),)), image(dice, channels, sizes))


def sequence(family: str, module: nn.Module, features: int, lengths: list[int], dice: Random, out: tuple[int | str, ...]) -> Net:
    generator = np.random.default_rng(dice.randrange(2**31))
    feeds: dict[str, Feeds] = {
        f"t{length}": {"x": generator.standard_normal((1, length, features), dtype=np.float32)} for length in lengths
    }
    port = Port("x", "float32", ("batch", "time", features), {"time": (4, 4096, 4)})
    return Net(family, module, Signature((port,), (Port("y", "float32", out),)), feeds)


def tokens(family: str, module: nn.Module, words: int, lengths: list[int], dice: Random, out: tuple[int | str, ...]) -> Net:
    generator = np.random.default_rng(dice.randrange(2**31))
    feeds: dict[str, Feeds] = {f"t{length}": {"x": generator.integers(0, words, (1, length))} for length in lengths}
    port = Port("x", "int64", ("batch", "time"), {"time": (4, 512, 4)})
    return Net(family, module, Signature((port,), (Port("y", "float32", out),)), feeds)


def sizes_of(dice: Random, low: int, high: int, count: int = 2) -> list[tuple[int, int]]:
    return [(8 * dice.randint(low, high), 8 * dice.randint(low, high)) for _ in range(count)]


def lengths_of(dice: Random, low: int, high: int, count: int = 2) -> list[int]:
    return [4 * max(1, round(low * (high / low) ** dice.random() / 4)) for _ in range(count)]


# -- pieces ----------------------------------------------------------------------------------------------------------


def convolution(
    inside: int, outside: int, kernel: int, act: nn.Module | None, *, stride: int = 1, groups: int = 1, one: bool = False
) -> nn.Module:
    layer, norm = (nn.Conv1d, nn.BatchNorm1d) if one else (nn.Conv2d, nn.BatchNorm2d)
    act = nn.PReLU(outside) if isinstance(act, nn.PReLU) else act  # a slope for every channel
    parts = [layer(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False), norm(outside)]
    return nn.Sequential(*parts, *([act] if act else []))


class Sum(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.after = body, after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(x + self.body(x))
        return out


class Squeeze(nn.Module):
    """Squeeze and excitation: (b, c, h, w) → the same."""

    def __init__(self, channels: int, inside: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, inside, 1), nn.ReLU(), nn.Conv2d(inside, channels, 1), nn.Hardsigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.body(x)
        return out


class Branches(nn.Module):
    """The outputs of several branches side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Classifier(nn.Module):
    """Features, their mean over all positions, a linear head: → (b, classes)."""

    def __init__(self, features: nn.Module, channels: int, classes: int, *, pool: bool) -> None:
        super().__init__()
        self.features, self.head, self.pool = features, nn.Linear(channels, classes), pool

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1) if self.pool else x.flatten(2).mean(2)
        out: Tensor = self.head(x)
        return out


class Attend(nn.Module):
    """Self-attention over (b, t, c), written out or by torch's own function."""

    def __init__(self, channels: int, heads: int, *, own: bool) -> None:
        super().__init__()
        self.heads, self.own = heads, own
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        size = self.qkv.out_features // 3 // self.heads
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, size)).permute(2, 0, 3, 1, 4)
        if self.own:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            mixed = ((query * size**-0.5) @ key.transpose(-1, -2)).softmax(-1) @ value
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Apart(nn.Module):
    """Attention with a projection each for queries, keys and values."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        weights = (query @ key.transpose(-1, -2) / (query.shape[-1] ** 0.5)).softmax(-1)
        out: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return out


class Turned(nn.Module):
    """A module between two transpositions: (b, t, c) as (b, c, t)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x.transpose(1, 2)).transpose(1, 2)
        return out


class Patches(nn.Module):
    """An image as tokens: (b, c, h, w) → (b, n, d)."""

    def __init__(self, before: nn.Module, embed: nn.Module) -> None:
        super().__init__()
        self.before, self.embed = before, embed

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.embed(self.before(x)).flatten(2).transpose(1, 2)
        return out


class Columns(nn.Module):
    """An image as a sequence of its columns: (b, c, h, w) → (b, w, c), mean over the rows."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(2).transpose(1, 2)


class Scan(nn.Module):
    """A recurrent layer: (b, t, c) → (b, t, units)."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)[0]
        return out


class Pooled(nn.Module):
    """The mean over time, or its last step, then a head: (b, t, c) → (b, classes)."""

    def __init__(self, body: nn.Module, channels: int, classes: int, *, last: bool = False) -> None:
        super().__init__()
        self.body, self.head, self.last = body, nn.Linear(channels, classes), last

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        out: Tensor = self.head(x[:, -1] if self.last else x.mean(1))
        return out


class Words(nn.Module):
    """Embeddings of tokens and their places, then a body."""

    def __init__(self, vocabulary: int, channels: int, body: nn.Module, *, places: int = 0) -> None:
        super().__init__()
        self.words, self.body = nn.Embedding(vocabulary, channels), body
        self.places = nn.Parameter(torch.randn(1, places, channels)) if places else None

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.words(x)
        if self.places is not None:
            embedded = embedded + self.places[:, : x.shape[1]]
        out: Tensor = self.body(embedded)
        return out


class Crossed(nn.Module):
    """Dense features and embedded categories side by side, then layers: (b, f), (b, k) → (b, classes)."""

    def __init__(self, categories: int, vocabulary: int, size: int, body: nn.Module) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(vocabulary, size) for _ in range(categories))
        self.body = body

    def forward(self, x: Tensor, chosen: Tensor) -> Tensor:
        parts = [table(chosen[:, index]) for index, table in enumerate(self.tables)]
        out: Tensor = self.body(torch.cat([x, *parts], 1))
        return out


class Said(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


# -- kinds -----------------------------------------------------------------------------------------------------------


def plain(dice: Random) -> Net:
    """Convolutions in a chain, pools or strides between, residual sums here and there."""
    inside = channels = dice.choice((1, 3, 3, 4))
    layers: list[nn.Module] = []
    halvings = 0  # the smallest image is 16 pixels high
    for _ in range(dice.randint(2, 6)):
        outside = width(dice, 8, 160)
        kernel, stride = dice.choice((3, 3, 3, 1, 5)), dice.choice((1, 1, 2)) if halvings < 3 else 1
        halvings += stride - 1
        layers.append(convolution(inside, outside, kernel, activation(dice), stride=stride))
        if dice.random() < 0.35:
            inner = convolution(outside, outside, 3, nn.ReLU())
            layers.append(Sum(nn.Sequential(inner, convolution(outside, outside, 3, None)), nn.ReLU()))
        if dice.random() < 0.3 and halvings < 3:
            halvings += 1
            layers.append(dice.choice((nn.MaxPool2d(2), nn.AvgPool2d(2), nn.MaxPool2d((2, 1)))))
        inside = outside
    net = Classifier(nn.Sequential(*layers), inside, width(dice, 2, 200), pool=dice.random() < 0.5)
    return pictured("cnn", net, channels, sizes_of(dice, 2, 8), dice, ("batch", net.head.out_features))


def branched(dice: Random) -> Net:
    """Branches side by side, grouped and dilated convolutions, a way up again by transposed convolutions or by resizing."""
    a, b, c = width(dice, 8, 64), width(dice, 8, 64), width(dice, 8, 64)
    first = convolution(3, a, dice.choice((3, 7)), nn.ReLU(), stride=2)
    mixed = Branches(
        convolution(a, b, 1, nn.ReLU()), convolution(a, c, 3, nn.ReLU()), nn.Sequential(nn.MaxPool2d(3, 1, 1), convolution(a, b, 1, None))
    )
    joined = 2 * b + c
    groups = dice.choice((2, 4))
    wide = groups * width(dice, 8, 48)
    grouped = nn.Sequential(convolution(joined, wide, 1, nn.ReLU()), convolution(wide, wide, 3, activation(dice), groups=groups))
    kernel, classes = dice.choice((2, 4)), width(dice, 2, 32)
    resized = nn.Sequential(nn.Upsample(scale_factor=2.0, mode=dice.choice(("nearest", "bilinear"))), convolution(wide, b, 3, nn.ReLU()))
    up: nn.Module = nn.ConvTranspose2d(wide, b, kernel, 2, kernel // 2 - 1) if dice.random() < 0.7 else resized
    body = nn.Sequential(first, mixed, grouped, up, nn.Conv2d(b, classes, 1))
    return pictured("cnn", body, 3, sizes_of(dice, 2, 8), dice, ("batch", classes, "out_height", "out_width"))


def inverted(dice: Random) -> Net:
    """Inverted residuals with depthwise convolutions, squeezing at times."""
    act = dice.choice((nn.ReLU6, nn.ReLU, nn.Hardswish, nn.SiLU, nn.PReLU))
    inside = width(dice, 8, 40)
    layers: list[nn.Module] = [convolution(3, inside, 3, act(), stride=2)]
    for index in range(dice.randint(2, 6)):
        outside, hidden = width(dice, 8, 96), width(dice, 16, 320)
        stride = dice.choice((1, 1, 2)) if index < 4 else 1
        parts = [
            convolution(inside, hidden, 1, act()),
            convolution(hidden, hidden, dice.choice((3, 3, 5)), act(), stride=stride, groups=hidden),
        ]
        if dice.random() < 0.3:
            parts.append(Squeeze(hidden, width(dice, 8, 64)))
        keeps = stride == 1 and (dice.random() < 0.4 or outside == inside)
        outside = inside if keeps else outside
        body = nn.Sequential(*parts, convolution(hidden, outside, 1, None))
        layers.append(Sum(body) if keeps else body)
        inside = outside
    net = Classifier(nn.Sequential(*layers), inside, width(dice, 2, 200), pool=True)
    return pictured("depthwise", net, 3, sizes_of(dice, 3, 12), dice, ("batch", net.head.out_features))


def separable(dice: Random) -> Net:
    """Depthwise and pointwise convolutions in turn, as for keywords."""
    inside = width(dice, 16, 128)
    layers: list[nn.Module] = [convolution(1, inside, dice.choice((3, 5, 7)), nn.ReLU(), stride=dice.choice((1, 2)))]
    for _ in range(dice.randint(2, 5)):
        outside = inside if dice.random() < 0.5 else width(dice, 16, 192)
        layers += [convolution(inside, inside, 3, nn.ReLU(), groups=inside), convolution(inside, outside, 1, nn.ReLU())]
        inside = outside
    net = Classifier(nn.Sequential(*layers), inside, width(dice, 2, 64), pool=dice.random() < 0.5)
    return pictured("depthwise", net, 1, sizes_of(dice, 2, 8), dice, ("batch", net.head.out_features))


def temporal(dice: Random) -> Net:
    """Convolutions over time, dilated, depthwise or plain, with residual sums."""
    inside = width(dice, 8, 64)
    features, depthwise = inside, dice.random() < 0.4
    layers: list[nn.Module] = []
    for _ in range(dice.randint(2, 6)):
        outside, kernel = width(dice, 16, 128), dice.choice((3, 3, 5, 9, 15))
        if depthwise:
            layers.append(convolution(inside, inside, kernel, None, groups=inside, one=True))
            layers.append(convolution(inside, outside, 1, activation(dice), one=True))
        else:
            layers.append(convolution(inside, outside, kernel, activation(dice), one=True))
        if dice.random() < 0.4:
            layers.append(Sum(convolution(outside, outside, 3, None, one=True), nn.ReLU()))
        inside = outside
    net = Pooled(Turned(nn.Sequential(*layers)), inside, width(dice, 2, 100))
    return sequence("cnn", net, features, lengths_of(dice, 16, 300), dice, ("batch", net.head.out_features))


def recurrent(dice: Random) -> Net:
    """One to three recurrent layers over a sequence."""
    features = inside = width(dice, 4, 128)
    layers: list[nn.Module] = []
    kind = dice.choice((nn.LSTM, nn.LSTM, nn.LSTM, nn.GRU))
    for _ in range(dice.randint(1, 3)):
        units, both = width(dice, 8, 192), dice.random() < 0.5
        layers.append(Scan(kind(inside, units, batch_first=True, bidirectional=both)))
        inside = units * (2 if both else 1)
    if dice.random() < 0.5:
        layers.insert(0, nn.Sequential(nn.Linear(features, features), nn.ReLU()))
    net = Pooled(nn.Sequential(*layers), inside, width(dice, 2, 128), last=dice.random() < 0.5)
    return sequence("recurrent", net, features, lengths_of(dice, 4, 120), dice, ("batch", net.head.out_features))


def reading(dice: Random) -> Net:
    """Convolutions over an image, its columns read by recurrent layers, an answer a column."""
    inside = width(dice, 8, 48)
    layers: list[nn.Module] = [convolution(1, inside, 3, nn.ReLU()), nn.MaxPool2d(2)]
    for _ in range(dice.randint(1, 4)):
        outside = width(dice, 16, 96)
        layers += [convolution(inside, outside, 3, nn.ReLU()), *([nn.MaxPool2d((2, 1))] if dice.random() < 0.4 else [])]
        inside = outside
    units, kind, classes = width(dice, 16, 128), dice.choice((nn.LSTM, nn.LSTM, nn.GRU)), width(dice, 10, 120)
    body = nn.Sequential(*layers, Columns(), Scan(kind(inside, units, batch_first=True, bidirectional=True)), nn.Linear(2 * units, classes))
    sizes = [(32, 8 * dice.randint(4, 32)) for _ in range(2)]
    return pictured("recurrent", body, 1, sizes, dice, ("batch", "time", classes))


def blocks(dice: Random, channels: int, heads: int, count: int) -> list[nn.Module]:
    """Transformer blocks, normalised before or after."""
    made: list[nn.Module] = []
    hidden, act, before = width(dice, channels, 4 * channels), dice.choice((nn.GELU, nn.GELU, nn.ReLU)), dice.random() < 0.7
    for _ in range(count):
        attend: nn.Module = Apart(channels, heads) if dice.random() < 0.5 else Attend(channels, heads, own=dice.random() < 0.5)
        feed = nn.Sequential(nn.Linear(channels, hidden), act(), nn.Linear(hidden, channels))
        if before:
            made += [Sum(nn.Sequential(nn.LayerNorm(channels), attend)), Sum(nn.Sequential(nn.LayerNorm(channels), feed))]
        else:
            made += [Sum(attend, nn.LayerNorm(channels)), Sum(feed, nn.LayerNorm(channels))]
    return made


def attentive(dice: Random) -> Net:
    """Transformer blocks over patches of an image or steps of a series."""
    heads = dice.choice((1, 2, 3, 4, 4, 8))
    channels = heads * dice.choice((8, 12, 16, 16, 24, 32))
    made = blocks(dice, channels, heads, dice.randint(1, 4))
    classes = width(dice, 2, 100)
    if dice.random() < 0.5:
        stem = width(dice, 8, 48)
        before: nn.Module = convolution(3, stem, 3, activation(dice), stride=2) if dice.random() < 0.5 else nn.Identity()
        inside, patch = (3, 8) if isinstance(before, nn.Identity) else (stem, 4)
        net = Pooled(nn.Sequential(Patches(before, nn.Conv2d(inside, channels, patch, patch)), *made), channels, classes)
        return pictured("attention", net, 3, sizes_of(dice, 4, 16), dice, ("batch", classes))
    features = width(dice, 4, 80)
    net = Pooled(nn.Sequential(nn.Linear(features, channels), *made, nn.LayerNorm(channels)), channels, classes, last=dice.random() < 0.3)
    return sequence("attention", net, features, lengths_of(dice, 8, 200), dice, ("batch", classes))


def worded(dice: Random) -> Net:
    """Transformer blocks, or convolutions, over embedded words."""
    heads = dice.choice((2, 4))
    channels = heads * dice.choice((16, 24, 32))
    made = blocks(dice, channels, heads, dice.randint(1, 3))
    words, classes = 500, width(dice, 2, 200)
    body: nn.Module = (
        nn.Sequential(*made, nn.LayerNorm(channels), nn.Linear(channels, classes))
        if dice.random() < 0.5
        else Pooled(nn.Sequential(*made), channels, classes)
    )
    out: tuple[int | str, ...] = ("batch", classes) if isinstance(body, Pooled) else ("batch", "time", classes)
    return tokens("attention", Words(words, channels, body, places=512), words, lengths_of(dice, 8, 160), dice, out)


def texted(dice: Random) -> Net:
    """Embedded words without attention: convolutions, a recurrent layer, or their mean alone."""
    channels, classes, kind = width(dice, 16, 128), width(dice, 2, 100), dice.randrange(3)
    inside, body = channels, list[nn.Module]()
    if kind == 1:
        inside = width(dice, 16, 128)
        body = [Turned(convolution(channels, inside, dice.choice((3, 5)), nn.ReLU(), one=True))]
    if kind == 2:
        units, both = width(dice, 16, 128), dice.random() < 0.5
        inside, body = units * (2 if both else 1), [Scan(nn.LSTM(channels, units, batch_first=True, bidirectional=both))]
    if dice.random() < 0.4:
        outside = width(dice, 16, 128)
        body += [nn.Linear(inside, outside), nn.ReLU()]
        inside = outside
    whole = Words(500, channels, Pooled(nn.Sequential(*body), inside, classes))
    return tokens("recurrent" if kind == 2 else "cnn" if kind else "mlp", whole, 500, lengths_of(dice, 8, 160), dice, ("batch", classes))


def convolved(dice: Random) -> Net:
    """Attention and depthwise convolutions over time in turn, with gates: as recognisers of speech have them."""
    heads = dice.choice((2, 4))
    channels, features = heads * dice.choice((12, 16, 24, 32)), width(dice, 16, 80)
    parts: list[nn.Module] = [nn.Linear(features, channels)]
    for _ in range(dice.randint(1, 2)):
        gated = nn.Sequential(
            nn.Conv1d(channels, 2 * channels, 1),
            nn.GLU(1),
            convolution(channels, channels, dice.choice((7, 15)), nn.SiLU(), groups=channels, one=True),
        )
        parts += [
            *blocks(dice, channels, heads, 1),
            Sum(nn.Sequential(nn.LayerNorm(channels), Turned(nn.Sequential(gated, nn.Conv1d(channels, channels, 1))))),
        ]
    classes = width(dice, 10, 100)
    body = nn.Sequential(*parts, nn.Linear(channels, classes))
    return sequence("attention", body, features, lengths_of(dice, 16, 160), dice, ("batch", "time", classes))


def dense(dice: Random) -> Net:
    """Linear layers over one row, normalised or not, small and large."""
    features = inside = width(dice, 8, 600)
    top = dice.choice((128, 512, 512, 2048))
    layers: list[nn.Module] = []
    for _ in range(dice.randint(1, 7)):
        outside = width(dice, 8, top)
        layers += [nn.Linear(inside, outside), *([nn.LayerNorm(outside)] if dice.random() < 0.15 else []), activation(dice)]
        if dice.random() < 0.3:
            layers.append(Sum(nn.Sequential(nn.Linear(outside, outside), nn.ReLU())))
        inside = outside
    classes = width(dice, 1, 200)
    body = nn.Sequential(*layers, nn.Linear(inside, classes))
    generator = np.random.default_rng(dice.randrange(2**31))
    port, out = Port("x", "float32", ("batch", features)), Port("y", "float32", ("batch", classes))
    return Net("mlp", body, Signature((port,), (out,)), {"row": {"x": generator.standard_normal((1, features), dtype=np.float32)}})


def mixed(dice: Random) -> Net:
    """Linear layers across time and across channels in turn; the number of steps is fixed."""
    steps, channels = 4 * dice.randint(2, 24), width(dice, 8, 128)
    parts: list[nn.Module] = []
    for _ in range(dice.randint(1, 4)):
        across, inner = width(dice, 8, 160), width(dice, 16, 256)
        parts += [
            Sum(
                nn.Sequential(nn.LayerNorm(channels), Turned(nn.Sequential(nn.Linear(steps, across), nn.GELU(), nn.Linear(across, steps))))
            ),
            Sum(nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, inner), activation(dice), nn.Linear(inner, channels))),
        ]
    net = Pooled(nn.Sequential(*parts), channels, width(dice, 2, 100))
    generator = np.random.default_rng(dice.randrange(2**31))
    port, out = Port("x", "float32", ("batch", steps, channels)), Port("y", "float32", ("batch", net.head.out_features))
    return Net("mlp", net, Signature((port,), (out,)), {"rows": {"x": generator.standard_normal((1, steps, channels), dtype=np.float32)}})


def tabular(dice: Random) -> Net:
    """A row of numbers and categories, embedded, then linear layers."""
    categories, size, features = dice.randint(2, 12), dice.choice((4, 8, 16)), width(dice, 4, 32)
    inside = features + categories * size
    layers: list[nn.Module] = []
    for _ in range(dice.randint(1, 3)):
        outside = width(dice, 16, 256)
        layers += [nn.Linear(inside, outside), nn.ReLU()]
        inside = outside
    body = Crossed(categories, 100, size, nn.Sequential(*layers, nn.Linear(inside, 2)))
    generator = np.random.default_rng(dice.randrange(2**31))
    feeds: Feeds = {"x": generator.standard_normal((1, features), dtype=np.float32), "chosen": generator.integers(0, 100, (1, categories))}
    ports = (Port("x", "float32", ("batch", features)), Port("chosen", "int64", ("batch", categories)))
    return Net("mlp", body, Signature(ports, (Port("y", "float32", ("batch", 2)),)), {"row": feeds})


def jumbled(dice: Random) -> Net:
    """Pieces that follow no plan, over an image: what never meets in the other kinds meets here, so that prices come apart."""
    inside = width(dice, 8, 64)
    layers: list[nn.Module] = [convolution(3, inside, dice.choice((1, 3)), activation(dice))]
    halvings = 0
    for _ in range(dice.randint(3, 9)):
        outside, piece = width(dice, 8, 96), dice.randrange(14)
        if piece == 0:
            layers += [nn.BatchNorm2d(inside), activation(dice)]
        elif piece == 1:
            layers.append(nn.PReLU(inside))
        elif piece == 2 and halvings < 2:
            layers.append(dice.choice((nn.MaxPool2d(2), nn.AvgPool2d(2), nn.MaxPool2d(3, 2, 1))))
            halvings += 1
        elif piece == 3:
            layers.append(Squeeze(inside, width(dice, 4, 32)))
        elif piece == 4:
            layers.append(convolution(inside, inside, dice.choice((3, 5, 7)), dice.choice((None, nn.ReLU())), groups=inside))
        elif piece == 5:
            layers.append(Said(lambda x: torch.cat([x, torch.sigmoid(x)], 1)))
            outside = inside = 2 * inside
        elif piece == 6:
            layers += [
                Said(lambda x: x.permute(0, 2, 3, 1)),
                nn.LayerNorm(inside),
                nn.Linear(inside, outside),
                nn.GELU(),
                Said(lambda x: x.permute(0, 3, 1, 2)),
            ]
            inside = outside
        elif piece == 7:
            layers.append(Sum(nn.Sequential(convolution(inside, inside, 1, nn.ReLU()), convolution(inside, inside, 3, None)), nn.ReLU()))
        elif piece == 8:
            layers.append(Branches(convolution(inside, outside, 1, nn.ReLU()), nn.AvgPool2d(3, 1, 1)))
            inside = inside + outside
        elif piece == 9:
            layers.append(Said(lambda x: x * torch.sigmoid(x.mean(2, keepdim=True))))
        elif piece == 10:
            layers += [Said(lambda x: F.pad(x, (1, 1, 1, 1))), nn.Conv2d(inside, outside, 3)]
            inside = outside
        elif piece == 11 and halvings:
            layers.append(nn.ConvTranspose2d(inside, outside, dice.choice((2, 4)), 2))
            inside, halvings = outside, halvings - 1
        elif piece == 12 and halvings:
            layers.append(nn.Upsample(scale_factor=2.0, mode=dice.choice(("nearest", "bilinear"))))
            halvings -= 1
        else:
            layers.append(convolution(inside, outside, dice.choice((1, 3)), dice.choice((None, activation(dice)))))
            inside = outside
    net = Classifier(nn.Sequential(*layers), inside, width(dice, 2, 100), pool=dice.random() < 0.5)
    return pictured("cnn", net, 3, sizes_of(dice, 2, 6), dice, ("batch", net.head.out_features))


def medley(dice: Random) -> Net:
    """The same over a sequence: products, norms, gates, convolutions, recurrence and attention in any order."""
    inside = features = 4 * dice.randint(3, 24)
    layers: list[nn.Module] = []
    for _ in range(dice.randint(2, 8)):
        outside, piece = 4 * width(dice, 2, 32), dice.randrange(14)
        if piece == 0:
            layers.append(nn.LayerNorm(inside))
        elif piece == 1:
            layers.append(activation(dice))
        elif piece == 2:
            layers.append(Sum(Apart(inside, 4)))
        elif piece == 3:
            both = dice.random() < 0.3
            layers.append(Scan(dice.choice((nn.LSTM, nn.GRU))(inside, outside, batch_first=True, bidirectional=both)))
            inside = outside * (2 if both else 1)
        elif piece == 4:
            layers.append(
                Turned(convolution(inside, inside, dice.choice((3, 7, 15)), dice.choice((None, nn.ReLU())), groups=inside, one=True))
            )
        elif piece == 5:
            layers += [nn.Linear(inside, 2 * outside), nn.GLU(-1)]
            inside = outside
        elif piece == 6:
            layers.append(Said(lambda x: x * torch.softmax(x, 1)))
        elif piece == 7:
            layers.append(Said(lambda x: torch.cat([x, x.tanh()], 2)))
            inside *= 2
        elif piece == 8:
            layers.append(
                Turned(
                    nn.Sequential(
                        convolution(inside, outside, 3, activation(dice), one=True),
                        nn.MaxPool1d(2) if dice.random() < 0.3 else nn.Identity(),
                    )
                )
            )
            inside = outside
        elif piece == 9:
            layers.append(Sum(Attend(inside, 2, own=dice.random() < 0.5)))
        elif piece == 10:
            layers.append(Turned(Said(lambda x: F.pad(x, (4, 0))[:, :, :-4] + x)))
        elif piece == 11:
            over = dice.choice((3, 9, 25))
            layers.append(Turned(nn.AvgPool1d(over, 1, over // 2, count_include_pad=dice.random() < 0.5)))
        else:
            layers += [nn.Linear(inside, outside), *([activation(dice)] if dice.random() < 0.5 else [])]
            inside = outside
    net = Pooled(nn.Sequential(*layers), inside, width(dice, 2, 100), last=dice.random() < 0.5)
    return sequence("attention", net, features, lengths_of(dice, 16, 128), dice, ("batch", net.head.out_features))


KINDS: tuple[Callable[[Random], Net], ...] = (
    *(plain, inverted, recurrent, attentive, dense, jumbled, medley, branched, separable, temporal, worded, reading, mixed, texted),
    *(plain, inverted, recurrent, attentive, dense, jumbled, medley, branched, jumbled, separable, convolved, reading, tabular, texted),
)
