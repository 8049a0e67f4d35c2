"""Where modules train: the processor, or a CUDA device where torch sees one.

Only module stages move: a module comes to its training on the CPU and leaves it there again. Files are made, scored and timed on
onnxruntime, which has its own providers (`target.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from rules.problems import Exit, Problem

Wanted = Literal["auto", "cpu", "cuda"]


def training_device(wanted: Wanted, *, local_rank: int = 0, count: Callable[[], int] | None = None) -> str:
    """The torch device to train on, `cpu` or `cuda:N`; of several processes on a machine number `local_rank` takes its own.

    `auto` is CUDA where there is any. `count` says how many CUDA devices there are (torch's own count unless given).
    Raises Problem (exit 4) where the device that is asked for is missing.
    """
    if wanted == "cpu":
        return "cpu"
    there = (count or _cuda_devices)()
    if wanted == "auto" and there == 0:
        return "cpu"
    if there == 0:
        raise Problem("torch sees no CUDA device here", remedy="--train-on cpu, or a torch built for CUDA", code=Exit.UNJUDGED)
    if local_rank >= there:
        what = f"process {local_rank + 1} of this machine has no CUDA device, there {'is' if there == 1 else 'are'} {there}"
        raise Problem(what, remedy=f"--nproc-per-node {there}, or --train-on cpu", code=Exit.UNJUDGED)
    return f"cuda:{local_rank}"


def _cuda_devices() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def device_name(device: str) -> str:
    """`cpu`, or `cuda:0 (NVIDIA H200)`."""
    if not device.startswith("cuda"):
        return device
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if torch.cuda.is_available() else device
