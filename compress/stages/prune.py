"""Structured pruning: remove the channels and hidden units that matter least, everywhere they are felt, where it buys time.

Channels that are added, joined or carried by a recurrent state are cut as one (`channels.py`); what they are worth is a first-order
change of the loss (`importance.py`); widths are chosen by the measured latency of the exported file and not by multiplications
(`widths.py`). What is left is trained to say what the teacher says.
Helps when convolutions and recurrent layers dominate the measured latency and the net has capacity to spare. Does not help nets whose
widths already are at the runtime's block, nets of many tiny operators, or layers whose couplings cannot be followed.
Sources: Yang et al. 2018, "NetAdapt", arXiv:1804.03230; Molchanov et al. 2019, arXiv:1906.10771; Fang et al. 2023, arXiv:2301.12900.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import numpy as np

from compress.context import Context, Skipped, tensors
from compress.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compress.channels import Group


@dataclass(frozen=True, slots=True)
class Prune:
    """`align` 0 takes the target's channel multiple. `looks` candidates are timed at each step after the first, which times all."""

    latency_ratio: float = 0.7  # share of the unpruned net's latency to reach, (0, 1)
    align: int = 0
    min_channels: int = 16
    importance: Literal["taylor", "magnitude"] = "taylor"
    importance_batches: int = 48  # of four examples
    measure: Literal["float", "int8"] = "float"  # int8: candidates are quantized before they are timed
    max_steps: int = 24
    looks: int = 3
    recovery_epochs: int = 6
    batch_size: int = 32
    lr: float = 1e-3
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.latency_ratio < 1:
            raise ValueError(f"latency_ratio is {self.latency_ratio!r}, allowed: above 0 and below 1")
        for key in ("min_channels", "importance_batches", "max_steps", "looks", "batch_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)!r}, allowed: 1 and more")
        if self.align < 0 or self.recovery_epochs < 0 or self.lr <= 0 or self.temperature <= 0:
            raise ValueError("align and recovery_epochs must not be negative, lr and temperature must be above 0")

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """A narrower module that behaves the same way. Raises Skipped where nothing can be cut or no cut saves time."""
        from compress.importance import magnitude, taylor
        from compress.widths import Search

        model = deepcopy(model).cpu().eval()
        groups = _sound_groups(model, context)
        scores = (
            taylor(model, groups, context, batches=self.importance_batches) if self.importance == "taylor" else magnitude(model, groups)
        )
        align = self.align or context.target.align
        search = Search(
            model,
            groups,
            scores,
            context,
            partial(self._draft, context=context),
            align=align,
            least=self.min_channels,
            looks=self.looks,
            steps=self.max_steps,
        )
        widths, ratio = search.run(self.latency_ratio)
        narrower = [f"{group.name} {group.width} → {widths[group.name]}" for group in groups if widths[group.name] < group.width]
        if not narrower:
            raise Skipped("no narrower layer is measurably faster here")
        context.progress.say(f"prune: {', '.join(narrower)}")
        if ratio > self.latency_ratio:
            context.progress.say(
                f"prune: {100 * ratio:.0f} % of the latency is as far as it goes, {100 * self.latency_ratio:.0f} % was asked"
            )
        return self._recover(search.narrow(widths), model, context)

    def _draft(self, narrow: nn.Module, path: Path, *, context: Context) -> Path:
        """A candidate as the file that is timed."""
        from compress.export import export

        if self.measure == "float":
            return export(narrow, context.data, path, target=context.target, check=False)
        with TemporaryDirectory() as folder:
            graph = export(narrow, context.data, Path(folder) / "draft.onnx", target=context.target, check=False)
            return write_bytes(path, _integer(graph, context).read_bytes())

    def _recover(self, pruned: nn.Module, model: nn.Module, context: Context) -> nn.Module:
        """Train the narrow net to say what the teacher says; without one, what it said itself before it was cut."""
        import torch

        from compress.forward import answering
        from compress.together import shared
        from compress.training import fit, forward

        if not self.recovery_epochs:
            return pruned.eval()
        teacher = shared(answering(context.teacher or model, context.device), context.ranks)

        def loss_of(student: nn.Module, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
            with torch.no_grad():
                wanted = forward(teacher, inputs, context.data)
            return context.task.distil_loss(forward(student, inputs, context.data), wanted, targets, temperature=self.temperature)

        return fit(pruned, context, name="prune", loss_of=loss_of, epochs=self.recovery_epochs, batch_size=self.batch_size, lr=self.lr)


def _integer(graph: Path, context: Context) -> Path:
    """The graph in the target's integer format, calibrated on a handful of inputs: for timing, not for scoring."""
    from compress.graph.reading import read
    from compress.quantization import Parts, Samples, finish, prepare, quantize_static, recipes

    parts = Parts(graph.with_suffix(""))
    base = prepare(graph, parts.float)
    recipe = recipes(read(base))[0]
    if recipe == "dynamic":
        return finish(base, parts.shipped, recipe=recipe, format=context.target)
    samples = Samples(context.data, 4, seed=context.seed)
    static = quantize_static(base, parts.static, samples, recipe=recipe, method="minmax", percentile=100.0, format=context.target)
    return finish(static, parts.shipped, recipe=recipe, format=context.target)


def _sound_groups(model: nn.Module, context: Context) -> list[Group]:
    """The groups that pass the dead-channel test; the others are named with the reason."""
    from compress import channels

    inputs, others = _examples(context)
    try:
        found, refused = channels.find(model, inputs)
    except ValueError as error:
        raise Skipped(str(error)) from error
    reasons = {group.name: channels.unsound(model, group, inputs, others, seed=context.seed) for group in found}
    refused |= {name: reason for name, reason in reasons.items() if reason}
    for name, reason in refused.items():
        context.progress.say(f"prune: {name} stays as it is: {reason}")
    sound = [group for group in found if group.name not in refused]
    if not sound:
        raise Skipped("no layer can be cut: " + "; ".join(f"{name}: {reason}" for name, reason in refused.items()))
    return sound


def _examples(context: Context) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Two different small inputs of one shape: the first examples of the training split, and the same with noise, in reverse."""
    names = [port.name for port in context.data.signature.inputs]
    batch = next(iter(context.data.batches("train", batch_size=2, seed=context.seed)))
    generator = np.random.Generator(np.random.PCG64(context.seed))

    def noisy(array: np.ndarray) -> np.ndarray:
        rows = array[::-1]
        return rows + generator.normal(0, 0.1, rows.shape).astype(rows.dtype) if np.issubdtype(rows.dtype, np.floating) else rows

    given = {name: batch.inputs[name] for name in names}
    return tuple(tensors(given).values()), tuple(tensors({name: noisy(array) for name, array in given.items()}).values())
