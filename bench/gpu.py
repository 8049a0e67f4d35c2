"""The CRNN trained on the GPU and on the CPU from one seed: losses, steps a second; its file in fp32 and fp16 on both providers.

    python -m bench gpu                           30 steps on the built-in lines, a minute
    python -m bench gpu --variant base --steps 100 --batch-size 256

What is absent (a GPU for torch, a CUDA provider for onnxruntime) is said in one line; without a GPU the exit code is 4.
Losses are compared step by step: two devices add in another order, so they drift apart slowly and not at once. Batches are read
beforehand, so that steps a second are those of the device; how fast they are read has a line of its own. Training in "fp32"
is as torch does it, with convolutions and recurrent layers in TF32 on the GPU (10 bits of mantissa); "fp32, exact" forbids that.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.context import Silent
from rules.problems import Exit

if TYPE_CHECKING:
    from torch import nn

    from compress.context import Data, Task
    from rules.examples import Batch

LEFT_OUT = 5  # first steps, in which memory is taken and kernels are chosen
ROUNDS = 60
EXAMPLES = 16  # of a batch that files are timed on
CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Trained:
    """A training: the loss of every step, and steps a second after the first few."""

    name: str
    losses: list[float]
    rate: float
    module: nn.Module


@dataclass(frozen=True)
class Held:
    """Data whose training batches are read once, of one epoch."""

    data: Any
    train: list[Batch]

    def batches(self, split: str, **how: Any) -> Any:
        return self.train if split == "train" else self.data.batches(split, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)


@dataclass
class Watch(Silent):
    """When each step was done."""

    at: list[float] = field(default_factory=list)

    def step(self, done: int, note: str = "") -> None:
        self.at.append(time.perf_counter())

    @property
    def rate(self) -> float:
        skip = min(LEFT_OUT, len(self.at) // 2)
        return (len(self.at) - 1 - skip) / (self.at[-1] - self.at[skip])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench gpu")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--variant", default="small", help="of the CRNN's card")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--device", default="cuda", help="what is compared with the CPU; cpu tries the bench itself")
    options = parser.parse_args(arguments)
    missing = _missing(options.device)
    if missing:
        print(f"bench gpu: {missing}", file=sys.stderr)
        return Exit.UNJUDGED
    print(_machine(options))
    task, data, build = _subject(options)
    runs = _trainings(task, data, build, options)
    print("\n".join(training_table(runs)))
    with TemporaryDirectory() as folder:
        print("\n".join(_files(runs[0].module, data, Path(folder), options)))
    return 0


def _missing(device: str) -> str:
    try:
        import torch
    except ModuleNotFoundError:
        return "torch is not installed (pip install 'edge-advisor[train]')"
    if device.startswith("cuda") and not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA device here"
    return ""


def _machine(options: argparse.Namespace) -> str:
    import torch

    from compress.runtime import environment
    from compress.torch_device import device_name

    here = environment()
    return (
        f"{device_name(options.device)}, torch {torch.__version__}, onnxruntime {here['onnxruntime']}; {here['cpu']}, "
        f"{options.threads} of {here['cores']} threads; CRNN {options.variant}, batches of {options.batch_size}"
    )


def _subject(options: argparse.Namespace) -> tuple[Task, Data, Callable[[], nn.Module]]:
    """The task, enough of its built-in lines for the steps, and the net with its first weights."""
    import torch

    from advisor.instantiate import spec_settings
    from advisor.tasks.ocr import TASK
    from compress.weights import ModelSpec
    from rules.knowledge import load

    count = 8 * options.batch_size
    opened = TASK.open(None, seed=0, settings={"train": count, "val": 16, "test": 8 * EXAMPLES})
    since = time.perf_counter()
    batches = list(opened.batches("train", batch_size=options.batch_size, augment=True, shuffle=True))
    print(f"read, varied and put into batches: {count / (time.perf_counter() - since):.0f} lines/s on one core")
    data: Any = Held(opened, batches)
    spec = ModelSpec(*spec_settings(load(), "crnn", options.variant, **data.given))

    def build() -> nn.Module:
        torch.manual_seed(0)
        return spec.build()

    return TASK, data, build


# -- training --------------------------------------------------------------------------------------------------------------


def _trainings(task: Task, data: Data, build: Callable[[], nn.Module], options: argparse.Namespace) -> list[Trained]:
    there = options.device
    runs = [_train("CPU, fp32", task, data, build(), options, device="cpu")]
    runs.append(_train(f"{there}, fp32", task, data, build(), options, device=there))
    with _exact():
        runs.append(_train(f"{there}, fp32, exact", task, data, build(), options, device=there))
    runs.append(_train(f"{there}, bf16", task, data, build(), options, device=there, precision="bf16"))
    return runs


def _train(
    name: str, task: Task, data: Data, model: nn.Module, options: argparse.Namespace, *, device: str, precision: Any = "fp32"
) -> Trained:
    from compress.context import Context
    from compress.journal import Journal
    from compress.recorded import Recorded, by_operators
    from compress.stages.train import Train

    watch = Watch()
    with TemporaryDirectory() as folder:
        inside = Path(folder)
        context = Context(
            task=task,
            data=data,
            folder=inside,
            journal=Journal(inside / "journal.jsonl"),
            latencies=Recorded(by_operators),
            progress=watch,
            threads=options.threads,
            device=device,
        )
        stage = Train(steps=options.steps, batch_size=options.batch_size, precision=precision, evaluations=0)
        module = stage.apply(model, context)
    return Trained(name, [point["loss"] for point in context.curves], watch.rate, module)


@contextmanager
def _exact() -> Iterator[None]:
    """No TF32 inside."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def training_table(runs: Sequence[Trained]) -> list[str]:
    """Every run beside the first: loss at the start and the end, how far the losses lie apart, steps a second."""
    first = runs[0]
    rows = [f"{'training':<22}{'first loss':>11}{'last loss':>11}{'apart, step 1':>15}{'apart, worst':>14}{'steps/s':>9}{'faster':>8}"]
    for run in runs:
        gaps = apart(run.losses, first.losses)
        rows.append(
            f"{run.name:<22}{run.losses[0]:>11.4f}{run.losses[-1]:>11.4f}{gaps[0]:>15.1e}{max(gaps):>14.1e}"
            f"{run.rate:>9.1f}{run.rate / first.rate:>7.1f}x"
        )
    return rows


