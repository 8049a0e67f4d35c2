"""What every stage promises, whichever module in `compress/stages` it is: nothing here names one.

A stage is found by its file. Its settings are a frozen dataclass that a plan file carries unchanged; its docstring is its card;
a module stage keeps what goes in and what comes out, and does the same thing twice.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import tomllib
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from typing import Any

import pytest
import torch

from compress.context import Skipped
from compress.plan import MODULE_STAGES, ORDER, Plan, Step, as_toml, parse, settings_class, stage_names
from compress.training import forward
from compress.weights import digest
from tests.tasks_for_tests import TASK, context, tiny_module

STAGES = [name for name in stage_names() if name != "export"]
OF_MODULES = [name for name in STAGES if name in MODULE_STAGES]


def quick(name: str) -> Any:
    """The stage's own defaults, but for how long it works, and for how small a net it will touch."""
    settings = settings_class(name)()
    short = {
        "epochs": 2,
        "recovery_epochs": 1,
        "batch_size": 32,
        "val_limit": 16,
        "looks": 2,
        "importance_batches": 2,
        "align": 8,
        "min_channels": 8,
    }
    return replace(settings, **{item.name: short[item.name] for item in fields(settings) if item.name in short})


def outcome(name: str, folder: Any) -> Any:
    """The stage applied to a tiny net in a fresh folder, with a teacher at hand."""
    ctx = context(folder, data=TASK.open(settings={"train": 64, "val": 16, "test": 8}), teacher=tiny_module(1))
    try:
        return quick(name).apply(tiny_module(0, channels=24), ctx)
    except Skipped as reason:
        return str(reason)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Each module stage, run twice."""
    return {name: [outcome(name, tmp_path_factory.mktemp(name)) for _ in range(2)] for name in OF_MODULES}


def test_there_are_stages_to_judge():
    assert {"train", "distil"} <= set(OF_MODULES) and set(STAGES) <= set(ORDER)


@pytest.mark.parametrize("name", STAGES)
def test_its_docstring_is_its_card(name):
    card = inspect.getdoc(importlib.import_module(f"compress.stages.{name}")) or ""
    first = card.splitlines()[0]
    assert first.endswith(".") and len(first) > 20
    for promise in ("Helps when", "Does not help"):
        told = card.partition(promise)[2].strip(" :\n")
        assert len(told.split(".")[0]) > 20, f"{name}: {promise} …?"


@pytest.mark.parametrize("name", STAGES)
def test_its_settings_are_frozen_values_with_apply(name):
    settings = settings_class(name)()
    assert is_dataclass(settings) and callable(settings.apply)
    if fields(settings):
        with pytest.raises((FrozenInstanceError, AttributeError)):
            setattr(settings, fields(settings)[0].name, None)
    assert settings == settings_class(name)() and hash(settings) == hash(settings_class(name)())


@pytest.mark.parametrize("name", STAGES)
def test_a_plan_file_carries_its_settings_unchanged(name):
    settings = changed(settings_class(name)())
    plan = Plan("stripes", steps=(Step(name, settings, "because it is tested"),))
    assert parse(tomllib.loads(as_toml(plan)), "plan") == plan


def changed(settings: Any) -> Any:
    """Every number a little different from its default where the stage allows it, so that a setting which is not carried is seen."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            for other in (value + 1, value / 2 if isinstance(value, float) else value - 1):
                try:
                    settings = replace(settings, **{item.name: other})
                    break
                except ValueError:
                    continue
    return settings


@pytest.mark.parametrize("name", STAGES)
def test_it_is_found_without_importing_torch(name):
    """The plan, its settings and the help text are there for people without the training extra."""
    source = inspect.getsource(importlib.import_module(f"compress.stages.{name}"))
    top = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
    assert not {name for name in names if name.split(".")[0] in ("torch", "torch_pruning", "safetensors", "sklearn", "onnxscript")}


@pytest.mark.parametrize("name", OF_MODULES)
def test_what_goes_in_and_what_comes_out_stay_the_same(name, outcomes):
    result = outcomes[name][0]
    if isinstance(result, str):
        pytest.skip(result)
    data = TASK.open()
    for width in (48, 160):
        inputs = {"image": torch.zeros(3, 1, 32, width)}
        before, after = forward(tiny_module(), inputs, data), forward(result, inputs, data)
        assert after.shape == before.shape and after.dtype == before.dtype
    assert not result.training


@pytest.mark.parametrize("name", OF_MODULES)
def test_the_same_seed_gives_the_same_weights_bit_for_bit(name, outcomes):
    first, second = outcomes[name]
    if isinstance(first, str):
        assert first == second
        pytest.skip(first)
    assert digest(first) == digest(second)


@pytest.mark.parametrize("name", [name for name in OF_MODULES if hasattr(settings_class(name)(), "evaluations")])
def test_it_says_what_it_did_in_curves(name, tmp_path):
    ctx = context(tmp_path, data=TASK.open(settings={"train": 64, "val": 16, "test": 8}), teacher=tiny_module(1))
    quick(name).apply(tiny_module(), ctx)
    assert {point["stage"] for point in ctx.curves} == {name}
    assert [point["step"] for point in ctx.curves] == sorted({point["step"] for point in ctx.curves})
