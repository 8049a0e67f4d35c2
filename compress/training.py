"""The training loop that every module stage shares: AdamW over one cycle, exact to the bit when it is resumed.

Idea: nothing random is remembered. Batches come from (seed, epoch), dropout from (seed, stage, step), the learning rate from the
step. So a checkpoint is weights, moments and counters, and it may be taken in the middle of an epoch.
Source: AdamW, Loshchilov & Hutter 2017, arXiv:1711.05101; clipping by global norm, Pascanu et al. 2013, arXiv:1211.5063.
Exact resume holds for the same machine, versions, threads and device "cpu".
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compress.context import Context, Data, tensors
from compress.fitting import Fit, follow, resume, write, write_result
from compress.forward import Precision, autocast, channels_last, forward, predictor, reproducible
from compress.payoff import show
from compress.schedule import decay, rate, seed_for
from compress.weights import digest
from rules.examples import Batch
from rules.problems import bad_environment, bad_input

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["LossOf", "Precision", "Recipe", "autocast", "fit", "forward", "predictor", "reproducible"]

LossOf = Callable[["nn.Module", "Mapping[str, Tensor]", "Mapping[str, Tensor]"], "Tensor"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. `steps` counts optimizer steps and, where it is not 0, overrides `epochs`."""

    epochs: int = 10
    steps: int = 0
    batch_size: int = 32
    lr: float = 2e-3  # the peak of the cycle
    weight_decay: float = 0.01  # of matrices and kernels; never of norms and biases
    warmup: float = 0.25  # share of the steps before the peak
    clip: float = 5.0  # largest global gradient norm; 0: no clipping
    ema: float = 0.0  # ceiling of the weight averaging; 0: none
    augment: bool = True
    precision: Literal["fp32", "bf16"] = "fp32"  # of the arithmetic while training; weights and moments stay fp32
    keep: Literal["last", "best"] = "last"  # which weights are the result: the last, or those of the best validation score
    evaluations: int = 4  # how often the validation split is scored, evenly spaced, the last time at the end; 0: never
    patience: int = 0  # stop after so many evaluations without a better score; 0: never
    val_limit: int = 500  # examples of the validation split in each evaluation

    def __post_init__(self) -> None:
        for key, low, high in (("epochs", 1, 1e5), ("steps", 0, 1e9), ("batch_size", 1, 65536), ("lr", 1e-9, 10), ("warmup", 0, 0.95)):
            if not low <= getattr(self, key) <= high:
                raise ValueError(f"{key} is {getattr(self, key)!r}, allowed: {low:g} to {high:g}")
        for key, low, high in (
            ("weight_decay", 0, 1),
            ("clip", 0, math.inf),
            ("ema", 0, 0.99999),
            ("evaluations", 0, 1e5),
            ("patience", 0, 1e5),
        ):
            if not low <= getattr(self, key) <= high:
                raise ValueError(f"{key} is {getattr(self, key)!r}, allowed: {low:g} to {high:g}")
        if (self.keep == "best" or self.patience) and not self.evaluations:
            raise ValueError("keep = 'best' and patience need evaluations, and evaluations is 0")


