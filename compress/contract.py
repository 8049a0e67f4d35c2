"""A task that somebody brought, held to what a task must have before anything is run: minutes are lost otherwise, or hours.

What is missing or does not fit is said in one line, by the name the user gave it. The built-in tasks have their own tests.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from compress.context import Data, Task
from rules.examples import Feeds, Port, Signature
from rules.problems import Problem, bad_input

Result = TypeVar("Result")

SEE = "docs/tasks.md shows a complete one"
TASK_HAS = ("name", "metric", "open", "loss", "distil_loss")
DATA_HAS = ("labels", "signature", "provenance", "preprocess", "postprocess", "count", "batches", "score", "read", "probes", "samples")


def check_task(task: Any, name: str) -> Task:
    """The task itself. Raises Problem (exit 2) naming what it lacks."""
    _has(task, TASK_HAS, f"task {name!r}")
    if not isinstance(task.name, str) or not task.name:
        raise Problem(f"task {name!r}: its name is {task.name!r}, expected a word", remedy=SEE)
    if getattr(task.metric, "better", None) not in ("lower", "higher"):
        raise Problem(f"task {name!r}: its metric is {task.metric!r}, expected Metric(name, 'lower' or 'higher')", remedy=SEE)
    found: Task = task
    return found


def open_data(task: Task, name: str, source: Path | None, *, seed: int, settings: Mapping[str, Any]) -> Data:
    """The task's data, opened and looked at. Raises Problem: exit 2 for what the task's code lacks, exit 3 for data that does not fit."""
    data = theirs(lambda: task.open(source, seed=seed, settings=settings), f"{name}: open()")
    what = f"the data of task {name!r}"
    _has(data, DATA_HAS, what)
    _check_described(data, what)
    theirs(lambda: _check_examples(data, what), f"{name}: its data")
    return data


def theirs(call: Callable[[], Result], what: str) -> Result:
    """Call the user's code; an error in it is theirs and is named with its place. A Problem passes as it is."""
    try:
        return call()
    except Problem:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())[:300]
        raise Problem(f"{what} fails: {type(error).__name__}: {said} ({Path(last.filename).name}:{last.lineno})", remedy=SEE) from error


def _has(thing: Any, names: Sequence[str], what: str) -> None:
    missing = [name for name in names if not hasattr(thing, name)]
    if missing:
        raise Problem(f"{what} has no {', '.join(missing)}", remedy=SEE)


def _check_described(data: Data, what: str) -> None:
    """What goes into the manifest must be plain data."""
    if not isinstance(data.signature, Signature) or not data.signature.inputs or not data.signature.outputs:
        raise Problem(f"{what}: its signature is {data.signature!r}, expected Signature(inputs, outputs)", remedy=SEE)
    try:
        json.dumps(dict(data.provenance))
    except (TypeError, ValueError) as error:
        raise Problem(f"{what}: its provenance is no plain data: {error}", remedy="strings, numbers, lists and dictionaries") from error
    for kind, steps in (("preprocess", data.preprocess), ("postprocess", data.postprocess)):
        for step in steps:
            if not isinstance(step, Mapping) or not isinstance(step.get("op"), str):
                raise Problem(f'{what} declares a {kind} step without an "op": {step}', remedy='{"op": "resize", "height": 32}')


def _check_examples(data: Data, what: str) -> None:
    """A probe, and the first batch of every split, against the signature."""
    probes = data.probes()
    if not probes:
        raise Problem(f"{what} has no probes to measure latency on", remedy=SEE)
    for name, feeds in probes.items():
        _check_feeds(feeds, data.signature, f"{what}, probe {name!r}")
    for split in ("train", "val", "test"):
        count = data.count(split)
        batch = next(iter(data.batches(split, batch_size=2, limit=2)), None) if count else None
        if batch is None:
            raise bad_input(f"{what} has no {split} examples", remedy="every stage is scored on val, what ships on test")
        _check_feeds(batch.inputs, data.signature, f"{what}, first {split} batch")
        if not batch.ids:
            raise Problem(f"{what}, first {split} batch: it names no examples", remedy="ids has one name an example")


def _check_feeds(feeds: Feeds, signature: Signature, what: str) -> None:
    for port in signature.inputs:
        array = feeds.get(port.name)
        if not isinstance(array, np.ndarray):
            raise Problem(f"{what}: no array {port.name!r}, it has {', '.join(feeds) or 'nothing'}", remedy=SEE)
        if array.dtype != port.dtype or not _fits(array, port):
            shapes = ("x".join(map(str, shape)) for shape in (array.shape, port.shape))
            raise Problem(
                f"{what}: {port.name!r} is {array.dtype} {next(shapes)}, its signature says {port.dtype} {next(shapes)}", remedy=SEE
            )


def _fits(array: np.ndarray, port: Port) -> bool:
    return array.ndim == len(port.shape) and all(
        axis == size for axis, size in zip(port.shape, array.shape, strict=True) if isinstance(axis, int)
    )
