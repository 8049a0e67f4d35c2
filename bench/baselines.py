"""The honest baseline of a task on the very data, splits and metric that a net of `advisor run` has.

    python -m bench baselines TASK FOLDER [--plan PLAN] [--graph MODEL.onnx]

TASK is one of `METHODS` below; the methods are in `bench/methods`. PLAN gives the data's [settings]; a graph is scored beside them. What is fitted
is fitted on the training split alone, and chosen on the validation split. One line a method: the metric on the test split and the seconds of processor time.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.methods import boxes, pictures, series, tables, texts, translations
from compress.runtime import predictor

METHODS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "image-classification": {
        "histograms of gradients, linear machine": pictures.gradients,
        "400 kinds of patches, linear machine": pictures.patches,
    },
    "object-detection": {"regions of a forest over each pixel": boxes.regions},
    "semantic-segmentation": {"the commonest class of each place": pictures.places, "a forest over each pixel": pictures.forest},
    "text-classification": {"TF-IDF, linear support vector machine": texts.tfidf},
    "machine-translation": {"word for word": translations.dictionary, "the most alike sentence's": translations.memory},
    "recommendation": {"gradient boosting on histograms": tables.boosting},
    "time-series-forecasting": {"the day before again": series.seasonal, f"ridge map, {series.RIDGE:g}": series.ridge},
    "anomaly-detection": {"Gaussian over the window": series.gaussian, "Gaussian over the training steps": series.far},
}


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
