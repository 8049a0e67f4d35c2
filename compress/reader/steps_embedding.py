"""What is said of an output that is a place in a space, not a decision. Python 3.8 and numpy, as the reader itself."""

from __future__ import annotations

from typing import Any

import numpy as np


def embedding(output: np.ndarray, labels: Any) -> tuple[str, float]:
    """(1, d) of length one -> ("d numbers, the largest at k", its share of the length). Two files are compared by the sum of products."""
    row = output[0].astype(np.float64)
    place = int(np.abs(row).argmax())
    length = float(np.sqrt((row * row).sum())) or 1.0
    return f"{row.size} numbers, the largest at {place}", float(abs(row[place]) / length)


PREPROCESS: dict[str, Any] = {}
POSTPROCESS = {"embedding": embedding}
