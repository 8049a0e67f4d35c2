"""Declared steps on pictures that not every bundle needs. Python 3.8, numpy and Pillow, as the reader itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def cover(image: Any, height: int, width: int, resample: str = "bilinear") -> Any:
    """Picture -> the largest centred part that has the ratio of `height` and `width`, scaled to them."""
    if image.size == (width, height):
        return image
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
    box = (left, top, min(image.width, left + width * scale), min(image.height, top + height * scale))
    kinds = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4}
    return image.resize((width, height), kinds[resample], box=box)


def shares(size: int, cells: int) -> np.ndarray:
    """(size, cells): how much each of `size` pixels takes from each of `cells` cells, centres half a step in, edges repeated."""
    place = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, cells - 1)
    found = np.zeros((size, cells), dtype=np.float32)
    np.add.at(found, (np.arange(size), low), (1 - (place - low)).astype(np.float32))
    np.add.at(found, (np.arange(size), high), (place - low).astype(np.float32))
    return found


def classes_of(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scores on a coarse grid (rows, columns, classes) -> the best class of each pixel (height, width), scores spread bilinearly."""
    rows, columns, classes = logits.shape
    tall = shares(height, rows) @ logits.astype(np.float32).reshape(rows, columns * classes)
    wide = np.matmul(shares(width, columns), tall.reshape(height, columns, classes))
    return np.asarray(wide.argmax(-1).astype(np.uint8))


def areas(output: np.ndarray, labels: list[str], height: int, width: int) -> tuple[str, float]:
    """(1, rows, columns, classes) -> (the classes that take a twentieth of the picture or more, confidence).

    Confidence is the mean over the grid of the best class's probability: comparable, not calibrated.
    """
    found = np.bincount(classes_of(output[0], height, width).ravel(), minlength=len(labels)) / (height * width)
    parts = np.floor(20 * found + 0.5).astype(int).tolist()
    text = ", ".join("%s %d %%" % (label, 5 * part) for label, part in zip(labels, parts) if part) or "nothing large"  # noqa: B905, UP031
    odds = np.exp(output[0].astype(np.float64) - output[0].max(-1, keepdims=True))
    return text, float((1 / odds.sum(-1)).mean())


MAPS, STRIDE, SCALES, SHAPES, RATIOS = 6, 16, (0.2, 0.95), 6, (2.0, 3.0)  # default boxes of a one-stage detector
WEIGHTS, LARGEST = (10.0, 10.0, 5.0, 5.0), math.log(1000 / 16)  # how its numbers for them are coded


