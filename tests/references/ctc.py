"""CTC decoding written the slow and obvious way: every path is spelled out, every prefix is a tuple in a dictionary."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict


def collapse(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """Merge repeats, then drop blanks."""
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def labellings(probabilities: list[list[float]], blank: int) -> dict[tuple[int, ...], float]:
    """The probability of each labelling: the sum over all classes ** steps paths."""
    total: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(len(probabilities[0])), repeat=len(probabilities)):
        total[collapse(path, blank)] += math.prod(step[label] for step, label in zip(probabilities, path, strict=True))
    return dict(total)


def best_path(probabilities: list[list[float]], blank: int) -> tuple[int, ...]:
    """The labelling of the path that takes the best class at each step."""
    return collapse(tuple(max(range(len(step)), key=step.__getitem__) for step in probabilities), blank)


def beam(probabilities: list[list[float]], blank: int, width: int) -> dict[tuple[int, ...], float]:
    """Prefix beam search in plain probabilities: the `width` prefixes that are left at the end, and their probabilities."""
    held: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 0.0)}  # ends in a blank, ends in its last label
    for step in probabilities:
        grown: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (blanked, spelled) in held.items():
            for label, p in enumerate(step):
                if label == blank:
                    grown[prefix][0] += (blanked + spelled) * p
                elif prefix and prefix[-1] == label:
                    grown[prefix][1] += spelled * p
                    grown[(*prefix, label)][1] += blanked * p
                else:
                    grown[(*prefix, label)][1] += (blanked + spelled) * p
        best = sorted(grown.items(), key=lambda item: -sum(item[1]))[:width]
        held = {prefix: (both[0], both[1]) for prefix, both in best}
    return {prefix: sum(both) for prefix, both in held.items()}
