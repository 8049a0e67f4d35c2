"""Nets of the literature and of this project in small sizes, which calibration never sees: what predictions are judged on.

Each is written out as its paper or its usual code has it, at widths people use and at a few that pruning leaves; weights are random.
Its family says what it mostly is: cnn, depthwise, recurrent, attention or mlp.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advisor.architectures import crnn, svtr
from compress.calibration_nets import Net
from rules.examples import Feeds, Port, Signature

Axes = tuple[int | str, ...]
OPEN = {"height": (8, 4096, 8), "width": (8, 4096, 8), "time": (4, 4096, 4)}


def net(family: str, module: nn.Module, out: Axes, **inputs: tuple[Axes, tuple[int, ...]]) -> Net:
    """A net with its inputs: name → (axes, the sizes it is timed at). Integers where the name starts with `ids`."""
    generator = np.random.default_rng(7)
    ports, feeds = [], {}
    for name, (axes, size) in inputs.items():
        whole = name.startswith("ids")
        ranges = {str(axis): OPEN[str(axis)] for axis in axes if axis in OPEN}
        ports.append(Port(name, "int64" if whole else "float32", axes, ranges))
        feeds[name] = generator.integers(0, 50, size) if whole else generator.standard_normal(size, dtype=np.float32)
    probes: Mapping[str, Feeds] = {"x".join(map(str, next(iter(inputs.values()))[1])): feeds}
    return Net(family, module.eval(), Signature(tuple(ports), (Port("y", "float32", out),)), probes)


def picture(family: str, module: nn.Module, channels: int, height: int, width: int, out: Axes = ("batch", "classes")) -> Net:
    return net(family, module, out, x=(("batch", channels, "height", "width"), (1, channels, height, width)))


def series(family: str, module: nn.Module, time: int, channels: int, out: Axes = ("batch", "classes")) -> Net:
    return net(family, module, out, x=(("batch", "time", channels), (1, time, channels)))


def fixed(family: str, module: nn.Module, *size: int) -> Net:
    return net(family, module, ("batch", "classes"), x=(("batch", *size), (1, *size)))


def cbr(i: int, o: int, k: int = 3, s: int = 1, g: int = 1, act: Callable[[], nn.Module] | None = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o), *([act()] if act else []))


class Head(nn.Module):
    def __init__(self, body: nn.Module, channels: int, classes: int) -> None:
        super().__init__()
        self.body, self.fc = body, nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.body(x), 1), 1))


# -- convolutions ----------------------------------------------------------------------------------------------------


class Basic(nn.Module):
    """He et al. 2016, arXiv:1512.03385."""

    def __init__(self, i: int, o: int, s: int) -> None:
        super().__init__()
        self.a, self.b = cbr(i, o, 3, s), cbr(o, o, act=None)
        self.skip = nn.Identity() if i == o and s == 1 else cbr(i, o, 1, s, act=None)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.b(self.a(x)) + self.skip(x))


def resnet(widths: list[int], blocks: int, *, first: int = 3, stride: int = 1, channels: int = 3, classes: int = 10) -> nn.Module:
    parts: list[nn.Module] = [cbr(channels, widths[0], first, stride)]
    inside = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            parts.append(Basic(inside, width, 2 if stage and not block else 1))
            inside = width
    return Head(nn.Sequential(*parts), inside, classes)


def vgg() -> nn.Module:
    parts: list[nn.Module] = []
    inside = 3
    for width in (32, 32, 0, 64, 64, 0, 128, 128, 0):
        parts.append(cbr(inside, width) if width else nn.MaxPool2d(2))
        inside = width or inside
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(128 * 16, 256), nn.ReLU(), nn.Linear(256, 10))


class Fire(nn.Module):
    """Iandola et al. 2016, arXiv:1602.07360."""

    def __init__(self, i: int, s: int, e: int) -> None:
        super().__init__()
        self.squeeze, self.one, self.three = nn.Conv2d(i, s, 1), nn.Conv2d(s, e, 1), nn.Conv2d(s, e, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


def squeezenet() -> nn.Module:
    body = nn.Sequential(
        *(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2), Fire(64, 16, 64), Fire(128, 16, 64), nn.MaxPool2d(3, 2)),
        *(Fire(128, 32, 128), Fire(256, 32, 128), nn.Conv2d(256, 100, 1), nn.ReLU()),
    )
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Dense(nn.Module):
    """Huang et al. 2017, arXiv:1608.06993; norms before convolutions stay norms."""

    def __init__(self, i: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm2d(i), nn.ReLU(), nn.Conv2d(i, growth, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet() -> nn.Module:
    parts: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1)]
    inside = 16
    for stage in range(2):
        for _ in range(4):
            parts.append(Dense(inside, 12))
            inside += 12
        if not stage:
            parts += [nn.Conv2d(inside, inside // 2, 1), nn.AvgPool2d(2)]
            inside //= 2
    return Head(nn.Sequential(*parts), inside, 10)


class UNet(nn.Module):
    """Ronneberger et al. 2015, arXiv:1505.04597."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        a, b, c = widths
        self.a, self.b, self.c = (
            nn.Sequential(cbr(3, a), cbr(a, a)),
            nn.Sequential(cbr(a, b), cbr(b, b)),
            nn.Sequential(cbr(b, c), cbr(c, c)),
        )
        self.up2, self.d2, self.up1, self.d1 = nn.ConvTranspose2d(c, b, 2, 2), cbr(2 * b, b), nn.ConvTranspose2d(b, a, 2, 2), cbr(2 * a, a)
        self.out = nn.Conv2d(a, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        c = self.c(F.max_pool2d(b, 2))
        b = self.d2(torch.cat([self.up2(c), b], 1))
        return self.out(self.d1(torch.cat([self.up1(b), a], 1)))


class Aspp(nn.Module):
    """Chen et al. 2017, arXiv:1706.05587: dilated branches over a small backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(cbr(3, 24, 3, 2), cbr(24, 48, 3, 2), cbr(48, 64, 3, 2), Basic(64, 64, 1))
        self.branches = nn.ModuleList(
            [cbr(64, 32, 1), *(nn.Sequential(nn.Conv2d(64, 32, 3, padding=d, dilation=d), nn.ReLU()) for d in (2, 4, 6))]
        )
        self.out = nn.Sequential(cbr(128, 64, 1), nn.Conv2d(64, 11, 1), nn.Upsample(scale_factor=8.0, mode="bilinear"))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.out(torch.cat([branch(x) for branch in self.branches], 1))


class Temporal(nn.Module):
    """Bai et al. 2018, arXiv:1803.01271: causal dilated convolutions."""

    def __init__(self, features: int, width: int, levels: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(features, width, 1)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=2**level) for level in range(levels))
        self.head = nn.Linear(width, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.transpose(1, 2))
        for level, layer in enumerate(self.layers):
            x = F.relu(x + F.relu(layer(F.pad(x, (2 * 2**level, 0)))))
        return self.head(x[:, :, -1])


class TextCNN(nn.Module):
    """Kim 2014, arXiv:1408.5882."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(2000, 100)
        self.layers = nn.ModuleList(nn.Conv1d(100, 64, k) for k in (3, 4, 5))
        self.head = nn.Linear(192, 77)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids).transpose(1, 2)
        return self.head(torch.cat([F.relu(layer(x)).amax(2) for layer in self.layers], 1))


