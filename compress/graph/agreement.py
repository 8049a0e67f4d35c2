"""Does the simulation say what the runtime says? Measured on real inputs, in decisions and in steps of the output.

Exact equality is no sane gate: another order of float32 additions flips near-ties by one level, and the runtime's own
optimisation levels differ from each other by as much.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from compress.context import tensors
from compress.graph.module import GraphModule
from compress.runtime import Level, predictor
from rules.examples import Feeds


def agreement(module: GraphModule, path: Path, batches: Iterable[Feeds], *, threads: int = 1, level: Level = "all") -> dict[str, float]:
    """Share of decisions (argmax over the last axis) that differ, and the largest difference in steps of the output quantizer.

    Where the answers are float, a step is what the format would have used: 1/255 of their range, or 1/127 of the largest when it is
    symmetric.
    Returns {"decisions", "decisions_differ", "max_steps"}.
    """
    predict = predictor(path, threads=threads, level=level)
    name = module.graph.outputs[0]
    decisions = differ = 0
    largest = spread = 0.0
    for feeds in batches:
        with torch.no_grad():
            ours = module(tensors(feeds))[name].numpy()
        theirs = predict(feeds)[name]
        choices = ours.argmax(-1) != theirs.argmax(-1)
        decisions, differ = decisions + choices.size, differ + int(choices.sum())
        largest = max(largest, float(np.abs(ours - theirs).max()))
        spread = max(spread, 2 * float(np.abs(theirs).max()) if _symmetric(module) else float(np.ptp(theirs)))
    step = _output_step(module) or spread / 255.0
    return {"decisions": float(decisions), "decisions_differ": differ / max(1, decisions), "max_steps": largest / step if step else 0.0}


def _output_step(module: GraphModule) -> float | None:
    maker = module.graph.makers().get(module.graph.outputs[0])
    if maker is None or maker.op != "DequantizeLinear":
        return None
    return float(module.all_steps()[maker.inputs[1]].detach().max())


def _symmetric(module: GraphModule) -> bool:
    """Whether activations are signed, with a zero point of zero."""
    points = [module.graph.initializers[node.inputs[2]] for node in module.graph.quantizers if len(node.inputs) > 2]
    return bool(points) and all(point.dtype == np.int8 and not point.any() for point in points)
