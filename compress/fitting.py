"""A training under way, and how it is put into a checkpoint and taken up again.

Weights, moments, the average and the best so far are tensors; counters and curves are JSON beside them (`checkpoint.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress import checkpoint
from compress.context import Progress

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(slots=True)
class Fit:
    """A training under way: everything a checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: nn.Module | None = None
    best: dict[str, Tensor] | None = None
    facts: dict[str, Any] = field(
        default_factory=lambda: {"step": 0, "epoch": 0, "position": 0, "score": None, "stale": 0, "sum": 0.0, "count": 0}
    )
    curves: list[dict[str, Any]] = field(default_factory=list)

    @property
    def candidate(self) -> nn.Module:
        """The weights that would ship now: the average, where one is kept."""
        return self.model if self.average is None else self.average


def follow(average: nn.Module, model: nn.Module, *, weight: float) -> None:
    """Move `average` towards `model`: old · weight + new · (1 - weight). Counters are copied."""
    import torch

    olds, news = ([*module.parameters(), *module.buffers()] for module in (average, model))
    with torch.no_grad():
        for old, new in zip(olds, news, strict=True):
            if old.is_floating_point():
                old.lerp_(new, 1 - weight)
            else:
                old.copy_(new)


def write(fitting: Fit, path: Path, identity: str) -> None:
    """Publish everything it takes to continue. `identity` says which training this is."""
    parts = {"model": fitting.model.state_dict(), "moments": _moments(fitting)}
    if fitting.average is not None:
        parts["average"] = fitting.average.state_dict()
    if fitting.best is not None:
        parts["best"] = fitting.best
    flat = {f"{part}/{key}": value for part, held in parts.items() for key, value in held.items()}
    checkpoint.write(path, flat, {"identity": identity, "done": False, "facts": fitting.facts, "curves": fitting.curves})


def write_result(fitting: Fit, path: Path, identity: str) -> None:
    """Publish the weights of a finished training in place of its last checkpoint."""
    flat = {f"model/{key}": value for key, value in fitting.model.state_dict().items()}
    checkpoint.write(path, flat, {"identity": identity, "done": True, "facts": fitting.facts, "curves": fitting.curves})


def _moments(fitting: Fit) -> dict[str, Tensor]:
    state = fitting.optimizer.state
    return {f"{key}/{what}": value for key, p in fitting.model.named_parameters() for what, value in state.get(p, {}).items()}


def resume(fitting: Fit, path: Path, identity: str, progress: Progress) -> bool:
    """Take the checkpoint up, if there is one of this training. Returns whether it was finished."""
    if not path.exists():
        return False
    try:
        flat, held = checkpoint.read(path)
    except checkpoint.Damaged as error:
        progress.say(f"{path.name} is damaged ({error}); this stage starts again")
        return False
    if held["identity"] != identity:
        progress.say(f"{path.name} is of another training; this stage starts again")
        return False
    fitting.facts, fitting.curves = held["facts"], held["curves"]
    fitting.model.load_state_dict(_part(flat, "model"))
    if not held["done"]:
        _restore(fitting, flat)
        progress.say(f"continuing at step {held['facts']['step']}")
    return bool(held["done"])


def _restore(fitting: Fit, flat: Mapping[str, Tensor]) -> None:
    for key, parameter in fitting.model.named_parameters():
        state = _part(flat, f"moments/{key}")
        if state:
            fitting.optimizer.state[parameter] = {
                what: value if what == "step" else _like(parameter, value) for what, value in state.items()
            }
    if fitting.average is not None:
        fitting.average.load_state_dict(_part(flat, "average"))
    fitting.best = _part(flat, "best") or None


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """The value on the parameter's device and laid out as it is, so that the same kernel computes the same bits."""
    import torch

    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _part(flat: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{part}/"): value for key, value in flat.items() if key.startswith(f"{part}/")}
