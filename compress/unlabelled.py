"""A task without labels: a bare `.onnx` and a folder of its inputs. What counts is how far a file strays from its own float graph.

Helps someone who was handed a model and no training code. It cannot tell a harmless change from a harmful one as a labelled
metric can, so give `--task` where there is one.
The metric is the relative error over all outputs and examples, sum |y - y0| / sum |y0|: 1 % is about 40 dB.
Reads .npy (a graph with one input) and .npz (one array an input, by name). A file holds one example, or several along the first
axis where the graph treats them apart, which is tried on the graph itself.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.context import Predict, Split
from compress.files import sha256
from compress.runtime import one_line, ports, predictor, session
from rules.examples import Batch, Feeds, Metric, Port, Sample, Score, Signature
from rules.problems import Problem, bad_input

if TYPE_CHECKING:
    from torch import Tensor

    from compress.plan import Plan

METRIC = Metric("relative error", "lower")
FEWEST = 8  # examples
MOST_BYTES = 2 * 2**30  # of examples held
MAX_DROP, MAX_LOSS = 0.05, 0.01  # of the relative error: 26 dB may ship, beyond 40 dB quantization-aware training is not worth it


class Unlabelled:
    """The task: stay close to the float graph."""

    name = "unlabelled"
    metric = METRIC

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> Inputs:
        raise bad_input("the unlabelled task needs a graph", remedy="advisor compress model.onnx --inputs FOLDER")

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        raise bad_input("unlabelled inputs have no loss of their own", remedy="give --task for training on labels")

    def distil_loss(self, student: Any, teacher: Any, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        """Mean squared error relative to the teacher's power, over all outputs: for outputs of any meaning."""
        pairs = zip(student, teacher, strict=True) if isinstance(teacher, tuple) else [(student, teacher)]
        losses: list[Tensor] = [(ours - theirs).square().mean() / theirs.square().mean().clamp_min(1e-12) for ours, theirs in pairs]
        return sum(losses[1:], losses[0]) / len(losses)


TASK = Unlabelled()


def default_plan() -> Plan:
    """The graph stages in their order, with limits that mean something for a relative error."""
    from compress.plan import default

    plan = default(TASK.name, graph_only=True)
    steps = (
        replace(step, settings=replace(step.settings, max_loss=MAX_LOSS)) if hasattr(step.settings, "max_loss") else step
        for step in plan.steps
    )
    return replace(plan, max_drop=MAX_DROP, steps=tuple(steps))


