"""A bundle small enough for a test: a one-convolution recogniser with fixed weights, and the record of a run that never was.

The recogniser is a filter bank over 4-pixel columns, 10 digits and the blank; its readings are nonsense, but always the same.
`record.json` in tests/golden is a fixture: its numbers are invented.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.context import Predict, Split
from compress.reader import reader
from rules.examples import Batch, Feeds, Metric, Port, Sample, Score, Signature

RECORD = Path(__file__).parent / "golden" / "record.json"
LABELS = tuple("0123456789")
METRIC = Metric("CER", "lower")
STEPS: tuple[Mapping[str, Any], ...] = (
    {"op": "decode", "mode": "L", "background": 255},
    {"op": "resize", "height": 32, "resample": "bilinear", "max_width": 1024},
    {"op": "array", "layout": "chw", "dtype": "float32"},
    {"op": "pad", "multiple": 16, "value": 255, "minimum": 32},
    {"op": "scale", "by": 1 / 255, "mean": 0.5, "std": 0.5},
)

SIGNATURE = Signature(
    (Port("image", "float32", ("batch", 1, 32, "width"), {"batch": (1, 64, 1), "width": (32, 1024, 16)}),),
    (Port("logits", "float32", ("batch", "time", 11)),),
)


def record() -> dict[str, Any]:
    """A fresh copy of the fixture."""
    found: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def model(path: Path, *, seed: int = 0, channels: int = 11) -> Path:
    """Write the recogniser: image (batch, 1, 32, width) → logits (batch, width / 4, 11)."""
    weight = np.random.default_rng(seed).standard_normal((channels, 1, 32, 4)).astype(np.float32) / 4
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["columns"], name="conv", kernel_shape=[32, 4], strides=[32, 4]),
        helper.make_node("Squeeze", ["columns", "axes"], ["rows"], name="squeeze"),
        helper.make_node("Transpose", ["rows"], ["logits"], name="transpose", perm=[0, 2, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 32, "width"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "time", channels])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array([2], np.int64), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def image(seed: int, *, width: int = 90, height: int = 32, mode: str = "L", kind: str = "PNG") -> bytes:
    """Smooth random strokes as an image file."""
    from PIL import Image

    noise = np.random.default_rng(seed).integers(0, 256, (max(2, height // 6), max(2, width // 6)), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


@dataclass(frozen=True)
class Digits:
    """`compress.context.Data` over a dozen made-up images. The truth of an image is what the seed-0 recogniser reads, now and then altered."""

    count_: int = 12
    labels: tuple[str, ...] = LABELS
    preprocess: tuple[Mapping[str, Any], ...] = STEPS
    postprocess: tuple[Mapping[str, Any], ...] = ({"op": "ctc", "blank": 0, "output": "logits"},)
    signature: Signature = SIGNATURE

    @property
    def provenance(self) -> Mapping[str, Any]:
        return {"source": "made-up strokes", "licence": "CC0-1.0", "splits": {"test": self.count_}}

    def count(self, split: Split) -> int:
        return self.count_

    def batches(self, split: Split, **_: Any) -> Iterable[Batch]:
        return [Batch(sample.inputs, {}, (sample.name,)) for sample in self.samples(split, self.count_)]

    def samples(self, split: Split, count: int) -> list[Sample]:
        raws = [image(index, width=60 + 17 * index, height=24 + index) for index in range(min(count, self.count_))]
        return [
            Sample(f"{split}-{index}", raw, {"image": reader.apply(raw, self.preprocess)}, "0" * index) for index, raw in enumerate(raws)
        ]

    def read(self, outputs: Feeds) -> list[str]:
        manifest = {"labels": list(self.labels), "postprocess": list(self.postprocess)}
        return [reader.reading({"logits": row[None]}, manifest)[0] for row in outputs["logits"]]

    def probes(self) -> Mapping[str, Feeds]:
        return {f"w{width}": {"image": np.zeros((1, 1, 32, width), np.float32)} for width in (64, 128)}

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """Errors: how far the reading's length is from the truth's. A metric is a metric."""
        errors, weights = [], []
        for index, sample in enumerate(self.samples(split, limit or self.count_)):
            text = self.read(predict(sample.inputs))[0]
            errors.append(float(abs(len(text) - 8 - index % 3)))
            weights.append(10.0)
        return Score(
            METRIC, sum(errors) / sum(weights), np.array(errors), np.array(weights), {"exact": float(np.mean(np.array(errors) == 0))}
        )


def write(folder: Path, *, seed: int = 0, data: Digits | None = None) -> Path:
    """A small sound bundle at `folder`."""
    from compress.bundle import write as write_bundle

    graph = model(folder.with_name(folder.name + ".onnx"), seed=seed)
    return write_bundle(folder, record=record(), graph=graph, data=data or Digits(), task=None)  # type: ignore[arg-type]  # the task is not used
