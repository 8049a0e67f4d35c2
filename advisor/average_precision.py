"""Average precision of found boxes, as COCO counts it: pycocotools matches, and any draw of pictures can be counted again.

Idea: matching happens within a picture and is done once; what a draw of pictures changes is only how often each found box counts. So
the ranked list of a class is made once, and a draw is weighed sums along it.
Source: COCO's detection measure, Lin et al. 2014, arXiv:1405.0312; pycocotools, https://github.com/ppwwyyxx/cocoapi (BSD).
Shape: per picture the true boxes (n, 4) with kinds (n,) and which are left aside (n,), and the found ones with kinds and chances.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.examples import Metric, Score
from rules.problems import bad_environment

AP = Metric("average precision", "higher", "%")
RECALLS = np.linspace(0, 1, 101)
MOST = 100  # found boxes of a class a picture that are looked at


@dataclass(frozen=True, slots=True)
class Truth:
    """What is on one picture: `boxes` (n, 4) left, top, right, bottom; `kinds` (n,) from 0; `aside` (n,) true where none counts."""

    boxes: NDArray[Any]
    kinds: NDArray[Any]
    aside: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Guess:
    """What was found on one picture, with `chances` (n,)."""

    boxes: NDArray[Any]
    kinds: NDArray[Any]
    chances: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Ranked:
    """The found boxes of one class over all pictures, the surest first: their picture (n,), and for each overlap whether they are
    right (t, n) and whether they count at all (t, n); `there` (pictures,): true boxes of the class on each."""

    picture: NDArray[np.int64]
    right: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    there: NDArray[np.int64]


def score(truths: Sequence[Truth], guesses: Sequence[Guess], classes: int) -> Score:
    """AP over overlaps 0.5 to 0.95, mean over the classes that are there. Per example: true boxes that nothing found at overlap 0.5."""
    ranked = _ranked(truths, guesses, classes)
    count = len(truths)
    weights = np.maximum(1.0, sum((one.there for one in ranked), np.zeros(count)))
    hits = np.zeros(count)
    for one in ranked:
        hits += np.bincount(one.picture[one.right[0] & one.counts[0]], minlength=count)
    errors = np.clip(sum((one.there for one in ranked), np.zeros(count)) - hits, 0, None)

    def over(rows: NDArray[Any]) -> float:
        return _average(ranked, np.bincount(rows, minlength=count).astype(np.float64))

    everyone = np.ones(count)
    also = {"AP at overlap 0.5": _average(ranked, everyone, slice(0, 1)), "AP at overlap 0.75": _average(ranked, everyone, slice(5, 6))}
    return Score(AP, _average(ranked, everyone), errors, weights, also if count else {}, over)


def _average(ranked: Sequence[Ranked], drawn: NDArray[np.float64], overlaps: slice = slice(None)) -> float:
    """The mean over classes and overlaps, each picture counting as often as `drawn` says."""
    found = []
    for one in ranked:
        there = float(one.there @ drawn)
        if there > 0:
            counts = one.counts[overlaps] * drawn[one.picture]
            right = np.cumsum(one.right[overlaps] * counts, axis=1)
            total = np.cumsum(counts, axis=1)
            found += [_area(row / there, row / np.maximum(all_, 1e-12)) for row, all_ in zip(right, total, strict=True)]
    return float(np.mean(found)) if found else 0.0


def _area(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """The mean of the best precision at or beyond each of 101 recalls; nought where none is reached."""
    if not len(recall):
        return 0.0
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    reached = places < len(best)
    return float(best[places[reached]].sum() / len(RECALLS))


def _ranked(truths: Sequence[Truth], guesses: Sequence[Guess], classes: int) -> list[Ranked]:
    matched = matches(truths, guesses, classes)
    found = []
    for label in range(classes):
        rows = [matched[label][place] for place in range(len(truths))]
        there = np.array([int(((truth.kinds == label) & ~truth.aside.astype(bool)).sum()) for truth in truths], dtype=np.int64)
        held = [(place, row) for place, row in enumerate(rows) if row is not None and len(row["dtScores"])]
        if not held:
            empty = np.zeros((10, 0), dtype=bool)
            found.append(Ranked(np.zeros(0, np.int64), empty, empty, there))
            continue
        chances = np.concatenate([row["dtScores"] for _, row in held])
        order = np.argsort(-chances, kind="mergesort")
        picture = np.concatenate([np.full(len(row["dtScores"]), place) for place, row in held])[order]
        right = np.concatenate([row["dtMatches"] > 0 for _, row in held], axis=1)[:, order]
        counts = np.concatenate([~row["dtIgnore"].astype(bool) for _, row in held], axis=1)[:, order]
        found.append(Ranked(picture, right, counts, there))
    return found


def matches(truths: Sequence[Truth], guesses: Sequence[Guess], classes: int) -> list[list[Any]]:
    """pycocotools' matches: for each class and picture its record, None where there is nothing. Raises Problem (exit 5) without it."""
    evaluation = evaluated(truths, guesses, classes)
    count = len(truths)
    return [evaluation.evalImgs[label * count : (label + 1) * count] for label in range(classes)]


def evaluated(truths: Sequence[Truth], guesses: Sequence[Guess], classes: int) -> Any:
    """COCOeval after its matching, over all sizes of things and at most `MOST` boxes a class and picture."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise bad_environment(
            "average precision is counted by pycocotools, which is not installed", remedy="pip install 'edge-advisor[vision]'"
        ) from None
    true, said = COCO(), COCO()
    images = [{"id": place + 1} for place in range(len(truths))]
    categories = [{"id": label + 1} for label in range(classes)]
    true.dataset = {"images": images, "categories": categories, "annotations": list(_annotations(truths))}
    said.dataset = {"images": images, "categories": categories, "annotations": list(_guessed(guesses))}
    with contextlib.redirect_stdout(io.StringIO()):
        true.createIndex()
        said.createIndex()
        evaluation = COCOeval(true, said, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], evaluation.params.areaRngLbl[:1]
        evaluation.params.maxDets = [MOST]
        evaluation.evaluate()
    return evaluation


def _annotations(truths: Sequence[Truth]) -> Any:
    number = 0
    for place, truth in enumerate(truths):
        for box, kind, aside in zip(truth.boxes.tolist(), truth.kinds.tolist(), truth.aside.tolist(), strict=True):
            number += 1
            yield {**_row(number, place, box, kind), "iscrowd": int(bool(aside))}


def _guessed(guesses: Sequence[Guess]) -> Any:
    number = 0
    for place, guess in enumerate(guesses):
        for box, kind, chance in zip(guess.boxes.tolist(), guess.kinds.tolist(), guess.chances.tolist(), strict=True):
            number += 1
            yield {**_row(number, place, box, kind), "score": chance}


def _row(number: int, place: int, box: list[float], kind: int) -> dict[str, Any]:
    left, top, right, bottom = box
    size = [right - left, bottom - top]
    return {"id": number, "image_id": place + 1, "category_id": int(kind) + 1, "bbox": [left, top, *size], "area": size[0] * size[1]}
