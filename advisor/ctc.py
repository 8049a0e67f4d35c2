"""Reads what a CTC model says: the best label of each step, or the best labelling that a prefix beam search finds.

Idea: a model gives each time step a score for every label and for the blank; a labelling is spelled by every path that becomes it
when repeats are merged and blanks dropped. Greedy decoding reads the single best path; the beam adds up the paths of a labelling.
Source: Graves et al. 2006 (ICML, pages 369-376); the beam search in log space as in Hannun et al. 2014, arXiv:1408.2873, without
a language model.
Shape: logits (b, t, classes) raw scores → one reading an example. Class 0 is the blank unless said otherwise; labels skip it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

BEAM_WIDTH = 5
Array = NDArray[Any]
Prefix = tuple[int, ...]


def log_softmax(logits: Array) -> Array:
    """Log probabilities over the last axis, float64."""
    logits = np.asarray(logits, dtype=np.float64)
    logits = logits - logits.max(axis=-1, keepdims=True)
    found: Array = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return found


def greedy(logits: Array, *, blank: int = 0) -> list[Prefix]:
    """The best class of each step, repeats merged, blanks dropped: (b, t, classes) → class ids, one tuple an example."""
    best = np.asarray(logits).argmax(axis=-1)
    keep = best != blank
    keep[:, 1:] &= best[:, 1:] != best[:, :-1]
    return [tuple(row[kept].tolist()) for row, kept in zip(best, keep, strict=True)]


def beam(logits: Array, *, width: int = BEAM_WIDTH, blank: int = 0) -> list[Prefix]:
    """The most probable labelling a beam of `width` prefixes finds: (b, t, classes) → class ids, one tuple an example."""
    return [beam_search(rows, width=width, blank=blank)[0][0] for rows in log_softmax(logits)]


def beam_search(log_probs: Array, *, width: int = BEAM_WIDTH, blank: int = 0) -> list[tuple[Prefix, float]]:
    """The `width` best labellings with their log probabilities, best first: log probabilities (t, classes) → [(ids, log p)].

    With a beam wide enough for every prefix the log probabilities are exact. Ties go to the older and the lower prefix.
    """
    if width < 1:
        raise ValueError(f"a beam needs at least one prefix, got {width}")
    prefixes: list[Prefix] = [()]
    blanked, spelled = np.zeros(1), np.full(1, -np.inf)  # log p of the paths that end in a blank, and of those that do not
    for step in np.asarray(log_probs, dtype=np.float64):
        prefixes, blanked, spelled = _advance(prefixes, blanked, spelled, step, width=width, blank=blank)
    total = np.logaddexp(blanked, spelled)
    return [(prefixes[i], float(total[i])) for i in np.argsort(-total, kind="stable")]


def _advance(
    prefixes: list[Prefix], blanked: Array, spelled: Array, step: Array, *, width: int, blank: int
) -> tuple[list[Prefix], Array, Array]:
    """One time step: every prefix stays (a blank, or its last label again) or grows by a label; the best `width` go on."""
    total = np.logaddexp(blanked, spelled)
    last = np.array([prefix[-1] if prefix else blank for prefix in prefixes])
    grown = total[:, None] + step[None, :]  # (prefixes, classes)
    rows = np.arange(len(prefixes))
    grown[rows, last] = blanked + step[last]  # a label doubles only across a blank
    grown[:, blank] = -np.inf
    stays_blanked = total + step[blank]
    stays_spelled = np.where(last == blank, -np.inf, spelled + step[last])
    place = {prefix: row for row, prefix in enumerate(prefixes)}
    for row, prefix in enumerate(prefixes):  # a prefix that another one grows into is the same prefix: add them up
        parent = place.get(prefix[:-1]) if prefix else None
        if parent is not None:
            stays_spelled[row] = np.logaddexp(stays_spelled[row], grown[parent, prefix[-1]])
            grown[parent, prefix[-1]] = -np.inf
    return _best(prefixes, stays_blanked, stays_spelled, grown, width=width)


def _best(
    prefixes: list[Prefix], stays_blanked: Array, stays_spelled: Array, grown: Array, *, width: int
) -> tuple[list[Prefix], Array, Array]:
    count, classes = grown.shape
    scores = np.concatenate([np.logaddexp(stays_blanked, stays_spelled), grown.ravel()])
    order = np.argsort(-scores, kind="stable")[:width]
    order = order[np.isfinite(scores[order])] if np.isfinite(scores[order[0]]) else order[:1]
    chosen: list[Prefix] = []
    for place in order.tolist():
        row, label = (place, None) if place < count else divmod(place - count, classes)
        chosen.append(prefixes[row] if label is None else (*prefixes[row], label))
    old = order < count
    at = np.where(old, order, 0)
    return chosen, np.where(old, stays_blanked[at], -np.inf), np.where(old, stays_spelled[at], scores[order])


def spell(ids: Sequence[int], labels: Sequence[str], *, blank: int = 0) -> str:
    """The text of class ids: the classes are the labels in order, with the blank put in between at its own index."""
    return "".join(labels[index - 1 if index > blank else index] for index in ids)


def steps_needed(ids: Sequence[int]) -> int:
    """The fewest time steps that can spell `ids`: one a label, and one for the blank between equal neighbours."""
    return len(ids) + sum(a == b for a, b in pairwise(ids))