def fit(
    model: nn.Module,
    context: Context,
    *,
    name: str,
    loss_of: LossOf,
    checkpoint_seconds: float = 30.0,
    clock: Callable[[], float] = time.monotonic,
    **recipe: Any,
) -> nn.Module:
    """Train `model` in place, on the context's device, and return it in eval mode and on the CPU.

    `loss_of(model, inputs, targets)` is the loss of one batch, a scalar; `recipe` are fields of `Recipe`. Continues from the
    checkpoint in `context.folder`, if it is of this very training, and returns at once if that one was finished.
    Raises Problem: exit 3 at the first non-finite loss or gradient, with the batch named; exit 5 out of memory.
    """
    chosen = Recipe(**recipe)
    path = context.folder / f"{name.replace('/', '-')}.checkpoint.safetensors"
    model.to(context.device)
    ranks, key = context.ranks, f"{context.folder.name}/{name}"
    identity = ranks.same(f"{key}/identity", lambda: json.dumps([name, context.seed, asdict(chosen), digest(model)]))
    with reproducible(max(1, context.threads // ranks.local_size), context.device), channels_last(model):
        fitting = Fit(model, _optimizer(model, chosen), copy.deepcopy(model).eval() if chosen.ema else None)
        if not _resumed(fitting, path, identity, context, key=key):
            _run(
                fitting,
                context,
                chosen,
                name=name,
                loss_of=loss_of,
                due=_due(checkpoint_seconds, clock) if ranks.leads else lambda _: False,
                write=lambda: write(fitting, path, identity),
            )
            _settle(fitting, chosen)
            if ranks.leads:
                write_result(fitting, path, identity)
    context.curves.extend(fitting.curves)
    return model.cpu().eval()


def _resumed(fitting: Fit, path: Path, identity: str, context: Context, *, key: str) -> bool:
    """Take the checkpoint up, on every process the same one. Returns whether the training was finished."""
    from compress.together import alike

    finished = resume(fitting, path, identity, context.progress)
    mine = [finished, fitting.facts["step"]]
    if context.ranks.same(f"{key}/at", lambda: mine) != mine:
        raise bad_environment(f"{path} is not what the first process sees", remedy="the run's folder must be one that all processes share")
    alike(fitting.model, context.ranks)
    return finished


# -- the loop ------------------------------------------------------------------------------------------------------------


def _run(
    fitting: Fit, context: Context, recipe: Recipe, *, name: str, loss_of: LossOf, due: Callable[[bool], bool], write: Callable[[], Any]
) -> None:
    facts, seed = fitting.facts, seed_for(context.seed, name)
    total = recipe.steps or recipe.epochs * _per_epoch(context.data, recipe, name)
    every = max(1, total // 100)
    marks = {round(total * (k + 1) / recipe.evaluations) for k in range(recipe.evaluations)} if context.data.count("val") else set()
    context.progress.start(name, total)
    since, done = time.monotonic(), 0
    for epoch, position, batch in _stream(context.data, recipe, seed=seed, epoch=facts["epoch"], position=facts["position"]):
        if facts["step"] >= total or (recipe.patience and facts["stale"] >= recipe.patience):
            break
        lr = rate(facts["step"], total, peak=recipe.lr, warmup=recipe.warmup)
        with _enough_memory(name, batch):
            loss = _step(fitting, context, recipe, batch, name=name, loss_of=loss_of, lr=lr, seed=seed)
        facts.update(step=facts["step"] + 1, epoch=epoch, position=position + 1, sum=facts["sum"] + loss, count=facts["count"] + 1)
        step, done = facts["step"], done + len(batch.ids)
        if step % every == 0 or step == total or step in marks:
            _note(fitting, name, lr)
        if step in marks:
            _evaluate(fitting, context, recipe, name=name)
        if due(position == 0):
            write()
        context.progress.step(step, f"loss {loss:.3f}, lr {lr:.1e}, {done / max(1e-9, time.monotonic() - since):.0f}/s")
    context.progress.finish(_summary(fitting, context))


def _step(fitting: Fit, context: Context, recipe: Recipe, batch: Batch, *, name: str, loss_of: LossOf, lr: float, seed: int) -> float:
    """One optimizer step; returns the loss before it."""
    import torch

    from compress.together import shared, sum_gradients

    step, model, ranks = fitting.facts["step"], fitting.model.train(), context.ranks
    torch.manual_seed(seed_for(seed, step) if ranks.leads else seed_for(seed, step, ranks.rank))
    with autocast(recipe.precision, context.device):
        loss = loss_of(shared(model, ranks), tensors(batch.inputs, context.device), tensors(batch.targets, context.device))
    value = loss.item()
    _check_finite(value, "loss", batch, name=name, step=step, lr=lr)
    fitting.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    sum_gradients(model.parameters(), ranks)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip or math.inf).item()
    _check_finite(norm, "gradient", batch, name=name, step=step, lr=lr)
    for group in fitting.optimizer.param_groups:
        group["lr"] = lr
    fitting.optimizer.step()
    if fitting.average is not None:
        follow(fitting.average, model, weight=decay(step + 1, recipe.ema))
    return value


def _stream(data: Data, recipe: Recipe, *, seed: int, epoch: int, position: int) -> Iterator[tuple[int, int, Batch]]:
    """Batches without end, from a place in an epoch on: (epoch, position in it, batch)."""
    while True:
        for index, batch in enumerate(_epoch(data, recipe, seed=seed, epoch=epoch)):
            if index >= position:
                yield epoch, index, batch
        epoch, position = epoch + 1, 0


def _epoch(data: Data, recipe: Recipe, *, seed: int, epoch: int) -> Any:
    return data.batches("train", batch_size=recipe.batch_size, seed=seed, epoch=epoch, augment=recipe.augment, shuffle=True)


def _per_epoch(data: Data, recipe: Recipe, name: str) -> int:
    """Batches in an epoch. Raises Problem (exit 3) where there are none."""
    batches = _epoch(data, recipe, seed=0, epoch=0)
    count = length_hint(batches, -1)
    count = sum(1 for _ in batches) if count < 0 else count
    if count == 0:
        raise bad_input(f"{name}: the training split is empty", remedy="give at least one training example")
    return count


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    import torch

    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=recipe.lr)


def _due(seconds: float, clock: Callable[[], float]) -> Callable[[bool], bool]:
    """Whether to write a checkpoint now: every `seconds`, and at the start of an epoch if a tenth of that has passed."""
    last = clock()

    def due(new_epoch: bool) -> bool:
        nonlocal last
        now = clock()
        if now - last < (seconds / 10 if new_epoch else seconds):
            return False
        last = now
        return True

    return due


# -- what is watched -----------------------------------------------------------------------------------------------------


def _note(fitting: Fit, name: str, lr: float) -> None:
    """Append the mean loss since the last note to the curve."""
    facts = fitting.facts
    fitting.curves.append({"stage": name, "step": facts["step"], "epoch": facts["epoch"], "loss": facts["sum"] / facts["count"], "lr": lr})
    facts.update(sum=0.0, count=0)


def _evaluate(fitting: Fit, context: Context, recipe: Recipe, *, name: str) -> None:
    """Score the validation split, and hold on to the best weights where they are wanted."""
    metric, facts = context.task.metric, fitting.facts
    predict = predictor(fitting.candidate, context.data, device=context.device)
    score = context.ranks.same(
        f"{context.folder.name}/{name}/score/{facts['step']}",
        lambda: float(context.data.score(predict, "val", limit=recipe.val_limit).value),
    )
    fitting.curves[-1]["val"] = score
    if facts["score"] is None or (score < facts["score"] if metric.better == "lower" else score > facts["score"]):
        facts.update(score=score, stale=0)
        if recipe.keep == "best":
            fitting.best = {key: value.detach().clone() for key, value in fitting.candidate.state_dict().items()}
    else:
        facts["stale"] += 1


def _settle(fitting: Fit, recipe: Recipe) -> None:
    """Put the chosen weights into the model."""
    if recipe.keep == "best" and fitting.best is not None:
        fitting.model.load_state_dict(fitting.best)
    elif fitting.average is not None:
        fitting.model.load_state_dict(fitting.average.state_dict())


def _summary(fitting: Fit, context: Context) -> str:
    last = next((point for point in reversed(fitting.curves) if "val" in point), None)
    loss = f"loss {fitting.curves[-1]['loss']:.3f}" if fitting.curves else ""
    return f"{loss}, validation {context.task.metric.name} {show(context.task.metric, last['val'])}" if last else loss


def _check_finite(value: float, what: str, batch: Batch, *, name: str, step: int, lr: float) -> None:
    if not math.isfinite(value):
        named = ", ".join(batch.ids[:4]) + (f" and {len(batch.ids) - 4} more" if len(batch.ids) > 4 else "")
        raise bad_input(
            f"{name}: the {what} is {value} at step {step + 1}, on the batch of {named}",
            remedy=f"look at these examples, or lower lr (it was {lr:.1e}); the last checkpoint is kept",
        )


@contextmanager
def _enough_memory(name: str, batch: Batch) -> Iterator[None]:
    """Running out of memory is the user's to mend; torch says so in words only. Any other error passes."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if not (isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text):
            raise
        remedy = "lower batch_size and run again"
        raise bad_environment(f"{name}: out of memory on a batch of {len(batch.ids)}", remedy=remedy) from error
