"""Baselines: every method that nets are held against learns something of the built-in data, on the task's own metric."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from bench.baselines import METHODS

FEW: Mapping[str, Mapping[str, Any]] = {  # settings that keep this short
    "image-classification": {"train": 120, "val": 40, "test": 60},
    "object-detection": {"train": 60, "val": 4, "test": 30},
    "semantic-segmentation": {"train": 30, "val": 4, "test": 20},
    "text-classification": {"train": 300, "test": 100},
    "machine-translation": {"train": 600, "test": 60},
}
KNOWS_NO_PICTURE = "the commonest class of each place"  # the ground everywhere, in the built-in scenes
CASES = [(task, name) for task, methods in METHODS.items() for name in methods]


@pytest.mark.parametrize(("task", "name"), CASES, ids=[f"{task}: {name}" for task, name in CASES])
def test_a_baseline_knows_more_than_an_answer_that_never_changes(task: str, name: str) -> None:
    data = import_module(f"advisor.tasks.{task.replace('-', '_')}").TASK.open(None, settings=FEW.get(task, {}))
    found = METHODS[task][name](data)
    better = found.value - _constant(data, task)
    if name == KNOWS_NO_PICTURE:
        assert better == 0
    else:
        assert (better if found.metric.better == "higher" else -better) > 0.001, found.value


def _constant(data: Any, task: str) -> float:
    """The metric of zeros for every output; nothing at all is said where words or boxes are asked for."""
    if task in ("machine-translation", "object-detection"):
        return 0.0

    def predict(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        batch, sizes = len(next(iter(feeds.values()))), {"rows": 4, "columns": 4}
        shapes = {port.name: (batch, *(sizes.get(size, size) for size in port.shape[1:])) for port in data.signature.outputs}
        return {port: np.zeros(shape, np.float32) for port, shape in shapes.items()}

    return float(data.score(predict, "test").value)
