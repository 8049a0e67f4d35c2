"""The CTC decoders: greedy reads the best path, the beam adds up the paths of a labelling, both as the slow references do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor import ctc
from tests.references import ctc as slow


def scores(seed: int, steps: int, classes: int, sharp: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sharp, (steps, classes))


def probabilities(logits: np.ndarray) -> list[list[float]]:
    return np.exp(ctc.log_softmax(logits)).tolist()


SEED, STEPS, CLASSES = st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 4)


@settings(max_examples=80, deadline=None)
@given(SEED, STEPS, CLASSES, st.integers(0, 1))
def test_greedy_is_the_best_path_collapsed(seed: int, steps: int, classes: int, blank: int) -> None:
    logits = scores(seed, steps, classes)
    assert ctc.greedy(logits[None], blank=blank) == [slow.best_path(probabilities(logits), blank)]


@settings(max_examples=60, deadline=None)
@given(SEED, STEPS, CLASSES, st.integers(0, 1))
def test_a_beam_wide_enough_for_every_prefix_sums_every_path(seed: int, steps: int, classes: int, blank: int) -> None:
    logits = scores(seed, steps, classes)
    every = slow.labellings(probabilities(logits), blank)
    found = dict(ctc.beam_search(ctc.log_softmax(logits), width=10_000, blank=blank))
    assert found.keys() == every.keys()
    assert all(np.isclose(np.exp(found[ids]), every[ids], rtol=1e-9, atol=0) for ids in every)


@settings(max_examples=60, deadline=None)
@given(SEED, st.integers(1, 12), st.integers(2, 6), st.integers(1, 6))
def test_a_narrow_beam_keeps_what_the_textbook_beam_keeps(seed: int, steps: int, classes: int, width: int) -> None:
    logits = scores(seed, steps, classes, sharp=2.0)
    expected = {ids: p for ids, p in slow.beam(probabilities(logits), 0, width).items() if p}
    found = dict(ctc.beam_search(ctc.log_softmax(logits), width=width))
    assert found.keys() == expected.keys()
    assert all(np.isclose(np.exp(found[ids]), expected[ids], rtol=1e-9, atol=0) for ids in expected)


def test_beam_finds_the_labelling_that_greedy_misses() -> None:
    logits = np.log(np.array([[[0.6, 0.4], [0.6, 0.4]]]))  # the best path is two blanks (0.36), but "a" has three paths (0.64)
    assert ctc.greedy(logits) == [()]
    assert ctc.beam(logits) == [(1,)]


def test_a_doubled_letter_needs_a_blank_between() -> None:
    path = np.eye(3)[[1, 1, 0, 1, 2, 2]][None] * 20
    assert ctc.greedy(path) == ctc.beam(path) == [(1, 1, 2)]


def test_each_line_of_a_batch_reads_as_it_does_alone() -> None:
    batch = np.random.default_rng(3).normal(0, 3, (5, 11, 7))
    for decode in (ctc.greedy, ctc.beam):
        assert decode(batch) == [decode(line[None])[0] for line in batch]


def test_impossible_classes_are_never_read() -> None:
    logits = np.full((1, 4, 3), -np.inf)
    logits[..., 2] = 0.0
    assert ctc.greedy(logits) == ctc.beam(logits) == [(2,)]


def test_extreme_scores_are_read_without_a_warning() -> None:
    with np.errstate(all="raise", under="ignore"):
        assert ctc.beam(np.array([[[-1e300, 1e300, 0.0], [1e300, 0.0, -1e300]]])) == [(1,)]


def test_a_beam_without_a_prefix_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one prefix"):
        ctc.beam_search(np.zeros((2, 3)), width=0)


@given(st.lists(st.integers(1, 3), max_size=8))
def test_steps_needed_is_the_shortest_path_that_spells(ids: list[int]) -> None:
    path = [ids[0]] if ids else []
    for before, label in pairwise(ids):
        path += [0, label] if before == label else [label]
    assert slow.collapse(tuple(path), 0) == tuple(ids)
    assert ctc.steps_needed(ids) == len(path)


def test_spelling_skips_the_blank_wherever_it_stands() -> None:
    assert ctc.spell((1, 2, 1), "ab") == "aba"
    assert ctc.spell((0, 2), "ab", blank=1) == "ab"