def apart(losses: Sequence[float], others: Sequence[float]) -> list[float]:
    """How far each loss is from the other, a share of the latter."""
    return [abs(one - other) / abs(other) for one, other in zip(losses, others, strict=True)]


# -- files -----------------------------------------------------------------------------------------------------------------


def _files(model: nn.Module, data: Data, folder: Path, options: argparse.Namespace) -> list[str]:
    """The file in both precisions, on every provider there is: size, distance from float on the CPU, milliseconds."""
    import onnx
    import onnxruntime as ort

    from compress.context import Target
    from compress.export import export
    from compress.runtime import predictor
    from compress.stages.fp16 import half

    single = export(model, data, folder / "fp32.onnx", target=Target())
    double = folder / "fp16.onnx"
    double.write_bytes(half(onnx.load(str(single)), ()).SerializeToString())
    feeds = max(data.batches("test", batch_size=EXAMPLES), key=lambda batch: len(batch.ids)).inputs
    expected = predictor(single, threads=options.threads)(feeds)
    batch = f"ms, batch {len(next(iter(feeds.values())))}"
    rows = [f"{'file':<28}{'kB':>8}{'from float':>13}{batch:>14}"]
    providers = ["CPUExecutionProvider", *([CUDA] if CUDA in ort.get_available_providers() else [])]
    for provider in providers:
        for name, path in (("fp32", single), ("fp16", double)):
            rows.append(_row(name, path, provider, feeds, expected, options.threads))
    rows += _in_torch(model, feeds, data, options)
    if CUDA not in providers:
        rows.append(f"absent: onnxruntime has no {CUDA} here (it has {', '.join(ort.get_available_providers())})")
    return rows


def _row(name: str, path: Path, provider: str, feeds: Any, expected: Any, threads: int) -> str:
    from compress.runtime import predictor
    from rules.problems import Problem

    where = provider.removesuffix("ExecutionProvider")
    try:
        predict = predictor(path, threads=threads, provider=provider)
        found = predict(feeds)
    except Problem as problem:
        return f"{f'{name} on {where}':<28}{path.stat().st_size / 1000:>8.0f}  {problem}"
    far = max(float(np.abs(found[key] - expected[key]).max() / np.abs(expected[key]).max()) for key in expected)
    return f"{f'{name} on {where}':<28}{path.stat().st_size / 1000:>8.0f}{far:>13.1e}{_milliseconds(lambda: predict(feeds)):>14.2f}"


def _in_torch(model: nn.Module, feeds: Any, data: Data, options: argparse.Namespace) -> list[str]:
    """The module itself on the device, in both precisions: what half precision is worth there without a runtime."""
    import torch

    from compress.context import tensors
    from compress.forward import forward

    inputs, module = tensors(feeds, options.device), model.to(options.device).eval()

    @torch.no_grad()
    def answer(dtype: torch.dtype) -> Any:
        with torch.autocast(torch.device(options.device).type, dtype=dtype, enabled=dtype != torch.float32):
            return forward(module, inputs, data).float().cpu().numpy()  # the copy waits for the device

    expected, rows = answer(torch.float32), []
    for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)):
        far = float(np.abs(answer(dtype) - expected).max() / np.abs(expected).max())
        took = _milliseconds(partial(answer, dtype))
        rows.append(f"{f'{name} in torch, {options.device}':<28}{'':>8}{far:>13.1e}{took:>14.2f}")
    module.cpu()
    return rows


def _milliseconds(call: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        since = time.perf_counter()
        call()
        times.append(time.perf_counter() - since)
    return 1000 * median(times[ROUNDS // 6 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
