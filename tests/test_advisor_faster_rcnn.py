"""Faster R-CNN in one graph: regions are cut as torchvision cuts them, a second look adds to the first, and it learns, exports and reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from advisor import anchors
from advisor.architectures.faster_rcnn import FasterRcnn, build
from advisor.tasks.object_detection import TASK
from advisor.vision_operators import ensure
from compress.context import Target, tensors
from compress.export import export

SIDE, CLASSES = 96, 4
SMALL = {"width": 0.25, "channels": 16, "hidden": 32, "regions": 24}


def small(**changes: Any) -> FasterRcnn:
    torch.manual_seed(0)
    return build(**{"classes": CLASSES, "side": SIDE, **SMALL, **changes}).eval()  # type: ignore[return-value]


def images(count: int = 2, side: int = SIDE) -> torch.Tensor:
    return torch.randn((count, 3, side, side), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_regions_are_cut_as_torchvision_cuts_them() -> None:
    ensure()
    from torchvision.ops import MultiScaleRoIAlign

    model = small(net="resnet18", side=320)
    maps = model.pyramid(images(side=320))
    low = torch.rand((2, 12, 2), generator=torch.Generator().manual_seed(2)) * 120
    boxes = torch.cat([low, low + torch.linspace(4, 190, 12)[:, None]], -1)
    assert list(model.used()) == [0, 1, 2]
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    wanted = theirs({str(n): found for n, found in enumerate(maps)}, list(boxes), [(320, 320)] * 2)
    torch.testing.assert_close(model.cut(maps, boxes), wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_second_look_adds_to_the_first_and_boxes_without_one_keep_their_word() -> None:
    model = small()
    thing, moves = model.first(model.pyramid(images()))
    for part in (model.second.scores, model.second.boxes):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)
    scores, boxes = model(images())
    torch.testing.assert_close(scores[..., :1], -thing)
    assert not scores[..., 1:].any()
    torch.testing.assert_close(boxes, moves)
    torch.nn.init.ones_(model.second.scores.bias[2:3])
    looked = model(images())[0][..., 2] != 0
    assert (looked.sum(1) == SMALL["regions"]).all()
    assert all(thing[row, looked[row]].min() >= thing[row, ~looked[row]].max() for row in range(2)), "the likeliest are looked at"


@torch.no_grad()
def test_a_further_move_is_counted_from_where_the_first_stage_put_the_box() -> None:
    model = small(regions=10_000)  # all of them
    torch.nn.init.normal_(model.proposals.bbox_pred.weight, std=0.3)  # type: ignore[union-attr, arg-type]
    moves = model.first(model.pyramid(images(1)))[1]
    for part in (model.second.scores, model.second.boxes):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)
    model.second.boxes.bias.data = torch.tensor([2.0, -1.0, 0.5, 1.0])
    before = model.boxes(moves, model.defaults[None]) / SIDE
    after = anchors.decoded(model(images(1))[1][0].numpy(), SIDE)
    inside = ((before > 0.15) & (before < 0.85)).all(-1)[0]
    middle, size = (before[0, :, 2:] + before[0, :, :2]) / 2, before[0, :, 2:] - before[0, :, :2]
    place = middle + torch.tensor([2.0, -1.0]) / 10 * size
    reach = size * (torch.tensor([0.5, 1.0]) / 5).exp() / 2
    wanted = torch.cat([place - reach, place + reach], -1).clamp(0, 1)
    assert inside.sum() > 20
    assert np.allclose(after[inside], wanted[inside].numpy(), atol=1e-4)


@pytest.mark.parametrize("net", ["mobilenet_v3_large", "resnet18"])
def test_it_learns_the_built_in_scenes_and_leaves_as_one_graph(net: str, tmp_path: Path) -> None:
    data = TASK.open(None, settings={"train": 16, "val": 8, "test": 8})
    model = small(net=net).train()
    batch = next(iter(data.batches("train", batch_size=8)))
    inputs, targets = tensors(batch.inputs), tensors(batch.targets)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for _ in range(25):
        loss = TASK.loss(model(*inputs.values()), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]
    path = export(model.eval(), data, tmp_path / "model.onnx", target=Target())
    assert "RoiAlign" in {node.op_type for node in onnx.load(path).graph.node}
