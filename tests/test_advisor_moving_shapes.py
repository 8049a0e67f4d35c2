"""The built-in clips ask about motion and nothing else: one frame tells what guessing tells, the change between frames most of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from advisor.data import moving_shapes

CHANCE = 1 / len(moving_shapes.LABELS)
Rows = NDArray[Any]


@pytest.fixture(scope="module")
def clips() -> dict[str, Rows]:
    """Grey clips (n, frames, side, side), the classes in turn."""
    made = {split: np.stack([moving_shapes.compose(split, index) for index in range(count)]) for split, count in COUNTS.items()}
    return {split: films.mean(-1, dtype=np.float32) for split, films in made.items()}


COUNTS: dict[Any, int] = {"train": 480, "test": 240}


def classes(rows: Rows) -> Rows:
    return np.arange(len(rows)) % len(moving_shapes.LABELS)


def nearest(train: Rows, test: Rows, *, neighbours: int = 5) -> float:
    """How often the majority among the nearest training rows has the right class."""
    far = (test**2).sum(1)[:, None] - 2 * test @ train.T + (train**2).sum(1)
    votes = classes(train)[np.argsort(far, 1)[:, :neighbours]]
    said = [np.bincount(row, minlength=len(moving_shapes.LABELS)).argmax() for row in votes]
    return float((said == classes(test)).mean())


def linear(train: Rows, test: Rows, *, ridge: float = 100.0) -> float:
    """How often a ridge regression on standardised rows has the right class."""
    scaled = [np.c_[(rows - train.mean(0)) / (train.std(0) + 1e-6), np.ones(len(rows))] for rows in (train, test)]
    goal = np.eye(len(moving_shapes.LABELS))[classes(train)]
    weights = np.linalg.solve(scaled[0].T @ scaled[0] + ridge * np.eye(scaled[0].shape[1]), scaled[0].T @ goal)
    return float(((scaled[1] @ weights).argmax(1) == classes(test)).mean())


def pixels(films: Rows) -> Rows:
    return films[:, 3, ::2, ::2].reshape(len(films), -1)


def texture(films: Rows) -> Rows:
    """What is in one frame, wherever it is."""
    return np.abs(np.fft.fft2(films[:, 3]))[:, :, :17].reshape(len(films), -1)


def steps(films: Rows) -> Rows:
    """How far each change between two frames lies from the one before it: pixels down and right, where the two fit best."""
    changes = np.fft.fft2(np.diff(films, axis=1))
    fits = np.fft.ifft2(changes[:, 1:] * changes[:, :-1].conj()).real
    best = fits.reshape(*fits.shape[:2], -1).argmax(-1)
    half = moving_shapes.SIDE // 2
    moved = np.concatenate([(part + half) % moving_shapes.SIDE - half for part in divmod(best, moving_shapes.SIDE)], 1)
    return moved.astype(np.float64)


@pytest.mark.parametrize("of", [pixels, texture])
@pytest.mark.parametrize("classifier", [nearest, linear])
def test_one_frame_tells_no_more_than_guessing(clips: dict[str, Rows], classifier: Any, of: Any) -> None:
    assert classifier(of(clips["train"]), of(clips["test"])) < CHANCE + 0.07  # three standard errors of 240 guesses


def test_what_changes_between_frames_tells_most_classes(clips: dict[str, Rows]) -> None:
    assert nearest(steps(clips["train"]), steps(clips["test"])) > 0.7


def test_the_same_frames_in_another_order_tell_little(clips: dict[str, Rows]) -> None:
    rng = np.random.default_rng(0)
    mixed = {split: np.stack([film[rng.permutation(len(film))] for film in films]) for split, films in clips.items()}
    assert nearest(steps(mixed["train"]), steps(mixed["test"])) < 0.4  # that something rests is seen in any order
