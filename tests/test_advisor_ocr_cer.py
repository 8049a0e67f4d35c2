"""The score is jiwer's character error rate, kept line by line."""

from __future__ import annotations

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.cer import edits

TEXT = st.text(alphabet="ab c", max_size=8)


def distance(a: str, b: str) -> int:
    """Levenshtein distance by its definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXT.filter(lambda text: bool(text.strip())), TEXT), min_size=1, max_size=5))
def test_edits_over_characters_is_what_jiwer_reports(pairs: list[tuple[str, str]]) -> None:
    truths, readings = [list(side) for side in zip(*pairs, strict=True)]
    errors, weights = edits(truths, readings)
    assert errors.sum() / weights.sum() == pytest.approx(jiwer.cer(truths, readings))


@settings(max_examples=40, deadline=None)
@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_the_edits_of_a_line_are_its_levenshtein_distance(truth: str, reading: str) -> None:
    errors, weights = edits([truth], [reading])
    assert (errors[0], weights[0]) == (distance(truth, reading), len(truth))


def test_what_is_read_into_an_empty_line_counts_as_errors() -> None:
    errors, weights = edits(["", "ab", "  "], ["xyz", "ab", ""])
    assert errors.tolist() == [3, 0, 0] and weights.tolist() == [0, 2, 0]


def test_no_lines_have_no_edits() -> None:
    assert [part.tolist() for part in edits([], [])] == [[], []]
    assert np.isfinite(edits(["a"], [""])[0]).all()
