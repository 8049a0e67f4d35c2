"""A window of a series as a small picture for the report: every column a line, the part that is asked about on a tinted ground."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, EDGE = 320, 96, 4
PAPER, TINT = (255, 255, 255), (232, 238, 247)
INKS = ((31, 95, 153), (190, 90, 30), (60, 130, 70), (130, 80, 150), (90, 90, 90), (180, 60, 90), (60, 140, 150))


def picture(values: NDArray[Any], asked: Sequence[bool] | NDArray[np.bool_]) -> bytes:
    """A PNG of scaled values (n, columns), drawn to one height; `asked` (n,) marks the steps on tinted ground."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    low, high = float(values.min()), float(values.max())
    xs = EDGE + (WIDTH - 2 * EDGE) * np.arange(len(values)) / max(1, len(values) - 1)
    ys = HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (values - low) / max(high - low, 1e-9)
    half = (xs[1] - xs[0]) / 2 if len(xs) > 1 else WIDTH
    for x, wanted in zip(xs.tolist(), asked, strict=True):
        if wanted:
            draw.rectangle((x - half, 0, x + half, HEIGHT), fill=TINT)
    for column in range(values.shape[1]):
        draw.line(list(zip(xs.tolist(), ys[:, column].tolist(), strict=True)), fill=INKS[column % len(INKS)], width=1)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
