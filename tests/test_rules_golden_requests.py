"""Golden requests: the expected pick and its source stand in files, written before the engine was asked."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rules.facts import Candidate, Device
from rules.knowledge import load
from rules.ranking import Outcome, contest, hold, pick

FOLDER = Path(__file__).parent / "golden" / "requests"
KNOWN = load()
SILENT = {"streaming": False, "explain": False, "licence": "any"}  # what a request states when the user states nothing
LEAST = {"ocr": 12}  # golden requests a task must have; two for the others
ELSEWHERE = {"ocr.npu-int8-avoids-recurrence"}  # rules for devices that no golden request of their task names


def golden() -> Iterator[dict[str, Any]]:
    for path in sorted(FOLDER.glob("*.toml")):
        yield from tomllib.loads(path.read_text(encoding="utf-8"))["request"]


def asked(ask: dict[str, Any], device: Device | None = None) -> Outcome:
    row = KNOWN.task(ask["task"])
    held = contest(row, device or KNOWN.device(ask["device"]), cards=KNOWN.cards, costs=KNOWN.costs, rules=KNOWN.rules_for(row))
    return hold(held, {f"request.{name}": value for name, value in {**row.defaults, **SILENT, **ask}.items()})


def best(outcome: Outcome) -> Candidate | None:
    """The best-ranked candidate, whether it can be built or is only a reference."""
    return max(outcome.kept, key=lambda candidate: candidate.score, default=None)


def name(candidate: Candidate | None) -> str:
    return candidate.architecture if candidate else ""


def spoken(candidate: Candidate, *effects: str) -> str:
    return " ".join(verdict.because for verdict in candidate.verdicts if verdict.effect in effects)


@pytest.mark.parametrize("case", golden(), ids=lambda case: f"{case['ask']['task']}-{case['name']}")
def test_a_golden_request_gets_the_answer_its_source_calls_for(case: dict[str, Any]) -> None:
    outcome, expect = asked(case["ask"]), case["expect"]
    chosen = pick(outcome.kept)
    assert name(chosen) == expect["pick"], case["why"]
    assert name(best(outcome)) == expect.get("best", expect["pick"]), case["why"]
    assert not set(expect.get("refused", ())) & {candidate.architecture for candidate in outcome.kept}, case["why"]
    if chosen is None:
        return
    assert chosen.variant == expect.get("variant", chosen.variant)
    stages = {stage.name: stage for stage in chosen.stages}
    assert set(expect.get("stages", ())) <= set(stages)
    assert not set(expect.get("not_stages", ())) & set(stages)
    for key, value in expect.get("settings", {}).items():
        stage, _, setting = key.partition(".")
        assert stages[stage].settings[setting] == value
    fired = {verdict.rule for verdict in chosen.verdicts}
    assert set(expect.get("rules", ())) <= fired
    assert not set(expect.get("not_rules", ())) & fired
    for words in expect.get("warns", ()):
        assert words in spoken(chosen, "warn")


def test_every_task_has_its_golden_requests_and_each_cites_a_source_that_exists() -> None:
    cases = list(golden())
    counts = {task: sum(case["ask"]["task"] == task for case in cases) for task in KNOWN.tasks}
    assert all(count >= LEAST.get(task, 2) for task, count in counts.items()), counts
    assert len({(case["ask"]["task"], case["name"]) for case in cases}) == len(cases)
    assert [case["name"] for case in cases if case["source"] not in KNOWN.sources or not case["why"]] == []


def test_no_rule_errs_over_any_golden_request() -> None:
    errors = [
        f"{verdict.rule}: {verdict.because}"
        for case in golden()
        for outcome in [asked(case["ask"])]
        for candidate in (*outcome.kept, *outcome.refused)
        for verdict in candidate.verdicts
        if verdict.effect == "error"
    ]
    assert errors == []


def test_every_rule_of_a_task_speaks_in_some_golden_request() -> None:
    heard = {
        verdict.rule
        for case in golden()
        for outcome in [asked(case["ask"])]
        for candidate in (*outcome.kept, *outcome.refused)
        for verdict in candidate.verdicts
    }
    written = {rule.id for row in KNOWN.tasks.values() for rule in row.rules}
    assert written - heard == ELSEWHERE


@pytest.mark.parametrize("runtime", ["qnn", "nnapi", "edgetpu"])
def test_an_8_bit_accelerator_without_lstm_kernels_gets_attention(runtime: str) -> None:
    phone = replace(KNOWN.device("android-arm64"), name="my-phone-npu", runtimes=("onnxruntime-cpu", runtime))
    read = asked({"task": "ocr", "device": phone.name}, phone)
    assert name(pick(read.kept)) == "svtr"
    heard = asked({"task": "speech-recognition", "device": phone.name}, phone)
    assert name(best(heard)) == "zipformer-small"
    assert "speech.accelerator-without-lstm" in {verdict.rule for candidate in heard.kept for verdict in candidate.verdicts}


def test_the_article_picks_are_found_by_name_with_a_verdict_on_them() -> None:
    named = {
        "image-classification": {"resnet-50", "vit-b16"},
        "video-action-recognition": {"cnn-lstm", "timesformer"},
        "machine-translation": {"transformer-base", "rnn-attention"},
        "speech-recognition": {"cnn-bilstm-ctc", "conformer-s"},
        "recommendation": {"wide-and-deep", "tabnet"},
    }
    for task, wanted in named.items():
        row = KNOWN.task(task)
        assert wanted <= {cell.architecture for cell in row.cells}
        assert row.article is not None and row.article.recommended and row.article.alternative and len(row.article.verdict) > 80
