"""Answers drawn for the report: each in its own colour, where it says, in a picture that the report can show."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from advisor.data import drawings
from compress.report.reading import KINDS


def pixels(raw: bytes) -> np.ndarray:
    assert any(raw.startswith(start) for start in KINDS)
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"), dtype=np.int64)


def near(shown: np.ndarray, colour: tuple[int, ...], *, within: int = 60) -> np.ndarray:
    return np.abs(shown - np.array(colour)).sum(-1) <= within


def test_a_forecast_stands_behind_the_past_and_follows_its_own_values() -> None:
    past, truth = np.zeros((40, 1)), np.zeros((20, 1))
    shown = pixels(drawings.curves(past, truth, {"float": np.full((20, 1), 1.0), "shipped": np.full((20, 1), 2.0)}, ["load"]))
    middles = {}
    for name, colour in {"": drawings.TRUTH, **drawings.ANSWERS}.items():
        rows, columns = np.nonzero(near(shown[14:], colour))
        middles[name] = rows.mean()
        assert columns.min() > 0.6 * shown.shape[1], "what is forecast comes after the past"
    assert middles["shipped"] < middles["float"] < middles[""], "larger values stand higher"


def test_more_columns_than_fit_are_left_out() -> None:
    names = [f"c{number}" for number in range(9)]
    shown = pixels(drawings.curves(np.ones((8, 9)), np.ones((4, 9)), {}, names))
    assert shown.shape[0] == drawings.STRIP * drawings.MOST


def test_boxes_stand_where_they_are_said_to_be() -> None:
    box = np.array([[0.25, 0.25, 0.75, 0.5]])
    shown = pixels(drawings.boxes(np.full((40, 40, 3), 128, np.uint8), np.zeros((0, 4)), {"shipped": box}))
    rows, columns = np.nonzero(near(shown, drawings.ANSWERS["shipped"], within=120))
    found = np.array([columns.min(), rows.min(), columns.max(), rows.max()]) / drawings.SIDE
    assert np.abs(found - box[0]).max() < 0.02


def test_areas_are_tinted_by_class_and_clear_where_nothing_counts() -> None:
    picture = np.full((30, 40, 3), 128, np.uint8)
    mask = np.full((30, 40), 255, np.uint8)
    mask[:, 20:] = 1
    shown = pixels(drawings.areas(picture, [mask], 2))
    panel = shown[:, -200:]
    assert near(panel[:, :90], (128, 128, 128)).mean() > 0.95
    assert not near(panel[:, 110:], (128, 128, 128)).any()
