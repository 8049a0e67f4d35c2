"""Series over time: what comes next, and what is odd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

DAY = 24  # steps of an hourly series
RIDGE = 100.0
TAIL = 8  # the last eighth of a window is what is asked about


def seasonal(data: Any) -> Any:
    """What came a day before, again and again."""
    horizon = data.signature.outputs[0].shape[1]

    def predict(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        last = feeds["history"][:, -DAY:]
        return {"forecast": np.concatenate([last] * -(-horizon // DAY), axis=1)[:, :horizon]}

    return data.score(predict, "test")


def ridge(data: Any) -> Any:
    """One linear map from the past to the future, shared by all columns, both counted from the last step; solved, not trained."""
    inputs, outputs = data.signature.inputs[0].shape[1], data.signature.outputs[0].shape[1]
    gram, told = np.zeros((inputs + 1, inputs + 1)), np.zeros((inputs + 1, outputs))
    for past, future in _moves(data):
        gram += past.T @ past
        told += past.T @ future
    weights = np.linalg.solve(gram + RIDGE * np.eye(inputs + 1), told)

    def predict(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        history = np.asarray(feeds["history"], np.float64)
        return {"forecast": np.asarray((_past(history) @ weights).transpose(0, 2, 1) + history[:, -1:], np.float32)}

    return data.score(predict, "test")


def _moves(data: Any) -> Iterator[tuple[Any, Any]]:
    for batch in data.batches("train", batch_size=256):
        history, future = (np.asarray(part, np.float64) for part in (batch.inputs["history"], batch.targets["future"]))
        past, ahead = _past(history), (future - history[:, -1:]).transpose(0, 2, 1)
        yield past.reshape(-1, past.shape[-1]), ahead.reshape(-1, ahead.shape[-1])


def _past(history: Any) -> Any:
    """(b, steps, columns) → (b, columns, steps + 1): moves from the last step, and a one."""
    moved = (history - history[:, -1:]).transpose(0, 2, 1)
    return np.concatenate([moved, np.ones((*moved.shape[:2], 1))], axis=2)


def gaussian(data: Any) -> Any:
    """How far the last eighth of a window lies from a Gaussian over the rest of it: the mean squared deviation."""

    def predict(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        window = np.asarray(feeds["window"], np.float64)
        cut = window.shape[1] - max(1, window.shape[1] // TAIL)
        mean, std = window[:, :cut].mean(1, keepdims=True), window[:, :cut].std(1, keepdims=True) + 1e-3
        return {"rebuilt": window, "score": (((window[:, cut:] - mean) / std) ** 2).mean((1, 2))}

    return data.score(predict, "test")


def far(data: Any) -> Any:
    """How far a window lies from a Gaussian over the training steps: the mean squared deviation of the scaled values."""

    def predict(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        window = np.asarray(feeds["window"], np.float64)
        return {"rebuilt": window, "score": (window**2).mean((1, 2))}

    return data.score(predict, "test")
