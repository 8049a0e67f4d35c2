"""The training loop: it learns, it resumes exactly, it stops in time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compress import checkpoint
from compress.context import Silent, Skipped
from compress.fitting import follow
from compress.schedule import decay, rate, seed_for
from compress.stages.distil import Distil, towards
from compress.stages.train import Train
from compress.training import Recipe, _optimizer, fit, forward, predictor
from compress.weights import digest
from rules.examples import Score
from rules.problems import Exit, Problem
from tests.tasks_for_tests import TASK, Stripes, context, tiny_module

QUICK = {"epochs": 3, "batch_size": 32, "lr": 1e-2, "val_limit": 16, "evaluations": 2}
SMALL = TASK.open(settings={"train": 96, "val": 16, "test": 8})


class Killed(Exception):
    """Stands for a kill: raised in the middle of the loop."""


@dataclass
class Kills(Silent):
    """Progress that raises once `at` steps are done, and remembers what was said."""

    at: int = -1

    def __post_init__(self) -> None:
        self.said: list[str] = []

    def step(self, done: int, note: str = "") -> None:
        if done == self.at:
            raise Killed

    def say(self, line: str) -> None:
        self.said.append(line)


def task_loss(ctx: Any) -> Any:
    return lambda model, inputs, targets: TASK.loss(forward(model, inputs, ctx.data), targets)


def train(
    folder: Any, *, every: int = 4, model: nn.Module | None = None, loss_of: Any = None, recipe: Any = None, **overrides: Any
) -> tuple[str, Any]:
    """Fit a tiny module with a checkpoint each `every` steps; returns the digest of the result and the context."""
    ctx = context(folder, **{"data": SMALL, **overrides})
    ticks = itertools.count()
    model = tiny_module() if model is None else model
    done = fit(
        model,
        ctx,
        name="train",
        loss_of=loss_of or task_loss(ctx),
        clock=lambda: float(next(ticks)),
        checkpoint_seconds=every,
        **{**QUICK, **(recipe or {})},
    )
    return digest(done), ctx


def test_a_short_training_learns_to_read(tmp_path):
    ctx = context(tmp_path)
    before = ctx.data.score(predictor(tiny_module(), ctx.data), "test").value
    model = Train(epochs=10, batch_size=16, lr=1e-2).apply(tiny_module(), ctx)
    assert before > 0.8
    assert ctx.data.score(predictor(model, ctx.data), "test").value < 0.1
    assert ctx.curves[-1]["val"] < 0.1 and ctx.curves[0]["loss"] > 5 * ctx.curves[-1]["loss"]


def test_a_student_learns_from_a_teacher_that_stays_as_it_was(tmp_path):
    teacher = Train(epochs=10, batch_size=16, lr=1e-2).apply(tiny_module(), context(tmp_path / "teacher"))
    was = digest(teacher)
    ctx = context(tmp_path / "student", teacher=teacher)
    student = Distil(epochs=14, batch_size=16, lr=1e-2).apply(tiny_module(1, channels=12, hidden=12), ctx)
    assert ctx.data.score(predictor(student, ctx.data), "test").value < 0.15
    assert digest(teacher) == was


def test_without_a_teacher_distilling_is_skipped(tmp_path):
    with pytest.raises(Skipped, match="no teacher"):
        Distil().apply(tiny_module(), context(tmp_path))


RECIPES = {
    "plain": {},
    "averaged": {"ema": 0.9},
    "bfloat16": {"precision": "bf16"},
    "best of three": {"keep": "best", "evaluations": 3},
    "averaged best": {"keep": "best", "evaluations": 3, "ema": 0.9},
    "two threads": {"threads": 2, "steps": 4},
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_resumed_training_equals_an_unbroken_one_bit_for_bit(tmp_path, recipe):
    recipe = dict(recipe)
    threads = recipe.pop("threads", 1)

    def run(folder: Any, **how: Any) -> tuple[str, Any]:
        return train(folder, model=tiny_module(dropout=0.3), recipe=recipe, threads=threads, **how)

    whole, held = run(tmp_path / "whole")
    for kill in np.random.default_rng(3).choice(np.arange(1, recipe.get("steps", 10)), 3 - threads, replace=False):
        with pytest.raises(Killed):
            run(tmp_path / f"killed-{kill}", progress=Kills(int(kill)))
        torch.manual_seed(int(kill))  # the new process has another random state
        resumed, ctx = run(tmp_path / f"killed-{kill}")
        assert resumed == whole, f"killed at step {kill}"
        assert ctx.curves == held.curves


def test_a_training_killed_at_every_step_still_ends_the_same(tmp_path):
    whole, _ = train(tmp_path / "whole", every=1)
    for kill in range(2, 9):
        with pytest.raises(Killed):
            train(tmp_path / "killed", every=1, progress=Kills(kill))
    assert train(tmp_path / "killed", every=1)[0] == whole


def test_it_continues_in_the_middle_of_an_epoch_without_computing_what_was_done(tmp_path):
    computed = 0

    def counting(model: nn.Module, inputs: Any, targets: Any) -> Any:
        nonlocal computed
        computed += 1
        return TASK.loss(model(inputs["image"]), targets)

    with pytest.raises(Killed):
        train(tmp_path, every=1, loss_of=counting, progress=Kills(2))
    assert computed == 2
    progress = Kills()
    _, ctx = train(tmp_path, every=1, loss_of=counting, progress=progress)
    assert progress.said == ["continuing at step 2"]
    assert computed == ctx.curves[-1]["step"]  # every step once, none twice


def test_a_distilled_training_resumes_exactly_too(tmp_path):
    teacher = tiny_module(5)

    def run(folder: Any, progress: Any = None) -> str:
        ctx = context(folder, data=SMALL)
        return train(folder, model=tiny_module(channels=8), loss_of=towards(teacher, ctx, 2.0), progress=progress or Silent())[0]

    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", Kills(6))
    assert run(tmp_path / "killed") == whole


def test_a_finished_training_is_not_repeated(tmp_path):
    first, held = train(tmp_path)

    def never(*_: Any) -> Any:
        raise AssertionError("trained again")

    second, ctx = train(tmp_path, loss_of=never)
    assert second == first and ctx.curves == held.curves


def test_a_damaged_checkpoint_is_noticed_and_never_used(tmp_path):
    whole, _ = train(tmp_path / "whole")
    for number, place in enumerate(np.random.default_rng(0).random(6)):
        folder = tmp_path / f"damaged-{number}"
        with pytest.raises(Killed):
            train(folder, progress=Kills(8))
        path = folder / "stage" / "train.checkpoint.safetensors"
        data = bytearray(path.read_bytes())
        data[int(place * len(data))] ^= 0x10
        path.write_bytes(data)
        progress = Kills()
        assert train(folder, progress=progress)[0] == whole
        assert len(progress.said) == 1 and "starts again" in progress.said[0]


@pytest.mark.parametrize("change", [{"recipe": {"lr": 5e-3}}, {"seed": 4}, {"model": tiny_module(9)}], ids=["recipe", "seed", "weights"])
def test_a_checkpoint_of_another_training_is_not_used(tmp_path, change):
    fresh, _ = train(tmp_path / "fresh", **change)
    with pytest.raises(Killed):
        train(tmp_path / "other", progress=Kills(6))
    if "model" in change:
        change = {"model": tiny_module(9)}
    progress = Kills()
    assert train(tmp_path / "other", progress=progress, **change)[0] == fresh
    assert "another training" in progress.said[0]


@given(st.binary(max_size=300))
def test_no_bytes_pass_for_a_checkpoint(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(data)
    with pytest.raises(checkpoint.Damaged):
        checkpoint.read(path)


def test_every_flipped_byte_of_a_checkpoint_is_noticed(tmp_path):
    path = checkpoint.write(tmp_path / "x.safetensors", {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}, {"step": 4})
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x01]) + data[place + 1 :])
        with pytest.raises(checkpoint.Damaged):
            checkpoint.read(path)
    path.write_bytes(data)
    assert checkpoint.read(path)[1] == {"step": 4}


@dataclass(frozen=True)
class Spoilt(Stripes):
    """Stripes with one example full of NaN."""

    def _batch(self, lines: Any, group: Any, **how: Any) -> Any:
        batch = super()._batch(lines, group, **how)
        if "train-0011" not in batch.ids:
            return batch
        return replace(
            batch,
            inputs={
                "image": np.where(np.array([i == "train-0011" for i in batch.ids])[:, None, None, None], np.nan, batch.inputs["image"])
            },
        )


def test_the_first_non_finite_loss_stops_and_names_the_batch(tmp_path):
    data = Spoilt(SMALL.counts, SMALL.noise)
    with pytest.raises(Problem, match=r"train: the loss is nan at step \d+, on the batch of train-") as caught:
        train(tmp_path, data=data, recipe={"batch_size": 1, "epochs": 1}, every=1)
    assert "train-0011" in str(caught.value) and caught.value.code == Exit.INPUT
    _, held = checkpoint.read(tmp_path / "stage" / "train.checkpoint.safetensors")
    assert held["facts"]["step"] > 0  # the last good state is still there


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path):
    model = tiny_module()
    before = {name: value.clone() for name, value in model.named_parameters()}
    with pytest.raises(Problem, match="the gradient is"):
        train(tmp_path, model=model, loss_of=lambda m, inputs, _: (m(inputs["image"]).sum() * 0).sqrt())
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())


def test_running_out_of_memory_is_the_users_to_mend(tmp_path):
    def greedy(*_: Any) -> Any:
        return torch.empty(2**50).sum()

    with pytest.raises(Problem, match="out of memory on a batch of") as caught:
        train(tmp_path, loss_of=greedy)
    assert caught.value.code == Exit.ENVIRONMENT


def test_a_bug_in_the_loss_stays_a_bug(tmp_path):
    with pytest.raises(RuntimeError, match=r"must match"):
        train(tmp_path, loss_of=lambda m, inputs, _: (torch.ones(2) + torch.ones(3)).sum())


def test_an_empty_training_split_is_refused(tmp_path):
    with pytest.raises(Problem, match="training split is empty") as caught:
        train(tmp_path, data=TASK.open(settings={"train": 0}))
    assert caught.value.code == Exit.INPUT


def test_without_a_validation_split_nothing_is_scored(tmp_path):
    _, ctx = train(tmp_path, data=TASK.open(settings={"train": 32, "val": 0}), recipe={"keep": "best"})
    assert ctx.curves and not any("val" in point for point in ctx.curves)


@dataclass(frozen=True)
class Scripted(Stripes):
    """Stripes whose validation scores are given, and which looks at the weights each time it is asked."""

    script: tuple[float, ...] = ()
    model: Any = None
    seen: Any = None

    def score(self, predict: Any, split: Any, *, limit: int | None = None) -> Score:
        self.seen.append(digest(self.model))
        return Score(TASK.metric, self.script[len(self.seen) - 1], np.zeros(1), np.ones(1))


def scripted(script: tuple[float, ...], model: nn.Module) -> Scripted:
    return Scripted(SMALL.counts, SMALL.noise, script=script, model=model, seen=[])


def test_the_best_scored_weights_are_kept(tmp_path):
    model = tiny_module()
    data = scripted((0.5, 0.1, 0.3), model)
    best, _ = train(tmp_path, model=model, data=data, recipe={"keep": "best", "evaluations": 3})
    assert best == data.seen[1] != data.seen[2]


def test_patience_ends_a_training_that_no_longer_gains(tmp_path):
    model = tiny_module()
    data = scripted((0.5, 0.4, 0.4, 0.4, 0.0), model)
    _, ctx = train(tmp_path, model=model, data=data, recipe={"patience": 2, "evaluations": 5, "epochs": 5})
    assert len(data.seen) == 4 and ctx.curves[-1]["step"] < 5 * 3 * 3


@dataclass(frozen=True)
class Asked(Stripes):
    """Stripes that remember what was asked of them."""

    asked: Any = None

    def batches(self, split: Any, **how: Any) -> Any:
        self.asked.append((split, how["batch_size"], how.get("epoch"), how.get("augment"), how.get("shuffle")))
        return super().batches(split, **how)


def test_every_epoch_is_asked_for_by_its_number_shuffled_and_augmented(tmp_path):
    data = Asked(SMALL.counts, SMALL.noise, asked=[])
    train(tmp_path, data=data, recipe={"evaluations": 0})
    assert data.asked[0][2] == 0  # counted once, for the length of the cycle
    assert data.asked[1:4] == [("train", 32, epoch, True, True) for epoch in range(3)]


def test_steps_override_epochs(tmp_path):
    _, ctx = train(tmp_path, recipe={"steps": 7})
    assert ctx.curves[-1]["step"] == 7


def test_the_callers_random_state_and_threads_are_left_alone(tmp_path):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(tmp_path, threads=threads + 1, recipe={"steps": 1})
    assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == threads


def test_averaged_weights_are_what_a_plain_average_gives():
    average, model = tiny_module(0), tiny_module(1)
    expected = {k: 0.75 * v + 0.25 * model.state_dict()[k] for k, v in average.state_dict().items() if v.is_floating_point()}
    follow(average, model, weight=0.75)
    assert all(torch.allclose(average.state_dict()[k], v) for k, v in expected.items())
    assert average.norm1.num_batches_tracked == model.norm1.num_batches_tracked


def test_norms_and_biases_are_never_decayed():
    decayed, spared = (group["params"] for group in _optimizer(tiny_module(), Recipe(weight_decay=0.1)).param_groups)
    assert {p.ndim for p in spared} == {1} and min(p.ndim for p in decayed) == 2


@given(st.integers(1, 500), st.floats(0, 0.9), st.floats(1e-5, 1))
def test_the_rate_rises_once_to_its_peak_and_ends_near_nothing(total, warmup, peak):
    rates = [rate(step, total, peak=peak, warmup=warmup) for step in range(total)]
    top = int(np.argmax(rates))
    assert max(rates) <= peak * 1.000001 and min(rates) > 0
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
    if total > 1:
        assert rates[-1] == pytest.approx(peak * 1e-4)


@given(st.integers(1, 10_000), st.floats(0.01, 0.9999))
def test_averaging_never_outlasts_the_run_so_far(step, ceiling):
    assert 0 < decay(step, ceiling) <= ceiling
    assert decay(step, ceiling) <= (1 + step) / (10 + step)


@given(st.lists(st.integers(0, 99), min_size=2, max_size=4))
def test_seeds_depend_on_every_part_and_on_their_order(parts):
    assert 0 <= seed_for(*parts) < 2**31
    assert seed_for(*parts) != seed_for(*parts, 0)
    if parts != parts[::-1]:
        assert seed_for(*parts) != seed_for(*parts[::-1])


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"lr": 0.0}, {"batch_size": 0}, {"warmup": 1.0}, {"ema": 1.0}, {"keep": "best", "evaluations": 0}]
)
def test_a_recipe_out_of_range_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Train(**wrong)