def anchors(side: int, smallest: float = SCALES[0]) -> np.ndarray:
    """Default boxes (n, 4): middle x, middle y, width, height as shares of the picture; cell by cell, the shapes of a cell together."""
    cells = [-(-side // STRIDE)]
    while len(cells) < MAPS:
        cells.append(-(-cells[-1] // 2))
    low, high = smallest, SCALES[1]
    scales = [low + (high - low) * k / (MAPS - 1) for k in range(MAPS)] + [1.0]
    found = []
    for k, size in enumerate(cells):
        sides = [(scales[k], scales[k]), (math.sqrt(scales[k] * scales[k + 1]),) * 2]
        for ratio in RATIOS:
            wide, tall = scales[k] * math.sqrt(ratio), scales[k] / math.sqrt(ratio)
            sides += [(wide, tall), (tall, wide)]
        rows, columns = np.mgrid[:size, :size]
        middles = (np.stack([columns.ravel(), rows.ravel()], 1) + 0.5) / size
        found.append(np.concatenate([np.repeat(middles, SHAPES, 0), np.tile(np.minimum(np.array(sides), 1.0), (size * size, 1))], 1))
    return np.concatenate(found).astype(np.float32)


def decoded(offsets: np.ndarray, side: int, smallest: float = SCALES[0]) -> np.ndarray:
    """A net's numbers (n, 4) -> the boxes they mean: left, top, right, bottom as shares of the picture."""
    held = anchors(side, smallest)
    moved = offsets.astype(np.float32) / np.array(WEIGHTS, dtype=np.float32)
    middle = held[:, :2] + moved[:, :2] * held[:, 2:]
    size = held[:, 2:] * np.exp(np.minimum(moved[:, 2:], np.float32(LARGEST)))
    return np.asarray(np.clip(np.concatenate([middle - size / 2, middle + size / 2], -1), 0, 1), dtype=np.float32)


def suppressed(boxes: np.ndarray, overlap: float) -> np.ndarray:
    """Which of the boxes, the best first, are kept: none that shares more than `overlap` with a better one."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left, kept = np.arange(len(boxes)), []
    while left.size:
        first, others = left[0], left[1:]
        kept.append(first)
        sides = np.minimum(boxes[first, 2:], boxes[others, 2:]) - np.maximum(boxes[first, :2], boxes[others, :2])
        shared = np.clip(sides, 0, None).prod(1)
        left = others[shared <= overlap * (areas[first] + areas[others] - shared)]
    return np.array(kept, dtype=np.int64)


def things(
    scores: np.ndarray, offsets: np.ndarray, side: int, least: float, overlap: float, most: int, smallest: float = SCALES[0]
) -> list[Any]:
    """Raw heads (n, 1 + classes) and (n, 4) -> [(chance, class, box)], the surest first; a box as `decoded` gives it."""
    odds = np.exp(scores.astype(np.float32) - scores.max(-1, keepdims=True).astype(np.float32))
    chances, boxes = np.asarray(odds / odds.sum(-1, keepdims=True), dtype=np.float32), decoded(offsets, side, smallest)
    kept = []
    for label in range(1, chances.shape[1]):
        rows = np.flatnonzero(chances[:, label] > least)
        rows = rows[np.argsort(-chances[rows, label], kind="stable")][: 4 * most]
        kept += [(float(chances[row, label]), label - 1, int(row)) for row in rows[suppressed(boxes[rows], overlap)]]
    kept.sort(key=lambda item: (-item[0], item[1], item[2]))
    return [(chance, label, boxes[row]) for chance, label, row in kept[:most]]


def boxes(
    output: dict[str, np.ndarray],
    labels: list[str],
    side: int,
    least: float = 0.5,
    overlap: float = 0.5,
    most: int = 100,
    smallest: float = SCALES[0],
) -> tuple[str, float]:
    """Raw heads of one picture, "scores" (1, n, 1 + classes) and "boxes" (1, n, 4) -> (how many of each class, confidence).

    Confidence is the mean chance of what was found. Where things are: `places`.
    """
    return told(things(output["scores"][0], output["boxes"][0], side, least, overlap, most, smallest), labels)


def told(found: list[Any], labels: list[str]) -> tuple[str, float]:
    """What was found -> (how many of each class, mean chance)."""
    numbers = [sum(1 for _, label, _ in found if label == place) for place in range(len(labels))]
    text = ", ".join("%d %s" % (number, label) for number, label in zip(numbers, labels) if number) or "nothing"  # noqa: B905, UP031
    return text, float(np.mean([chance for chance, _, _ in found])) if found else 0.0


def places(
    output: dict[str, np.ndarray],
    labels: list[str],
    side: int,
    least: float = 0.5,
    overlap: float = 0.5,
    most: int = 100,
    smallest: float = SCALES[0],
) -> list[Any]:
    """The same heads -> what is where: [{"class", "chance", "box": [left, top, right, bottom] as shares of the picture}]."""
    return listed(things(output["scores"][0], output["boxes"][0], side, least, overlap, most, smallest), labels)


def listed(found: list[Any], labels: list[str]) -> list[Any]:
    """What was found -> [{"class", "chance", "box"}]."""
    return [
        {"class": labels[label], "chance": round(chance, 4), "box": [round(float(edge), 4) for edge in box]} for chance, label, box in found
    ]


def asked(scores: np.ndarray, boxes: np.ndarray, least: float, most: int) -> list[Any]:
    """Queries, scores (n, classes) and boxes (n, 4) of middle and size -> [(chance, class, box)] as `things`; nothing is dropped as double."""
    chances = np.asarray(1 / (1 + np.exp(-np.clip(scores.astype(np.float32), -50, 50))), dtype=np.float32)
    rows, labels = np.nonzero(chances > least)
    order = np.lexsort((rows, labels, -chances[rows, labels]))[:most]
    halves = boxes.astype(np.float32)[:, 2:] / 2
    edges = np.clip(np.concatenate([boxes[:, :2] - halves, boxes[:, :2] + halves], -1), 0, 1)
    return [(float(chances[rows[place], labels[place]]), int(labels[place]), edges[rows[place]]) for place in order]


def queries(output: dict[str, np.ndarray], labels: list[str], least: float = 0.5, most: int = 100) -> tuple[str, float]:
    """Answers to the queries of one picture, "scores" (1, n, classes) and "boxes" (1, n, 4) -> as `boxes`."""
    return told(asked(output["scores"][0], output["boxes"][0], least, most), labels)


def queried(output: dict[str, np.ndarray], labels: list[str], least: float = 0.5, most: int = 100) -> list[Any]:
    """The same answers -> as `places`."""
    return listed(asked(output["scores"][0], output["boxes"][0], least, most), labels)


def areas_found(output: np.ndarray, labels: list[str], height: int, width: int) -> list[Any]:
    """Scores on a coarse grid -> what share of the picture each class takes: [{"class", "share"}]."""
    found = np.bincount(classes_of(output[0], height, width).ravel(), minlength=len(labels)) / (height * width)
    return [{"class": label, "share": round(float(part), 4)} for label, part in zip(labels, found) if part]  # noqa: B905


PREPROCESS = {"cover": cover}
POSTPROCESS = {"areas": areas, "boxes": boxes, "queries": queries}
DETAILS = {"areas": areas_found, "boxes": places, "queries": queried}  # what --json tells beside the reading
