"""Pictures with a class each, and pictures with a class for every pixel.

Source: histograms of gradients, Dalal & Triggs 2005 (CVPR); learned patches, Coates, Ng & Lee 2011 (AISTATS); forests, Breiman 2001,
doi:10.1023/A:1010933404324.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

CELL, TURNS = 4, 9  # pixels a side of a cell; directions told apart in half a turn
PATCH, PATCHES, PARTS = 6, 100_000, 400  # pixels a side; drawn to learn from; kinds of patches to know
GRID = 4  # pixels a side that share one answer
EACH = 700  # pixels of a training picture to learn from
TREES, LEAF = 40, 4
STRENGTHS = (0.0001, 0.001, 0.01)

Predict = Callable[[Mapping[str, Any]], Mapping[str, Any]]


# -- a class a picture -----------------------------------------------------------------------------------------------------


def gradients(data: Any) -> Any:
    """Histograms of gradients and mean colours in cells of four pixels; a linear support vector machine."""
    return _linear(data, _histograms)


def patches(data: Any) -> Any:
    """Which of 400 kinds of small patches are where in the picture: k-means on whitened patches, pooled in quarters; a linear machine."""
    from sklearn.cluster import MiniBatchKMeans

    rng, each = np.random.default_rng(0), -(-PATCHES // data.count("train"))
    rows = (_flat(_patches(batch.inputs["image"])) for batch in data.batches("train", batch_size=100))
    drawn = np.concatenate([rng.choice(flat, min(len(flat), each * 100), replace=False) for flat in rows])
    middle = drawn.mean(0)
    values, vectors = np.linalg.eigh(np.cov(drawn - middle, rowvar=False))
    white = (vectors / np.sqrt(values + 0.1)) @ vectors.T
    known = MiniBatchKMeans(PARTS, batch_size=4096, n_init=1, random_state=0).fit((drawn - middle) @ white).cluster_centers_
    return _linear(data, lambda image: _pooled(image, middle, white, known))


def _linear(data: Any, features: Callable[[Any], Any]) -> Any:
    """A linear support vector machine over standardised features, one class against all others; how strong, the validation split says."""
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    batches = [(features(batch.inputs["image"]), batch.targets["label"]) for batch in data.batches("train", batch_size=100)]
    scale = StandardScaler().fit(seen := np.concatenate([part for part, _ in batches]))
    seen, label = scale.transform(seen), np.concatenate([label for _, label in batches])

    def predicts(strength: float) -> Predict:
        model = LinearSVC(C=strength, dual=False, random_state=0).fit(seen, label)
        return lambda feeds: {"logits": model.decision_function(scale.transform(features(feeds["image"])))}

    machines = [predicts(strength) for strength in STRENGTHS]
    return data.score(max(machines, key=lambda machine: float(data.score(machine, "val").value)), "test")


def _histograms(image: Any) -> Any:
    """(b, 3, side, side) → (b, cells × (directions + colours)), each cell's histogram measured against those around it."""
    down, right = (np.gradient(image, axis=axis) for axis in (2, 3))
    strength = np.hypot(down, right)
    best = strength.argmax(1, keepdims=True)  # of the colour that changes most
    down, right, strength = (np.take_along_axis(part, best, 1)[:, 0] for part in (down, right, strength))
    turn = (np.arctan2(down, right) % np.pi) * TURNS / np.pi
    low, share = turn.astype(int) % TURNS, turn % 1
    split = np.zeros((*turn.shape, TURNS), np.float32)
    np.put_along_axis(split, low[..., None], (strength * (1 - share))[..., None], -1)
    high = ((low + 1) % TURNS)[..., None]
    np.put_along_axis(split, high, np.take_along_axis(split, high, -1) + (strength * share)[..., None], -1)
    cells, colours = _in_cells(split.transpose(0, 3, 1, 2)), _in_cells(image)
    around = np.pad((cells**2).sum(1, keepdims=True), ((0, 0), (0, 0), (1, 1), (1, 1)))
    cells = cells / np.sqrt(sliding_window_view(around, (3, 3), axis=(2, 3)).sum((-1, -2)) + 1e-3)
    return np.concatenate([cells, colours], axis=1).reshape(len(image), -1)


def _in_cells(planes: Any) -> Any:
    """(b, planes, side, side) → their means over cells, (b, planes, side / CELL, side / CELL); what is over at the edges is left out."""
    b, count, tall, wide = planes.shape
    rows, columns = tall // CELL, wide // CELL
    cut = planes[:, :, : rows * CELL, : columns * CELL]
    return cut.reshape(b, count, rows, CELL, columns, CELL).mean((3, 5))


