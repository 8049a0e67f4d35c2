"""What a run will take, before it is started: a few steps of each training are timed here on typical batches, the rest is arithmetic.

An estimate, and it says so: other processes share the machine, a stage may be skipped, and how far pruning searches is not known.
Sources: the counts are those of the stages' own settings; seconds a candidate and a measurement are timed once here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.context import tensors
from compress.plan import Step, settings_class

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compress.pipeline import Job
    from rules.examples import Batch

BATCHES = 6  # timed, beside one to warm up: batches differ in width, so one is not enough
Row = tuple[str, float, str]  # stage, seconds, how it comes about


@dataclass(slots=True)
class Timed:
    """Seconds of what stages are made of, each taken once and only when a stage of the plan needs it."""

    job: Job
    clock: Callable[[], float] = time.perf_counter
    _held: dict[Any, Any] = field(default_factory=dict)

    def step(self, *, teacher: bool, batch_size: int) -> float:
        """One optimizer step without a teacher, the mean over typical batches."""
        device = self.job.train_on
        return float(self._once(("step", teacher, batch_size), lambda: self._mean(teacher, batch_size, backward=True, device=device)))

    def answer(self, *, teacher: bool, batch_size: int, device: str = "cpu") -> float:
        """One forward pass, the mean over typical batches."""
        key = ("answer", teacher, batch_size, device)
        return float(self._once(key, lambda: self._mean(teacher, batch_size, backward=False, device=device)))

    def export(self) -> float:
        """Writing the student as a file, unchecked: what each candidate of a search costs before it is timed."""
        return float(self._once("export", self._export))

    def steps(self, settings: Any) -> int:
        """Optimizer steps of a training: given, or epochs times the batches of a pass."""
        given = int(getattr(settings, "steps", 0))
        epochs = int(getattr(settings, "epochs", 0) or getattr(settings, "recovery_epochs", 0))
        return given or epochs * -(-self.job.data.count("train") // settings.batch_size)

    def parameters(self) -> dict[str, int]:
        """Parameters of the student and, where the plan trains one, of the teacher."""
        wanted = {"student": False, **({"teacher": True} if self.job.teacher else {})}
        return {name: sum(p.numel() for p in self._module(teacher).parameters()) for name, teacher in wanted.items()}

    def _once(self, key: Any, compute: Callable[[], Any]) -> Any:
        if key not in self._held:
            self._held[key] = compute()
        return self._held[key]

    def _module(self, teacher: bool) -> nn.Module:
        spec = self.job.teacher if teacher else self.job.student
        assert spec is not None  # `advisor run` always has a student; a teacher is asked for only where there is one
        found: nn.Module = self._once(("module", teacher), spec.build)
        return found

    def _mean(self, teacher: bool, batch_size: int, *, backward: bool, device: str) -> float:
        import torch

        torch.set_num_threads(self.job.threads)
        module = self._module(teacher).to(device).train(backward)
        spent = []
        with torch.set_grad_enabled(backward):
            for number, batch in enumerate(self._typical(batch_size)):
                for _ in range(2 if number == 0 else 1):  # the first call allocates
                    since = self.clock()
                    self._call(module, batch, backward=backward, device=device)
                    taken = self.clock() - since
                spent.append(taken)
        module.cpu()
        return float(np.mean(spent))

    def _typical(self, batch_size: int) -> Iterator[Batch]:
        """Shuffled batches: in order, a task may give its smallest examples first."""
        batches = self.job.data.batches("train", batch_size=batch_size, shuffle=True, limit=BATCHES * batch_size)
        return islice(iter(batches), BATCHES)

    def _call(self, module: nn.Module, batch: Batch, *, backward: bool, device: str) -> None:
        import torch

        inputs = {port.name: batch.inputs[port.name] for port in self.job.data.signature.inputs}
        output: torch.Tensor = module(*tensors(inputs, device).values())
        if backward:
            loss = self.job.task.loss(output, tensors(batch.targets, device))
            torch.autograd.backward(loss)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    def _export(self) -> float:
        from compress.export import export

        with TemporaryDirectory() as folder:
            since = self.clock()
            export(self._module(False), self.job.data, Path(folder) / "model.onnx", target=self.job.target, check=False)
            return self.clock() - since


def forecast(job: Job) -> str:
    """The plan in short, and its minutes, memory and disk, each marked an estimate."""
    timed = Timed(job)
    rows = [row(job, step, timed) for step in job.plan.steps]
    total = sum(seconds for _, seconds, _ in rows)
    sizes = ", ".join(f"{name} {count:,} parameters" for name, count in timed.parameters().items())
    return "\n".join(
        [
            f"{job.plan.task} on {job.plan.device}: {_model(job)}; {sizes}",
            f"{', '.join(f'{job.data.count(split):,} {split}' for split in ('train', 'val', 'test'))} examples; {job.threads} training threads",
            "",
            f"{'stage':<10}{'minutes':>9}  how",
            *(f"{name:<10}{_minutes(seconds):>9}  {how}" for name, seconds, how in rows),
            f"{'in all':<10}{_minutes(total):>9}",
            "",
            f"memory about {_memory(job, timed) / 1e6:,.0f} MB, disk about {_disk(job, timed) / 1e6:,.0f} MB",
            "All of it is an estimate, from a few steps timed on this machine as busy as it is now.",
        ]
    )


def _model(job: Job) -> str:
    taught = f", taught by {job.plan.teacher}" if job.plan.teacher else ""
    return f"{'/'.join(filter(None, (job.plan.architecture, job.plan.variant)))}{taught}"


def _minutes(seconds: float) -> str:
    return "< 0.1" if seconds < 3 else f"{seconds / 60:.1f}"


def row(job: Job, step: Step, timed: Timed) -> Row:
    """A stage's seconds and how they come about, with the settings that differ from the defaults."""
    estimate: Estimate = STAGES.get(step.name, _measured)
    seconds, how = estimate(job, step.settings, timed)
    changed = ", ".join(f"{key} {value}" for key, value in unusual(step).items())
    return step.name, seconds, how + (f"  [{changed}]" if changed else "")


