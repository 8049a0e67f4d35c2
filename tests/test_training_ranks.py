"""Several processes on one training: they compute what one computes, leave one set of files, end together and continue."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from compress.checkpoint import read
from compress.ranks import ALONE, Ranks, joined, launched
from rules.problems import Exit, Problem
from tests.ranks_for_tests import TRAININGS, run, together, train

ROOT = Path(__file__).parent.parent
CLOSE = 1e-5  # of float32 sums in another order, over a dozen steps
CLOSE_IN = {"bfloat16": 2e-2}  # eight bits of mantissa, and norms that one process computes in them
PLAN = """
schema_version = 1
task = "ocr"
architecture = "crnn"
variant = "micro"
[settings]
train = 64
val = 8
test = 8
[[stage]]
name = "train"
epochs = 2
[[stage]]
name = "export"
"""


LEARNT = [name for name in TRAININGS if name not in ("dropout", "poisoned")]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Two processes that went through everything once: their folder, and what each had."""
    folder = tmp_path_factory.mktemp("two")
    (code, first), (other_code, second) = together(",".join([*TRAININGS, "run"]), folder)
    assert (code, other_code) == (0, 0), (first, second)
    return folder, first, second


@pytest.mark.parametrize("what", LEARNT)
def test_two_processes_learn_what_one_learns(what: str, two: Any, tmp_path: Path) -> None:
    folder, first, second = two[0], two[1][what], two[2][what]
    one = train(what, tmp_path, ALONE)
    assert first["digest"] == second["digest"]  # their weights are the same bits
    close = CLOSE_IN.get(what, CLOSE)
    assert first["losses"] == pytest.approx(one["losses"], rel=close)
    assert first["norms"] == pytest.approx(one["norms"], rel=close, abs=close)
    assert [point.get("val") for point in first["curves"]] == [point.get("val") for point in one["curves"]]
    assert [path.name for path in (folder / what).rglob("*") if path.is_file()] == ["train.checkpoint.safetensors"]


def test_a_loss_that_is_not_finite_stops_all_of_them(two: Any) -> None:
    for found in two[1:]:
        assert found["poisoned"]["code"] == Exit.INPUT
        assert "the loss is nan at step 1, on the batch of train-" in found["poisoned"]["problem"]


def test_a_plan_of_every_kind_of_stage_is_run_once(two: Any, tmp_path: Path) -> None:
    """Graph stages are the first process's alone; the other hears of every result and ends with it."""
    folder, first, second = two[0] / "run", two[1]["run"], two[2]["run"]
    assert first == second
    one = run(tmp_path / "run", ALONE)
    for stage, alone in zip(first["stages"], one["stages"], strict=True):
        assert (stage["name"], stage["after"]["params"]) == (alone["name"], alone["after"]["params"])
    names = [{str(path.relative_to(place)) for path in place.rglob("*")} for place in (tmp_path / "run", folder)]
    assert names[0] == names[1]
    keys = [json.loads(line)["key"] for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys))  # every decision was taken once


def test_a_killed_process_ends_the_others_and_together_they_continue_bit_for_bit(two: Any, tmp_path: Path) -> None:
    """With dropout, whose masks differ between processes and depend on the step alone."""
    (code, says), (killed, _) = together("dropout", tmp_path, dies_at=5)
    assert killed == -signal.SIGKILL and code == Exit.ENVIRONMENT
    assert "another process of this run is gone" in says and "the same command continues" in says
    held = read(tmp_path / "dropout" / "train.checkpoint.safetensors")[1]
    assert 0 < held["facts"]["step"] <= 5 and not held["done"]
    shutil.copytree(tmp_path / "dropout", tmp_path / "alone" / "dropout")
    (code, resumed), (other_code, _) = together("dropout", tmp_path)
    assert (code, other_code) == (0, 0) and resumed["dropout"] == two[1]["dropout"]
    finished = train("dropout", tmp_path / "alone", ALONE)  # what two began one can continue, with other masks
    assert finished["losses"][: held["facts"]["step"]] == two[1]["dropout"]["losses"][: held["facts"]["step"]]
    assert len(finished["losses"]) == len(two[1]["dropout"]["losses"])


def test_without_a_launcher_a_process_is_alone() -> None:
    assert launched({}) is ALONE
    assert launched({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}) is ALONE
    assert launched({"WORLD_SIZE": "8", "RANK": "3"}) is ALONE  # some other tool's variables
    found = launched({"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8", "MASTER_ADDR": "a", "MASTER_PORT": "1"})
    assert found == Ranks(9, 16, 1, 8) and not found.leads
    with joined("cpu", ALONE) as ranks:
        assert ranks is ALONE and ranks.same("key", lambda: (1, 2)) == (1, 2)


class Board(dict[str, str]):
    """A store in this process."""

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)

    set = dict.__setitem__


def test_who_waits_for_a_process_that_left_is_told() -> None:
    board = Board()
    first, second = (Ranks(rank, 2, store=board) for rank in (0, 1))
    assert first.same("a", lambda: {"x": [1.5]}) == second.hear("a") == {"x": [1.5]}
    board["gone"] = "1"
    assert second.hear("a") == {"x": [1.5]}  # what was told still counts
    with pytest.raises(Problem, match="another process of this run is gone") as caught:
        second.hear("b")
    assert caught.value.code == Exit.ENVIRONMENT


# -- the command itself, under torchrun ---------------------------------------------------------------------------------------


def command(folder: Path) -> list[str]:
    plan = folder / "plan.toml"
    plan.write_text(PLAN)
    advisor = [str(Path(sys.executable).parent / "advisor"), "run", "--task", "ocr", "--train-on", "cpu"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*launcher, *advisor, "--plan", str(plan), "--out", str(folder / "run")]


def process_of_rank(rank: int, folder: Path) -> int:
    """The process of this rank that works in `folder`; 0 where there is none yet."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables, words = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"\0RANK={rank}\0".encode() in variables and str(folder).encode() in words and b"torch.distributed.run" not in words:
            return int(entry.name)
    return 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the process to kill in /proc")
def test_torchrun_ends_when_a_process_is_killed_and_the_same_command_continues(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    again: Any = {"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command(tmp_path), **again) as started:
        while not (tmp_path / "run" / "stages" / "00-train").exists() and started.poll() is None:
            time.sleep(0.05)
        victim = process_of_rank(1, tmp_path)
        assert victim
        os.kill(victim, signal.SIGKILL)
        _, says = started.communicate(timeout=60)
    assert started.returncode == 1, says  # torchrun's own code for a process that failed
    assert "SIGKILL" in says and not (tmp_path / "run" / "record.json").exists()
    done = subprocess.run(command(tmp_path), check=False, **again)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [str(tmp_path / "run" / "bundle")]  # one of them speaks
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["environment"]["trained_on"] == "cpu" and record["final"]["stage"] == "export"
