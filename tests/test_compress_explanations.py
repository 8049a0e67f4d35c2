"""Explanations: what a task shows of its answers comes into the record and onto the page, its caveat beside it, always."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bundle_for_tests as small
import pytest

from compress.files import owned
from compress.pipeline import Job, Run
from compress.plan import Plan, Step, make_settings
from compress.record import finish
from compress.recorded import Recorded, by_operators
from compress.report.page import render
from compress.weights import ModelSpec
from rules.examples import Explanation, Seen
from rules.problems import Problem
from tests.tasks_for_tests import TASK

PNG = small.image(3)
SHOWN = Explanation("Where it looked", "It is no proof.", "Doe 2020", (Seen("line-1", "says ab", PNG),), ("rule 1",))


class Explaining:
    """The striped lines, with an explanation."""

    def __init__(self, found: Sequence[Explanation] | Problem) -> None:
        self.found, self.asked = found, []  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        return getattr(TASK, name)

    def explain(self, model: Any, data: Any) -> Sequence[Explanation]:
        self.asked.append((model, data))
        if isinstance(self.found, Problem):
            raise self.found
        return self.found


def recorded(task: Any, folder: Path) -> dict[str, Any]:
    steps = tuple(Step(name, make_settings(name, values, where=name)) for name, values in {"train": {"epochs": 1}, "export": {}}.items())
    job = Job(Plan(task="stripes", steps=steps), task, TASK.open(None), ModelSpec("tests.tasks_for_tests:tiny_module", {}), threads=1)
    with owned(folder):
        run = Run(job, folder, latencies=Recorded(by_operators))
        run.through()
        return finish(run)


def test_what_a_task_shows_is_in_the_record_and_on_the_page(tmp_path: Path) -> None:
    task = Explaining([SHOWN])
    record = recorded(task, tmp_path / "run")
    ((model, data),) = task.asked
    assert not model.training and data.count("test")
    text = render(json.loads((tmp_path / "run" / "record.json").read_text()))
    for words in (
        "What it looked at",
        "Where it looked",
        "It is no proof.",
        "Doe 2020",
        "says ab",
        "rule 1",
        base64.b64encode(PNG).decode(),
    ):
        assert words in text
    assert record["explanations"][0]["seen"][0]["name"] == "line-1"


@pytest.mark.parametrize("found", [[], Problem("there is nothing to look at")], ids=["nothing", "refused"])
def test_a_task_that_shows_nothing_still_ends_its_run(found: Any, tmp_path: Path) -> None:
    record = recorded(Explaining(found), tmp_path / "run")
    assert record["explanations"] == [] and "What it looked at" not in render(record)


class Answering(Explaining):
    """The striped lines, with an explanation of what the file answers."""

    def explain_answers(self, predict: Any, data: Any) -> Sequence[Explanation]:
        self.asked.append((predict, data))
        return [replace(SHOWN, title="What the file says", rules=("a > 1: all",), figures={"r2": 0.5})]


@pytest.mark.parametrize("found", [[SHOWN], Problem("there is nothing to look at")], ids=["both", "one refused"])
def test_what_the_shipped_file_answers_is_explained_beside_the_net_and_each_says_of_what_it_is(found: Any, tmp_path: Path) -> None:
    task = Answering(found)
    record = recorded(task, tmp_path / "run")
    predict, data = task.asked[-1]
    (first, *_) = data.batches("test", batch_size=2)
    assert set(predict(first.inputs)) == {port.name for port in data.signature.outputs}
    (*nets, file) = record["explanations"]
    assert [one["of"] for one in nets] == (["float"] if isinstance(found, list) else [])
    assert file["of"] == "shipped" and file["rules"] == ["a > 1: all"] and file["figures"] == {"r2": 0.5}
    text = render(record)
    assert "a &gt; 1: all" in text and "Taken from the answers of the shipped file." in text
    assert ("Taken from the float net" in text) == bool(nets)


def page(**changes: Any) -> str:
    one = {"title": "T", "caveat": "C", "source": "S", "lines": [], "seen": [{"name": "n", "says": "s", "png_base64": ""}], **changes}
    return render({**small.record(), "explanations": [one]})


def test_a_picture_that_is_none_and_words_that_are_markup_are_not_obeyed() -> None:
    evil = "<script>alert(1)</script>"
    assert "What it looked at" not in page(seen=[{"name": "n", "says": "s", "png_base64": base64.b64encode(b"<svg onload=x>").decode()}])
    text = page(
        title=evil,
        caveat=evil,
        source=evil,
        lines=[evil],
        rules=[evil],
        of=evil,
        seen=[{"name": evil, "says": evil, "png_base64": base64.b64encode(PNG).decode()}],
    )
    assert "What it looked at" in text and evil not in text and text.count("<script") == render(small.record()).count("<script")


def test_the_numbers_in_the_page_go_without_the_pictures() -> None:
    text = page(seen=[{"name": "n", "says": "s", "png_base64": base64.b64encode(PNG).decode()}])
    assert text.count(base64.b64encode(PNG).decode()) == 1
