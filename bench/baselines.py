"""The honest baseline of a task on the very data, splits and metric that a net of `advisor run` has.

    python -m bench baselines TASK FOLDER [--plan PLAN] [--graph MODEL.onnx]

TASK: text-classification (TF-IDF of words and letters, a linear support vector machine), recommendation (gradient boosted trees on
histograms), time-series-forecasting (the day before again, and one ridge map shared by all columns), anomaly-detection (a Gaussian over the
window: how far its last eighth lies from the rest). PLAN gives the data's [settings]; a graph is scored beside it. What is fitted is fitted on the
training split alone. One line a method: the metric on the test split and the seconds of processor time.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from compress.runtime import predictor

Predict = Callable[[Mapping[str, Any]], Mapping[str, Any]]
DAY = 24  # steps of an hourly series
RIDGE = 100.0
TAIL = 8  # the last eighth of a window is what is asked about


def main(arguments: list[str]) -> int:
    """Print a line a method. Exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m bench baselines")
    parser.add_argument("task", choices=sorted(METHODS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--graph", type=Path)
    chosen = parser.parse_args(arguments)
    task = import_module(f"advisor.tasks.{chosen.task.replace('-', '_')}").TASK
    settings = tomllib.loads(chosen.plan.read_text(encoding="utf-8")).get("settings", {}) if chosen.plan else {}
    data = task.open(chosen.folder, seed=0, settings=settings)
    print(f"{chosen.task} on {data.count('test'):,} test examples of {chosen.folder.name}; {data.count('train'):,} to fit on")
    for name, method in METHODS[chosen.task].items():
        began = time.process_time()
        score = method(data)
        _tell(name, score, time.process_time() - began)
    if chosen.graph:
        _tell(chosen.graph.name, data.score(predictor(chosen.graph), "test"), 0.0)
    return 0


def _tell(name: str, score: Any, seconds: float) -> None:
    also = ", ".join(f"{key} {value:.4f}" for key, value in score.also.items())
    print(f"{name:<42} {score.metric.name} {score.value:.4f}   ({also})   {seconds:.1f} s")


# -- texts -----------------------------------------------------------------------------------------------------------------


def tfidf(data: Any) -> Any:
    """Words and pairs of them, letters two to five in a row, weighed by how rare they are; a linear machine. Plain scikit-learn."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    model = make_pipeline(make_union(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), letters), LinearSVC(C=1))
    texts = {split: data.samples(split, data.count(split)) for split in ("train", "test")}
    model.fit([sample.raw.decode() for sample in texts["train"]], [sample.truth for sample in texts["train"]])
    said = dict(
        zip((sample.name for sample in texts["test"]), model.predict([sample.raw.decode() for sample in texts["test"]]), strict=True)
    )
    ids = iter([batch.ids for batch in data.batches("test", batch_size=64)])

    def predict(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"logits": np.array([[float(label == said[name]) for label in data.labels] for name in next(ids)], np.float32)}

    return data.score(predict, "test")


# -- tables ----------------------------------------------------------------------------------------------------------------


def boosting(data: Any) -> Any:
    """Boosted trees over histograms (scikit-learn's defaults, early stopping), categories as such where there are few enough."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = list(data.batches("train", batch_size=1024))
    table = np.concatenate([_columns(batch.inputs) for batch in rows])
    label = np.concatenate([np.asarray(batch.targets["label"]) for batch in rows])
    numeric = rows[0].inputs["numeric"].shape[1] if "numeric" in rows[0].inputs else 0
    lowest = table[:, numeric:].min(0)
    table[:, numeric:] -= lowest
    few = [place for place in range(numeric, table.shape[1]) if table[:, place].max() < 255]
    model = HistGradientBoostingClassifier(categorical_features=few, early_stopping=True, random_state=0).fit(table, label)

    def predict(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        asked = _columns(feeds)
        asked[:, numeric:] = np.where(asked[:, numeric:] >= lowest, asked[:, numeric:] - lowest, np.nan)
        return {"logit": np.asarray(model.decision_function(asked), np.float32)}

    return data.score(predict, "test")


def _columns(feeds: Mapping[str, Any]) -> Any:
    return np.concatenate([np.asarray(feeds[name], np.float64) for name in ("numeric", "categorical") if name in feeds], axis=1)


# -- series ----------------------------------------------------------------------------------------------------------------


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


METHODS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "text-classification": {"TF-IDF, linear support vector machine": tfidf},
    "recommendation": {"gradient boosting on histograms": boosting},
    "time-series-forecasting": {"the day before again": seasonal, f"ridge map, {RIDGE:g}": ridge},
    "anomaly-detection": {"Gaussian over the window": gaussian, "Gaussian over the training steps": far},
}
