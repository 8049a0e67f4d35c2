"""Are these two the same? Error rates of a verification by similarity: the equal error rate, and true accepts at a rate of false ones.

Idea: every pair of pictures is a trial. At a threshold some strangers are accepted and some of the same are refused; where both rates
meet is the equal error rate. It needs no threshold of anybody's choice and is measurable with a few hundred pairs.
Source: thresholds and rates by scikit-learn's `roc_curve`; the equal error rate is the mean of both rates where they are closest.
Shape: unit vectors (n, d), people (n,) → pairs (m,) → rates in 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_PAIRS = 500_000
FALSE_ACCEPTS = (1e-2, 1e-3, 1e-4)
LEAST = 10  # strangers that a rate of false accepts must stand for, to be quoted

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of pictures, most similar last: `first` and `second` are rows, `same` says whether they show one person."""

    first: Array
    second: Array
    same: Array
    similarity: Array
    rows: int

    def rates(self) -> tuple[Array, Array, Array]:
        """False accepts, true accepts, and the thresholds they belong to, descending."""
        from sklearn.metrics import roc_curve

        false, true, thresholds = roc_curve(self.same, self.similarity, drop_intermediate=False)
        return false, true, thresholds

    def weighed(self, counts: Array) -> tuple[Array, Array]:
        """False and true accepts where each row is there so often: as `roc_curve` with these weights, but sorted once for all."""
        weight = (counts[self.first] * counts[self.second]).astype(np.float64)[::-1]
        same = self.same[::-1]
        ends = np.flatnonzero(np.insert(self.similarity[1:] != self.similarity[:-1], 0, True)[::-1])  # alike pairs are taken together
        true, false = np.cumsum(weight * same)[ends], np.cumsum(weight * ~same)[ends]
        if not (true[-1] and false[-1]):
            return np.array([np.nan]), np.array([np.nan])
        return np.insert(false / false[-1], 0, 0.0), np.insert(true / true[-1], 0, 0.0)

    def over(self, rows: Array) -> float:
        """The equal error rate over these rows, some of them several times; a picture is never compared with itself."""
        found = equal_error(*self.weighed(np.bincount(rows, minlength=self.rows)))
        return equal_error(*self.rates()[:2]) if np.isnan(found) else found

    def wrong(self, threshold: float) -> Array:
        """For each row its part in the errors at `threshold`; their mean is the mean of both error rates."""
        accepted = self.similarity >= threshold
        false, refused = accepted & ~self.same, ~accepted & self.same
        share = 0.5 * (false / max(1, int((~self.same).sum())) + refused / max(1, int(self.same.sum())))
        parts = sum(np.bincount(side, weights=share / 2, minlength=self.rows) for side in (self.first, self.second))
        return np.asarray(self.rows * parts)


def pairs(vectors: Array, people: Array, *, most: int = MOST_PAIRS) -> Pairs:
    """All pairs of the rows of `vectors`, or where they are too many all of the same person and evenly chosen ones of strangers."""
    first, second = _places(people, most)
    similarity = np.einsum("nd,nd->n", vectors[first].astype(np.float64), vectors[second].astype(np.float64))
    similarity = np.round(similarity, 12)  # sums in another order are no other similarity
    order = np.argsort(similarity, kind="stable")
    first, second = first[order], second[order]
    return Pairs(first, second, people[first] == people[second], similarity[order], len(people))


def _places(people: Array, most: int) -> tuple[Array, Array]:
    count = len(people)
    if count * (count - 1) // 2 <= most:
        first, second = np.triu_indices(count, 1)
        return first, second
    rows = np.arange(count)
    found = [
        (rows[people == name][a], rows[people == name][b])
        for name in np.unique(people)
        for a, b in [np.triu_indices((people == name).sum(), 1)]
    ]
    steps = np.unique(np.linspace(1, count // 2, max(1, most // count)).astype(np.int64))
    apart = [(rows, (rows + step) % count) for step in steps]
    found += [(a[people[a] != people[b]], b[people[a] != people[b]]) for a, b in apart]
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def equal_error(false: Array, true: Array) -> float:
    """The mean of false accepts and false refusals where they are closest; not a number where one of them is unknown."""
    if np.isnan(false).any() or np.isnan(true).any():
        return float("nan")
    place = closest(false, true)
    return float(false[place] + 1 - true[place]) / 2


def closest(false: Array, true: Array) -> int:
    """The place of the threshold at which both error rates are closest."""
    return int(np.argmin(np.abs(false - (1 - true))))


def accepts(found: Pairs) -> dict[str, float]:
    """True accepts at each rate of false ones that ten or more pairs of strangers stand for: {"tar_at_far_1e-2": …}."""
    false, true, _ = found.rates()
    strangers = int((~found.same).sum())
    return {
        f"tar_at_far_1e{round(np.log10(rate))}": float(true[false <= rate].max(initial=0.0))
        for rate in FALSE_ACCEPTS
        if strangers * rate >= LEAST
    }