def _patches(image: Any) -> Any:
    """(b, 3, side, side) → (b, places, places, 3 · PATCH²), each with its own brightness and contrast taken out."""
    seen = sliding_window_view(image, (PATCH, PATCH), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)
    flat = seen.reshape(*seen.shape[:3], -1).astype(np.float32)
    flat = flat - flat.mean(-1, keepdims=True)
    return flat / np.sqrt(flat.var(-1, keepdims=True) + 10 / 127.5**2)


def _flat(block: Any) -> Any:
    return block.reshape(-1, block.shape[-1])


def _pooled(image: Any, middle: Any, white: Any, known: Any) -> Any:
    """How near the patches of each quarter are to each known kind, nearer ones than the mean counted: (b, 4 · kinds)."""
    seen = _patches(image)
    flat = (_flat(seen) - middle) @ white
    far = np.sqrt(np.maximum((flat**2).sum(1, keepdims=True) - 2 * flat @ known.T + (known**2).sum(1), 0))
    near = np.maximum(far.mean(1, keepdims=True) - far, 0).reshape(*seen.shape[:3], len(known))
    half = near.shape[1] // 2
    quarters = [
        near[:, rows, columns].sum((1, 2)) for rows in (slice(half), slice(half, None)) for columns in (slice(half), slice(half, None))
    ]
    return np.concatenate(quarters, axis=1)


# -- a class a pixel -------------------------------------------------------------------------------------------------------


def places(data: Any) -> Any:
    """The commonest class of each place, whatever the picture shows."""
    counts: Any = 0
    for batch in data.batches("train", batch_size=16):
        mask = np.asarray(batch.targets["mask"])[:, GRID // 2 :: GRID, GRID // 2 :: GRID]
        counts = counts + (mask[..., None] == np.arange(len(data.labels))).sum(0)

    def predict(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"logits": np.repeat(np.asarray(counts, np.float32)[None], len(feeds["image"]), axis=0)}

    return data.score(predict, "test")


def forest(data: Any) -> Any:
    """Forty trees over the colour, the blurred colours, the edges and the place of each pixel."""
    rng = np.random.default_rng(0)
    told: list[Any] = []
    for batch in data.batches("train", batch_size=16):
        for seen, mask in zip(surfaces(batch.inputs["image"]), np.asarray(batch.targets["mask"]), strict=True):
            label = mask[GRID // 2 :: GRID, GRID // 2 :: GRID].ravel()
            chosen = rng.permutation(np.flatnonzero(label < len(data.labels)))[:EACH]
            told.append((seen.reshape(label.size, -1)[chosen], label[chosen]))
    shares = grown(told, len(data.labels))
    return data.score(lambda feeds: {"logits": shares(surfaces(feeds["image"]))}, "test")


def grown(told: Sequence[tuple[Any, Any]], classes: int) -> Callable[[Any], Any]:
    """A forest that learned from pixels (n, features) and their classes (n,): features (…, features) → shares of the classes (…, classes)."""
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(TREES, min_samples_leaf=LEAF, random_state=0)
    model.fit(np.concatenate([seen for seen, _ in told]), np.concatenate([label for _, label in told]))

    def shares(seen: Any) -> Any:
        found = np.zeros((*seen.shape[:-1], classes), np.float32)
        found[..., model.classes_] = model.predict_proba(_flat(seen)).reshape(*seen.shape[:-1], -1)
        return found

    return shares


def surfaces(image: Any) -> Any:
    """(b, 3, height, width) → (b, rows, columns, features): colours as they are and blurred twice, edges, and where the pixel is."""
    from scipy.ndimage import gaussian_filter

    blurred = [gaussian_filter(image, (0, 0, width, width)) for width in (1, 4, 12)]
    edges = [np.hypot(*np.gradient(planes.mean(1), axis=(1, 2)))[:, None] for planes in blurred[:2]]
    rough = gaussian_filter(edges[0], (0, 0, 6, 6))
    seen = np.concatenate([*blurred, *edges, rough], axis=1)[:, :, GRID // 2 :: GRID, GRID // 2 :: GRID].transpose(0, 2, 3, 1)
    rows, columns = np.mgrid[0 : 1 : seen.shape[1] * 1j, 0 : 1 : seen.shape[2] * 1j]
    where = np.broadcast_to(np.stack([rows, columns], -1)[None], (*seen.shape[:3], 2))
    return np.concatenate([seen, where], axis=-1).astype(np.float32)
