"""The pipeline's promises: it resumes to the same bytes, computes nothing twice, keeps what pays and says why it rolled back."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from compress.context import Silent
from compress.files import owned, sha256
from compress.pipeline import Job, Run
from compress.plan import Plan, Step, make_settings
from compress.recorded import Recorded, by_operators
from compress.weights import ModelSpec
from rules.problems import Problem
from tests.tasks_for_tests import TASK

ROOT = Path(__file__).parent.parent
STAGES = {
    "train": {"epochs": 2},
    "distil": {"epochs": 2},
    "prune": {"recovery_epochs": 1, "importance_batches": 4, "max_steps": 2, "min_channels": 4, "align": 4},
    "export": {},
    "quantize": {"samples": 16},
    "adaround": {"samples": 16, "iterations": 4},
    "qat": {"steps": 4, "when": "always"},
}


def job(**changes: object) -> Job:
    """A short run of every stage on stripes."""
    stages = changes.pop("stages", STAGES)
    steps = tuple(Step(name, make_settings(name, values, where=name)) for name, values in stages.items())  # type: ignore[attr-defined]
    spec = ModelSpec("tests.tasks_for_tests:tiny_module", {})
    plan = Plan(task="stripes", max_drop=1.0, steps=steps)
    return replace(Job(plan=plan, task=TASK, data=TASK.open(None), student=spec, teacher=spec, threads=1), **changes)


def finish(folder: Path, work: Job | None = None, progress: Silent | None = None, table=by_operators) -> Run:
    with owned(folder):
        run = Run(work or job(), folder, latencies=Recorded(table), progress=progress or Silent())
        run.through()
        return run


class Interrupter(Silent):
    """Ctrl-C at the n-th sign of progress."""

    def __init__(self, left: int) -> None:
        self.left = left

    def step(self, done: int, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def start(self, what: str, total: int) -> None:
        self.step(0)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finish(tmp_path_factory.mktemp("unbroken") / "run")


def points(run: Run) -> list[dict]:
    return [{key: value for key, value in stage.items() if key != "seconds"} for stage in run.state.stages]


@pytest.mark.parametrize("moment", random.Random(0).sample(range(1, 40), 4))
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(moment: int, tmp_path: Path, unbroken: Run) -> None:
    for again in range(1, 4):
        try:
            resumed = finish(tmp_path / "run", progress=Interrupter(moment * again))
            break
        except KeyboardInterrupt:
            continue
    else:
        resumed = finish(tmp_path / "run")
    assert sha256(resumed.shipped()[1]) == sha256(unbroken.shipped()[1])
    assert points(resumed) == points(unbroken)


def test_a_run_killed_with_sigkill_resumes_to_the_same_model(tmp_path: Path, unbroken: Run) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\nfrom tests.test_pipeline import finish, Silent\nclass Say(Silent):\n    def step(self, done, note=''): print('step', flush=True)\nfinish(Path({str(tmp_path / 'run')!r}), progress=Say())"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for _ in range(7):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not list((tmp_path / "run").rglob("record.json"))
    assert sha256(finish(tmp_path / "run").shipped()[1]) == sha256(unbroken.shipped()[1])


def test_a_finished_stage_is_not_computed_again(unbroken: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "_compute", lambda *_: pytest.fail("computed again"))
    again = finish(unbroken.folder)
    assert points(again) == points(unbroken)


def test_every_measured_decision_is_in_the_journal(unbroken: Run) -> None:
    keys = [key for key, _ in unbroken.journal.items()]
    for index, name in enumerate(STAGES):
        assert f"{index:02d}-{name}/done" in keys
        assert keys.index(f"{index:02d}-{name}/point") < keys.index(f"{index:02d}-{name}/done")


def test_a_folder_that_holds_another_run_is_refused(unbroken: Run) -> None:
    with pytest.raises(Problem, match="holds a run with another"):
        finish(unbroken.folder, replace(job(), plan=replace(job().plan, seed=1)))


def test_a_damaged_stage_file_is_named(tmp_path: Path) -> None:
    short = job(stages={"train": {"epochs": 1}, "export": {}}, teacher=None)
    run = finish(tmp_path / "run", short)
    graph = run.shipped()[1]
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(bytes(data))
    with pytest.raises(Problem, match="missing or damaged"):
        finish(tmp_path / "run", short)


def slower_when_quantized(path: Path, feeds: object) -> float:
    return 2.0 if "quantize" in str(path) or "adaround" in str(path) or "qat" in str(path) else 1.0


def test_int8_that_is_slower_here_is_rolled_back_and_the_float_file_ships(tmp_path: Path) -> None:
    run = finish(
        tmp_path / "run",
        job(stages={"train": {"epochs": 1}, "export": {}, "quantize": {"samples": 16}}, teacher=None),
        table=slower_when_quantized,
    )
    stage, graph, _, _ = run.shipped()
    assert stage == "export"
    assert "export" in str(graph)
    quantize = run.state.stages[-1]
    assert quantize["status"] == "rolled back"
    assert "not faster here" in quantize["reason"]


def test_a_student_that_loses_too_much_is_rolled_back_and_the_teacher_goes_on(tmp_path: Path) -> None:
    stages = {"train": {"epochs": 6}, "distil": {"epochs": 1, "lr": 1e-6}, "export": {}}
    work = job(stages=stages)
    run = finish(tmp_path / "run", replace(work, plan=replace(work.plan, max_drop=0.0)), table=lambda path, feeds: 1.0)
    assert run.state.stages[1]["status"] == "rolled back"
    assert run.state.stages[2]["after"]["metric"] == run.state.stages[0]["after"]["metric"]


def test_qat_that_is_not_needed_is_skipped_with_its_reason(tmp_path: Path) -> None:
    stages = {"train": {"epochs": 1}, "export": {}, "quantize": {"samples": 16}, "qat": {"when": "needed", "max_loss": 1.0}}
    run = finish(tmp_path / "run", job(stages=stages, teacher=None))
    assert run.state.stages[-1]["status"] == "skipped"
    assert "within the" in run.state.stages[-1]["reason"]


def test_the_control_beside_qat_trains_for_the_same_steps(unbroken: Run) -> None:
    (control,) = unbroken.state.controls
    assert control["status"] == "control"
    assert "same 4 steps" in control["reason"]


def test_the_best_scored_quantized_file_ships(unbroken: Run) -> None:
    stage, _, point, _ = unbroken.shipped()
    rivals = [entry for entry in unbroken.state.stages if entry["name"] in ("quantize", "adaround", "qat") and entry["after"]]
    assert point.metric == min(entry["after"]["metric"] for entry in rivals)
    assert stage == next(entry["name"] for entry in rivals if entry["after"]["metric"] == point.metric)
