"""Subwords are learned the same every time, and the bundle's reader cuts a text into the very same ones, whatever the text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.data import subwords
from advisor.data.subwords import BEGIN, END, PADDING, SPECIAL, UNKNOWN, Subwords, learn, parsed
from compress.reader import reader, steps_text
from rules.problems import Exit, Problem

TEXTS = (
    "Where is my new card? It hasn't arrived yet, and I've waited a week.",
    "where are the new cards, where is the old one; the card's PIN is 1234",
    "Übermäßig große Straßen: die Größe der Straße ist über allem",
    "naïve café — the “best” café of the year costs 12,50 € or $14.20",
    "a<s>b </s> <pad> <unk> <s> <s>",
    "これは ペン です ｶﾞ ﬁne ①②③",
    "line one\nline two\r\n\nline four\n",
)
KINDS = [(lower, lines) for lower in (True, False) for lines in (True, False)]


@cache
def known(lower: bool = True, lines: bool = False, size: int = 200) -> Subwords:
    return learn(TEXTS * 3, size=size, lower=lower, lines=lines)


def read(text: str, vocabulary: Subwords, **how: Any) -> np.ndarray:
    """The numbers by the declared steps, as a bundle stores them."""
    steps = json.loads(json.dumps([{"op": "text"}, vocabulary.step(**how)]))
    found: np.ndarray = reader.apply(text.encode(), steps)
    return found


letters = st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(" \n\t\u2581<>/s.aeinrst'’é\u0301İΣßﬁ\x1c\x85\u3000"))


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(letters, max_size=60), st.lists(st.sampled_from(TEXTS), max_size=6).map("".join)), st.sampled_from(KINDS))
def test_the_reader_cuts_any_text_as_training_does(text: str, kind: tuple[bool, bool]) -> None:
    ours = known(*kind).encode(text)
    assert all(0 < number < known(*kind).size for number in ours)
    assert steps_text.numbers(text, known(*kind).alphabet, known(*kind).plain()["merges"], *kind) == ours
    found = read(text, known(*kind), length=400)
    assert found.dtype == np.int64 and found.shape == (1, 400) and found[0].tolist() == ours + [PADDING] * (400 - len(ours))


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=40), st.sampled_from(KINDS))
def test_normalising_twice_is_normalising_once_and_both_sides_agree_on_words(text: str, kind: tuple[bool, bool]) -> None:
    lower, lines = kind
    assert subwords.words(text, lower=lower, lines=lines) == steps_text.words(text, lower, lines)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["where", "is", "the", "card", "?", "card's", "12,50", "Straße", "café"]), min_size=1, max_size=12))
def test_a_text_of_known_letters_comes_back_from_its_numbers(chosen: list[str]) -> None:
    text = " ".join(chosen)
    ids = known(False).encode(text)
    assert known(False).decode([BEGIN, *ids, END, PADDING]) == text
    assert steps_text.spelled([BEGIN, *ids, END, PADDING], known(False).pieces) == text


def test_lines_come_back_where_they_are_kept() -> None:
    kept = known(False, True)
    assert kept.decode(kept.encode("line one\n\nline two")) == "line one\n\nline two"
    assert known(False).decode(known(False).encode("line one\n\nline two")) == "line one line two"


def test_frequent_words_are_one_number_and_rare_ones_are_taken_apart() -> None:
    assert [known().pieces[number] for number in known().encode("Where is the card?")] == ["▁where", "▁is", "▁the", "▁card", "?"]
    assert len(known().encode("arrest")) > 1 and UNKNOWN not in known().encode("arrest")


def test_unknown_letters_in_a_row_are_one_unknown() -> None:
    ids = known().encode("new 漢字漢字 card")
    assert ids.count(UNKNOWN) == 1 and known().decode(ids) == "new \u2047 card"


def test_what_looks_like_a_special_number_is_text() -> None:
    assert not {PADDING, BEGIN, END} & set(known().encode("<s> </s> <pad> a<s>b"))
    assert known().decode(known().encode("a<s>b")) == "a<s>b"


def test_learning_twice_gives_the_same_and_never_more_than_asked() -> None:
    for size in (40, 100, 300):
        one, other = (learn(TEXTS * 3, size=size) for _ in range(2))
        assert one == other and one.size <= max(size, len(one.alphabet) + len(SPECIAL))
        assert len(set(one.pieces)) == one.size and one.pieces[:4] == list(SPECIAL)


def test_a_vocabulary_goes_through_json_and_back() -> None:
    again = parsed(json.loads(json.dumps(known().plain())))
    assert again == known() and again.encode(TEXTS[0]) == known().encode(TEXTS[0])


@pytest.mark.parametrize("length", [1, 2, 3, 8])
def test_a_long_text_is_cut_and_keeps_its_ends(length: int) -> None:
    whole = known().encode(TEXTS[0])
    assert read(TEXTS[0], known(), length=length)[0].tolist() == whole[:length]
    if length >= 2:
        assert read(TEXTS[0], known(), length=length, begin=True, end=True)[0].tolist() == [BEGIN, *whole[: length - 2], END]


def test_padding_goes_to_the_next_multiple() -> None:
    assert read("card", known(), length=64, multiple=16).shape == (1, 16)
    assert read("", known(), length=64, multiple=16).tolist() == [[PADDING] * 16]
    long = read(TEXTS[0] * 3, known(), length=64, multiple=16)
    assert long.shape[1] % 16 == 0 and 16 < long.shape[1] <= 64


def test_a_word_without_end_takes_no_time_without_end() -> None:
    text = "card" * 50_000
    assert read(text, known(), length=64)[0].tolist() == known().encode(text)[:64]


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"caf\xe9"])
def test_bytes_that_are_no_text_are_refused_by_the_reader(raw: bytes) -> None:
    with pytest.raises(reader.Refused, match="UTF-8"):
        reader.apply(raw, [{"op": "text"}])


def test_a_text_that_is_too_large_is_refused() -> None:
    with pytest.raises(reader.Refused, match="allowed 10"):
        reader.apply(b"a" * 11, [{"op": "text", "most": 10}])


WRONG: Mapping[str, Any] = {
    "nothing": None,
    "a list": [],
    "a key less": {"alphabet": "ab", "merges": "", "lower": True},
    "letters twice": {"alphabet": "aa", "merges": "", "lower": True, "lines": False},
    "a merge of what comes later": {"alphabet": "ab", "merges": "4 6", "lower": True, "lines": False},
    "a merge of a special number": {"alphabet": "ab", "merges": "1 4", "lower": True, "lines": False},
    "a merge of three": {"alphabet": "ab", "merges": "4 5 4", "lower": True, "lines": False},
    "a merge of letters": {"alphabet": "ab", "merges": "a b", "lower": True, "lines": False},
}


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_what_is_no_vocabulary_is_refused(value: Any) -> None:
    with pytest.raises(Problem) as caught:
        parsed(value)
    assert caught.value.code == Exit.USAGE


def test_texts_without_a_word_teach_nothing() -> None:
    with pytest.raises(Problem) as caught:
        learn(["", "  \n"], size=100)
    assert caught.value.code == Exit.INPUT
