"""Grad-CAM points at what the class was decided by, leaves the model as it was, and says when there is nothing to look at."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from advisor.architectures.plain_cnn import build
from advisor.data.pictures import png, square, stack
from advisor.gradcam import explain, explanation, heat
from rules.examples import Sample
from rules.problems import Exit, Problem


class Corners(nn.Module):
    """Class 0 is how bright red is anywhere, class 1 how bright green is: nothing is learnt, so the heat is known."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.second = nn.Conv2d(3, 2, 2, stride=2, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(3)[:, :, None, None])
            self.first.bias.zero_()
            self.second.weight.zero_()
            self.second.weight[0, 0] = self.second.weight[1, 1] = 0.25

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(self.first(image))).mean((2, 3))


def two_corners() -> np.ndarray:
    picture = np.full((32, 32, 3), 128, np.uint8)
    picture[2:10, 2:10] = (255, 0, 0)
    picture[20:30, 20:30] = (0, 255, 0)
    return picture


@pytest.mark.parametrize(("place", "hot", "cold"), [(0, (slice(3, 9), slice(3, 9)), (slice(21, 29), slice(21, 29)))])
def test_heat_is_where_the_class_is_decided(place: int, hot: tuple[slice, slice], cold: tuple[slice, slice]) -> None:
    image = stack([two_corners()])
    red, green = (heat(Corners(), image, place) for place in (0, 1))
    assert red.shape == (32, 32) and red.min() >= 0 and red.max() == pytest.approx(1)
    assert red[hot].min() > 0.9 and red[cold].max() < 0.1
    assert green[cold].min() > 0.9 and green[hot].max() < 0.1


def test_the_model_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = build(classes=4, side=32, widths=(8, 8)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    heat(model, stack([two_corners()]), 2)
    assert model.training and not any(part._forward_hooks for part in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_png_shows_the_picture_and_its_heat_side_by_side() -> None:
    raw = png(two_corners())
    sample = Sample("two", raw, {"image": stack([square(Image.fromarray(two_corners()), 32)])}, "red")
    with Image.open(io.BytesIO(explain(Corners(), sample, 0))) as shown:
        assert shown.size == (448, 224)
        left, right = np.asarray(shown)[:, :224].astype(int), np.asarray(shown)[:, 224:].astype(int)
    assert np.abs(left - right)[150:200, 150:200].max() == 0 and np.abs(left - right)[20:60, 20:60].min(axis=(0, 1)).max() > 50


def test_a_net_without_places_an_unknown_layer_and_an_unknown_class_are_refused() -> None:
    patches = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(), nn.Linear(64, 2))
    for model, place, layer, said in ((patches, 0, "", "none"), (Corners(), 2, "", "no class 2"), (Corners(), 0, "third", "'third'")):
        with pytest.raises(Problem, match=said) as caught:
            heat(model, stack([two_corners()]), place, layer=layer)
        assert caught.value.code == Exit.USAGE


def test_an_explanation_shows_wrong_answers_first_and_measures_what_the_heat_is_worth() -> None:
    """The nets decide by one corner each, so greying that corner out costs more than greying out as many pixels anywhere."""

    def sample(name: str, truth: str) -> Sample:
        return Sample(name, png(two_corners()), {"image": stack([two_corners()])}, truth)

    model = nn.Sequential(Corners(), Steep())
    found = explanation(model, [sample("right", "green"), sample("wrong", "red")], ["red", "green"])
    assert [seen.name for seen in found.seen] == ["wrong", "right"] and "of why" in found.caveat
    assert found.seen[0].says.startswith("says green") and "it is red" in found.seen[0].says and "it is" not in found.seen[1].says
    with Image.open(io.BytesIO(found.seen[0].picture)) as three, Image.open(io.BytesIO(found.seen[1].picture)) as two:
        assert three.size == (672, 224) and two.size == (448, 224)
    hottest, random = (int(figure) for figure in re.findall(r"-?\d+", found.lines[0])[:2])
    assert hottest > random + 10


class Steep(nn.Module):
    """Makes small differences large, so that the certainty hangs on them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 100 * x
