"""Faster R-CNN with a feature pyramid: a small net proposes regions, a second looks at each of them again, in one graph.

Idea: a pyramid of maps sees the picture; a head shared by its levels says of every default box whether there is a thing, and moves it;
the likeliest boxes are cut out of the maps by RoIAlign, always 7 x 7 cells whatever their size, and two dense layers name and move them.
Source: Ren et al. 2015, arXiv:1506.01497 (proposals and regions, 300 of them when it answers); Lin et al. 2016, arXiv:1612.03144 (the
pyramid, and which of its maps a region is cut from); He et al. 2017, arXiv:1703.06870 (RoIAlign). Built of torchvision's own parts,
https://github.com/pytorch/vision (BSD-3-Clause).
Shape: image (b, 3, side, side) → scores (b, anchors, 1 + classes) and boxes (b, anchors, 4), raw (`advisor/anchors.py`); inside,
maps (b, c, rows, columns), regions (b, k, 4) in pixels, cuts (b k, c, 7, 7).

What differs from the paper, and why: it answers in the default boxes of this task, so that loss, decoding and files are those of any
other detector here: what the second stage says is added to what the first said of the same box, and boxes it has not looked at keep the
first stage's word. The number of regions is fixed, and doubles among them are not dropped between the stages, which keeps the graph one
graph with any batch. Both stages learn together from one loss instead of in turns, from the boxes that the first one chose itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advisor import anchors
from advisor.published import begin
from rules.problems import bad_environment

CELLS = 7  # of a cut, each way
SAMPLES = 2  # of a cell, each way, as torchvision takes
ORDINARY, LEVEL = 224, 4  # a region of so many pixels is cut from the map of stride 2 ** LEVEL
NETS: Mapping[str, tuple[Mapping[str, str], tuple[int, ...]]] = {  # layers that become maps, and their strides
    "mobilenet_v3_large": ({"12": "0", "16": "1"}, (16, 32)),
    "resnet18": ({f"layer{n + 1}": str(n) for n in range(4)}, (4, 8, 16, 32)),
    "resnet50": ({f"layer{n + 1}": str(n) for n in range(4)}, (4, 8, 16, 32)),
}


class Pyramid(nn.Module):
    """A backbone and the maps above it: (b, 3, side, side) → maps (b, c, rows, columns), finest first."""

    def __init__(self, body: nn.Module, join: nn.Module) -> None:
        super().__init__()
        self.body, self.join = body, join

    def forward(self, image: Tensor) -> list[Tensor]:
        return list(self.join(self.body(image)).values())


class Regions(nn.Module):
    """The second stage: cuts (n, c, 7, 7) → scores of the ground and the classes (n, 1 + classes), further moves (n, 4)."""

    def __init__(self, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Flatten(), nn.Linear(channels * CELLS**2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.scores, self.boxes = nn.Linear(hidden, 1 + classes), nn.Linear(hidden, 4)

    def forward(self, cuts: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.look(cuts)
        return self.scores(seen), self.boxes(seen)


class FasterRcnn(nn.Module):
    """The detector: image (b, 3, side, side) float32 → (scores, boxes), raw. `regions` of the default boxes are looked at twice."""

    defaults: Tensor

    def __init__(
        self, pyramid: Pyramid, proposals: nn.Module, second: Regions, *, held: Tensor, side: int, strides: Sequence[int], regions: int
    ) -> None:
        super().__init__()
        self.pyramid, self.proposals, self.second = pyramid, proposals, second
        self.side, self.strides = side, tuple(strides)
        self.regions = min(regions, len(held))
        self.register_buffer("defaults", held, persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.pyramid(image)
        thing, moves = self.first(maps)
        chosen = thing.detach().topk(self.regions, 1).indices  # (b, k, 1)
        four = chosen.expand(-1, -1, 4)
        before = moves.detach().gather(1, four)
        cuts = self.cut(maps, self.boxes(before, self.defaults[chosen[..., 0]]))
        kinds, further = (found.reshape(image.shape[0], self.regions, -1) for found in self.second(cuts))
        ground = torch.cat([-thing, torch.zeros_like(thing).expand(-1, -1, kinds.shape[-1] - 1)], -1)
        scores = ground.scatter_add(1, chosen.expand(-1, -1, kinds.shape[-1]), kinds)
        size = self.stretch(before)  # a move is counted in sizes of the region, not of the default box
        return scores, moves.scatter_add(1, four, torch.cat([further[..., :2] * size, further[..., 2:]], -1))

    def first(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What the first stage says of every default box: whether it is a thing (b, anchors, 1), and how it moves (b, anchors, 4)."""
        levels = list(maps[self.strides.index(anchors.STRIDE) :])
        while len(levels) < anchors.MAPS:
            levels.append(nn.functional.max_pool2d(levels[-1], 3, 2, 1))
        things, moves = self.proposals(levels)
        return torch.cat([_by_anchor(found) for found in things], 1), torch.cat([_by_anchor(found) for found in moves], 1)

    def stretch(self, moves: Tensor) -> Tensor:
        """How many times larger than its default box a moved box is: (b, k, 4) → (b, k, 2)."""
        return (moves[..., 2:] / anchors.WEIGHTS[2]).clamp(max=anchors.LARGEST).exp()

    def boxes(self, moves: Tensor, held: Tensor) -> Tensor:
        """Moved default boxes (b, k, 4) in pixels: left, top, right, bottom within the picture."""
        middle = held[..., :2] + moves[..., :2] / anchors.WEIGHTS[0] * held[..., 2:]
        reach = held[..., 2:] * self.stretch(moves) / 2
        return torch.cat([middle - reach, middle + reach], -1).clamp(0, 1) * self.side

    def cut(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Each region out of the map that suits its size: boxes (b, k, 4) → (b k, c, 7, 7)."""
        from torchvision.ops import roi_align

        picture = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)[:, None, None].expand(-1, boxes.shape[1], 1)
        rows = torch.cat([picture, boxes], -1).flatten(0, 1)
        cut = [
            partial(roi_align, maps[n], output_size=CELLS, spatial_scale=1 / self.strides[n], sampling_ratio=SAMPLES) for n in self.used()
        ]
        if len(cut) == 1:
            only: Tensor = cut[0](rows)
            return only
        size = (rows[:, 3:] - rows[:, 1:3]).prod(1).sqrt()
        level = torch.floor(LEVEL + torch.log2(size / ORDINARY + 1e-6)) - math.log2(self.strides[0])
        level = level.clamp(0, len(cut) - 1).to(torch.int64)
        found = maps[0].new_zeros(rows.shape[0], maps[0].shape[1], CELLS, CELLS)
        for number, part in enumerate(cut):
            (mine,) = torch.where(level == number)
            found = found.index_put((mine,), part(rows[mine]))
        return found

    def used(self) -> range:
        """The maps that regions of this picture can be cut from: none is larger than the whole."""
        return range(
            sum(math.log2(stride) <= max(LEVEL + math.log2(self.side / ORDINARY), math.log2(self.strides[0])) for stride in self.strides)
        )


def _by_anchor(found: Tensor) -> Tensor:
    """(b, shapes · numbers, rows, columns) → (b, rows · columns · shapes, numbers)."""
    numbers = found.shape[1] // anchors.SHAPES
    return found.permute(0, 2, 3, 1).reshape(found.shape[0], -1, numbers)


def build(
    *,
    classes: int,
    side: int,
    smallest: float = anchors.SCALES[0],
    net: str = "mobilenet_v3_large",
    width: float = 1.0,
    channels: int = 256,
    hidden: int = 1024,
    regions: int = 150,
    weights: str = "",
) -> nn.Module:
    """Faster R-CNN for `classes` at `side` pixels on torchvision's `net`, a pyramid of `channels`, `regions` looked at by layers of `hidden`.

    `smallest` is the scale of the least default boxes; `width` multiplies the channels of MobileNetV3; `weights` names a
    .safetensors file of torchvision's `net`: torchvision keeps its own as pickles, which are not read here.
    Raises Problem (exit 5) without torchvision.
    """
    from advisor.vision_operators import ensure

    if ensure() == "absent":
        raise bad_environment("this architecture is torchvision's, which is not installed", remedy="pip install 'edge-advisor[vision]'")
    from torchvision import models
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.detection._utils import retrieve_out_channels
    from torchvision.models.detection.rpn import RPNHead
    from torchvision.ops import FeaturePyramidNetwork

    layers, strides = NETS[net]
    mobile: dict[str, Any] = {"norm_layer": partial(nn.BatchNorm2d, eps=0.001, momentum=0.1), "width_mult": width}
    whole: Any = getattr(models, net)(**(mobile if "mobilenet" in net else {}))
    if weights:
        begin(whole, weights)
    body = IntermediateLayerGetter(getattr(whole, "features", whole), dict(layers))
    join = FeaturePyramidNetwork(retrieve_out_channels(body, (side, side)), channels)
    held = torch.from_numpy(anchors.anchors(side, smallest).copy())
    second = Regions(channels, hidden, classes)
    return FasterRcnn(
        Pyramid(body, join), RPNHead(channels, anchors.SHAPES), second, held=held, side=side, strides=strides, regions=regions
    )
