"""`advisor whatif`: every change it prints, made, changes the answer as it says."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.flips import as_sentence, stands
from advisor.recommend import recommend
from advisor.whatif import changes, render
from rules.facts import Flip, Request
from rules.knowledge import load
from rules.ranking import name_of, pick
from rules.whatif import WHOLE
from tests.test_cli import advisor  # noqa: F401  the command in process

BOARD = "raspberry-pi-5"
NAMED = {"latency budget": ("latency_ms", 1.0), "size budget": ("size_bytes", 1e6), "memory budget": ("ram_bytes", 1e6)}


@pytest.fixture(autouse=True)
def hundred_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")


def picked(request):
    best = pick(recommend(request, load()).kept)
    return name_of(best.architecture, best.variant) if best else ""


@settings(max_examples=25)
@given(
    st.sampled_from(sorted(load().tasks)),
    st.sampled_from(sorted(load().devices)),
    st.sampled_from((None, 0.5, 5.0, 50.0)),
    st.sampled_from((None, 500, 50_000)),
    st.booleans(),
)
def test_every_change_made_changes_the_answer_as_it_says(task, device, latency, examples, permissive):
    request = Request(task, device, latency_ms=latency, examples=examples, licence="permissive" if permissive else "any")
    found = changes(request, load())
    now = pick(found.answer.kept)
    if now is None:
        return  # then the best reference stands for the pick: tests/test_advisor_recommend.py crosses those
    for flip in found.flips:
        name, value = flip.fact.partition(".")[2], flip.threshold
        if name == "charset_size":
            continue
        if isinstance(value, str) and value in ("stated", "not stated"):
            value = {"stated": 10**12, "not stated": None}[value]
        elif flip.direction in ("below", "above"):
            step = 1 if name in WHOLE else 1e-9 * value
            value = value - step if flip.direction == "below" else value + step
        other = recommend(replace(request, **{name: value}), load())
        best = pick(other.kept)
        assert (name_of(best.architecture, best.variant) if best else "") == flip.pick, flip
        if best and flip.pick == name_of(now.architecture, now.variant):
            stages = {stage.name for stage in best.stages}
            assert stages == ({stage.name for stage in now.stages} | set(flip.adds)) - set(flip.drops) and (flip.adds or flip.drops)


def test_numbers_are_walked_both_ways_and_the_sentence_says_instead_of_what():
    text = " ".join(render(changes(Request("ocr", BOARD, latency_ms=1.5), load())).split())
    assert "now: crnn/tiny" in text
    up = re.search(r"with a latency budget of at least ([\d.]+) ms instead of 1.5 ms the pick is crnn/small \(budget.latency\)", text)
    down = re.search(r"with a latency budget below ([\d.]+) ms instead of 1.5 ms the pick is crnn/micro \(budget.latency\)", text)
    assert up and down and float(up[1]) > 1.5 > float(down[1])
    assert picked(Request("ocr", BOARD, latency_ms=float(up[1]))) == "crnn/small"
    assert picked(Request("ocr", BOARD, latency_ms=float(down[1]) * 0.999)) == "crnn/micro"
    for said in ("with streaming the pick is cnn-ctc/small", "with no latency budget instead of 1.5 ms", "with 99 of 100 calls within"):
        assert said in text


def test_the_device_its_precisions_and_its_runtimes_are_tried():
    found = {(flip.fact, flip.threshold): flip for flip in changes(Request("ocr", "jetson-orin-nano"), load()).flips}
    assert found["request.device", BOARD].pick == picked(Request("ocr", BOARD))
    assert found["request.runtime", "onnxruntime-cpu"].pick == "crnn/small"
    assert "fp16" in found["request.precision", "fp32"].drops


def test_flash_is_walked_where_it_is_stated_and_not_where_it_would_only_repeat_the_size():
    facts = {flip.fact for flip in changes(Request("ocr", BOARD), load()).flips}
    assert "request.size_bytes" in facts and "request.flash_bytes" not in facts
    assert "request.flash_bytes" in {flip.fact for flip in changes(Request("ocr", BOARD, flash_bytes=300_000), load()).flips}


def test_the_sentences_are_those_that_people_read():
    cases = {
        Flip("request.latency_ms", 5, 8.0, "at least", "a/b", "budget.latency"): (
            "with a latency budget of at least 8 ms instead of 5 ms the pick is a/b (budget.latency)"
        ),
        Flip(
            "request.examples", None, 999, "at most", "a", "few"
        ): "with at most 999 labelled examples instead of an unknown number the pick is a (few)",
        Flip("request.ram_bytes", 10**6, 2.5e5, "below", "", ""): "with a memory budget below 0.25 MB instead of 1 MB nothing fits",
        Flip("request.streaming", False, True, "becomes", "b", "s"): "with streaming the pick is b (s)",
        Flip("request.latency_ms", None, "stated", "becomes", "a", "h", adds=("prune",)): (
            "with any latency budget instead of no limit the pick stays and its plan adds prune (h)"
        ),
        Flip("request.device", "x", "y", "becomes", "b", "r"): "on y instead of x the pick is b (r)",
        Flip("request.precision", None, "fp32", "becomes", "b", ""): "shipped in fp32 the pick is b",
    }
    assert {flip: as_sentence(flip) for flip in cases} == cases
    assert stands(Flip("request.energy", "watt", "mains", "becomes", "b", "")) == "watt"


@pytest.mark.parametrize("form", ["table", "json", "md"])
def test_the_verb_prints_the_changes_in_every_form(form, advisor):  # noqa: F811
    code, out, err = advisor("whatif", "--task", "ocr", "--device", BOARD, "--latency-ms", "5", "--format", form)
    assert code == 0 and err == "" and "crnn/tiny" in out
    if form == "json":
        found = json.loads(out)
        assert found["schema_version"] == 1 and found["pick"] == "crnn/small"
        assert all(flip["says"] for flip in found["flips"]) and found["request"]["latency_ms"] == 5
    if form == "table":
        assert all(len(line) <= 100 for line in out.splitlines())


def test_where_nothing_fits_it_says_what_would(advisor):  # noqa: F811
    _, out, _ = advisor("whatif", "--task", "ocr", "--device", BOARD, "--latency-ms", "0.01")
    assert "now: nothing fits" in out and "with a latency budget of at least" in out
