"""What a dry run says: an estimate from typical batches, stage by stage, that one can read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.forecast import BATCHES, Timed, forecast, row, unusual
from compress.pipeline import Job
from compress.plan import Plan, Step, make_settings
from compress.weights import ModelSpec
from tests.tasks_for_tests import TASK

CLOCK = {"now": 0.0}
SMALL, LARGE = 1.0, 10.0  # seconds of a pixel, in a student and in a teacher


def build(*, cost: float = SMALL, classes: int = 5) -> Any:
    """A module whose every call takes as many seconds as the batch is wide, times `cost`: on the clock of these tests."""
    import torch
    from torch import nn

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(32, classes)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            CLOCK["now"] += cost * image.shape[-1]
            return self.head(image.mean(1)[..., ::4].transpose(1, 2))

    return Slow()


def step(name: str, **settings: Any) -> Step:
    return Step(name, make_settings(name, settings, where="test"))


def job(*steps: Step, train: int = 64, teacher: bool = True) -> Job:
    here = f"{__name__}:build"
    return Job(
        plan=Plan("stripes", architecture="slow", variant="small", teacher="large" if teacher else "", steps=steps),
        task=TASK,
        data=TASK.open(settings={"train": train, "val": 16, "test": 16}),
        student=ModelSpec(here),
        teacher=ModelSpec(here, {"cost": LARGE}) if teacher else None,
        threads=1,
    )


def timed(given: Job) -> Timed:
    return Timed(given, clock=lambda: CLOCK["now"])


def widths(given: Job, batch_size: int) -> list[int]:
    batches = given.data.batches("train", batch_size=batch_size, shuffle=True, limit=BATCHES * batch_size)
    return [batch.inputs["image"].shape[-1] for _, batch in zip(range(BATCHES), batches, strict=False)]


def test_steps_are_timed_on_a_mix_of_widths_and_not_on_the_narrowest_lines() -> None:
    given = job(step("train"))
    found = timed(given).step(teacher=False, batch_size=8)
    assert found == pytest.approx(SMALL * np.mean(widths(given, 8)))
    narrowest = next(iter(given.data.batches("train", batch_size=8))).inputs["image"].shape[-1]
    assert found > SMALL * narrowest


def test_the_first_call_which_allocates_is_not_counted() -> None:
    given = job(step("train"))
    calls = 0

    def clock() -> float:  # the very first call takes an hour
        nonlocal calls
        calls += 1
        return CLOCK["now"] + (3600 if calls >= 2 else 0)

    assert Timed(given, clock=clock).step(teacher=False, batch_size=8) < 1000


def test_steps_override_epochs_and_a_last_short_batch_is_a_step() -> None:
    found = timed(job(step("train"), train=65))
    assert found.steps(step("train", epochs=3, batch_size=32).settings) == 9
    assert found.steps(step("train", epochs=3, steps=7).settings) == 7
    assert found.steps(step("prune", recovery_epochs=2, batch_size=65).settings) == 2


def test_train_is_of_the_teacher_where_distil_follows() -> None:
    train = step("train", steps=10, batch_size=8)
    alone, taught = job(train), job(train, step("distil", steps=10, batch_size=8))
    mean = float(np.mean(widths(alone, 8)))
    assert row(alone, train, timed(alone))[1] == pytest.approx(10 * SMALL * mean)
    assert row(taught, train, timed(taught))[1] == pytest.approx(10 * LARGE * mean)


def test_distil_counts_the_teachers_answers() -> None:
    distil = step("distil", steps=10, batch_size=8)
    given = job(distil)
    assert row(given, distil, timed(given))[1] == pytest.approx(10 * (SMALL + LARGE) * float(np.mean(widths(given, 8))))


def test_a_given_teacher_is_not_trained() -> None:
    train, distil = step("train"), step("distil", steps=1)
    given = job(train, distil)
    known = Job(plan=given.plan, task=given.task, data=given.data, student=given.student, teacher=given.teacher, trained_teacher=build())
    assert row(known, train, timed(known))[1] == 0


def test_qat_counts_its_control_and_says_when_it_may_be_skipped() -> None:
    with_control, without = (step("qat", steps=10, batch_size=8, control=control, when="always") for control in (True, False))
    given = job(with_control)
    assert row(given, with_control, timed(given))[1] == pytest.approx(2 * row(given, without, timed(given))[1])
    assert "where quantizing lost too much" in row(given, step("qat"), timed(given))[2]
    assert "where quantizing lost too much" not in row(given, with_control, timed(given))[2]


def test_only_settings_that_are_not_the_default_are_shown() -> None:
    assert unusual(step("train")) == {}
    assert unusual(step("train", lr=0.5)) == {"lr": 0.5}
    given = job(step("train", lr=0.5))
    assert row(given, given.plan.steps[0], timed(given))[2].endswith("[lr 0.5]")


@pytest.fixture(scope="module")
def said() -> list[str]:
    names = ("train", "distil", "prune", "export", "quantize", "equalize", "adaround", "qat")
    return forecast(job(*(step(name) for name in names))).splitlines()


def stages(lines: list[str]) -> Iterator[list[str]]:
    first = next(number for number, line in enumerate(lines) if line.startswith("stage"))
    yield from (line.split() for line in lines[first + 1 : lines.index("", first) - 1])


def test_every_stage_has_one_line_and_the_sum_is_theirs(said: list[str]) -> None:
    rows = list(stages(said))
    assert [entry[0] for entry in rows] == ["train", "distil", "prune", "export", "quantize", "equalize", "adaround", "qat"]
    total = next(line for line in said if line.startswith("in all")).split()[2:]
    assert total and all(entry[1] == "<" or float(entry[1]) >= 0 for entry in rows)


def test_it_says_that_it_is_an_estimate_and_what_it_is_of(said: list[str]) -> None:
    text = "\n".join(said)
    assert "estimate" in said[-1]
    assert "slow/small, taught by large" in said[0]
    assert "64 train, 16 val, 16 test examples" in text
    assert "memory about" in text and "disk about" in text


def test_it_fits_a_terminal(said: list[str]) -> None:
    assert len(said) < 24 and max(map(len, said)) <= 140


def test_the_sum_of_the_stages_is_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    import compress.forecast

    monkeypatch.setattr(compress.forecast, "row", lambda job, step, timed: (step.name, 90.0, "as told"))
    lines = forecast(job(step("train"), step("export"))).splitlines()
    assert next(line for line in lines if line.startswith("in all")).split() == ["in", "all", "3.0"]


def test_a_dry_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    import cli

    plan = tmp_path / "plan.toml"
    plan.write_text(
        'schema_version = 1\ntask = "ocr"\narchitecture = "crnn"\nvariant = "small"\n[settings]\ntrain = 8\nval = 4\ntest = 4\n'
        '[[stage]]\nname = "train"\nbatch_size = 4\n[[stage]]\nname = "export"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["advisor", "run", "--task", "ocr", "--plan", str(plan), "--threads", "1", "--dry-run"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    assert end.value.code == 0, captured.err
    assert "train" in captured.out and captured.err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["plan.toml"]
