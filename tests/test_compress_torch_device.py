"""Where modules train: the device that is asked for, from the first tensor to the last, and nothing of it left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from advisor.tasks import names
from compress.pipeline import Run
from compress.plan import MODULE_STAGES, Step, make_settings
from compress.torch_device import training_device
from rules.problems import Exit, Problem
from tests.contracts.test_architecture_contract import CARDS
from tests.test_pipeline import job

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("wanted", "there", "local", "device"),
    [
        ("auto", 0, 0, "cpu"),
        ("auto", 0, 3, "cpu"),
        ("auto", 2, 0, "cuda:0"),
        ("auto", 2, 1, "cuda:1"),
        ("cpu", 2, 1, "cpu"),
        ("cuda", 1, 0, "cuda:0"),
    ],
)
def test_auto_is_cuda_where_torch_sees_it(wanted: Any, there: int, local: int, device: str) -> None:
    assert training_device(wanted, local_rank=local, count=lambda: there) == device


@pytest.mark.parametrize(
    ("wanted", "there", "local", "says"), [("cuda", 0, 0, "no CUDA device"), ("auto", 1, 1, "process 2 of this machine")]
)
def test_a_device_that_is_missing_is_named_with_what_to_do(wanted: Any, there: int, local: int, says: str) -> None:
    with pytest.raises(Problem, match=f"{says}.*--train-on cpu") as caught:
        training_device(wanted, local_rank=local, count=lambda: there)
    assert caught.value.code == Exit.UNJUDGED


def test_module_stages_train_on_the_device_and_graph_stages_stay_on_the_cpu(tmp_path: Path) -> None:
    run = Run(job(train_on="cuda:0"), tmp_path, latencies=None)  # type: ignore[arg-type]
    steps = [
        Step(name, make_settings(name, {}, where=name)) for name in ("train", "distil", "prune", "quantize", "adaround", "qat", "fp16")
    ]
    found = {step.name: run._context(step.name, step).device for step in steps}
    assert found == {step.name: "cuda:0" if step.name in MODULE_STAGES else "cpu" for step in steps}


# -- on a second device that is not really one: see tests/elsewhere_for_tests.py --------------------------------------------


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, Any]:
    """What was found there, in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.elsewhere_for_tests"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_tensors_of_two_devices_do_not_mix_there(elsewhere: dict[str, Any]) -> None:
    assert "two devices" in elsewhere["mixture"]


def test_a_training_there_learns_what_it_learns_here(elsewhere: dict[str, Any]) -> None:
    here, there = (elsewhere[place]["curves"] for place in ("here", "there"))
    assert len(here) == 8
    for one, other in zip(here, there, strict=True):
        assert {**one, "loss": 0} == {**other, "loss": 0}
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_modules_come_back_to_the_cpu(elsewhere: dict[str, Any]) -> None:
    assert elsewhere["there"]["places"] == {"teacher": ["cpu"], "student": ["cpu"]}


def test_checkpoints_hold_the_same_tensors_wherever_they_were_made(elsewhere: dict[str, Any]) -> None:
    assert elsewhere["there"]["checkpoints"] == elsewhere["here"]["checkpoints"]


@pytest.mark.parametrize("task", names())
def test_the_losses_of_a_task_are_computed_where_its_tensors_are(elsewhere: dict[str, Any], task: str) -> None:
    assert elsewhere["tasks"][task] == ""


@pytest.mark.parametrize("architecture", CARDS)
def test_a_net_makes_every_tensor_where_its_weights_are(elsewhere: dict[str, Any], architecture: str) -> None:
    assert elsewhere["architectures"][architecture] == ""
