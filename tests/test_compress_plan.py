"""A plan is read strictly, written back unchanged, and every mistake is one line that names file and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress import plan as plans
from rules.problems import Problem

GOOD = 'schema_version = 1\ntask = "ocr"\narchitecture = "crnn"\nvariant = "small"\n\n[[stage]]\nname = "export"\n\n[[stage]]\nname = "quantize"\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(Path("plans").glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_plan_reads_and_comes_back_unchanged(path: Path, tmp_path: Path) -> None:
    plan = plans.read(path)
    assert plans.read(write(tmp_path, plans.as_toml(plan))) == plan


BAD = {
    "a misspelt key": (GOOD.replace("variant", "varaint"), "did you mean 'variant'"),
    "a misspelt stage": (GOOD.replace('"quantize"', '"quantise"'), "did you mean 'quantize'"),
    "a misspelt setting": (GOOD + "metod = 1\n", "did you mean 'method'"),
    "a setting of the wrong type": (GOOD + 'samples = "many"\n', "samples is 'many', expected int"),
    "no task": (GOOD.replace('task = "ocr"\n', ""), "task is missing"),
    "another schema": (GOOD.replace("schema_version = 1", "schema_version = 9"), "schema_version is 9"),
    "no TOML": ("task = = 1", "is not TOML"),
    "stages out of order": (GOOD + '\n[[stage]]\nname = "prune"\n', "out of order"),
    "a stage that is no table": ("schema_version = 1\ntask = 'ocr'\nstage = [1]\n", "stage must be a list of tables"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_in_a_plan_is_one_line_that_says_what_to_do(mistake: str, tmp_path: Path) -> None:
    text, said = BAD[mistake]
    with pytest.raises(Problem) as caught:
        plans.read(write(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="cannot read plan"):
        plans.read(tmp_path / "none.toml")


@given(st.binary(max_size=200))
def test_no_bytes_in_a_plan_raise_anything_but_a_problem(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    path.write_bytes(data)
    with pytest.raises(Problem):
        plans.read(path)


@given(because=st.text(max_size=40), seed=st.integers(0, 2**31), drop=st.floats(0, 1))
def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, because: str, seed: int, drop: float) -> None:
    step = plans.Step("export", plans.Export(), because)
    plan = plans.Plan(task="ocr", architecture="crnn", variant="small", seed=seed, max_drop=drop, steps=(step,))
    assert plans.read(write(tmp_path_factory.mktemp("plan"), plans.as_toml(plan))) == plan


@pytest.mark.parametrize("name", plans.stage_names())
def test_every_stage_has_settings_with_defaults_and_can_be_planned(name: str, tmp_path: Path) -> None:
    step = plans.Step(name, plans.make_settings(name, {}, where=name))
    plan = plans.Plan(task="ocr", steps=(step,))
    assert plans.read(write(tmp_path, plans.as_toml(plan))) == plan
