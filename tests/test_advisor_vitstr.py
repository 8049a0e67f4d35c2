"""The ViTSTR-like recogniser: patches are tokens, each speaks of its own place, and any line is read."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from advisor.architectures.vitstr import ViTSTR, build

SMALL = {"width": 16, "depth": 2, "heads": 2, "ratio": 2}
CLASSES = 11


def small(**changes: int) -> ViTSTR:
    torch.manual_seed(0)
    return build(classes=CLASSES, **{**SMALL, **changes}).eval()


def lines(width: int) -> torch.Tensor:
    return torch.rand((2, 1, 32, width), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("width", [32, 144, 1024])
def test_every_four_columns_of_any_line_are_one_step(width: int) -> None:
    assert small()(lines(width)).shape == (2, width // 4, CLASSES)


@torch.no_grad()
def test_a_token_speaks_of_its_own_place() -> None:
    """Without blocks a step hears its own patches and their neighbours, and nothing else."""
    model, image = small(depth=0), lines(128)
    before = model(image)
    image[..., 64:68] = 0  # the patches of step 16
    changed = (model(image) - before).abs().amax((0, 2)) > 0
    assert changed.nonzero().flatten().tolist() == [15, 16, 17]


@torch.no_grad()
def test_one_block_sees_the_whole_line() -> None:
    model, image = small(depth=1), lines(512)
    before = model(image)
    image[..., -4:] = 0
    assert (model(image) - before).abs().amax((0, 2)).min() > 0


@torch.no_grad()
def test_order_matters_although_attention_knows_none() -> None:
    model, image = small(), lines(64)
    swapped = model(torch.cat([image[..., 32:], image[..., :32]], dim=-1))
    there = model(image)
    assert not torch.allclose(torch.cat([there[:, 8:], there[:, :8]], dim=1), swapped, atol=1e-3)


def test_beside_patches_and_their_place_it_is_a_transformer_alone() -> None:
    model = small()
    convolutions = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
    assert convolutions == [model.embed, model.position]
    assert {type(part) for part in model.blocks.modules() if not list(part.children())} == {nn.LayerNorm, nn.Linear, nn.GELU}
