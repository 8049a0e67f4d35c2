"""Early exits: easy pictures are answered by half of the net and really skip the rest, in torch and in the file; costs count the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from advisor.architectures.early_exit import EarlyExit, build
from advisor.tasks.image_classification import TASK
from compress.context import Target
from compress.export import export
from compress.operators import operators_of
from compress.runtime import predictor

GIVEN = {"classes": 3, "side": 16}


@pytest.fixture(scope="module")
def net() -> EarlyExit:
    """Bright pictures are easy: their early head is sure of class 1. Dark ones are not, and the late head says class 2."""
    torch.manual_seed(0)
    net = build(**GIVEN, widths=(8, 8), depth=1, after=1).eval()
    with torch.no_grad():
        net.early.score.weight.fill_(0.0)
        net.early.score.weight[1] = 50.0
        net.late.score.bias.copy_(torch.tensor([0.0, 0.0, 9.0]))
        net.late.score.weight.mul_(0.01)
        net.first[1].bias.fill_(0.0)
    return net


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """(bright, dark): the dark one leaves no trace behind the first ReLU."""
    return torch.ones(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)


@pytest.fixture(scope="module")
def broken(net: EarlyExit) -> EarlyExit:
    """The same net with a rest that makes nonsense of whatever reaches it."""
    from copy import deepcopy

    other = deepcopy(net)
    with torch.no_grad():
        other.late.score.bias.fill_(float("nan"))
    return other


def test_an_easy_picture_is_answered_early_and_a_hard_one_late(net: EarlyExit) -> None:
    bright, dark = pictures()
    assert net.certain(net.early(net.first(bright))).all() and not net.certain(net.early(net.first(dark))).any()
    both = net(torch.cat([bright, dark]))
    assert both.argmax(1).tolist() == [1, 2]
    assert torch.allclose(both, torch.cat([net(bright), net(dark)]), atol=1e-5)


def test_the_rest_is_not_computed_for_an_easy_picture_nor_in_the_file(net: EarlyExit, broken: EarlyExit, tmp_path: Path) -> None:
    bright, dark = pictures()
    calls = []
    handle = net.rest.register_forward_hook(lambda *_: calls.append(1))
    net(bright)
    assert not calls
    net(dark)
    handle.remove()
    assert calls
    path = export(net, TASK.stand_in(GIVEN), tmp_path / "net.onnx", target=Target())  # type: ignore[arg-type]
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path))
    branches = [part.g for node in model.graph.node if node.op_type == "If" for part in node.attribute]
    assert sorted(any(node.op_type == "Conv" for node in branch.node) for branch in branches) == [False, True]
    poisoned = next(item for item in model.graph.initializer if numpy_helper.to_array(item).tolist() == [0.0, 0.0, 9.0])
    poisoned.CopyFrom(numpy_helper.from_array(np.full(3, np.nan, np.float32), poisoned.name))
    onnx.save(model, str(path))
    predict = predictor(path)
    assert np.isfinite(predict({"image": bright.numpy()})["logits"]).all()
    assert np.isnan(predict({"image": dark.numpy()})["logits"]).all()
    assert torch.isfinite(broken(bright)).all()


def test_while_training_every_other_picture_teaches_each_head(net: EarlyExit) -> None:
    from copy import deepcopy

    model = deepcopy(net).train()
    images = torch.randn(4, 3, 16, 16)
    for row, (taught, idle) in enumerate(((model.late, model.early), (model.early, model.late))):
        model.zero_grad(set_to_none=True)
        model(images)[row].sum().backward()
        assert taught.score.bias.grad.abs().sum() > 0 and not idle.score.bias.grad.any()


def test_costs_count_the_slowest_answer(net: EarlyExit, tmp_path: Path) -> None:
    """16x16: a stem of 3 to 8 channels, a block of 8; at 8x8 a block of 8 with its 1x1 past; two heads."""
    path = export(net, TASK.stand_in(GIVEN), tmp_path / "net.onnx", target=Target())  # type: ignore[arg-type]
    first = 16 * 16 * 9 * (3 * 8 + 8 * 8 + 8 * 8)
    rest = 8 * 8 * (9 * 8 * 8 * 2 + 8 * 8)
    assert sum(operator.macs for operator in operators_of(path)) == first + rest + 2 * 8 * 3


@pytest.mark.parametrize("wrong", [{"after": 3}, {"after": 0}, {"depth": 0}, {"side": 4}])
def test_a_head_behind_no_stage_is_said(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        build(**{**GIVEN, **wrong})