class Inputs:
    """Examples for a graph, four in five for calibration and training; the others, evenly spread, judge."""

    labels: Sequence[str] = ()
    preprocess: Sequence[Mapping[str, Any]] = ()
    postprocess: Sequence[Mapping[str, Any]] = ()

    def __init__(self, graph: Path, names: Sequence[str], examples: Sequence[Feeds]) -> None:
        self.signature: Signature = ports(session(graph))
        self._names, self._examples = names, examples
        self._float = predictor(graph)
        self._apart = treats_apart(self._float, self.signature, examples)
        held = set(_spread(len(examples), max(2, len(examples) // 5)))
        kept, judges = ([i for i in range(len(examples)) if (i in held) is judging] for judging in (False, True))
        self._split: dict[str, list[int]] = {"train": kept, "val": judges, "test": judges}
        self.provenance = {
            "source": "unlabelled inputs",
            "labels": "none",
            "graph_sha256": sha256(graph),
            "inputs_sha256": _digest(names, examples),
            "splits": {name: len(members) for name, members in self._split.items()},
            "split": "every fifth example is held out; val and test are the same ones",
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
        """Examples of one shape together; one at a time where the graph has no batch axis."""
        order = list(self._split[split])
        if shuffle:
            np.random.default_rng([seed, epoch]).shuffle(order)
        groups: dict[Any, list[int]] = {}
        for index in order[:limit]:
            groups.setdefault(_shapes(self._examples[index]), []).append(index)
        size = batch_size if self._apart else 1
        for members in groups.values():
            for start in range(0, len(members), size):
                chosen = members[start : start + size]
                yield Batch(inputs=_joined([self._examples[i] for i in chosen]), targets={}, ids=tuple(self._names[i] for i in chosen))

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """The relative error of a file's answers against the float graph's, on examples one by one."""
        errors, weights = [], []
        for index in self._split[split][:limit]:
            expected, found = self._float(self._examples[index]), predict(self._examples[index])
            errors.append(sum(_size(found[name].astype(np.float64) - expected[name]) for name in expected))
            weights.append(sum(_size(expected[name]) for name in expected))
        value = sum(errors) / max(sum(weights), 1e-12)
        return Score(METRIC, value, np.asarray(errors), np.asarray(weights), also={})

    def read(self, outputs: Feeds) -> list[str]:
        """The largest entry of the first output, an example: all that can be said of outputs whose meaning is not known."""
        first = np.atleast_1d(next(iter(outputs.values())))
        return [str(np.argmax(row)) for row in first]

    def probes(self) -> Mapping[str, Feeds]:
        """The smallest and the largest example; one where all are alike."""
        by_size = sorted(self._examples, key=lambda feeds: sum(array.size for array in feeds.values()))
        chosen = (by_size[0], by_size[-1])
        return {",".join("x".join(map(str, array.shape)) for array in feeds.values()): feeds for feeds in chosen}

    def samples(self, split: Split, count: int) -> list[Sample]:
        return []


def treats_apart(predict: Predict, signature: Signature, examples: Sequence[Feeds]) -> bool:
    """Whether two examples stacked along the first axis are answered as they are alone: then that axis is a batch.

    Raises Problem (exit 3) where the graph fails on an example, or answers it with what is no number.
    """
    first = examples[0]
    alone = predict(first)
    for name, answer in alone.items():
        if not np.isfinite(answer).all():
            raise bad_input(f"the graph answers its first input with values that are not finite, in output {name!r}")
    same = [feeds for feeds in examples[1:] if _shapes(feeds) == _shapes(first)]
    if not same or any(isinstance(port.shape[0], int) for port in signature.inputs if port.shape):
        return False
    return _as_alone(predict, [first, same[0]], [alone, predict(same[0])])


def _as_alone(predict: Predict, examples: Sequence[Feeds], alone: Sequence[Feeds]) -> bool:
    together = predict(_joined(examples))
    for name, answer in together.items():
        wanted = [answers[name] for answers in alone]
        if wanted[0].ndim == 0 or answer.shape[0] != sum(len(part) for part in wanted) or answer.shape[1:] != wanted[0].shape[1:]:
            return False
        expected = np.concatenate(wanted)
        if _size(answer.astype(np.float64) - expected) > 1e-3 * max(_size(expected), 1e-12):
            return False
    return True


# -- reading -------------------------------------------------------------------------------------------------------------


def open_inputs(graph: Path, folder: Path) -> Inputs:
    """Read a folder of inputs for `graph`. Raises Problem (exit 3) naming the file that does not fit."""
    if not folder.is_dir():
        raise bad_input(f"no folder {folder}", remedy="--inputs FOLDER with .npy or .npz files")
    signature = ports(session(graph))
    inputs = {port.name: port for port in signature.inputs}
    read: dict[str, Feeds] = {}
    room = MOST_BYTES
    for file in sorted(file for file in folder.iterdir() if file.suffix in (".npy", ".npz")):
        read[file.name] = _read(file, inputs, room)
        room -= sum(array.nbytes for array in read[file.name].values())
    stacked = next((feeds for feeds in read.values() if _rows(feeds, inputs) > 1), None)
    apart = stacked is not None and _rows_are_examples(predictor(graph), signature, stacked)
    named = [pair for name, feeds in read.items() for pair in _examples(name, feeds, _rows(feeds, inputs) if apart else 1)]
    if len(named) < FEWEST:
        said = f"{folder} has {len(named)} examples in {len(read)} .npy or .npz files, at least {FEWEST} are needed"
        raise bad_input(said, remedy="200 varied ones calibrate well")
    return Inputs(graph, [name for name, _ in named], [feeds for _, feeds in named])


def _rows(feeds: Feeds, inputs: Mapping[str, Port]) -> int:
    """How many rows every input of a file has; 1 where a first axis is fixed or they differ."""
    counts = {len(feeds[name]) if port.shape and isinstance(port.shape[0], str) else 1 for name, port in inputs.items()}
    return counts.pop() if len(counts) == 1 else 1


def _rows_are_examples(predict: Predict, signature: Signature, feeds: Feeds) -> bool:
    """Whether the rows of a file are examples of their own, or one example along an axis that is no batch."""
    try:
        return treats_apart(predict, signature, [{name: array[row : row + 1] for name, array in feeds.items()} for row in (0, 1)])
    except Problem:  # a single row may be too short for a graph that reads along that axis
        return False


def _examples(name: str, feeds: Feeds, rows: int) -> Iterator[tuple[str, Feeds]]:
    if rows == 1:
        yield name, feeds
        return
    for row in range(rows):
        yield f"{name}[{row}]", {key: array[row : row + 1] for key, array in feeds.items()}


def _read(file: Path, inputs: Mapping[str, Port], room: int) -> Feeds:
    try:
        arrays = _arrays(file, next(iter(inputs)), room)
    except Exception as error:  # numpy raises many kinds for a damaged or pickled file
        raise bad_input(f"{file} is no plain array file: {one_line(error)}") from error
    if set(arrays) != set(inputs):
        raise bad_input(f"{file} has {', '.join(sorted(arrays))}, the graph takes {', '.join(sorted(inputs))}")
    if sum(array.nbytes for array in arrays.values()) > room:
        raise bad_input(
            f"{file}: more than {MOST_BYTES / 2**30:.0f} GiB of inputs", remedy="fewer examples do: 200 varied ones calibrate well"
        )
    return {name: _fitted(file, arrays[name], port) for name, port in inputs.items()}


def _arrays(file: Path, only: str, room: int) -> dict[str, np.ndarray]:
    """The arrays of a file; nothing is unpickled, and nothing larger than `room` unpacked."""
    if file.suffix == ".npy":
        return {only: np.load(file, mmap_mode="r", allow_pickle=False)}
    with zipfile.ZipFile(file) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > room:
            raise ValueError(f"it unpacks to more than {MOST_BYTES / 2**30:.0f} GiB")
    with np.load(file, allow_pickle=False) as loaded:
        return {name: loaded[name] for name in loaded.files}


def _fitted(file: Path, array: np.ndarray, port: Port) -> np.ndarray:
    """The array as the graph takes it: its type, and a first axis where that alone was left out."""
    try:
        fits = np.can_cast(array.dtype, np.dtype(port.dtype), "same_kind")
    except TypeError:
        raise bad_input(f"the graph's input {port.name!r} takes {port.dtype}, only numbers can be read from files") from None
    if not fits:
        raise bad_input(f"{file}: {port.name} is {array.dtype}, the graph takes {port.dtype}")
    if array.ndim == len(port.shape) - 1:
        array = array[None]
    fixed = [(axis, size) for axis, size in zip(port.shape, array.shape, strict=False) if isinstance(axis, int)]
    if array.ndim != len(port.shape) or any(axis != size for axis, size in fixed) or not array.size:
        raise bad_input(f"{file}: {port.name} has shape {_text(array.shape)}, the graph takes {_text(port.shape)}")
    with np.errstate(over="ignore"):
        array = np.array(array, dtype=port.dtype, order="C")  # a copy: the file stays on the disk
    if not np.isfinite(array).all():
        raise bad_input(f"{file}: {port.name} holds values that are not finite")
    return array


# -- small things --------------------------------------------------------------------------------------------------------


def _spread(count: int, wanted: int) -> list[int]:
    """`wanted` of `count` places, evenly."""
    return [(2 * number + 1) * count // (2 * wanted) for number in range(wanted)]


def _shapes(feeds: Feeds) -> tuple[Any, ...]:
    return tuple((name, array.shape) for name, array in sorted(feeds.items()))


def _joined(examples: Sequence[Feeds]) -> dict[str, np.ndarray]:
    return dict(examples[0]) if len(examples) == 1 else {name: np.concatenate([feeds[name] for feeds in examples]) for name in examples[0]}


def _size(array: np.ndarray) -> float:
    return float(np.abs(array, dtype=np.float64).sum())


def _text(shape: Sequence[int | str]) -> str:
    return "x".join(map(str, shape))


def _digest(names: Sequence[str], examples: Sequence[Feeds]) -> str:
    total = hashlib.sha256()
    for name, feeds in zip(names, examples, strict=True):
        total.update(f"{name} {_shapes(feeds)}\n".encode())
        for _, array in sorted(feeds.items()):
            total.update(array.tobytes())
    return total.hexdigest()
