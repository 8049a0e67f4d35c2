"""What is kept and what is rolled back, decided by measured points alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress import payoff
from compress.points import Point
from rules.examples import Metric

CER = Metric("cer", "lower")
ACCURACY = Metric("accuracy", "higher")


def point(metric: float, latency: float, size: int = 1000) -> Point:
    return Point("f", "0" * 64, size, metric, 100, "val", {"w128": latency, "w320": 2 * latency})


def test_int8_that_is_slower_stays_float_and_says_so() -> None:
    verdict = payoff.quantized(CER, point(0.02, 1.0), point(0.02, 1.3), max_drop=0.005, repairs=True)
    assert verdict.status == "rolled back"
    assert "not faster here, kept float" in verdict.reason


def test_a_stage_that_loses_more_than_allowed_is_rolled_back() -> None:
    assert payoff.smaller(CER, point(0.02, 1.0), point(0.04, 0.5), max_drop=0.005).status == "rolled back"
    assert payoff.smaller(ACCURACY, point(0.9, 1.0), point(0.88, 0.5), max_drop=0.005).status == "rolled back"


def test_a_loss_that_a_later_stage_may_repair_is_kept_for_now() -> None:
    assert payoff.quantized(CER, point(0.02, 1.0), point(0.04, 0.5), max_drop=0.005, repairs=True).status == "kept"
    assert payoff.quantized(CER, point(0.02, 1.0), point(0.04, 0.5), max_drop=0.005, repairs=False).status == "rolled back"


def test_a_repair_is_kept_only_when_its_file_scores_better() -> None:
    assert payoff.repaired(CER, point(0.03, 1.0), point(0.025, 1.0)).status == "kept"
    assert payoff.repaired(CER, point(0.03, 1.0), point(0.03, 1.0)).status == "rolled back"
    assert payoff.repaired(ACCURACY, point(0.9, 1.0), point(0.91, 1.0)).status == "kept"


@pytest.mark.parametrize("best", [None, point(0.02, 1.0), point(0.2, 0.3)])
def test_the_float_file_ships_when_no_quantized_one_pays(best: Point | None) -> None:
    assert payoff.ships(CER, point(0.02, 1.0), best, max_drop=0.005).status == "rolled back"


@given(before=st.floats(0, 1), after=st.floats(0, 1))
def test_a_drop_is_positive_when_worse_whatever_the_direction(before: float, after: float) -> None:
    assert (payoff.drop(CER, before, after) > 0) == (after > before)
    assert (payoff.drop(ACCURACY, before, after) > 0) == (after < before)
