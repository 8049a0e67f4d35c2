"""A few examples of something new: which of these is it? Asked of places by the nearest mean, and of a net that adapts itself (MAML).

Idea: a small task ("20 ways, 1 shot") shows one picture of each of twenty kinds nobody trained on and asks for one more. A prototypical
network answers by the nearest mean and learns nothing for it. MAML learns a start from which a few steps of gradient descent on the
shown pictures are enough: it needs gradients where it is asked, which no exported graph has, so it is here to be compared with.
Source: Snell et al. 2017, arXiv:1703.05175; Finn et al. 2017, arXiv:1703.03400 (inner steps, batch norm by the task's own statistics).
Shape: places (n, d) of length one, kinds (n,) → right (m,) in 0 to 1; pictures (ways, c, h, w) → parameters → logits (m, ways).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Array = NDArray[Any]
ROUNDS = 5  # small tasks that each picture is asked in


def nearest(places: Array, kinds: Array, asked: Array, *, ways: int, shots: int, rounds: int = ROUNDS) -> Array:
    """How often each of the rows `asked` is told right among `ways` kinds by the nearest mean of `shots` pictures; the draw is fixed."""
    rows = {kind: np.flatnonzero(kinds == kind) for kind in np.unique(kinds)}
    able = np.array([kind for kind, held in rows.items() if len(held) >= shots])
    right = np.zeros(len(asked))
    for place, row in enumerate(asked.tolist()):
        own = int(kinds[row])
        for number in range(rounds):
            rng = np.random.default_rng([row, number])
            others = rng.permutation(able[able != own])[: ways - 1].tolist()
            shown = [_shown(rows[kind][rows[kind] != row], shots, rng) for kind in (own, *others)]
            means = np.stack([places[some].mean(0) for some in shown])
            means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
            likeness = means @ places[row]
            right[place] += float(likeness[0] > likeness[1:].max(initial=-np.inf)) / rounds  # a tie is no answer
    return right


def _shown(rows: Array, shots: int, rng: np.random.Generator) -> Array:
    return rng.permutation(rows)[:shots]


# -- MAML ----------------------------------------------------------------------------------------------------------------


def adapted(model: nn.Module, shown: Tensor, labels: Tensor, *, steps: int, rate: float, second_order: bool) -> Mapping[str, Tensor]:
    """The parameters of `model` after `steps` of gradient descent on the pictures shown; with `second_order` differentiable in the old."""
    import torch
    from torch.func import functional_call
    from torch.nn.functional import cross_entropy

    held: dict[str, Any] = dict(model.named_parameters())
    for _ in range(steps):
        loss = cross_entropy(functional_call(model, held, (shown,)), labels)
        slopes = torch.autograd.grad(loss, list(held.values()), create_graph=second_order)
        held = {name: value - rate * slope for (name, value), slope in zip(held.items(), slopes, strict=True)}
    return held


def maml_loss(model: nn.Module, shown: Tensor, asked: Tensor, *, steps: int = 3, rate: float = 0.1, second_order: bool = True) -> Tensor:
    """What the adapted net gets wrong on the pictures asked: both (ways, shots, c, h, w), the first axis is the kind. Nats a picture."""
    from torch.func import functional_call
    from torch.nn.functional import cross_entropy

    (given, labels), (query, wanted) = _flat(shown), _flat(asked)
    held = adapted(model, given, labels, steps=steps, rate=rate, second_order=second_order)
    return cross_entropy(functional_call(model, dict(held), (query,)), wanted)


def maml_answers(model: nn.Module, shown: Tensor, asked: Tensor, *, steps: int = 5, rate: float = 0.1) -> Tensor:
    """Which of the kinds shown (ways, shots, c, h, w) each of the pictures asked (m, c, h, w) is, (m,) int64."""
    import torch
    from torch.func import functional_call

    given, labels = _flat(shown)
    held = adapted(model, given, labels, steps=steps, rate=rate, second_order=False)
    with torch.no_grad():
        answers: torch.Tensor = functional_call(model, dict(held), (asked,)).argmax(-1)
    return answers


def _flat(pictures: Tensor) -> tuple[Tensor, Tensor]:
    import torch

    ways, shots = pictures.shape[:2]
    return pictures.flatten(0, 1), torch.arange(ways, device=pictures.device).repeat_interleave(shots)


def adaptable(ways: int, *, channels: int = 3, side: int = 28, width: int = 64) -> nn.Module:
    """The four blocks of the prototypical network under a linear layer of `ways` outputs that starts at zero: MAML's net."""
    from torch import nn

    from advisor.architectures.prototypical import build

    head = nn.Linear(width, ways)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return nn.Sequential(build(people=0, channels=channels, side=side, embedding=width, width=width).body, head)
