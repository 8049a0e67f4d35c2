"""Modules that come trained: what they become is compared with them, and their bytes are part of what a folder holds."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from compress.pipeline import Job, Run
from compress.plan import Plan, Step, make_settings
from compress.weights import ModelSpec
from rules.problems import Exit, Problem
from tests.tasks_for_tests import TASK, BySize, tiny_module

DATA = TASK.open(settings={"train": 24, "val": 8, "test": 8})
SPEC = ModelSpec("tests.tasks_for_tests:build")


def step(name: str, **settings: object) -> Step:
    return Step(name, make_settings(name, settings, where="test"))


def job(*names: str, seed: int = 0) -> Job:
    plan = Plan("stripes", steps=tuple(step(name) for name in names))
    return Job(plan=plan, task=TASK, data=DATA, student=SPEC, trained=tiny_module(seed), threads=1)


def run(given: Job, folder: Path) -> Run:
    made = Run(given, folder, latencies=BySize())
    made.through()
    return made


def test_a_given_module_is_measured_before_anything_is_done_to_it(tmp_path: Path) -> None:
    found = run(job("export"), tmp_path)
    (exported,) = found.state.stages
    assert exported["before"]["file"] == "stages/given/model.onnx"
    assert found.state.teacher_graph == tmp_path / "stages" / "given" / "model.onnx"
    assert found.state.reference == found.state.teacher_graph


def test_a_pruned_module_that_is_not_faster_than_the_given_one_is_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compress.stages.prune import Prune

    monkeypatch.setattr(Prune, "apply", lambda self, model, context: deepcopy(model))
    found = run(job("prune", "export"), tmp_path)
    assert found.state.stages[0]["status"] == "rolled back"
    assert "not faster" in found.state.stages[0]["reason"]


def test_a_folder_is_not_continued_with_other_weights(tmp_path: Path) -> None:
    run(job("export"), tmp_path)
    run(job("export"), tmp_path)
    with pytest.raises(Problem, match="another given") as caught:
        run(job("export", seed=1), tmp_path)
    assert caught.value.code == Exit.USAGE


def test_nor_with_another_graph_under_the_same_name(tmp_path: Path) -> None:
    first = run(job("export"), tmp_path / "first").state.float_graph
    second = run(job("export", seed=1), tmp_path / "second").state.float_graph
    assert first is not None and second is not None
    bare = Job(plan=Plan("stripes"), task=TASK, data=DATA, graph=first, threads=1)
    run(bare, tmp_path / "bare")
    with pytest.raises(Problem, match="another given"):
        run(replace(bare, graph=second), tmp_path / "bare")


def test_a_given_teacher_is_what_a_student_is_compared_with(tmp_path: Path) -> None:
    plan = Plan("stripes", max_drop=2.0, steps=(step("train"), step("distil", steps=2, batch_size=8, evaluations=1), step("export")))
    given = Job(plan=plan, task=TASK, data=DATA, student=SPEC, teacher=SPEC, trained_teacher=tiny_module(hidden=24), threads=1)
    found = run(given, tmp_path)
    assert [stage["status"] for stage in found.state.stages] == ["skipped", "kept", "kept"]
    assert found.state.stages[1]["before"]["file"] == "stages/teacher/model.onnx"
    assert found.state.teacher_graph == tmp_path / "stages" / "teacher" / "model.onnx"
