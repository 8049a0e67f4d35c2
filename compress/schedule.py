"""Everything in training that is a pure function of the step: learning rate, averaging weight, random seeds.

Nothing here has a state, so a checkpoint needs only the step, and a resumed run sees what an unbroken one saw.
Source: one cycle, Smith & Topin 2017, arXiv:1708.07120 (here: a cosine up, a cosine down, momentum left alone);
warmed-up averaging as in TensorFlow's `ExponentialMovingAverage` (`num_updates`).
"""

from __future__ import annotations

import hashlib
import math

START, END = 1 / 25, 1e-4  # of the peak: where the cycle begins and where it ends


def rate(step: int, total: int, *, peak: float, warmup: float) -> float:
    """Learning rate of step 0 … total - 1: from peak / 25 up to `peak` over the share `warmup`, then down to peak / 10,000."""
    top = warmup * (total - 1)
    if step < top:
        return peak * _cosine(START, 1.0, step / top)
    return peak * _cosine(1.0, END, (step - top) / (total - 1 - top) if step else 0.0)


def _cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2


def decay(step: int, ceiling: float) -> float:
    """Weight of the old average after update number `step` (1, 2, …): low at first, so that a short run does not lag behind itself."""
    return min(ceiling, (1 + step) / (10 + step))


def seed_for(*parts: int | str) -> int:
    """A seed in [0, 2^31) that depends on all of `parts`: the run's seed, the stage, the step …"""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
