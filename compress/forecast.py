"""What a run will take, before it is started: one step of each training stage is timed here, the rest is arithmetic.

An estimate, and it says so: the first step of a model is slower than its later ones, other processes share the machine.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from compress.context import tensors
from compress.plan import as_toml

if TYPE_CHECKING:
    from compress.pipeline import Job

STEPS_TIMED = 3


def forecast(job: Job) -> str:
    """The plan, and its minutes, memory and disk, each marked an estimate."""
    rows = [_row(job, step.name, step.settings) for step in job.plan.steps]
    total = sum(seconds for _, seconds, _ in rows)
    lines = [as_toml(job.plan), "# estimates, from a few timed steps on this machine", f"{'stage':<10} {'minutes':>8}  how"]
    lines += [f"{name:<10} {seconds / 60:>8.1f}  {how}" for name, seconds, how in rows]
    lines += [f"{'in all':<10} {total / 60:>8.1f}", f"memory ~{_memory(job) / 1e6:.0f} MB, disk ~{_disk(job) / 1e6:.0f} MB"]
    return "\n".join(lines)


def _row(job: Job, name: str, settings: Any) -> tuple[str, float, str]:
    examples = job.data.count("train")
    epochs = getattr(settings, "epochs", None) or getattr(settings, "recovery_epochs", None)
    if name in ("train", "distil", "prune") and epochs:
        teacher = name == "train" and job.teacher is not None
        batch = getattr(settings, "batch_size", 32)
        steps = epochs * max(1, examples // batch)
        each = _step_seconds(job, teacher, batch) * (1.5 if name == "distil" else 1.0)
        return name, steps * each, f"{steps} steps of {1000 * each:.0f} ms"
    if hasattr(settings, "steps"):
        each = 2.5 * _step_seconds(job, False, getattr(settings, "batch_size", 32))
        return name, settings.steps * each, f"{settings.steps} steps of {1000 * each:.0f} ms"
    return name, 20.0, "measuring, no training"


def _step_seconds(job: Job, teacher: bool, batch_size: int) -> float:
    import torch

    spec = job.teacher if teacher else job.student
    if spec is None:
        return 0.1
    torch.set_num_threads(job.threads)
    module = spec.build().train()
    fastest = float("inf")
    for _, batch in zip(range(STEPS_TIMED), job.data.batches("train", batch_size=batch_size, limit=batch_size * STEPS_TIMED), strict=False):
        since = time.perf_counter()
        output = module(*tensors(batch.inputs).values())
        torch.autograd.backward(job.task.loss(output, tensors(batch.targets)))
        fastest = min(fastest, time.perf_counter() - since)
    return fastest


def _parameters(job: Job) -> int:
    specs = [spec for spec in (job.student, job.teacher) if spec]
    return sum(parameter.numel() for spec in specs for parameter in spec.build().parameters())


def _memory(job: Job) -> float:
    """Interpreter and libraries, weights with gradient and two moments, the examples as bytes."""
    return 450e6 + 16 * _parameters(job) + 6e3 * sum(job.data.count(split) for split in ("train", "val", "test"))


def _disk(job: Job) -> float:
    """Every stage keeps its weights, its checkpoint and its file."""
    return len(job.plan.steps) * 20 * _parameters(job) + 5e6
