"""One of several processes that train together, for tests: `python -m tests.ranks_for_tests WHAT FOLDER AT` under torchrun's variables.

WHAT names trainings in `TRAININGS`, with commas between them, and `run`, a plan of every kind of stage; each has its folder in FOLDER.
The process prints what it has of each at the end, as JSON. Unless AT is 0 the last process kills itself at that step of each training,
as a machine that loses its power.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compress.context import Silent
from compress.ranks import Ranks, joined, launched
from compress.stages.distil import towards
from compress.training import fit, forward
from compress.weights import digest
from rules.problems import Problem
from tests.tasks_for_tests import TASK, Stripes, context, tiny_module

ROOT = Path(__file__).parent.parent
SMALL = TASK.open(settings={"train": 70, "val": 16, "test": 8})  # batches of 16 by width: odd ones, and some with few lines
QUICK = {"epochs": 2, "batch_size": 16, "lr": 1e-2, "val_limit": 16, "evaluations": 2}


def plain(ctx: Any) -> tuple[Any, dict[str, Any]]:
    return lambda model, inputs, targets: TASK.loss(forward(model, inputs, ctx.data), targets), {}


def averaged_best(ctx: Any) -> tuple[Any, dict[str, Any]]:
    return plain(ctx)[0], {"ema": 0.9, "keep": "best", "evaluations": 3, "patience": 2}


def distilled(ctx: Any) -> tuple[Any, dict[str, Any]]:
    return towards(tiny_module(5).eval(), ctx, 2.0), {}


def compared(ctx: Any) -> tuple[Any, dict[str, Any]]:
    """A loss that compares the examples of a batch with each other: no mean over shares is it."""

    def loss_of(model: Any, inputs: Any, targets: Any) -> Any:
        places = torch.nn.functional.normalize(forward(model, inputs, ctx.data).mean(1), dim=-1)
        return torch.nn.functional.cross_entropy(8 * places @ places.T, torch.arange(len(places)))

    return loss_of, {"steps": 3}


def bfloat16(ctx: Any) -> tuple[Any, dict[str, Any]]:
    return plain(ctx)[0], {"precision": "bf16", "steps": 4}


def one_by_one(ctx: Any) -> tuple[Any, dict[str, Any]]:
    """Fewer examples than processes."""
    return plain(ctx)[0], {"batch_size": 1, "steps": 3}


TRAININGS: dict[str, Callable[[Any], tuple[Any, dict[str, Any]]]] = {
    **{each.__name__: each for each in (plain, averaged_best, distilled, compared, bfloat16, one_by_one)},
    "dropout": plain,
    "poisoned": plain,
}


@dataclass
class Dies(Silent):
    """Progress that ends the process at a step."""

    at: int

    def step(self, done: int, note: str = "") -> None:
        if done == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Poisoned(Stripes):
    """Stripes whose losses are not finite."""

    def _batch(self, *args: Any, **how: Any) -> Any:
        batch = super()._batch(*args, **how)
        batch.inputs["image"][...] = float("nan")
        return batch


def train(what: str, folder: Path, ranks: Ranks, *, dies_at: int = 0, dropout: float = 0.0) -> dict[str, Any]:
    """A training in a folder of that name, with a checkpoint at every step."""
    dies = dies_at and 0 < ranks.rank == ranks.size - 1
    data = Poisoned(SMALL.counts, SMALL.noise) if what == "poisoned" else SMALL
    ctx = context(folder / what, data=data, ranks=ranks, progress=Dies(dies_at) if dies else Silent())
    ctx.folder = folder / what
    loss_of, recipe = TRAININGS[what](ctx)
    ticks = iter(range(10**9))
    how: dict[str, Any] = {"loss_of": loss_of, "checkpoint_seconds": 1, "clock": lambda: float(next(ticks)), **QUICK, **recipe}
    try:
        model = fit(tiny_module(dropout=0.3 if what == "dropout" else 0.0), ctx, name="train", **how)
    except Problem as problem:
        if what != "poisoned":
            raise
        return {"problem": str(problem), "code": problem.code}
    norms = torch.cat([model.norm1.running_mean, model.norm1.running_var]).tolist()  # type: ignore[union-attr]
    return {"digest": digest(model), "losses": [point["loss"] for point in ctx.curves], "curves": ctx.curves, "norms": norms}


def run(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """A plan of every kind of stage."""
    from contextlib import nullcontext

    from compress.files import owned
    from compress.pipeline import Run
    from compress.recorded import Recorded, by_operators
    from tests.test_pipeline import job

    with owned(folder) if ranks.leads else nullcontext():
        work = Run(job(), folder, latencies=Recorded(by_operators), ranks=ranks)
        work.through()
        stages = [{key: stage[key] for key in ("name", "status", "after")} for stage in work.state.stages]
        return {"stages": stages, "shipped": work.shipped()[1].name}


def together(what: str, folder: Path, *, size: int = 2, dies_at: int = 0) -> list[tuple[int, Any]]:
    """Start the processes and wait for them: the exit code of each and its answers, or what it said where the code is not 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.ranks_for_tests", what, str(folder), str(dies_at)]
    started = [
        subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **shared, "RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in range(size)
    ]
    ended = []
    for process in started:
        out, err = process.communicate()
        ended.append((process.returncode, json.loads(out.splitlines()[-1]) if process.returncode == 0 else err))
    return ended


def main(arguments: list[str]) -> int:
    what, folder, dies_at = arguments[0], Path(arguments[1]), int(arguments[2])
    torch.set_num_threads(1)
    try:
        with joined("cpu", launched()) as ranks:
            found = {
                name: run(folder / "run", ranks) if name == "run" else train(name, folder, ranks, dies_at=dies_at)
                for name in what.split(",")
            }
    except Problem as problem:
        print(problem, file=sys.stderr)
        return int(problem.code)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
