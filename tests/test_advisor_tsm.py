"""Shifted nets compare frames where it counts: early, in every block, and from first answers that take no side."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from advisor.architectures import tsm
from compress.measuring import awake

GIVEN = {"classes": 8, "frames": 4, "side": 32}


def test_resnet_8_hands_channels_on_in_every_block_and_before_a_frame_is_shrunk() -> None:
    torch.manual_seed(0)
    model = tsm.build(**GIVEN, net="resnet-8", share=4)
    sides: list[int] = []
    for part in model.modules():
        if isinstance(part, tsm.Shift):
            part.register_forward_pre_hook(lambda _, given: sides.append(given[0].shape[-1]))
    model(torch.randn(2, 4, 3, 32, 32))
    assert sides == [32, 32, 16]


@pytest.mark.parametrize(("share", "told"), [(4, True), (0, False)])
def test_only_a_shifted_net_tells_a_clip_from_the_same_clip_backwards(share: int, told: bool) -> None:
    torch.manual_seed(0)
    model = tsm.build(**GIVEN, net="resnet-8", share=share).eval()
    clip = torch.randn(2, 4, 3, 32, 32)
    apart = (model(clip) - model(clip.flip(1))).abs().max().item()
    assert (apart > 1e-3) == told


def test_the_online_form_of_resnet_8_answers_frame_by_frame_as_it_does_for_the_clip() -> None:
    torch.manual_seed(0)
    model = tsm.build(**GIVEN, net="resnet-8", share=4, online=True).eval()
    clip, memory, each = torch.randn(1, 4, 3, 32, 32), (), []
    stream = tsm.stream(model)
    for frame in clip[0]:
        logits, *memory = stream(frame[None], *memory)
        each.append(logits)
    assert torch.allclose(torch.cat(each).mean(0), model(clip)[0], atol=1e-5)


@pytest.mark.parametrize("net", ["mobilenetv2_100", "resnet-8"])
def test_the_first_answers_take_no_side(net: str) -> None:
    torch.manual_seed(0)
    model = tsm.build(**GIVEN, net=net, **({"width": 0.35} if net != "resnet-8" else {})).train()
    loss = nn.functional.cross_entropy(model(torch.randn(8, 4, 3, 32, 32)), torch.arange(8))
    assert loss.item() == pytest.approx(math.log(8), abs=0.3)


SMALL = {"stride": 8, "layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128]}  # of the cards tsm-resnet50 and tsn-mean


def small(**settings: Any) -> tsm.Frames:
    """As if trained: timm begins with branches that add nothing, and nothing of what a frame is handed would be seen."""
    torch.manual_seed(0)
    return awake(tsm.build(**GIVEN, net="resnet50", **SMALL, **settings).eval())


def test_resnet_50_hands_channels_on_in_every_one_of_its_sixteen_blocks() -> None:
    model = tsm.build(classes=8, frames=8, side=224, net="resnet50")
    assert sum(isinstance(part, tsm.Shift) for part in model.modules()) == 16


@pytest.mark.parametrize(("share", "told"), [(8, True), (0, False)])
def test_resnet_50_tells_an_order_only_with_the_shift(share: int, told: bool) -> None:
    model = small(share=share)
    clip = torch.randn(2, 4, 3, 32, 32)
    apart = (model(clip) - model(clip.flip(1))).abs().max().item()
    assert (apart > 1e-3) == told


def test_the_online_form_of_resnet_50_answers_frame_by_frame_as_it_does_for_the_clip() -> None:
    model = small(online=True)
    clip, memory, each = torch.randn(1, 4, 3, 32, 32), (), []
    stream = tsm.stream(model)
    for frame in clip[0]:
        logits, *memory = stream(frame[None], *memory)
        each.append(logits)
    assert torch.allclose(torch.cat(each).mean(0), model(clip)[0], atol=1e-5)


def test_the_mean_over_frames_is_the_mean_of_what_each_frame_says_alone() -> None:
    model = small(share=0)
    clip = torch.randn(2, 4, 3, 32, 32)
    alone = torch.stack([model.net(frame) for frame in clip.unbind(1)])
    assert torch.allclose(model(clip), alone.mean(0), atol=1e-5)
