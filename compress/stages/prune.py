"""Structured pruning: remove the channels and hidden units that matter least, everywhere they are felt, where it buys time.

Widths are chosen by measured latency and not by multiplications: at each step every candidate layer is narrowed to the next
width the runtime runs fast, exported, timed beside the unpruned net, and the cut that saves most time for the importance it
loses is taken (greedily, as NetAdapt does), until the wanted share of the latency is reached. Each choice is journalled before
it is taken. What is left is then trained to say what the teacher says.
Helps when convolutions and recurrent layers dominate the measured latency and the net has capacity to spare. Does not help nets whose
widths already are at the runtime's block, nets of many tiny operators, or layers whose channels `channels.py` refuses.
Sources: Yang et al. 2018, "NetAdapt", arXiv:1804.03230 (widths by measurement); Molchanov et al. 2019, arXiv:1906.10771 (importance:
the squared first-order change of the loss when a channel's gate closes); Fang et al. 2023, arXiv:2301.12900 (coupled channels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from compress.context import Context, Skipped, tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compress.channels import Group

IMPORTANCE_BATCH = 4  # small, so that opposite gradients of different examples do not cancel before they are squared
WORTH = 0.003  # a saving below this share of the latency is noise
RECURRENT_ALIGN = 8  # LSTM latency is nearly smooth in the hidden size


@dataclass(frozen=True, slots=True)
class Prune:
    """`align` 0 takes the target's channel multiple. `looks` candidates are timed at each step after the first, which times all."""

    latency_ratio: float = 0.7  # share of the unpruned net's latency to reach, (0, 1)
    align: int = 0
    min_channels: int = 16
    importance: Literal["taylor", "magnitude"] = "taylor"
    importance_batches: int = 48
    measure: Literal["float", "int8"] = "float"  # int8: candidates are quantized before they are timed
    max_steps: int = 24
    looks: int = 3
    recovery_epochs: int = 6
    batch_size: int = 32
    lr: float = 1e-3
    temperature: float = 2.0
    max_drop: float | None = None  # of the metric; None: the plan's

    def __post_init__(self) -> None:
        if not 0 < self.latency_ratio < 1:
            raise ValueError(f"latency_ratio is {self.latency_ratio!r}, allowed: above 0 and below 1")
        for key, least in (
            ("align", 0),
            ("min_channels", 1),
            ("importance_batches", 1),
            ("max_steps", 1),
            ("looks", 1),
            ("recovery_epochs", 0),
            ("batch_size", 1),
        ):
            if getattr(self, key) < least:
                raise ValueError(f"{key} is {getattr(self, key)!r}, allowed: {least} and more")
        if self.lr <= 0 or self.temperature <= 0:
            raise ValueError("lr and temperature must be above 0")

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """A narrower module that behaves the same way. Raises Skipped where nothing can be cut or no cut saves time."""
        from compress import channels

        model = deepcopy(model).eval()
        groups = _sound_groups(model, context)
        scores = importances(model, groups, context, self)
        widths = self._search(model, groups, scores, context)
        if not any(widths[group.name] < group.width for group in groups):
            raise Skipped("no narrower layer is measurably faster here")
        pruned = channels.cut(model, groups, removed(groups, scores, widths))
        context.progress.say("prune: " + ", ".join(f"{g.name} {g.width} → {widths[g.name]}" for g in groups if widths[g.name] < g.width))
        return self._recover(pruned, model, context) if self.recovery_epochs else pruned.eval()

    def _search(self, model: nn.Module, groups: Sequence[Group], scores: Mapping[str, np.ndarray], context: Context) -> dict[str, int]:
        """Widths that reach the wanted latency, or as near as cuts that save time lead."""
        widths = {group.name: group.width for group in groups}
        savings: dict[str, float] = {}
        context.progress.start("prune: searching widths", self.max_steps)
        ratio = 1.0
        for step in range(self.max_steps):
            wanted = self._candidates(groups, widths, scores, savings, context)
            if not wanted or ratio <= self.latency_ratio:
                break
            found = context.decide(f"step-{step:02d}", lambda wanted=wanted: self._look(model, groups, scores, widths, wanted, context))
            savings.update(found["savings"])
            if found["take"] is not None:
                widths[found["take"]], ratio = found["width"], found["ratio"]
            elif len(wanted) == len(self._candidates(groups, widths, scores, {}, context)):
                break
            context.progress.step(step + 1, f"{100 * ratio:.0f} % of the latency")
        context.progress.finish(f"{100 * ratio:.0f} % of the latency")
        return widths

    def _candidates(
        self,
        groups: Sequence[Group],
        widths: Mapping[str, int],
        scores: Mapping[str, np.ndarray],
        savings: Mapping[str, float],
        context: Context,
    ) -> dict[str, int]:
        """The next narrower width of each layer, most promising first by what it saved when last timed; all of them before any was."""
        align = self.align or context.target.align
        narrower = {}
        for group in groups:
            width = next_width(
                widths[group.name], group.width, align=RECURRENT_ALIGN if group.recurrent else align, least=self.min_channels
            )
            if width is not None:
                narrower[group.name] = width
        if not savings:
            return narrower
        promise = {
            name: savings.get(name, 0.0) / loss_of(scores[name], widths[name], width)
            for name, width in narrower.items()
            if savings.get(name, 0.0) > WORTH
        }
        ranked = sorted(promise, key=lambda name: (-promise[name], name))[: self.looks]
        return {name: narrower[name] for name in ranked}

    def _look(
        self,
        model: nn.Module,
        groups: Sequence[Group],
        scores: Mapping[str, np.ndarray],
        widths: Mapping[str, int],
        wanted: Mapping[str, int],
        context: Context,
    ) -> dict[str, Any]:
        """Time every wanted cut beside the unpruned net and the present one; which to take, and what each saves."""
        with TemporaryDirectory() as folder:
            trials = {"unpruned": {group.name: group.width for group in groups}, "present": dict(widths)}
            trials |= {f"cut {name}": {**widths, name: width} for name, width in wanted.items()}
            files = {
                name: self._draft(model, groups, scores, trial, Path(folder) / f"{number:03d}", context)
                for number, (name, trial) in enumerate(trials.items())
            }
            ratios = _ratios(files, context)
        savings = {name: ratios["present"] - ratios[f"cut {name}"] for name in wanted}
        paying = {name: savings[name] / loss_of(scores[name], widths[name], wanted[name]) for name in wanted if savings[name] > WORTH}
        take = max(sorted(paying), key=lambda name: paying[name]) if paying else None
        chosen = (
            {"take": take, "width": wanted[take], "ratio": ratios[f"cut {take}"]} if take else {"take": None, "width": None, "ratio": None}
        )
        return {**chosen, "savings": savings, "timed": dict(wanted)}

    def _draft(
        self,
        model: nn.Module,
        groups: Sequence[Group],
        scores: Mapping[str, np.ndarray],
        widths: Mapping[str, int],
        path: Path,
        context: Context,
    ) -> Path:
        """A candidate as the file that would be timed."""
        from compress import channels
        from compress.export import export

        narrow = channels.cut(model, groups, removed(groups, scores, widths))
        graph = export(narrow, context.data, path.with_suffix(".onnx"), target=context.target, check=False)
        if self.measure == "float":
            return graph
        from compress.stages.quantize import draft

        return draft(graph, path.with_suffix(".int8.onnx"), context)

    def _recover(self, pruned: nn.Module, model: nn.Module, context: Context) -> nn.Module:
        """Train the narrow net to say what the teacher says; without one, what it said itself before it was cut."""
        import torch

        from compress.training import fit, forward

        teacher = (context.teacher or model).eval().to(context.device)

        def loss_of_batch(student: nn.Module, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
            with torch.no_grad():
                wanted = forward(teacher, inputs, context.data)
            return context.task.distil_loss(forward(student, inputs, context.data), wanted, targets, temperature=self.temperature)

        return fit(
            pruned, context, name="prune", loss_of=loss_of_batch, epochs=self.recovery_epochs, batch_size=self.batch_size, lr=self.lr
        )


def next_width(now: int, full: int, *, align: int, least: int) -> int | None:
    """The next narrower width worth timing: a multiple of `align`, where that is too coarse of 8, never below `least`.

    Wide layers narrow by about an eighth of their full width at a time.
    """
    for grid in dict.fromkeys((align, min(align, 8))):
        step = grid * max(1, round(full / 8 / grid))
        width = ((now - 1) // grid) * grid if now % grid else now - step
        if width >= max(least, grid):
            return width
    return None


def loss_of(scores: np.ndarray, now: int, width: int) -> float:
    """Importance lost by narrowing from `now` to `width` units, the least important first; never nothing."""
    ordered = np.sort(scores)
    return float(ordered[len(scores) - now : len(scores) - width].sum()) + 1e-12


def removed(groups: Sequence[Group], scores: Mapping[str, np.ndarray], widths: Mapping[str, int]) -> dict[str, list[int]]:
    """The least important units of each group beyond its width. Ties go by position."""
    return {
        group.name: sorted(np.argsort(scores[group.name], kind="stable")[: group.width - widths[group.name]].tolist())
        for group in groups
        if widths[group.name] < group.width
    }


def _ratios(files: Mapping[str, Path], context: Context) -> dict[str, float]:
    """Latency of each file over the unpruned one's, geometric mean over the first two probes, each probe one interleaved run."""
    logs: dict[str, list[float]] = {name: [] for name in files}
    for feeds in list(context.data.probes().values())[:2]:
        times = context.latencies.paired(files, feeds, threads=context.target.threads)
        for name in files:
            logs[name].append(float(np.log(times[name] / times["unpruned"])))
    return {name: float(np.exp(np.mean(values))) for name, values in logs.items()}


def _sound_groups(model: nn.Module, context: Context) -> list[Group]:
    """The groups that pass the dead-channel test; the others are named with the reason."""
    from compress import channels

    inputs, others = _examples(context)
    try:
        found, refused = channels.find(model, inputs)
    except ValueError as error:
        raise Skipped(str(error)) from error
    for group in found:
        reason = channels.unsound(model, group, inputs, others, seed=context.seed)
        if reason:
            refused[group.name] = reason
    for name, reason in refused.items():
        context.progress.say(f"prune: {name} stays as it is: {reason}")
    sound = [group for group in found if group.name not in refused]
    if not sound:
        raise Skipped("no layer can be cut: " + "; ".join(f"{name}: {reason}" for name, reason in refused.items()))
    return sound


def _examples(context: Context) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Two different small inputs of the same shape, from the training split; noise where it has one example only."""
    import torch

    batch = next(iter(context.data.batches("train", batch_size=IMPORTANCE_BATCH, seed=context.seed)))
    inputs = tensors({port.name: batch.inputs[port.name][:2] for port in context.data.signature.inputs})
    others = tensors({port.name: batch.inputs[port.name][::-1][:2] for port in context.data.signature.inputs})
    generator = torch.Generator().manual_seed(context.seed)
    noisy = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in others.items()
    }
    return tuple(inputs.values()), tuple(noisy.values())


def importances(model: nn.Module, groups: Sequence[Group], context: Context, settings: Prune) -> dict[str, np.ndarray]:
    """What each unit of each group is worth, (width,) a group. Only magnitudes are made comparable between groups by their mean."""
    if settings.importance == "taylor":
        return _taylor(model, groups, context, settings.importance_batches)
    return _magnitude(model, groups)


def _taylor(model: nn.Module, groups: Sequence[Group], context: Context, batches: int) -> dict[str, np.ndarray]:
    """Mean over small batches of (Σ weight · gradient over all that reads the unit)²: the loss's first-order change, squared."""
    import torch

    from compress.training import forward, reproducible

    totals = {group.name: np.zeros(group.width) for group in groups}
    net = deepcopy(model).eval().requires_grad_(True)
    stream = context.data.batches("train", batch_size=IMPORTANCE_BATCH, seed=context.seed, shuffle=True, limit=None)
    with reproducible(context.threads), torch.enable_grad():
        for number, batch in enumerate(stream):
            if number == batches:
                break
            net.zero_grad(set_to_none=True)
            loss = context.task.loss(forward(net, tensors(batch.inputs), context.data), tensors(batch.targets))
            if not bool(torch.isfinite(loss)):
                continue
            loss.backward()
            for group in groups:
                totals[group.name] += _gate(net, group) ** 2
    return {name: total / batches for name, total in totals.items()}


def _gate(net: nn.Module, group: Group) -> np.ndarray:
    """The derivative of the loss by a gate on each unit: Σ weight · gradient over its readers, (width,)."""
    from compress.channels import readers

    def product(parameter: Tensor) -> Tensor:
        return parameter.detach() * parameter.grad if parameter.grad is not None else parameter.detach() * 0

    return _per_unit(net, group, lambda module, side: readers(module, side, product))


def _magnitude(model: nn.Module, groups: Sequence[Group]) -> dict[str, np.ndarray]:
    """L2 norm of everything that makes or reads a unit, over the group's mean."""
    from compress.channels import makers, readers

    def square(parameter: Tensor) -> Tensor:
        return parameter.detach() ** 2

    found = {}
    for group in groups:
        norms = np.sqrt(_per_unit(model, group, lambda module, side: readers(module, side, square) + makers(module, side, square)))
        found[group.name] = norms / max(float(norms.mean()), 1e-12)
    return found


def _per_unit(model: nn.Module, group: Group, rows_of: Any) -> np.ndarray:
    """Sums over the channels of each unit of per-channel rows, in every module of the group."""
    total = np.zeros(group.width)
    for part in group.cuts:
        for rows in rows_of(model.get_submodule(part.module), part.side):
            sums = rows.flatten(1).sum(1).double().cpu().numpy() if rows.dim() > 1 else rows.double().cpu().numpy()
            for unit, channels in enumerate(part.index):
                total[unit] += sums[sorted({channel % len(sums) for channel in channels})].sum()
    return total
