"""The SVTR-like recogniser: near blocks see near, far blocks see the whole line, and it is a plain attention net."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from advisor.architectures.svtr import SVTR, Far, build

SMALL = {"widths": (8, 16, 16), "heads": 2, "ratio": 2}
CLASSES = 11


def small(**changes: object) -> SVTR:
    torch.manual_seed(0)
    model = build(classes=CLASSES, **{**SMALL, **changes})  # type: ignore[arg-type]
    return model.eval()


def lines(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, 1, 32, width), generator=torch.Generator().manual_seed(seed))


def steps_changed(model: SVTR, width: int) -> torch.Tensor:
    """For each step, how much it changes when the last 32 columns do."""
    image = lines(1, width)
    with torch.no_grad():
        before = model(image)
        image[..., -32:] = 0
        return (model(image) - before).abs().amax(-1)[0]


def test_near_blocks_alone_see_a_neighbourhood() -> None:
    changed = steps_changed(small(near=(1, 1, 1), far=(0, 0, 0)), 512)
    assert changed[:90].max() == 0
    assert changed[-8:].min() > 0


def test_one_far_block_sees_the_whole_line() -> None:
    assert steps_changed(small(near=(1, 1, 0), far=(0, 0, 1)), 512)[:90].min() > 0


def test_without_recurrence_every_operator_is_a_convolution_a_product_or_a_norm() -> None:
    leaves = {type(part) for part in small().modules() if not list(part.children())}
    assert leaves <= {nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm, nn.Linear, nn.GELU, nn.Dropout, nn.Sequential}


def test_attention_is_what_its_formula_says() -> None:
    """softmax(q kᵀ / √d) v, written out slowly for one head at a time."""
    torch.manual_seed(0)
    block = Far(12, heads=3, ratio=2)
    x = torch.randn(2, 7, 12)
    query, key, value = block.qkv(x).split(12, dim=2)
    heads = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        weights = (query[..., part] @ key[..., part].transpose(1, 2) / 4**0.5).softmax(-1)
        heads.append(weights @ value[..., part])
    torch.testing.assert_close(block.attend(x), block.out(torch.cat(heads, dim=2)), atol=1e-6, rtol=1e-5)


def test_the_number_of_heads_costs_no_parameter() -> None:
    sizes = {sum(parameter.numel() for parameter in small(heads=heads).parameters()) for heads in (1, 2, 4)}
    assert len(sizes) == 1


def test_order_matters_although_attention_knows_none() -> None:
    """Position comes from the convolutions: the halves of a line swapped do not just give swapped answers."""
    model = small()
    image = lines(1, 64)
    with torch.no_grad():
        swapped = model(torch.cat([image[..., 32:], image[..., :32]], dim=-1))
        there = model(image)
    assert not torch.allclose(torch.cat([there[:, 8:], there[:, :8]], dim=1), swapped, atol=1e-3)


@pytest.mark.parametrize("height", [64, 16])
def test_a_line_of_the_wrong_height_is_refused(height: int) -> None:
    if height == 16:
        assert small()(torch.rand(1, 1, height, 64)).shape == (1, 16, CLASSES)  # strided rounding up: one row stays one row
        return
    with pytest.raises(RuntimeError):
        small()(torch.rand(1, 1, height, 64))


def test_stages_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="three stages"):
        small(near=(1, 1))
