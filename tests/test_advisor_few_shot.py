"""Few examples: the nearest mean is right where kinds lie apart, MAML learns to adapt, characters are nobody's and everybody's the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from advisor import few_shot
from advisor.data import glyphs, pictures
from advisor.data.pictures import png
from advisor.tasks.few_shot import TASK
from rules.problems import Exit, Problem


def kinds(count: int, each: int, *, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    names = np.repeat(np.arange(count), each)
    places = rng.standard_normal((count, 16))[names] + noise * rng.standard_normal((len(names), 16))
    return places / np.linalg.norm(places, axis=1, keepdims=True), names


def test_kinds_that_lie_apart_are_always_told_and_noise_is_told_by_chance() -> None:
    apart, names = kinds(30, 5, noise=1e-3)
    assert few_shot.nearest(apart, names, np.arange(150), ways=20, shots=1).mean() == 1
    noise, names = kinds(30, 5, noise=1e3)
    assert few_shot.nearest(noise, names, np.arange(150), ways=20, shots=1).mean() == pytest.approx(0.05, abs=0.03)


def test_five_examples_tell_more_than_one_and_fewer_ways_are_easier() -> None:
    places, names = kinds(30, 8, noise=1.2)
    asked = np.arange(0, 240, 3)
    one, five, few = (few_shot.nearest(places, names, asked, ways=w, shots=s).mean() for w, s in ((20, 1), (20, 5), (5, 1)))
    assert five > one + 0.1 and few > one + 0.1


def test_the_picture_asked_is_never_among_those_shown() -> None:
    places, names = np.eye(8), np.repeat([0, 1], 4)  # only itself would be near
    assert few_shot.nearest(places, names, np.arange(8), ways=2, shots=3).mean() == 0


def test_a_net_that_says_the_same_of_everything_tells_nothing() -> None:
    assert few_shot.nearest(np.ones((40, 4)) / 2, np.repeat(np.arange(10), 4), np.arange(40), ways=5, shots=1).mean() == 0


class Line(nn.Module):
    """y = a x + b on one number, as two logits."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.map(x.flatten(1))
        return logits


def test_maml_adapts_to_what_is_shown_and_leaves_the_start_alone() -> None:
    torch.manual_seed(0)
    model, shown = Line(), torch.tensor([[[-1.0]], [[1.0]]])
    before = [value.clone() for value in model.parameters()]
    asked = torch.tensor([[-2.0], [3.0], [-0.5]])
    assert few_shot.maml_answers(model, shown, asked, steps=20, rate=1.0).tolist() == [0, 1, 0]
    assert few_shot.maml_answers(model, shown.flip(0), asked, steps=20, rate=1.0).tolist() == [1, 0, 1]
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_the_second_order_of_maml_is_the_derivative_through_the_step() -> None:
    """Against a difference quotient in float64."""
    torch.manual_seed(0)
    model = Line().double()
    shown, asked = torch.randn(2, 1, 1, dtype=torch.float64), torch.randn(2, 3, 1, dtype=torch.float64)

    def loss() -> torch.Tensor:
        return few_shot.maml_loss(model, shown, asked, steps=2, rate=0.5)

    torch.autograd.backward(loss())
    slope, epsilon = float(model.map.weight.grad[0, 0]), 1e-5  # type: ignore[index]
    with torch.no_grad():
        model.map.weight[0, 0] += epsilon
    above = loss().item()
    with torch.no_grad():
        model.map.weight[0, 0] -= 2 * epsilon
    assert slope == pytest.approx((above - loss().item()) / (2 * epsilon), rel=1e-4)


def test_a_few_steps_of_maml_on_drawn_characters_lower_its_loss() -> None:
    torch.manual_seed(0)
    model = few_shot.adaptable(3, side=16, width=8)
    drawn = [
        pictures.square(pictures.decode(_ppm(glyphs.draw(number, hand)), name="drawn"), 16) for number in range(3) for hand in range(3)
    ]
    batch = torch.from_numpy(pictures.stack(drawn)).reshape(3, 3, 3, 16, 16)
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(8):
        loss = few_shot.maml_loss(model, batch[:, :1], batch[:, 1:], steps=1)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def _ppm(pixels: np.ndarray) -> bytes:
    return b"P5 %d %d 255\n" % pixels.shape[::-1] + pixels.tobytes()


# -- the task --------------------------------------------------------------------------------------------------------------


def test_a_character_is_the_same_twice_and_different_by_another_hand() -> None:
    assert np.array_equal(glyphs.draw(5, 0), glyphs.draw(5, 0))
    assert not np.array_equal(glyphs.draw(5, 0), glyphs.draw(5, 1)) and not np.array_equal(glyphs.draw(5, 0), glyphs.draw(6, 0))


def test_quarter_turns_make_four_kinds_of_each_to_train_on_and_leave_the_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(9):
        (tmp_path / f"k{number}").mkdir()
        for place in range(3):
            (tmp_path / f"k{number}" / f"{place}.png").write_bytes(png(rng.integers(0, 256, (20, 20, 3)).astype(np.uint8)))
    plain, turned = (TASK.open(tmp_path, settings={"turn": turn, "side": 20}) for turn in (False, True))
    assert [turned.count(split) / plain.count(split) for split in ("train", "val", "test")] == [4, 1, 1]
    seen = {
        name: image for batch in turned.batches("train", batch_size=8) for name, image in zip(batch.ids, batch.inputs["image"], strict=True)
    }
    name = next(name for name in seen if name.endswith("@0"))
    assert np.array_equal(np.rot90(seen[name], axes=(1, 2)), seen[name.replace("@0", "@90")])


@pytest.mark.parametrize("wrong", [{"ways": 1}, {"shots": 0}, {"shots": 1.5}, {"turn": 1}, {"side": 8}, {"way": 5}])
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Problem) as refusal:
        TASK.open(None, settings=wrong)
    assert refusal.value.code == Exit.USAGE
