"""Training that begins from an earlier run's module: what fits is taken, what does not stays new, and another net is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from advisor.instantiate import spec_settings
from cli import _fitting
from compress import warm_start
from compress.plan import parse
from compress.weights import ModelSpec, save
from rules.knowledge import load as knowledge
from rules.problems import Exit, Problem

KNOWN = knowledge()


def spec(classes: int, variant: str = "small") -> ModelSpec:
    return ModelSpec(*spec_settings(KNOWN, "crnn", variant, classes=classes))


def module(folder: Path, classes: int, variant: str = "small") -> str:
    """The module of an earlier run on an alphabet of so many classes, as runs store theirs."""
    torch.manual_seed(7)
    save(spec(classes, variant).build(), spec(classes, variant), folder, "module")
    return str(folder / "module.safetensors")


def test_the_same_alphabet_begins_with_every_number(tmp_path: Path) -> None:
    given = module(tmp_path, 11)
    torch.manual_seed(0)
    begun = warm_start.build(spec(11), given).state_dict()
    torch.manual_seed(7)
    assert all(torch.equal(begun[name], value) for name, value in spec(11).build().state_dict().items())


def test_another_alphabet_takes_all_but_the_head_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = module(tmp_path, 11)
    torch.manual_seed(0)
    fresh = spec(30).build().state_dict()
    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING, logger="advisor.weights"):
        begun = warm_start.build(spec(30), given).state_dict()
    torch.manual_seed(7)
    earlier = spec(11).build().state_dict()
    head = {name for name, value in fresh.items() if value.shape != earlier[name].shape}
    assert 1 <= len(head) <= 2
    assert all(torch.equal(begun[name], (fresh if name in head else earlier)[name]) for name in fresh)
    assert all(name in caplog.text for name in head)


def test_another_net_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="at least 50% are needed") as refused:
        warm_start.build(spec(11, "large"), module(tmp_path, 11))
    assert refused.value.code == Exit.INPUT and "\n" not in str(refused.value)


def test_a_module_that_is_not_the_one_its_run_sealed_is_refused(tmp_path: Path) -> None:
    given = module(tmp_path, 11)
    save_file({name: value.contiguous() for name, value in spec(11).build().state_dict().items()}, given)
    with pytest.raises(Problem, match="is not the file that module") as refused:
        warm_start.build(spec(11), given)
    assert refused.value.code == Exit.INPUT
    Path(given).with_suffix(".json").write_text(json.dumps([]))
    with pytest.raises(Problem, match="is damaged"):
        warm_start.build(spec(11), given)


def test_a_file_without_its_run_beside_it_is_read_by_the_names_it_holds(tmp_path: Path) -> None:
    torch.manual_seed(7)
    state = {name: value.contiguous() for name, value in spec(11).build().state_dict().items()}
    save_file(state, tmp_path / "mine.safetensors")
    begun = warm_start.build(spec(11), str(tmp_path / "mine.safetensors")).state_dict()
    assert all(torch.equal(begun[name], value) for name, value in state.items())


@pytest.mark.parametrize("name", ["missing.safetensors", "net.pth", ""])
def test_what_is_no_file_of_numbers_is_refused_before_anything_runs(tmp_path: Path, name: str) -> None:
    (tmp_path / "net.pth").write_bytes(b"x")
    with pytest.raises(Problem, match="no weights") as refused:
        warm_start.check("crnn", spec(11).builds, str(tmp_path / name))
    assert refused.value.code == Exit.INPUT


def test_an_earlier_runs_own_pictures_are_read_as_that_run_read_them(tmp_path: Path) -> None:
    """ImageNet's mean and deviation belong to published weights only."""
    from advisor.tasks import task

    chosen = ModelSpec(*spec_settings(KNOWN, "mobilenetv3-large", "small-image", classes=3, side=32))
    save(chosen.build(), chosen, tmp_path, "module")
    for weights, expected in (("hub", {"normalise": "imagenet"}), (str(tmp_path / "module.safetensors"), {})):
        header = {"schema_version": 1, "task": "image-classification", "architecture": "mobilenetv3-large", "variant": "small-image"}
        plan = parse({**header, "weights": weights, "stage": [{"name": "train"}]}, "a plan")
        assert _fitting(task("image-classification"), plan, KNOWN) == expected
