"""Intervals: the same every time, right about what they claim, and refusing what does not pair up."""

from __future__ import annotations

import numpy as np
import pytest

from compress.statistics import difference, drop, paired_interval, ratio
from rules.examples import Metric, Score


def score(errors: np.ndarray, weights: np.ndarray | None = None, *, better: str = "lower") -> Score:
    weights = np.full(len(errors), 10.0) if weights is None else weights
    return Score(Metric("cer", better), float(errors.sum() / max(weights.sum(), 1)), errors, weights)  # type: ignore[arg-type]


def test_the_same_scores_give_the_same_interval() -> None:
    generator = np.random.default_rng(0)
    one, other = score(generator.poisson(1.0, 400)), score(generator.poisson(1.2, 400))
    assert difference(one, other) == difference(one, other)
    assert paired_interval(one, other, seed=3) == paired_interval(one, other, seed=3) != paired_interval(one, other, seed=4)


def test_a_score_differs_from_itself_by_nothing_and_surely_so() -> None:
    one = score(np.arange(20.0))
    found = difference(one, one)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_pairing_cancels_what_both_find_hard() -> None:
    hard = np.random.default_rng(1).poisson(5.0, 500).astype(float)
    better = score(hard), score(hard + (np.arange(500) % 50 == 0))
    paired = difference(better[1], better[0])
    assert 0 < paired.low < paired.value < paired.high < 0.005
    shuffled = difference(score(np.random.default_rng(2).permutation(hard)), better[0])
    assert shuffled.high - shuffled.low > 5 * (paired.high - paired.low)


def test_the_interval_covers_the_true_difference_about_nineteen_times_in_twenty() -> None:
    covered = 0
    for trial in range(200):
        generator = np.random.default_rng(trial)
        base = generator.poisson(1.0, 200)
        worse = base + generator.binomial(1, 0.1, 200)  # 0.1 more errors an example of weight 10: a true difference of 0.01
        found = difference(score(worse.astype(float)), score(base.astype(float)), resamples=400, seed=trial)
        covered += found.low <= 0.01 <= found.high
    assert 180 <= covered <= 200


def test_a_drop_is_positive_when_worse_in_either_direction() -> None:
    few, many = np.full(50, 1.0), np.full(50, 2.0)
    assert drop(score(many), score(few)).value == pytest.approx(0.1)
    lost = drop(score(few, better="higher"), score(many, better="higher"))
    assert lost.value == pytest.approx(0.1) and lost.low <= lost.value <= lost.high


@pytest.mark.parametrize(
    "other",
    [score(np.ones(9)), score(np.ones(10), np.arange(1.0, 11.0)), score(np.ones(0), np.ones(0) + 1)],
    ids=["lengths", "weights", "empty"],
)
def test_scores_of_other_examples_are_refused(other: Score) -> None:
    with pytest.raises(ValueError, match="pair up"):
        difference(score(np.ones(10)), other)


def test_a_large_set_is_drawn_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    import compress.statistics as statistics

    generator = np.random.default_rng(5)
    one, other = score(generator.poisson(1.0, 300)), score(generator.poisson(1.0, 300))
    whole = difference(one, other)
    monkeypatch.setattr(statistics, "AT_ONCE", 3000)
    assert difference(one, other) == whole


def test_a_ratio_of_timings_shrugs_off_what_hits_both() -> None:
    generator = np.random.default_rng(0)
    busy = 1 + 5 * generator.random(60)  # the machine slows by up to six, round by round
    found = ratio((0.5 * busy * (1 + 0.01 * generator.standard_normal(60))).tolist(), busy.tolist())
    assert found.low < 0.5 < found.high and found.high - found.low < 0.02


@pytest.mark.parametrize(("after", "before"), [([1.0], [1.0, 2.0]), ([], []), ([0.0], [1.0])])
def test_timings_that_are_none_are_refused(after: list[float], before: list[float]) -> None:
    with pytest.raises(ValueError, match=r"pair up|positive"):
        ratio(after, before)


def whole(values: np.ndarray, *, better: str = "higher") -> Score:
    """A metric that is no sum over examples: the median."""
    return Score(
        Metric("median", better), float(np.median(values)), -values, np.ones(len(values)), over=lambda rows: float(np.median(values[rows]))
    )  # type: ignore[arg-type]


def test_a_metric_that_is_no_sum_is_computed_anew_over_each_draw_of_the_same_rows() -> None:
    values = np.random.default_rng(0).normal(size=400)
    shifted = difference(whole(values + 0.25), whole(values))
    assert (shifted.value, shifted.low, shifted.high) == pytest.approx((0.25, 0.25, 0.25))
    apart = difference(whole(np.random.default_rng(1).permutation(values)), whole(values))
    assert apart.value == 0 and apart.low < -0.05 < 0.05 < apart.high
