"""Word error rate, utterance by utterance, counted by jiwer: words put in, left out or changed over the words that were said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def word_edits(references: Sequence[str], readings: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Edits and reference words of each utterance, float64. An empty reference weighs 0 and costs the words read into it."""
    import jiwer

    truths, said = [" ".join(text.split()) for text in references], [" ".join(text.split()) for text in readings]
    errors = np.array([float(len(text.split())) for text in said])
    weights = np.array([float(len(text.split())) for text in truths])
    spoken = [place for place, text in enumerate(truths) if text]
    if spoken:
        found = jiwer.process_words([truths[place] for place in spoken], [said[place] for place in spoken])
        for place, chunks in zip(spoken, found.alignments, strict=True):
            errors[place] = sum(_length(chunk) for chunk in chunks if chunk.type != "equal")
    return errors, weights


def _length(chunk: Any) -> int:
    return max(int(chunk.ref_end_idx - chunk.ref_start_idx), int(chunk.hyp_end_idx - chunk.hyp_start_idx))
