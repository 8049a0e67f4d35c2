"""A task without labels: a bare `.onnx` and a folder of its inputs. What counts is how far a file strays from its own float graph.

Helps someone who was handed a model and no training code. It cannot tell a harmless change from a harmful one as a labelled
metric can, so give `--task` where there is one.
The metric is the relative squared error of all outputs, sum (y - y0)^2 / sum y0^2, per example; 0.001 is 30 dB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.context import Predict, Split
from compress.runtime import ports, predictor, session
from rules.examples import Batch, Feeds, Metric, Sample, Score, Signature
from rules.problems import bad_input

if TYPE_CHECKING:
    from torch import Tensor

METRIC = Metric("relative error", "lower")
FEWEST = 8


class Unlabelled:
    """The task: stay close to the float graph."""

    name = "unlabelled"
    metric = METRIC

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> Inputs:
        raise bad_input("the unlabelled task needs a graph", remedy="advisor compress model.onnx --inputs FOLDER")

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        raise bad_input("unlabelled inputs have no loss of their own", remedy="give --task for training on labels")

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        """Mean squared error relative to the teacher's power: for outputs of any meaning."""
        return (student - teacher).square().mean() / teacher.square().mean().clamp_min(1e-12)


TASK = Unlabelled()


class Inputs:
    """Examples from a folder of .npy (one input) or .npz (several, by name) files, four in five for calibration and training."""

    labels: Sequence[str] = ()
    preprocess: Sequence[Mapping[str, Any]] = ()
    postprocess: Sequence[Mapping[str, Any]] = ()

    def __init__(self, graph: Path, files: Sequence[Path], examples: Sequence[Feeds]) -> None:
        self.signature: Signature = ports(session(graph))
        self._examples = examples
        self._names = [file.name for file in files]
        self._float = predictor(graph)
        held_out = max(2, len(examples) // 5)
        indices = range(len(examples))
        self._split: dict[str, list[int]] = {
            "train": list(indices[:-held_out]),
            "val": list(indices[-held_out:]),
            "test": list(indices[-held_out:]),
        }
        digest = hashlib.sha256("\n".join(self._names).encode()).hexdigest()
        self.provenance = {
            "source": "unlabelled inputs",
            "files": len(files),
            "sha256_of_names": digest,
            "split": "last fifth by name is held out",
        }

    def count(self, split: Split) -> int:
        return len(self._split[split])

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
    ) -> Iterable[Batch]:
        order = list(self._split[split])
        if shuffle:
            np.random.default_rng([seed, epoch]).shuffle(order)
        order = order[:limit]
        groups: dict[Any, list[int]] = {}
        for index in order:
            shape = tuple((name, array.shape) for name, array in sorted(self._examples[index].items()))
            groups.setdefault(shape, []).append(index)
        for members in groups.values():
            for start in range(0, len(members), batch_size):
                chosen = members[start : start + batch_size]
                feeds = {name: np.concatenate([self._examples[i][name] for i in chosen]) for name in self._examples[chosen[0]]}
                yield Batch(inputs=feeds, targets={}, ids=tuple(self._names[i] for i in chosen))

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        errors, weights = [], []
        for index in self._split[split][:limit]:
            expected, found = self._float(self._examples[index]), predict(self._examples[index])
            errors.append(sum(float(np.square(found[name] - expected[name], dtype=np.float64).sum()) for name in expected))
            weights.append(sum(float(np.square(expected[name], dtype=np.float64).sum()) for name in expected))
        value = sum(errors) / max(sum(weights), 1e-12)
        return Score(METRIC, value, np.asarray(errors), np.asarray(weights), also={})

    def read(self, outputs: Feeds) -> list[str]:
        first = next(iter(outputs.values()))
        return [str(np.argmax(row)) for row in first]

    def probes(self) -> Mapping[str, Feeds]:
        first = self._examples[0]
        return {",".join("x".join(map(str, array.shape)) for array in first.values()): first}

    def samples(self, split: Split, count: int) -> list[Sample]:
        return []


def open_inputs(graph: Path, folder: Path) -> Inputs:
    """Read a folder of inputs for `graph`. Raises Problem (exit 3) naming the file that does not fit."""
    if not folder.is_dir():
        raise bad_input(f"no folder {folder}", remedy="--inputs FOLDER with .npy or .npz files")
    files = sorted(file for file in folder.iterdir() if file.suffix in (".npy", ".npz"))
    if len(files) < FEWEST:
        raise bad_input(
            f"{folder} has {len(files)} .npy or .npz files, at least {FEWEST} are needed", remedy="200 varied ones calibrate well"
        )
    inputs = {port.name: port for port in ports(session(graph)).inputs}
    return Inputs(graph, files, [_read(file, inputs) for file in files])


def _read(file: Path, inputs: Mapping[str, Any]) -> Feeds:
    try:
        loaded = np.load(file, allow_pickle=False)
        arrays = {next(iter(inputs)): loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except Exception as error:  # numpy raises many kinds for a damaged or pickled file
        raise bad_input(f"{file} is no plain array file: {error}") from error
    if set(arrays) != set(inputs):
        raise bad_input(f"{file} has {', '.join(sorted(arrays))}, the graph takes {', '.join(sorted(inputs))}")
    return {name: _fitted(file, name, arrays[name], port) for name, port in inputs.items()}


def _fitted(file: Path, name: str, array: np.ndarray, port: Any) -> np.ndarray:
    if array.ndim == len(port.shape) - 1:
        array = array[None]
    fixed = [(axis, size) for axis, size in zip(port.shape, array.shape, strict=False) if isinstance(axis, int)]
    if array.ndim != len(port.shape) or any(axis != size for axis, size in fixed):
        raise bad_input(f"{file}: {name} has shape {array.shape}, the graph takes {port.shape}")
    if not np.isfinite(array).all():
        raise bad_input(f"{file}: {name} holds values that are not finite")
    return np.ascontiguousarray(array[:1].astype(port.dtype))