def conv_autoencoder() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 8, 3, 1, 1), nn.ReLU()),
        *(nn.ConvTranspose2d(8, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Sigmoid()),
    )


# -- depthwise -------------------------------------------------------------------------------------------------------


def mobilenet(scale: float) -> nn.Module:
    """Howard et al. 2017, arXiv:1704.04861."""
    plan = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    parts: list[nn.Module] = [cbr(3, int(32 * scale), 3, 2)]
    for i, o, s in plan:
        i, o = int(i * scale), int(o * scale)
        parts += [cbr(i, i, 3, s, i), cbr(i, o, 1)]
    return Head(nn.Sequential(*parts), int(512 * scale), 2)


class Inverted(nn.Module):
    """Sandler et al. 2018, arXiv:1801.04381; squeezing as in Howard et al. 2019, arXiv:1905.02244."""

    def __init__(self, i: int, h: int, o: int, s: int, k: int = 3, *, se: bool = False, act: Callable[[], nn.Module] = nn.ReLU6) -> None:
        super().__init__()
        self.expand = cbr(i, h, 1, act=act) if h != i else nn.Identity()
        self.depth, self.project = cbr(h, h, k, s, h, act=act), cbr(h, o, 1, act=None)
        self.se = (
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(h, h // 4, 1), nn.ReLU(), nn.Conv2d(h // 4, h, 1), nn.Hardsigmoid())
            if se
            else None
        )
        self.skip = i == o and s == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.depth(self.expand(x))
        if self.se is not None:
            y = y * self.se(y)
        y = self.project(y)
        return x + y if self.skip else y


def mobilenet_v2(widths: tuple[int, ...], ratio: float) -> nn.Module:
    parts: list[nn.Module] = [cbr(3, widths[0], 3, 2, act=nn.ReLU6)]
    for index, (i, o) in enumerate(itertools.pairwise(widths)):
        parts += [Inverted(i, round(ratio * i), o, 2 if index % 2 else 1), Inverted(o, round(ratio * o), o, 1)]
    return Head(nn.Sequential(*parts, cbr(widths[-1], 4 * widths[-1], 1, act=nn.ReLU6)), 4 * widths[-1], 100)


def mobilenet_v3() -> nn.Module:
    h, r = nn.Hardswish, nn.ReLU
    parts = [
        *(cbr(3, 16, 3, 2, act=h), Inverted(16, 16, 16, 2, se=True, act=r), Inverted(16, 72, 24, 2, act=r), Inverted(24, 88, 24, 1, act=r)),
        *(
            Inverted(24, 96, 40, 2, 5, se=True, act=h),
            Inverted(40, 240, 40, 1, 5, se=True, act=h),
            Inverted(40, 120, 48, 1, 5, se=True, act=h),
        ),
    ]
    return nn.Sequential(
        *parts, cbr(48, 288, 1, act=h), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(288, 256), h(), nn.Linear(256, 100)
    )


def ds_cnn(width: int) -> nn.Module:
    """Zhang et al. 2017, arXiv:1711.07128."""
    parts: list[nn.Module] = [nn.Sequential(nn.Conv2d(1, width, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(width), nn.ReLU())]
    for _ in range(4):
        parts += [cbr(width, width, 3, 1, width), cbr(width, width, 1)]
    return Head(nn.Sequential(*parts), width, 12)


def mobilefacenet() -> nn.Module:
    """Chen et al. 2018, arXiv:1804.07573: PReLU, and a depthwise convolution over all positions at the end."""
    parts = [nn.Conv2d(3, 32, 3, 2, 1), nn.PReLU(32), nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.PReLU(32)]
    for i, h, o, s in ((32, 64, 32, 2), (32, 64, 32, 1), (32, 128, 64, 2), (64, 128, 64, 1)):
        parts += [nn.Conv2d(i, h, 1), nn.PReLU(h), nn.Conv2d(h, h, 3, s, 1, groups=h), nn.PReLU(h), nn.Conv2d(h, o, 1)]
    return nn.Sequential(
        *parts, nn.Conv2d(64, 256, 1), nn.PReLU(256), nn.Conv2d(256, 256, 7, groups=256), nn.Conv2d(256, 64, 1), nn.Flatten()
    )


class ConvNext(nn.Module):
    """Liu et al. 2022, arXiv:2201.03545."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depth, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.a, self.b = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        return x + self.b(F.gelu(self.a(y))).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    return Head(
        nn.Sequential(nn.Conv2d(3, 32, 4, 4), ConvNext(32), ConvNext(32), nn.Conv2d(32, 64, 2, 2), ConvNext(64), ConvNext(64)), 64, 10
    )


class Quartz(nn.Module):
    """Kriman et al. 2020, arXiv:1910.10261: depthwise convolutions over time."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for i, o, k in ((64, 64, 33), (64, 64, 39), (64, 128, 51), (128, 128, 63)):
            parts += [nn.Conv1d(i, i, k, padding=k // 2, groups=i), nn.Conv1d(i, o, 1, bias=False), nn.BatchNorm1d(o), nn.ReLU()]
        self.body, self.head = nn.Sequential(*parts), nn.Conv1d(128, 29, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.transpose(1, 2))).transpose(1, 2)


class Broadcast(nn.Module):
    """Kim et al. 2021, arXiv:2106.04140: what is learnt over time alone is added to every frequency."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.over, self.norm = nn.Conv2d(width, width, (3, 1), padding=(1, 0), groups=width), nn.BatchNorm2d(width)
        self.time = nn.Sequential(
            nn.Conv2d(width, width, (1, 3), padding=(0, 1), groups=width), nn.BatchNorm2d(width), nn.SiLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.over(x))
        return F.relu(x + y + self.time(y.mean(2, keepdim=True)))


def broadcast() -> nn.Module:
    body = nn.Sequential(
        cbr(1, 16, 5, 2), Broadcast(16), Broadcast(16), cbr(16, 24, 1), Broadcast(24), Broadcast(24), cbr(24, 40, 1), Broadcast(40)
    )
    return Head(body, 40, 12)


# -- recurrent -------------------------------------------------------------------------------------------------------


class Tagger(nn.Module):
    def __init__(self, layer: nn.RNNBase, width: int, classes: int, vocabulary: int = 1000) -> None:
        super().__init__()
        self.words, self.layer, self.head = nn.Embedding(vocabulary, layer.input_size), layer, nn.Linear(width, classes)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.layer(self.words(ids))[0])


class Forecaster(nn.Module):
    """A recurrent layer whose last step answers."""

    def __init__(self, layer: nn.RNNBase, width: int, out: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Attended(nn.Module):
    """Bahdanau et al. 2015, arXiv:1409.0473: a weighted mean over the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.score, self.head = nn.LSTM(8, 64, 2, batch_first=True), nn.Linear(64, 1), nn.Linear(64, 24)

    def forward(self, x: Tensor) -> Tensor:
        states = self.layer(x)[0]
        return self.head((states * torch.softmax(torch.tanh(self.score(states)), 1)).sum(1))


class Heard(nn.Module):
    """Deep Speech 2 in small (Amodei et al. 2016, arXiv:1512.02595): convolutions, then recurrent layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(cbr(1, 16, 5, 2), cbr(16, 16, 3, (2, 1)))
        self.layers, self.head = nn.GRU(160, 96, 2, batch_first=True, bidirectional=True), nn.Linear(192, 29)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.conv(x).flatten(1, 2).transpose(1, 2))[0])


# -- attention -------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """Vaswani et al. 2017, arXiv:1706.03762; norms first. `causal` hides the future."""

    def __init__(self, width: int, heads: int, hidden: int, *, causal: bool = False, act: Callable[[Tensor], Tensor] = F.gelu) -> None:
        super().__init__()
        self.n1, self.n2, self.heads, self.causal, self.act = nn.LayerNorm(width), nn.LayerNorm(width), heads, causal, act
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.a, self.b = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.n1(x)
        b, t, c = y.shape
        q, k, v = (part(y).view(b, t, self.heads, c // self.heads).transpose(1, 2) for part in (self.q, self.k, self.v))
        scores = q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5
        if self.causal:
            scores = scores.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -1e9)
        x = x + self.o((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, c))
        return x + self.b(self.act(self.a(self.n2(x))))


class ViT(nn.Module):
    """Dosovitskiy et al. 2021, arXiv:2010.11929, with a class token."""

    def __init__(self, size: int, patch: int, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.embed, self.token = nn.Conv2d(3, width, patch, patch), nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads, 4 * width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


class Encoder(nn.Module):
    """Tokens, places, blocks; the mean answers, or every step."""

    def __init__(self, width: int, heads: int, depth: int, out: int, *, mean: bool, causal: bool = False, hidden: int = 0) -> None:
        super().__init__()
        self.words, self.places, self.mean = nn.Embedding(1000, width), nn.Parameter(torch.randn(1, 256, width)), mean
        self.blocks = nn.Sequential(*(Block(width, heads, hidden or 4 * width, causal=causal) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, out)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.words(ids) + self.places[:, : ids.shape[1]]))
        return self.head(x.mean(1) if self.mean else x)


class PatchTST(nn.Module):
    """Nie et al. 2023, arXiv:2211.14730: every channel a sequence of patches, with the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Linear(16, 64), nn.Parameter(torch.randn(1, 41, 64))
        self.blocks, self.head = nn.Sequential(Block(64, 4, 128), Block(64, 4, 128)), nn.Linear(41 * 64, 96)

    def forward(self, x: Tensor) -> Tensor:
        patches = x.transpose(1, 2).unfold(2, 16, 8)
        b, c, n, p = patches.shape
        y = self.blocks(self.embed(patches.reshape(b * c, n, p)) + self.places)
        return self.head(y.flatten(1)).reshape(b, c * 96)


class FTTransformer(nn.Module):
    """Gorishniy et al. 2021, arXiv:2106.11959: every number a token."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(features, width)), nn.Parameter(torch.randn(features, width))
        self.blocks, self.head = nn.Sequential(*(Block(width, 8, 2 * width, act=F.relu) for _ in range(3))), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.blocks(x[:, :, None] * self.weight + self.bias)[:, 0]))


class Conformer(nn.Module):
    """Gulati et al. 2020, arXiv:2005.08100."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))
        self.block, self.norm = Block(width, heads, 4 * width, act=F.silu), nn.LayerNorm(width)
        self.gate, self.depth = nn.Conv1d(width, 2 * width, 1), nn.Conv1d(width, width, 31, padding=15, groups=width)
        self.bn, self.out, self.last = nn.BatchNorm1d(width), nn.Conv1d(width, width, 1), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x + 0.5 * self.first(x))
        y = F.glu(self.gate(self.norm(x).transpose(1, 2)), 1)
        return self.last(x + self.out(F.silu(self.bn(self.depth(y)))).transpose(1, 2))


# -- mlp -------------------------------------------------------------------------------------------------------------


def layers(*widths: int, act: Callable[[], nn.Module] = nn.ReLU, norm: bool = False) -> nn.Sequential:
    parts: list[nn.Module] = []
    for i, o in itertools.pairwise(widths):
        parts += [nn.Linear(i, o), *([nn.BatchNorm1d(o)] if norm else []), act()]
    return nn.Sequential(*parts[: -2 if norm else -1])


class NBeats(nn.Module):
    """Oreshkin et al. 2020, arXiv:1905.10437."""

    def __init__(self, back: int, ahead: int, width: int, blocks: int) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(layers(back, width, width, width, width, width) for _ in range(blocks))
        self.backs = nn.ModuleList(nn.Linear(width, back) for _ in range(blocks))
        self.aheads = nn.ModuleList(nn.Linear(width, ahead) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        answer = torch.zeros(1)
        for body, back, ahead in zip(self.bodies, self.backs, self.aheads, strict=True):
            y = F.relu(body(x))
            x, answer = x - back(y), answer + ahead(y)
        return answer


class DLinear(nn.Module):
    """Zeng et al. 2023, arXiv:2205.13504: a moving mean and what is left of it, a linear layer each."""

    def __init__(self, back: int, ahead: int) -> None:
        super().__init__()
        self.mean, self.trend, self.rest = nn.AvgPool1d(25, 1, 12, count_include_pad=False), nn.Linear(back, ahead), nn.Linear(back, ahead)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        slow = self.mean(x)
        return (self.trend(slow) + self.rest(x - slow)).transpose(1, 2)


class Cross(nn.Module):
    """DCN-V2, Wang et al. 2021, arXiv:2008.13535."""

    def __init__(self, features: int, fields: int, size: int) -> None:
        super().__init__()
        width = features + fields * size
        self.table, self.cross = nn.Embedding(5000, size), nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.deep, self.head = layers(width, 256, 128), nn.Linear(width + 128, 1)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        first = y = torch.cat([x, self.table(ids).flatten(1)], 1)
        for layer in self.cross:
            y = first * layer(y) + y
        return self.head(torch.cat([y, self.deep(first)], 1))


class WideDeep(nn.Module):
    """Cheng et al. 2016, arXiv:1606.07792."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.wide, self.tables = nn.Embedding(1000, 1), nn.ModuleList(nn.Embedding(100, 16) for _ in range(fields))
        self.deep = layers(16 * fields + 6, 256, 128, 1)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        parts = [table(ids[:, number]) for number, table in enumerate(self.tables)]
        return torch.sigmoid(self.wide(ids).sum(1) + self.deep(torch.cat([x, *parts], 1)))


class Mixer(nn.Module):
    """Tolstikhin et al. 2021, arXiv:2105.01601."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across, self.along = layers(tokens, tokens * 2, tokens, act=nn.GELU), layers(width, width * 4, width, act=nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.n1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.along(self.n2(x))


class Patched(nn.Module):
    def __init__(self, patch: int, width: int, body: nn.Module) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Conv2d(3, width, patch, patch), body, nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.embed(x).flatten(2).transpose(1, 2)).mean(1))


class Averaged(nn.Module):
    """fastText (Joulin et al. 2017, arXiv:1607.01759) with a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.body = nn.Embedding(5000, 64), layers(64, 128, 77)

    def forward(self, ids: Tensor) -> Tensor:
        return self.body(self.words(ids).mean(1))


class Residual(nn.Module):
    """Gorishniy et al. 2021: ResNet for tables."""

    def __init__(self, features: int, width: int, blocks: int) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(features, width), nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 2))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)) for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


TOKENS: Axes = ("batch", "time")
EACH: Axes = ("batch", "time", "classes")
MAP: Axes = ("batch", "classes", "out_height", "out_width")
LSTM, GRU = nn.LSTM, nn.GRU


def words(family: str, module: nn.Module, time: int, out: Axes) -> Net:
    return net(family, module, out, ids=(TOKENS, (1, time)))


NETS: dict[str, Callable[[], Net]] = {
    # convolutions
    "resnet-8": lambda: picture("cnn", resnet([16, 32, 64], 1), 3, 32, 32),
    "resnet-8-odd": lambda: picture("cnn", resnet([11, 22, 45], 1), 3, 32, 32),
    "resnet-14-64px": lambda: picture("cnn", resnet([32, 64, 128], 2, first=7, stride=2), 3, 64, 64),
    "resnet-18-64px": lambda: picture("cnn", resnet([64, 128, 256, 512], 2, first=7, stride=2, classes=100), 3, 64, 64),
    "vgg-9": lambda: fixed("cnn", vgg(), 3, 32, 32),
    "squeezenet-small": lambda: picture("cnn", squeezenet(), 3, 96, 96),
    "densenet-small": lambda: picture("cnn", densenet(), 3, 32, 32),
    "u-net": lambda: picture("cnn", UNet(), 3, 64, 64, MAP),
    "u-net-odd": lambda: picture("cnn", UNet((13, 27, 54)), 3, 48, 48, MAP),
    "aspp": lambda: picture("cnn", Aspp(), 3, 128, 128, MAP),
    "tcn": lambda: series("cnn", Temporal(7, 32, 6), 96, 7),
    "textcnn": lambda: words("cnn", TextCNN(), 64, ("batch", "classes")),
    "conv-autoencoder": lambda: picture("cnn", conv_autoencoder(), 1, 64, 64, MAP),
    # depthwise
    "mobilenet-0.25": lambda: picture("depthwise", mobilenet(0.25), 3, 96, 96),
    "mobilenet-0.5": lambda: picture("depthwise", mobilenet(0.5), 3, 128, 128),
    "mobilenet-v2": lambda: picture("depthwise", mobilenet_v2((16, 24, 32, 64), 4), 3, 96, 96),
    "mobilenet-v2-odd": lambda: picture("depthwise", mobilenet_v2((11, 17, 23, 45), 4.2), 3, 64, 64),
    "mobilenet-v3": lambda: picture("depthwise", mobilenet_v3(), 3, 128, 128),
    "ds-cnn-64": lambda: picture("depthwise", ds_cnn(64), 1, 48, 16),
    "ds-cnn-172": lambda: picture("depthwise", ds_cnn(172), 1, 48, 16),
    "mobilefacenet": lambda: fixed("depthwise", mobilefacenet(), 3, 56, 56),
    "convnext-small": lambda: picture("depthwise", convnext(), 3, 96, 96),
    "quartznet": lambda: series("depthwise", Quartz(), 128, 64, EACH),
    "bc-resnet": lambda: picture("depthwise", broadcast(), 1, 40, 96),
    # recurrent
    "crnn-micro": lambda: ours(crnn.build),
    "crnn-wide-line": lambda: ours(crnn.build, width=320),
    "bilstm-tagger": lambda: words("recurrent", Tagger(LSTM(64, 64, batch_first=True, bidirectional=True), 128, 20), 40, EACH),
    "lstm-forecaster": lambda: series("recurrent", Forecaster(LSTM(7, 48, batch_first=True), 48, 96), 96, 7),
    "lstm-text": lambda: words("recurrent", Tagger(LSTM(128, 256, 2, batch_first=True), 256, 65), 64, EACH),
    "gru-keywords": lambda: series("recurrent", Forecaster(GRU(40, 100, batch_first=True), 100, 12), 50, 40),
    "gru-stacked": lambda: series("recurrent", Forecaster(GRU(32, 64, 3, batch_first=True), 64, 24), 48, 32),
    "lstm-attention": lambda: series("recurrent", Attended(), 72, 8),
    "deep-speech-small": lambda: net("recurrent", Heard(), EACH, x=(("batch", 1, 40, "time"), (1, 1, 40, 160))),
    "lstm-step": lambda: series("recurrent", Forecaster(LSTM(16, 32, batch_first=True), 32, 4), 4, 16),
    # attention
    "vit-tiny-32px": lambda: fixed("attention", ViT(32, 4, 96, 4, 4), 3, 32, 32),
    "vit-64px": lambda: fixed("attention", ViT(64, 8, 128, 4, 3), 3, 64, 64),
    "svtr-tiny": lambda: ours(svtr.build),
    "text-encoder": lambda: words("attention", Encoder(128, 4, 3, 77, mean=True), 48, ("batch", "classes")),
    "text-encoder-wide": lambda: words("attention", Encoder(256, 8, 2, 77, mean=True), 64, ("batch", "classes")),
    "gpt-small": lambda: words("attention", Encoder(96, 4, 4, 65, mean=False, causal=True), 64, EACH),
    "patchtst": lambda: fixed("attention", PatchTST(), 336, 7),
    "ft-transformer": lambda: fixed("attention", FTTransformer(14, 96), 14),
    "conformer": lambda: series(
        "attention", nn.Sequential(nn.Linear(80, 96), Conformer(96, 4), Conformer(96, 4), nn.Linear(96, 40)), 100, 80, EACH
    ),
    "series-encoder": lambda: series(
        "attention", nn.Sequential(nn.Linear(12, 48), Block(48, 3, 96), Block(48, 3, 96), nn.Linear(48, 12)), 60, 12, EACH
    ),
    # mlp
    "mlp-mnist": lambda: fixed("mlp", layers(784, 256, 128, 10), 784),
    "mlp-odd": lambda: fixed("mlp", layers(123, 77, 51, 33, 5), 123),
    "toy-autoencoder": lambda: fixed("mlp", layers(640, 128, 128, 128, 8, 128, 128, 128, 640, norm=True), 640),
    "n-beats": lambda: fixed("mlp", NBeats(120, 24, 128, 6), 120),
    "dlinear": lambda: net("mlp", DLinear(336, 96), ("batch", "out", 7), x=(("batch", 336, 7), (1, 336, 7))),
    "dcn-v2": lambda: net("mlp", Cross(13, 26, 8), ("batch", 1), x=(("batch", 13), (1, 13)), ids=(("batch", 26), (1, 26))),
    "wide-and-deep": lambda: net("mlp", WideDeep(8), ("batch", 1), x=(("batch", 6), (1, 6)), ids=(("batch", 8), (1, 8))),
    "mixer": lambda: fixed("mlp", Patched(8, 96, nn.Sequential(Mixer(64, 96), Mixer(64, 96), Mixer(64, 96))), 3, 64, 64),
    "averaged-words": lambda: words("mlp", Averaged(), 32, ("batch", "classes")),
    "table-resnet": lambda: fixed("mlp", Residual(54, 192, 4), 54),
}


def ours(build: Callable[..., nn.Module], *, width: int = 128) -> Net:
    """One of the project's own recognisers, at the size its card calls smallest."""
    import tomllib
    from pathlib import Path

    name = build.__module__.rsplit(".", 1)[1]
    card = tomllib.loads((Path(__file__).parents[1] / f"rules/knowledge/architectures/{name}.toml").read_text(encoding="utf-8"))
    smallest = min(card["variant"], key=lambda variant: variant["params"])
    module = build(classes=96, **smallest.get("settings", {}))
    family = "recurrent" if name == "crnn" else "attention"
    return net(family, module, EACH, x=(("batch", 1, 32, "width"), (1, 1, 32, width)))
