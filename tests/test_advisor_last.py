"""The last answer: kept whole, explained, argued with; and what changes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.answer import as_json, why_not
from advisor.last import chain, file, recall, remember
from advisor.recommend import recommend
from rules.facts import Request
from rules.knowledge import load
from rules.problems import Problem
from rules.ranking import name_of, pick
from tests.test_cli import advisor  # noqa: F401  the command in process

BOARD = "raspberry-pi-5"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADVISOR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path / "home"


def answered(task="ocr", **asked):
    return recommend(Request(task, **{"device": BOARD, **asked}), load())


@pytest.mark.parametrize(
    "asked", [{}, {"latency_ms": 3.0, "size_bytes": 300_000, "charset": "abc", "streaming": True}, {"latency_ms": 0.001}]
)
@pytest.mark.parametrize("task", sorted(load().tasks))
def test_an_answer_comes_back_as_it_was_given(task, asked):
    answer = answered(task, **asked)
    remember(answer)
    found, title = recall()
    assert as_json(found) == {**as_json(answer), "task": None, "next": as_json(found)["next"]}
    assert title == load().task(task).title
    assert (found.kept, found.refused, found.request) == (answer.kept, answer.refused, answer.request)


def test_the_chain_names_every_rule_of_the_pick_with_its_reason_its_source_and_what_follows():
    answer = answered(latency_ms=3.0)
    remember(answer)
    text = " ".join(chain(*recall()).split())
    best = pick(answer.kept)
    for said in best.verdicts:
        assert said.rule in text and " ".join(said.because.split()) in text and (not said.source or f"[{said.source}]" in text)
        assert all(fact in text for fact in said.follows)
    assert "derives derived.activations is uint8, derived.weights is int8" in text
    assert "sets prune.align is 8" in text and "adds stage prune" in text


def test_the_chain_names_the_rules_that_refuse_each_other_candidate():
    answer = answered(latency_ms=3.0, streaming=True)
    remember(answer)
    found = json.loads(chain(*recall(), form="json"))
    assert [item["candidate"] for item in found["refused"]] == [name_of(item.architecture, item.variant) for item in answer.refused]
    assert all(item["rules"] and all(rule["rule"] and rule["because"] for rule in item["rules"]) for item in found["refused"])
    assert found["fit"] + sum(rule["weight"] for rule in found["rules"]) == found["score"]
    assert "| refused | by |" in chain(*recall(), form="md")


def test_the_verbs_work_on_what_the_last_recommendation_said(advisor):  # noqa: F811
    assert advisor("recommend", "--task", "ocr", "--device", BOARD, "--latency-ms", "3")[0] == 0
    code, out, _ = advisor("explain", "--last")
    assert code == 0 and "→ crnn/small" in out and "realtime.prune adds stage prune" in out
    code, out, _ = advisor("explain", "--why-not", "trocr")
    assert code == 0 and "ocr.autoregressive-misses-tight-budgets" in out
    assert advisor("explain", "--last", "--why-not", "crnn/small")[1].strip() == "- crnn/small is the pick"
    code, out, err = advisor("explain", "--last", "--why-not", "trocrr")
    assert (code, out) == (2, "") and "did you mean 'trocr'" in err


@pytest.mark.parametrize("arguments", [["explain"], ["explain", "crnn", "--last"], ["explain", "crnn", "--why-not", "svtr"]])
def test_one_thing_is_explained_at_a_time(advisor, arguments):  # noqa: F811
    code, out, err = advisor(*arguments)
    assert (code, out) == (2, "") and "it explains a TERM, or the last answer" in err


def test_without_an_answer_there_is_nothing_to_explain(advisor):  # noqa: F811
    code, out, err = advisor("explain", "--last")
    assert (code, out) == (2, "") and err == "advisor: no answer is remembered yet (ask first: advisor recommend --task ...)\n"


BROKEN = [
    "",
    "{",
    "[]",
    "null",
    '{"schema_version": 2}',
    '{"schema_version": 1, "answer": {}}',
    '{"schema_version": 1, "answer": []}',
    "[" * 100_000,
]


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: text[:30])
def test_a_file_that_is_none_of_ours_is_one_line(text, advisor):  # noqa: F811
    file().parent.mkdir(parents=True)
    file().write_text(text)
    code, out, err = advisor("explain", "--last")
    assert (code, out, len(err.splitlines())) == (3, "", 1) and str(file()) in err


PATHS = [
    ("answer", "kept"),
    ("answer", "kept", 0, "verdicts"),
    ("answer", "device"),
    ("answer", "request", "latency_ms"),
    ("answer", "kept", 0),
]


@settings(max_examples=60)
@given(st.sampled_from(PATHS), st.sampled_from((None, 3, "x", [], {}, [[]], [{"rule": 3}])))
def test_a_damaged_answer_is_refused_or_read_and_never_a_crash(tmp_path_factory, path, value):
    os.environ["ADVISOR_HOME"] = str(tmp_path_factory.mktemp("home"))
    remember(answered(latency_ms=3.0))
    table = json.loads(file().read_text())
    part = table
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    file().write_text(json.dumps(table))
    try:
        answer, title = recall()
    except Problem as problem:
        assert problem.code == 3
        return
    for form in ("table", "md", "json"):
        assert chain(answer, title, form)


def test_an_answer_that_cannot_be_kept_is_given_all_the_same(tmp_path, monkeypatch, advisor):  # noqa: F811
    (tmp_path / "occupied").write_text("a file where the folder should be")
    monkeypatch.setenv("ADVISOR_HOME", str(tmp_path / "occupied"))
    code, out, err = advisor("recommend", "--task", "ocr", "--device", BOARD)
    assert code == 0 and "→ crnn" in out and err == ""
    assert (tmp_path / "occupied").read_text() == "a file where the folder should be"


def test_a_writer_that_dies_leaves_the_old_answer(own_home, monkeypatch):
    remember(answered())
    before = file().read_bytes()
    script = (
        "import os\nfrom pathlib import Path\nfrom advisor.last import remember\nfrom advisor.recommend import recommend\n"
        "from rules.facts import Request\nfrom rules.knowledge import load\n"
        "Path.replace = lambda *_: os._exit(9)\nremember(recommend(Request('ocr', device='jetson-nano'), load()))"
    )
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "ADVISOR_HOME": str(own_home)}, check=False)
    assert done.returncode == 9 and file().read_bytes() == before and recall()[0].request.device == BOARD


@pytest.mark.parametrize("task", sorted(load().tasks))
def test_every_pick_survives_why_not_of_itself(task):
    answer = answered(task)
    best = pick(answer.kept)
    if best:
        assert (
            why_not(answer, name_of(best.architecture, best.variant)).strip() == f"- {name_of(best.architecture, best.variant)} is the pick"
        )
