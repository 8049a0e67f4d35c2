"""Nets for clips beside the shifted ones: they see the order of frames, and are what their papers say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advisor.architectures import r2plus1d, timesformer, x3d
from rules.problems import Problem

SMALL: dict[str, dict[str, Any]] = {
    "x3d": {"widths": [8, 16], "depths": [2, 2], "features": 32, "shrink": 1},
    "r2plus1d": {"widths": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "timesformer": {"width": 32, "layers": 2, "heads": 2, "patch": 8},
}
BUILD = {"x3d": x3d.build, "r2plus1d": r2plus1d.build, "timesformer": timesformer.build}


def small(name: str, *, seed: int = 0, **given: Any) -> nn.Module:
    torch.manual_seed(seed)
    return BUILD[name](**{"classes": 4, "frames": 6, "side": 32, **SMALL[name], **given}).eval()  # type: ignore[operator]


def clip(batch: int = 2, frames: int = 6) -> Tensor:
    return torch.randn((batch, frames, 3, 32, 32), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("name", BUILD)
def test_a_clip_and_the_same_clip_backwards_are_told_apart(name: str) -> None:
    model = small(name)
    if name == "timesformer":  # its places in time start at nothing and are learnt
        model.net.timesformer.embeddings.time_embeddings.normal_(generator=torch.Generator().manual_seed(2))  # type: ignore[union-attr]
    forwards, backwards = model(clip()), model(clip().flip(1))
    assert (forwards - backwards).abs().max() > 1e-4 * forwards.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("name", ["x3d", "r2plus1d"])
def test_any_number_of_frames_runs(name: str) -> None:
    model = small(name)
    assert model(clip(frames=3)).shape == model(clip(frames=9)).shape == (2, 4)


@torch.no_grad()
def test_x3d_shrinks_the_picture_and_keeps_the_time() -> None:
    model = small("x3d")
    seen = model.blocks(model.stem(clip().transpose(1, 2)))  # type: ignore[operator]
    assert seen.shape == (2, 16, 6, 8, 8)


def test_every_other_block_of_a_stage_weighs_its_channels() -> None:
    model = x3d.build(classes=4, frames=4, side=32, widths=[8, 16], depths=[3, 2], features=16)
    assert [isinstance(block.gate, x3d.Gate) for block in model.blocks] == [True, False, True, True, False]


@pytest.mark.parametrize(("channels", "inner"), [(54, 8), (108, 8), (216, 16), (432, 32)])
def test_a_gate_is_as_wide_as_the_published_ones(channels: int, inner: int) -> None:
    assert x3d.squeezed(channels) == inner


@torch.no_grad()
def test_torchvisions_own_sizes_are_left_as_they_are() -> None:
    from torchvision.models.video import r2plus1d_18

    ours = {name.removeprefix("net."): value.shape for name, value in r2plus1d.build(classes=400, frames=4, side=32).state_dict().items()}
    assert ours == {name: value.shape for name, value in r2plus1d_18(weights=None).state_dict().items()}


def test_patches_that_do_not_fill_the_side_are_refused() -> None:
    with pytest.raises(Problem, match="patches of 12 pixels do not fill a side of 32") as refused:
        small("timesformer", patch=12)
    assert refused.value.code == 2


@pytest.mark.parametrize("name", BUILD)
def test_weights_of_another_net_are_refused(name: str, tmp_path: Any) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, file)
    with pytest.raises(Problem, match="does not fit") as refused:
        small(name, weights=str(file))
    assert refused.value.code == 3


@torch.no_grad()
@pytest.mark.parametrize("name", BUILD)
def test_weights_of_a_local_file_are_its_own(name: str, tmp_path: Any) -> None:
    from safetensors.torch import save_file

    first = small(name)
    file = tmp_path / "own.safetensors"
    save_file(first.state_dict(), file)
    again = small(name, seed=5, weights=str(file))
    assert torch.equal(first(clip()), again(clip()))
