"""Small networks, a small task with and without labels, and their exported files: what the graph tests work on.

The task: lines of glyphs, sixteen columns each, drawn from ten fixed patterns with noise; four time steps a glyph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.context import Context, Predict, Target
from compress.journal import Journal
from rules.examples import Batch, Feeds, Metric, Port, Sample, Score, Signature

HEIGHT, GLYPH, CLASSES = 16, 16, 10


# -- networks --------------------------------------------------------------------------------------------------------


def block(inside: int, outside: int, kernel: int = 3, *, stride: int = 1, groups: int = 1, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), act())


class Recurrent(nn.Module):
    """Convolutions, a bidirectional LSTM and a one-way one: (b, 1, 16, w) → (b, w / 4, classes)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(block(1, 8), nn.MaxPool2d(2), block(8, 16), nn.MaxPool2d(2), block(16, 16))
        self.first = nn.LSTM(16 * 4, 12, bidirectional=True)
        self.second = nn.LSTM(24, 16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.features(image)
        x = x.flatten(1, 2).permute(2, 0, 1)
        x = self.second(self.first(x)[0])[0]
        return self.head(x).transpose(0, 1)


class Inverted(nn.Module):
    """An inverted residual of MobileNetV2."""

    def __init__(self, inside: int, outside: int, *, stride: int = 1) -> None:
        super().__init__()
        hidden = 2 * inside
        self.body = nn.Sequential(
            block(inside, hidden, 1, act=nn.ReLU6),
            block(hidden, hidden, 3, stride=stride, groups=hidden, act=nn.ReLU6),
            nn.Conv2d(hidden, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.residual = inside == outside and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class Mobile(nn.Module):
    """Depthwise convolutions, ReLU6, residual sums, a Gemm: (b, 1, 16, 16) → (b, classes)."""

    def __init__(self) -> None:
        super().__init__()
        layers = [block(1, 8, act=nn.ReLU6), Inverted(8, 8), Inverted(8, 16, stride=2), Inverted(16, 16), block(16, 32, 1, act=nn.ReLU6)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).mean((2, 3)))


class Squeeze(nn.Module):
    """Squeeze-and-excitation, HardSwish, concatenation, average pooling: (b, 1, 16, 16) → (b, classes)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = block(1, 16, act=nn.Hardswish), block(16, 16, stride=2, groups=16, act=nn.Hardswish)
        squeeze = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.Hardsigmoid()]
        self.squeeze = nn.Sequential(*squeeze)
        self.pool, self.project = nn.AvgPool2d(3, 1, 1), nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.second(self.first(image))
        x = x * self.squeeze(x)
        return self.head(torch.cat([self.project(x), self.pool(x)], 1).mean((2, 3)))


class Plain(nn.Module):
    """Three convolutions in a chain: (b, 1, 16, 16) → (b, classes)."""

    def __init__(self, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.features = nn.Sequential(block(1, 16, act=act), nn.MaxPool2d(2), block(16, 32, act=act), block(32, 32, stride=2, act=act))
        self.head = nn.Linear(32, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).mean((2, 3)))


class Attention(nn.Module):
    """A transformer block over patches of four columns: (b, 1, 16, w) → (b, w / 4, classes)."""

    def __init__(self, width: int = 32, heads: int = 4, *, convolutions: bool = False) -> None:
        super().__init__()
        self.stem = block(1, 16) if convolutions else nn.Identity()
        self.embed = nn.Conv2d(16 if convolutions else 1, width, (HEIGHT, 4), (HEIGHT, 4))
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(self.stem(image)).squeeze(2).transpose(1, 2)
        x = x + self.attend(self.before(x))
        return self.head(x + self.feed(self.after(x)))

    def attend(self, x: Tensor) -> Tensor:
        b, t, width = x.shape
        query, key, value = self.mix(x).reshape(b, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5).softmax(-1)
        return self.out((weights @ value).transpose(1, 2).reshape(b, t, width))


# -- task ------------------------------------------------------------------------------------------------------------


class Glyphs:
    """The task: which glyph each time step belongs to, or which one an image holds."""

    name = "glyphs"
    metric = Metric("error", "lower")

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> GlyphData:
        return GlyphData(seed=seed)

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(output.flatten(0, -2), targets["label"].flatten())

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        soft = (teacher / temperature).softmax(-1)
        return -(soft * (student / temperature).log_softmax(-1)).sum(-1).mean() * temperature**2


class GlyphData:
    """Lines of glyphs. `lengths`: how many glyphs a line may have; 0 stands for single images with one label."""

    preprocess: tuple[Mapping[str, Any], ...] = ()
    postprocess: tuple[Mapping[str, Any], ...] = ()
    provenance: Mapping[str, Any] = {"source": "made up"}
    labels = tuple("0123456789")

    def __init__(self, lengths: tuple[int, ...] = (0,), *, noise: float = 0.8, labelled: bool = True, seed: int = 0) -> None:
        self.lengths, self.noise, self.labelled, self.seed = lengths, noise, labelled, seed
        self.patterns = np.random.default_rng(7).standard_normal((CLASSES, HEIGHT, GLYPH)).astype(np.float32)
        width: int | str = GLYPH if lengths == (0,) else "width"
        shape: tuple[int | str, ...] = ("batch", CLASSES) if lengths == (0,) else ("batch", "time", CLASSES)
        self.signature = Signature((Port("image", "float32", ("batch", 1, HEIGHT, width)),), (Port("logits", "float32", shape),))

    def count(self, split: str) -> int:
        return {"train": 512, "val": 256, "test": 512}[split]

    def example(self, split: str, index: int, *, augment: bool, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, {"train": 0, "val": 1, "test": 2}[split], index])
        length = self.lengths[index // 16 % len(self.lengths)]  # runs of one width, so that batches are equally shaped
        label = rng.integers(0, CLASSES, max(length, 1))
        noise = np.random.default_rng([epoch, index]) if augment else rng
        image = np.concatenate(self.patterns[label], axis=1)
        image = image + self.noise * noise.standard_normal(image.shape).astype(np.float32)
        return image[None], np.repeat(label, 4) if length else label[0]

    def batches(
        self,
        split: str,
        *,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        augment: bool = False,
        shuffle: bool = False,
        limit: int | None = None,
    ) -> Iterator[Batch]:
        runs = [range(start, start + 16) for start in range(0, self.count(split), 16)]
        if shuffle:
            np.random.default_rng([seed, epoch]).shuffle(runs)
        indices = [index for run in runs for index in run][:limit]
        for run in _chunks(indices, batch_size):
            examples = [self.example(split, index, augment=augment, epoch=epoch) for index in run]
            targets = {"label": np.stack([label for _, label in examples])} if self.labelled else {}
            yield Batch({"image": np.stack([image for image, _ in examples])}, targets, tuple(f"{split}-{index}" for index in run))

    def score(self, predict: Predict, split: str, *, limit: int | None = None) -> Score:
        known = replaced(self, labelled=True)
        found = [(predict(batch.inputs)["logits"], batch.targets["label"]) for batch in known.batches(split, batch_size=16, limit=limit)]
        errors = np.concatenate([(logits.argmax(-1) != label).reshape(len(label), -1).sum(1) for logits, label in found])
        weights = np.concatenate([np.full(len(label), label.size // len(label)) for _, label in found])
        return Score(Glyphs.metric, float(errors.sum() / weights.sum()), errors, weights)

    def read(self, outputs: Feeds) -> list[str]:
        return ["".join(map(str, np.atleast_1d(row.argmax(-1)))) for row in outputs["logits"]]

    def probes(self) -> Mapping[str, Feeds]:
        return {"one": {"image": self.example("val", 0, augment=False, epoch=0)[0][None]}}

    def samples(self, split: str, count: int) -> list[Sample]:
        return []


def replaced(data: GlyphData, **changes: Any) -> GlyphData:
    return GlyphData(**{"lengths": data.lengths, "noise": data.noise, "labelled": data.labelled, "seed": data.seed, **changes})


def _chunks(indices: list[int], size: int) -> Iterable[list[int]]:
    """Batches that never mix two runs of one width."""
    for start in range(0, len(indices), 16):
        run = indices[start : start + 16]
        yield from (run[at : at + size] for at in range(0, len(run), size))


class SizeAsLatency:
    """Latencies for tests: bytes, so that noise decides nothing."""

    def paired(self, graphs: Mapping[str, Path], feeds: Feeds, *, threads: int) -> dict[str, float]:
        return {name: float(path.stat().st_size) for name, path in graphs.items()}


# -- making them -----------------------------------------------------------------------------------------------------


def trained(module: nn.Module, data: GlyphData, *, steps: int = 60, lr: float = 1e-2, seed: int = 0) -> nn.Module:
    """`module` after a few seconds of training."""
    optimizer = torch.optim.Adam(module.parameters(), lr)
    module.train()
    batches = (batch for epoch in range(100) for batch in data.batches("train", batch_size=16, epoch=epoch, shuffle=True, augment=True))
    for _, batch in zip(range(steps), batches, strict=False):
        loss = Glyphs().loss(module(torch.from_numpy(batch.inputs["image"])), {"label": torch.from_numpy(batch.targets["label"])})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.eval()


def built(kind: type[nn.Module], **settings: Any) -> nn.Module:
    """A network with weights from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return kind(**settings)


def exported(module: nn.Module, data: GlyphData, path: Path) -> Path:
    """The module as an ONNX file with dynamic batch and, for lines, dynamic width."""
    lines = data.lengths != (0,)
    image = torch.from_numpy(next(iter(data.batches("val", batch_size=2))).inputs["image"])
    axes = {"image": {0: "batch", **({3: "width"} if lines else {})}, "logits": {0: "batch", **({1: "time"} if lines else {})}}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        module.eval(),
        (image,),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes=axes,
    )
    return path


def context(folder: Path, data: GlyphData, *, target: Target | None = None, **more: Any) -> Context:
    """A stage's context in `folder`; its journal lies beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    return Context(
        task=Glyphs(),
        data=data,
        folder=folder,
        journal=Journal(folder.parent / "journal.jsonl"),
        latencies=SizeAsLatency(),
        target=replace(target or Target()),
        threads=1,
        **more,
    )


def feeds(data: GlyphData, split: str = "val", *, limit: int = 128, batch_size: int = 16) -> list[Feeds]:
    """Inputs of a split, in batches."""
    return [batch.inputs for batch in data.batches(split, batch_size=batch_size, limit=limit)]
