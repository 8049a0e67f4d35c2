"""Pictures with things in boxes.

Source: forests over pixels, Breiman 2001, doi:10.1023/A:1010933404324; touching things told apart by their distance from the ground,
Vincent & Soille 1991, doi:10.1109/34.87344 (here the peaks alone).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from advisor.average_precision import Guess, Truth, score
from bench.methods.pictures import grown, surfaces

EACH = 400  # pixels of a training picture to learn from
JOINED = 1.6  # a region so many times as large as the middle thing of its class is several that touch
SPECK = 0.2  # and one so many times as large is none


def regions(data: Any) -> Any:
    """A forest says what each pixel is of; pixels of one class that hang together are a thing, cut into its peaks where it is too large."""
    rng, told, held = np.random.default_rng(0), [], []
    for batch in data.batches("train", batch_size=16):
        for seen, truth in zip(surfaces(batch.inputs["image"]), _truths(batch), strict=True):
            kinds = _painted(truth, seen.shape[:2])
            chosen = rng.permutation(kinds.size)[:EACH]
            told.append((seen.reshape(kinds.size, -1)[chosen], kinds.ravel()[chosen]))
            held.append(truth)
    shares = grown(told, len(data.labels) + 1)
    sides = _middle_sides(held, len(data.labels))
    truths, guesses = [], []
    for batch in data.batches("test", batch_size=16):
        truths += _truths(batch)
        guesses += [_guessed(each, sides) for each in shares(surfaces(batch.inputs["image"]))]
    return score(truths, guesses, len(data.labels))


def _truths(batch: Any) -> list[Truth]:
    pairs = zip(batch.targets["boxes"], batch.targets["kinds"], strict=True)
    return [Truth(boxes[kinds > 0], kinds[kinds > 0] - 1, np.zeros((kinds > 0).sum(), bool)) for boxes, kinds in pairs]


def _painted(truth: Truth, size: tuple[int, int]) -> Any:
    """What each pixel (rows, columns) is of, 0 the ground: things are as round as their boxes allow, smaller ones before larger ones."""
    rows, columns = ((np.arange(count) + 0.5) / count for count in size)
    kinds = np.zeros(size, int)
    areas = (truth.boxes[:, 2] - truth.boxes[:, 0]) * (truth.boxes[:, 3] - truth.boxes[:, 1])
    for place in np.argsort(-areas):
        left, top, right, bottom = truth.boxes[place]
        x, y = (columns - (left + right) / 2) / (right - left), (rows - (top + bottom) / 2) / (bottom - top)
        kinds[(x[None] ** 2 + y[:, None] ** 2) <= 0.25] = truth.kinds[place] + 1
    return kinds


def _middle_sides(held: list[Truth], classes: int) -> Any:
    """(classes, 2): the middle width and height of each class's boxes, shares of the picture."""
    boxes, kinds = np.concatenate([truth.boxes for truth in held]), np.concatenate([truth.kinds for truth in held])
    return np.array([np.median(boxes[kinds == kind, 2:] - boxes[kinds == kind, :2], axis=0) for kind in range(classes)])


def _guessed(shares: Any, sides: Any) -> Guess:
    found = [(box, kind, chance) for kind, side in enumerate(sides) for box, chance in _things(shares, kind + 1, side)]
    boxes, kinds, chances = zip(*found, strict=True) if found else ((), (), ())
    return Guess(np.array(boxes, float).reshape(-1, 4), np.array(kinds, int), np.array(chances, float))


def _things(shares: Any, number: int, side: Any) -> Iterator[tuple[Any, float]]:
    """The boxes of one class on one picture, each with its chance: the forest's share over the region."""
    from scipy.ndimage import distance_transform_edt, find_objects, label, maximum_filter

    size = np.array(shares.shape[1::-1])  # columns, rows
    usual = np.pi / 4 * float(np.prod(side * size))
    regions, _ = label(shares.argmax(-1) == number)
    for index, place in enumerate(find_objects(regions), start=1):
        inside = regions[place] == index
        area, chance = int(inside.sum()), float(shares[place][..., number][inside].mean())
        start = np.array([place[1].start, place[0].start])
        if area < SPECK * usual:
            continue
        if area <= JOINED * usual:
            yield np.concatenate([start / size, (start + inside.shape[::-1]) / size]), chance
            continue
        depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        near = np.maximum(1, np.round(0.7 * side * size).astype(int))[::-1]
        for row, column in np.argwhere((depth == maximum_filter(depth, size=tuple(near))) & (depth > 0.25 * float((side * size).min()))):
            middle = (start + np.array([column + 0.5, row + 0.5])) / size
            yield np.concatenate([middle - side / 2, middle + side / 2]), chance * 0.9  # less sure than what stands alone
