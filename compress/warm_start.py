"""Where training begins: from nothing, from published weights, or from the module of an earlier run, on other data perhaps.

Published weights go through the builder's own door, which knows their names. An earlier run's module is the same net: every tensor of
the same name and shape is taken, and what has none (the head of other classes) stays new.
"""

from __future__ import annotations

import json
import logging
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from compress.files import sha256
from compress.weights import ModelSpec, imported, read_state
from rules.problems import Problem, bad_input

if TYPE_CHECKING:
    from torch import Tensor, nn

HUB = "hub"
LEAST = 0.5  # of a net's numbers that must come from the file: less is another net
log = logging.getLogger("advisor.weights")


def earlier(weights: str) -> bool:
    """Whether `weights` is the module of an earlier run: a .safetensors file, and beside it the .json that says what built it."""
    path = Path(weights)
    return path.suffix == ".safetensors" and path.with_suffix(".json").is_file()


def check(architecture: str, builds: str, weights: str) -> None:
    """Refuse what no training could begin from. Raises Problem (exit 2 or 3); imports the builder, and so torch."""
    path = Path(weights)
    if weights == HUB and not has_door(builds):
        raise Problem(
            f"{architecture} has no published weights to start from",
            remedy="leave weights out of the plan, or name the module.safetensors of an earlier run",
        )
    if weights != HUB and not has_door(builds) and not (path.suffix == ".safetensors" and path.is_file()):
        raise bad_input(
            f"no weights {weights}", remedy="allowed: a .safetensors file that is there, such as module.safetensors of an earlier run"
        )


def has_door(builds: str) -> bool:
    """Whether the builder takes published weights itself."""
    return "weights" in signature(imported(builds)).parameters


def build(spec: ModelSpec, weights: str) -> nn.Module:
    """The module of `spec`, begun from `weights`. Its spec stays as it is: what is stored is built again without them.

    Raises Problem (exit 3) for a file that is damaged or of another net.
    """
    if not weights:
        return spec.build()
    if has_door(spec.builds) and not earlier(weights):
        return ModelSpec(spec.builds, {**spec.settings, "weights": weights}).build()
    module = spec.build()
    take(module, _verified(Path(weights)), weights)
    return module


def take(module: nn.Module, state: dict[str, Tensor], name: str) -> None:
    """Every tensor of `state` that `module` has in that name and shape. In place; warns of what stays new.

    Raises Problem (exit 3) where less than half of the module's numbers are found.
    """
    own = module.state_dict()
    fits = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    share = sum(own[key].numel() for key in fits) / max(1, sum(value.numel() for value in own.values()))
    if share < LEAST:
        what = f"{name} has {share:.0%} of the numbers of {type(module).__name__}, at least {LEAST:.0%} are needed"
        raise bad_input(
            what,
            remedy="weights must be of the same architecture and variant, before pruning; where the plan distils they begin the teacher",
        )
    module.load_state_dict(fits, strict=False)
    new = [key for key in own if key not in fits]
    if new:
        log.warning(f"{share:.0%} of the numbers come from {name}; new: {', '.join(new[:4])}{' …' if len(new) > 4 else ''}")


def _verified(path: Path) -> dict[str, Tensor]:
    """The tensors, whose bytes are those the run sealed where it did."""
    sidecar = path.with_suffix(".json")
    if sidecar.is_file():
        try:
            sealed = json.loads(sidecar.read_bytes())["sha256"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise bad_input(f"{sidecar} is damaged: {type(error).__name__}", remedy="give the module of a run that is whole") from None
        if sealed != sha256(path):
            raise bad_input(f"{path} is not the file that {sidecar.name} was written with", remedy="give the module of a run that is whole")
    return read_state(path)
