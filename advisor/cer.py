"""Character error rate, line by line, counted by jiwer: edits over reference characters, spaces at either end not counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def edits(references: Sequence[str], readings: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Edits and reference characters of each line, float64. An empty reference weighs 0 and costs what was read into it."""
    import jiwer

    truths, said = [text.strip() for text in references], [text.strip() for text in readings]
    errors = np.array([float(len(text)) for text in said])
    weights = np.array([float(len(text)) for text in truths])
    spoken = [place for place, text in enumerate(truths) if text]
    if spoken:
        found = jiwer.process_characters([truths[place] for place in spoken], [said[place] for place in spoken])
        for place, chunks in zip(spoken, found.alignments, strict=True):
            errors[place] = sum(_length(chunk) for chunk in chunks if chunk.type != "equal")
    return errors, weights


def _length(chunk: Any) -> int:
    return max(int(chunk.ref_end_idx - chunk.ref_start_idx), int(chunk.hyp_end_idx - chunk.hyp_start_idx))
