"""SSDLite on MobileNetV3-Large: heads of depthwise convolutions on six maps, the first at stride sixteen.

Source: SSD, Liu et al. 2015, arXiv:1512.02325; SSDLite, Sandler et al. 2018, arXiv:1801.04381; its MobileNetV3 with half the channels
behind the fourth stride, Howard et al. 2019, arXiv:1905.02244. Built of torchvision's own parts, https://github.com/pytorch/vision
(BSD-3-Clause); the graph ends in the raw heads.
Shape: image (b, 3, side, side) → scores (b, anchors, 1 + classes) and boxes (b, anchors, 4), raw (`advisor/anchors.py`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from advisor.anchors import MAPS, SCALES, SHAPES
from advisor.published import begin
from rules.problems import bad_environment


class SsdLite(nn.Module):
    """torchvision's extractor and heads; answers stand cell by cell, the shapes of a cell together."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.scores: Any = nn.ModuleList(head.classification_head.module_list)  # type: ignore[union-attr, arg-type]
        self.boxes: Any = nn.ModuleList(head.regression_head.module_list)  # type: ignore[union-attr, arg-type]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        maps = list(self.backbone(image).values())
        scores = torch.cat([_by_anchor(part(found)) for part, found in zip(self.scores, maps, strict=True)], 1)
        boxes = torch.cat([_by_anchor(part(found)) for part, found in zip(self.boxes, maps, strict=True)], 1)
        return scores, boxes


def _by_anchor(found: Tensor) -> Tensor:
    """(b, shapes · numbers, rows, columns) → (b, rows · columns · shapes, numbers)."""
    numbers = found.shape[1] // SHAPES
    return found.permute(0, 2, 3, 1).reshape(found.shape[0], -1, numbers)


def build(*, classes: int, side: int, smallest: float = SCALES[0], width: float = 1.0, tail: str = "half", weights: str = "") -> nn.Module:
    """SSDLite for `classes`; channels times `width`, `tail` "half" or "full" behind the fourth stride.

    `weights` names a .safetensors file of torchvision's mobilenet_v3_large, whose published one has the full tail: torchvision keeps its own as
    pickles, which are not read here. `side` says how many default boxes there
    are; the net itself takes any, and is the same for any `smallest`. Raises Problem (exit 5) without torchvision.
    """
    from advisor.vision_operators import ensure

    if ensure() == "absent":
        raise bad_environment("this architecture is torchvision's, which is not installed", remedy="pip install 'edge-advisor[vision]'")
    from torchvision.models import mobilenet_v3_large
    from torchvision.models.detection._utils import retrieve_out_channels
    from torchvision.models.detection.ssdlite import SSDLiteHead, _mobilenet_extractor

    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.1)  # torchvision's 0.03 lags behind in short training
    net = mobilenet_v3_large(norm_layer=norm, reduced_tail=tail == "half", width_mult=width)
    if weights:
        begin(net, weights)
    backbone = _mobilenet_extractor(net, 6, norm)
    channels = retrieve_out_channels(backbone, (side, side))
    return SsdLite(backbone, SSDLiteHead(channels, [SHAPES] * MAPS, 1 + classes, norm))
