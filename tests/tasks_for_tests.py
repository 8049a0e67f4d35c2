"""A task small enough for a test: lines of stripes, read as a sequence.

Each symbol is a bright bar of 10 columns at one of four heights, then 6 dark columns, so a line of n symbols is 16 n pixels wide
and a model that shrinks the width by four has four time steps a symbol. Everything is made from seeds; nothing is read from disk.
It satisfies `compress.context.Task` and `Data` the way a user's own module would. A tiny module trains on it in about two seconds.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.context import Context, Predict, Split
from compress.journal import Journal
from rules.examples import Batch, Feeds, Metric, Port, Sample, Score, Signature

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

LABELS = ("a", "b", "c", "d")  # index 0 of the output is the CTC blank
CLASSES = len(LABELS) + 1
HEIGHT, SYMBOL = 32, 16
SPLITS: dict[str, int] = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True)
class Line:
    """One line: its name, its pixels (1, 32, w) float32 in [-1, 1], its symbols as class indices."""

    name: str
    image: np.ndarray
    truth: tuple[int, ...]


@lru_cache(maxsize=4096)
def line(split: str, index: int, *, noise: float, lengths: tuple[int, ...] = (3, 4, 5)) -> Line:
    """Line `index` of `split`. Same arguments, same bytes."""
    rng = np.random.default_rng([7, SPLITS[split], index])
    truth = tuple(int(k) for k in rng.integers(1, CLASSES, size=int(rng.choice(lengths))))
    image = np.full((1, HEIGHT, SYMBOL * len(truth)), -1.0)
    for place, symbol in enumerate(truth):
        top, left = 7 * (symbol - 1) + int(rng.integers(1, 4)), SYMBOL * place + int(rng.integers(0, 4))
        image[0, top : top + 5, left : left + 10] = 1.0
    image += noise * rng.standard_normal(image.shape)
    pixels = np.clip(image, -1, 1).astype(np.float32)
    pixels.flags.writeable = False  # shared between all who ask
    return Line(f"{split}-{index:04d}", pixels, truth)


@dataclass(frozen=True)
class Stripes:
    """The data, opened."""

    counts: Mapping[str, int]
    noise: float
    labels: tuple[str, ...] = LABELS
    signature: Signature = field(
        default=Signature(
            inputs=(Port("image", "float32", ("batch", 1, HEIGHT, "width"), {"batch": (1, 64, 1), "width": (48, 160, 16)}),),
            outputs=(Port("logits", "float32", ("batch", "time", CLASSES)),),
        )
    )
    provenance: Mapping[str, Any] = field(default_factory=lambda: {"source": "generated stripes", "licence": "CC0-1.0"})
    preprocess: tuple[Mapping[str, Any], ...] = (
        {"op": "decode", "mode": "L"},
        {"op": "resize", "height": HEIGHT, "resample": "bilinear"},
        {"op": "array", "layout": "chw", "dtype": "float32"},
        {"op": "scale", "by": 1 / 255, "mean": 0.5, "std": 0.5},
    )
    postprocess: tuple[Mapping[str, Any], ...] = ({"op": "ctc", "output": "logits", "blank": 0},)

    def count(self, split: Split) -> int:
        return self.counts[split]

    def lines(self, split: Split, limit: int | None = None) -> list[Line]:
        wanted = self.counts[split] if limit is None else min(limit, self.counts[split])
        return [line(split, index, noise=self.noise) for index in range(wanted)]

    def batches(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        augment: bool = False,
        shuffle: bool = False,
        limit: int | None = None,
    ) -> Iterator[Batch]:
        """Batches of one width each. All randomness comes from (seed, epoch, index)."""
        rng = np.random.default_rng([seed, epoch])
        lines = self.lines(split, limit)
        order = rng.permutation(len(lines)) if shuffle else np.arange(len(lines))
        by_width: dict[int, list[int]] = defaultdict(list)
        for index in order:
            by_width[lines[index].image.shape[-1]].append(int(index))
        groups = [held[start : start + batch_size] for _, held in sorted(by_width.items()) for start in range(0, len(held), batch_size)]
        for number in rng.permutation(len(groups)) if shuffle else range(len(groups)):
            yield self._batch(lines, groups[number], seed=seed, epoch=epoch, augment=augment)

    def _batch(self, lines: list[Line], group: list[int], *, seed: int, epoch: int, augment: bool) -> Batch:
        images = np.stack([lines[index].image for index in group])
        if augment:
            for row, index in enumerate(group):
                images[row] += 0.1 * np.random.default_rng([seed, epoch, index]).standard_normal(images[row].shape).astype(np.float32)
        longest = max(len(lines[index].truth) for index in group)
        truths = np.array([lines[index].truth + (0,) * (longest - len(lines[index].truth)) for index in group], np.int64)
        lengths = np.array([len(lines[index].truth) for index in group], np.int64)
        return Batch({"image": images}, {"labels": truths, "lengths": lengths}, tuple(lines[index].name for index in group))

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """Symbol error rate: edits over symbols."""
        errors, weights = [], []
        for batch in self.batches(split, batch_size=32, limit=limit):
            for reading, truth, length in zip(
                self.read(predict(batch.inputs)), batch.targets["labels"], batch.targets["lengths"], strict=True
            ):
                errors.append(edits(reading, spelled(truth[:length])))
                weights.append(int(length))
        exact = float(np.mean([e == 0 for e in errors]))
        return Score(TASK.metric, sum(errors) / sum(weights), np.array(errors, float), np.array(weights, float), {"exact": exact})

    def read(self, outputs: Feeds) -> list[str]:
        return [greedy(row) for row in outputs["logits"].argmax(-1)]

    def probes(self) -> Mapping[str, Feeds]:
        return {f"w{width}": {"image": np.zeros((1, 1, HEIGHT, width), np.float32)} for width in (64, 128)}

    def samples(self, split: Split, count: int) -> list[Sample]:
        return [Sample(x.name, png(x.image), {"image": x.image[None]}, spelled(x.truth)) for x in self.lines(split, count)]


@dataclass(frozen=True)
class StripesTask:
    """The task: CTC, with per-frame distillation."""

    name: str = "stripes"
    metric: Metric = field(default=Metric("SER", "lower"))

    def open(self, source: Path | None = None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> Stripes:
        """`settings`: train, val, test (counts) and noise."""
        chosen = {"train": 192, "val": 48, "test": 48, "noise": 0.3, **(settings or {})}
        return Stripes({split: chosen[split] for split in SPLITS}, chosen["noise"])

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        from torch.nn.functional import ctc_loss, log_softmax

        steps = output.new_full((output.shape[0],), output.shape[1]).long()
        return ctc_loss(log_softmax(output.float(), -1).transpose(0, 1), targets["labels"], steps, targets["lengths"], zero_infinity=True)

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        from torch.nn.functional import kl_div, log_softmax

        soft = [log_softmax(x.float() / temperature, -1) for x in (student, teacher)]
        divergence = temperature**2 * kl_div(*soft, reduction="none", log_target=True).sum(-1).mean()
        return divergence if targets is None else divergence + self.loss(student, targets)


TASK = StripesTask()


def spelled(symbols: Any) -> str:
    return "".join(LABELS[int(k) - 1] for k in symbols)


def greedy(steps: np.ndarray) -> str:
    """Repeats merged, blanks dropped."""
    return spelled([k for k, before in zip(steps, [0, *steps[:-1]], strict=True) if k not in (0, before)])


def edits(a: str, b: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]


def png(image: np.ndarray) -> bytes:
    """Pixels (1, h, w) in [-1, 1] as a grey PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.round((image[0] + 1) * 127.5).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def build(*, classes: int = CLASSES, channels: int = 16, hidden: int = 16, dropout: float = 0.0) -> nn.Module:
    """Two strided convolutions, one that collapses the height, a BiLSTM, a linear head: image (b, 1, 32, w) → logits (b, w / 4, classes)."""
    import torch
    from torch import nn

    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, channels, 3, stride=2, padding=1, bias=False)
            self.norm1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False)
            self.norm2 = nn.BatchNorm2d(channels)
            self.collapse = nn.Conv2d(channels, channels, (HEIGHT // 4, 1))
            self.lstm = nn.LSTM(channels, hidden, bidirectional=True)
            self.dropout = nn.Dropout(dropout)
            self.head = nn.Linear(2 * hidden, classes)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.norm1(self.conv1(image)))
            x = torch.relu(self.norm2(self.conv2(x)))
            x = torch.relu(self.collapse(x)).flatten(1, 2).permute(2, 0, 1)  # (t, b, c)
            return self.head(self.dropout(self.lstm(x)[0])).transpose(0, 1)

    return Tiny()


def tiny_module(seed: int = 0, **settings: Any) -> nn.Module:
    """`build` with weights that depend on the seed alone; the global random state is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(**settings)


class BySize:
    """Latency from a table instead of a clock: a microsecond for every kilobyte of the file, so that noise decides nothing."""

    def paired(self, graphs: Mapping[str, Path], feeds: Feeds, *, threads: int) -> dict[str, float]:
        return {name: path.stat().st_size / 1e6 for name, path in graphs.items()}


def context(folder: Path, **overrides: Any) -> Context:
    """A stage's context in `folder`, one thread, nobody watching. `overrides` are fields of `Context`."""
    stage = overrides.pop("folder", folder / "stage")
    stage.mkdir(parents=True, exist_ok=True)
    data = overrides.pop("data", None) or TASK.open()
    journal = overrides.pop("journal", None) or Journal(folder / "journal.jsonl")
    return Context(**{"task": TASK, "data": data, "folder": stage, "journal": journal, "latencies": BySize(), "threads": 1, **overrides})
