"""Answers drawn beside the truth, for a report: forecasts as curves, boxes in their picture, areas beside each other.

Everywhere the truth is dark, the float net's answer blue and the shipped file's orange. Pictures are small: 24 of them are in a report.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
PAPER, PAST, TRUTH = (255, 255, 255), (176, 182, 194), (20, 24, 32)
ANSWERS = {"float": (38, 110, 200), "shipped": (224, 108, 20)}
CURVES = "A strip a column: grey what came before, black what came, blue the float net's forecast, orange the shipped file's."
BOXES = "In black the true boxes, in blue what the float net finds, in orange what the shipped file finds."
AREAS = "From left to right: the picture, the true areas, the float net's, the shipped file's."
STRIP, WIDTH, EDGE, MOST = 84, 460, 5, 4  # pixels of a strip; columns that are drawn
SIDE, PANEL = 300, 150  # pixels of a picture with boxes, of one of four beside each other
BLEND = 0.65  # of an area's colour over its picture
JPEG = 82  # quality


def curves(past: NDArray[Any], truth: NDArray[Any], answers: Mapping[str, NDArray[Any]], names: Sequence[str]) -> bytes:
    """A PNG: of the first columns of past (n, columns) the last stretch, then truth (m, columns) and the answers (m, columns) over it."""
    from PIL import Image, ImageDraw

    shown = min(MOST, len(names))
    before = past[-2 * len(truth) :]
    image = Image.new("RGB", (WIDTH, STRIP * shown), PAPER)
    draw = ImageDraw.Draw(image)
    xs = EDGE + (WIDTH - 2 * EDGE) * np.arange(len(before) + len(truth)) / max(1, len(before) + len(truth) - 1)
    for column in range(shown):
        rows = {name: values[:, column] for name, values in (("", truth), *answers.items())}
        every = np.concatenate([before[:, column], *rows.values()])
        low, high, foot = float(every.min()), float(every.max()), STRIP * (column + 1) - EDGE

        def points(at: NDArray[Any], values: NDArray[Any], low: float = low, high: float = high, foot: int = foot) -> list[Any]:
            return list(zip(at.tolist(), (foot - (STRIP - 20) * (values - low) / max(high - low, 1e-9)).tolist(), strict=True))

        draw.line(points(xs[: len(before)], before[:, column]), fill=PAST)
        for name, values in rows.items():
            draw.line(points(xs[len(before) :], values), fill=ANSWERS.get(name, TRUTH), width=2 if name else 3)
        draw.text((EDGE, STRIP * column + 2), _plain(names[column]), fill=TRUTH)
    return _file(image, "PNG")


def boxes(picture: Pixels, truth: NDArray[Any], answers: Mapping[str, NDArray[Any]]) -> bytes:
    """A JPEG of picture (h, w, 3) with boxes (n, 4), left, top, right, bottom as shares of it."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    scale = SIDE / max(image.size)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    size = np.array([*image.size, *image.size]) - 1
    for name, found in (("", truth), *answers.items()):
        for box in (found * size).round().astype(int).tolist():
            if not name:
                draw.rectangle(box, outline=PAPER, width=5)
            draw.rectangle(box, outline=ANSWERS.get(name, TRUTH), width=1 if name == "float" else 2 if name else 3)
    return _file(image, "JPEG")


def areas(picture: Pixels, masks: Sequence[NDArray[Any]], classes: int) -> bytes:
    """A JPEG: picture (h, w, 3), then each of masks (h, w) blended over it; a class of `classes` or above is left clear."""
    from PIL import Image

    inks = _palette(classes)
    panels = [picture]
    for mask in masks:
        known = mask < classes
        over = picture.astype(np.float32)
        over[known] += BLEND * (inks[mask[known]] - over[known])
        panels.append(over.round().astype(np.uint8))
    scale = PANEL / picture.shape[0]
    size = max(1, round(picture.shape[1] * scale)), PANEL
    image = Image.new("RGB", ((size[0] + EDGE) * len(panels) - EDGE, PANEL), PAPER)
    for place, panel in enumerate(panels):
        image.paste(Image.fromarray(panel).resize(size, Image.Resampling.BILINEAR), (place * (size[0] + EDGE), 0))
    return _file(image, "JPEG")


def _palette(classes: int) -> NDArray[np.float32]:
    """Colours (classes, 3) that neighbours in number do not share: hues a golden section apart."""
    from colorsys import hsv_to_rgb

    return np.array([hsv_to_rgb(0.58 + 0.618034 * place, 0.75, 0.95) for place in range(classes)], dtype=np.float32) * 255


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() and ord(c) < 256 else "?" for c in text)[:40]


def _file(image: Any, form: str) -> bytes:
    held = io.BytesIO()
    image.save(held, form, **({"quality": JPEG} if form == "JPEG" else {}))
    return held.getvalue()
