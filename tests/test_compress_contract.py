"""What somebody's own task lacks is said before anything is run, in one line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compress.contract import DATA_HAS, TASK_HAS, check_task, open_data
from rules.examples import Batch, Port, Signature
from rules.problems import Exit, Problem, bad_input
from tests.tasks_for_tests import TASK

SETTINGS = {"train": 4, "val": 2, "test": 2}
GOOD = TASK.open(None, settings=SETTINGS)
STEPS = ({"op": "decode", "mode": "L"},)


class Altered:
    """The good object with some attributes replaced, and some taken away."""

    def __init__(self, whole: Any, *, without: str = "", **changed: Any) -> None:
        self._whole, self._without = whole, without
        self.__dict__.update(changed)

    def __getattr__(self, name: str) -> Any:
        if name == self.__dict__.get("_without"):
            raise AttributeError(name)
        return getattr(self.__dict__["_whole"], name)


def sound(**changed: Any) -> Altered:
    return Altered(GOOD, **{"preprocess": STEPS, "postprocess": (), **changed})


def opened(data: Any) -> Any:
    return open_data(Altered(TASK, open=lambda source, **_: data), "mine:TASK", None, seed=0, settings={})  # type: ignore[arg-type]


def refused(call: Any, code: Exit = Exit.USAGE) -> str:
    with pytest.raises(Problem) as caught:
        call()
    assert caught.value.code == code, caught.value
    assert "\n" not in str(caught.value) and "mine:TASK" in str(caught.value)
    return str(caught.value)


def test_a_whole_task_passes() -> None:
    assert check_task(TASK, "mine:TASK") is TASK
    assert opened(sound()).count("train") == 4


@pytest.mark.parametrize("name", TASK_HAS)
def test_what_a_task_lacks_is_named(name: str) -> None:
    assert f"has no {name}" in refused(lambda: check_task(Altered(TASK, without=name), "mine:TASK"))


@pytest.mark.parametrize("name", DATA_HAS)
def test_what_its_data_lacks_is_named(name: str) -> None:
    assert f"has no {name}" in refused(lambda: opened(Altered(sound(), without=name)))


@pytest.mark.parametrize(("name", "value"), [("name", ""), ("name", 3), ("metric", "cer"), ("metric", Altered(TASK.metric, better="less"))])
def test_a_name_or_metric_that_is_none_is_refused(name: str, value: Any) -> None:
    assert f"its {name} is" in refused(lambda: check_task(Altered(TASK, **{name: value}), "mine:TASK"))


@pytest.mark.parametrize("kind", ["preprocess", "postprocess"])
def test_a_step_without_an_op_is_refused_before_training_and_not_after(kind: str) -> None:
    assert f'a {kind} step without an "op"' in refused(lambda: opened(sound(**{kind: ({"step": "grey"},)})))


def test_provenance_that_is_no_plain_data_is_refused() -> None:
    assert "provenance is no plain data" in refused(lambda: opened(sound(provenance={"mean": np.float32(1)})))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_empty_split_is_bad_data(split: str) -> None:
    empty = sound(count=lambda name: 0 if name == split else 2)
    assert f"no {split} examples" in refused(lambda: opened(empty), Exit.INPUT)


def test_a_batch_against_the_signature_shows_both_shapes() -> None:
    def batches(split: str, **how: Any) -> list[Batch]:
        return [replace(batch, inputs={"image": batch.inputs["image"][:, :, :30]}) for batch in GOOD.batches(split, **how)]  # type: ignore[arg-type]

    said = refused(lambda: opened(sound(batches=batches)))
    assert "first train batch: 'image' is float32" in said and "x30x" in said and "float32 batchx1x32xwidth" in said


def test_a_probe_of_another_type_is_named() -> None:
    probes = {"w64": {"image": np.zeros((1, 1, 32, 64))}}
    assert "probe 'w64': 'image' is float64" in refused(lambda: opened(sound(probes=lambda: probes)))
    assert "no probes" in refused(lambda: opened(sound(probes=dict)))
    assert "no array 'image'" in refused(lambda: opened(sound(probes=lambda: {"w": {"picture": 1}})))


def test_a_signature_that_is_none_is_refused() -> None:
    for signature in (None, Signature((), (Port("y", "float32", ("batch",)),))):
        assert "its signature is" in refused(lambda signature=signature: opened(sound(signature=signature)))


def test_an_error_in_the_users_code_is_theirs_and_shows_its_place() -> None:
    def broken(*_: Any, **__: Any) -> Any:
        return {}["images"]

    said = refused(lambda: open_data(Altered(TASK, open=broken), "mine:TASK", None, seed=0, settings={}))  # type: ignore[arg-type]
    assert "KeyError: 'images' (test_compress_contract.py:" in said
    assert "KeyError" in refused(lambda: opened(sound(probes=broken)))


def test_a_problem_the_task_raises_itself_passes_as_it_is() -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise bad_input("mine:TASK: no folder here")

    assert (
        refused(lambda: open_data(Altered(TASK, open=missing), "x", None, seed=0, settings={}), Exit.INPUT) == "mine:TASK: no folder here"
    )  # type: ignore[arg-type]