def unusual(step: Step) -> dict[str, Any]:
    """The settings of a stage that are not the default ones."""
    plain = settings_class(step.name)()
    return {item.name: value for item in fields(plain) if (value := getattr(step.settings, item.name)) != getattr(plain, item.name)}


# -- a stage at a time ---------------------------------------------------------------------------------------------------


def _train(job: Job, settings: Any, timed: Timed) -> tuple[float, str]:
    teacher = job.teacher is not None and job.plan.has("distil")
    if job.trained_teacher is not None and teacher:
        return 0.0, "skipped: the teacher is given"
    return _steps(timed.steps(settings), timed.step(teacher=teacher, batch_size=settings.batch_size))


def _distil(job: Job, settings: Any, timed: Timed) -> tuple[float, str]:
    each = timed.step(teacher=False, batch_size=settings.batch_size) + _taught(job, settings.batch_size, timed)
    return _steps(timed.steps(settings), each)


def _prune(job: Job, settings: Any, timed: Timed) -> tuple[float, str]:
    candidates = settings.max_steps * settings.looks
    search = candidates * (timed.export() + 1.0)  # a candidate is timed for about a second
    each = timed.step(teacher=False, batch_size=settings.batch_size) + _taught(job, settings.batch_size, timed)
    recovery, how = _steps(timed.steps(settings), each)
    return search + recovery, f"{candidates} candidates at most, then {how}"


def _qat(job: Job, settings: Any, timed: Timed) -> tuple[float, str]:
    """A step through the graph with its quantizers took 1.03 times a plain one on a CRNN: no difference."""
    each = timed.step(teacher=False, batch_size=settings.batch_size) + _taught(job, settings.batch_size, timed)
    seconds, how = _steps(settings.steps, each)
    if settings.control:
        seconds, how = seconds + _steps(settings.steps, each)[0], f"twice {how}: the control is trained as long"
    return seconds, how + (", where quantizing lost too much" if settings.when == "needed" else "")


def _adaround(job: Job, settings: Any, timed: Timed) -> tuple[float, str]:
    """Every layer is fitted on 1024 rows an iteration, forward and twice backward; before that the samples pass both graphs."""
    from compress.stages.adaround import BATCH, ROWS

    macs = 3.0 * ROWS * timed.parameters()["student"] * settings.iterations
    passes = 3 * -(-min(settings.samples, job.data.count("train")) // BATCH)
    seconds = macs * _mac_seconds(timed) + passes * timed.answer(teacher=False, batch_size=BATCH)
    return seconds, f"{settings.iterations} iterations a layer, no labels"


def _measured(job: Job, settings: Any, timed: Timed) -> tuple[float, str]:
    """No training: the file is scored on the validation split, up to twice while it is chosen, and timed on every probe."""
    from compress.profile import Measured

    passes = -(-min(job.val_limit, job.data.count("val")) // 32)
    scored = 3 * passes * timed.answer(teacher=False, batch_size=32)
    return scored + Measured().seconds * len(job.data.probes()), "no training: scored and timed"


Estimate = Callable[[Any, Any, Timed], tuple[float, str]]  # of a job, a stage's settings and what was timed

STAGES: Mapping[str, Estimate] = {
    "train": _train,
    "distil": _distil,
    "prune": _prune,
    "qat": _qat,
    "adaround": _adaround,
}


def _steps(count: int, each: float) -> tuple[float, str]:
    return count * each, f"{count:,} steps of {1000 * each:.0f} ms"


def _taught(job: Job, batch_size: int, timed: Timed) -> float:
    return timed.answer(teacher=job.teacher is not None, batch_size=batch_size, device=job.train_on)


def _mac_seconds(timed: Timed) -> float:
    """Seconds of one multiplication in a product of ordinary size on one thread."""

    def once() -> float:
        left, right = np.ones((512, 256), np.float32), np.ones((256, 256), np.float32)
        since = timed.clock()
        for _ in range(3):
            left @ right
        return (timed.clock() - since) / 3 / (512 * 256 * 256)

    return float(timed._once("mac", once))


# -- memory and disk -----------------------------------------------------------------------------------------------------


def _memory(job: Job, timed: Timed) -> float:
    """Interpreter and libraries, weights with gradient and two moments, the examples at a byte a value."""
    batch = next(timed._typical(8))
    each = sum(array.size for array in batch.inputs.values()) / max(1, len(batch.ids))
    examples = sum(job.data.count(split) for split in ("train", "val", "test"))
    return 450e6 + 16 * sum(timed.parameters().values()) + each * examples


def _disk(job: Job, timed: Timed) -> float:
    """Every stage keeps its weights, its checkpoint and its file: five numbers of four bytes a parameter."""
    return len(job.plan.steps) * 20 * max(timed.parameters().values()) + 5e6
