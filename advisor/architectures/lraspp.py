"""LR-ASPP on MobileNetV3: a pooled gate beside one light branch, and the finer map of stride eight for the borders.

Source: Howard et al. 2019, "Searching for MobileNetV3", section 6.4, arXiv:1905.02244; built of torchvision's own parts,
https://github.com/pytorch/vision (BSD-3-Clause). The published net spreads its answer over the picture; here it stays on the grid.
Shape: image (b, 3, height, width), sides a multiple of 32 → logits (b, height / 8, width / 8, classes), raw.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import interpolate

from rules.problems import bad_environment

NETS = ("large", "small")


class LrAspp(nn.Module):
    """torchvision's backbone and head; the answer stays on its grid, the classes last."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = net.backbone
        self.head: Any = net.classifier

    def forward(self, image: Tensor) -> Tensor:
        found = self.backbone(image)
        low, high = found["low"], found["high"]
        gated = self.head.cbr(high) * self.head.scale(high)
        fine = interpolate(gated, scale_factor=2.0, mode="bilinear", align_corners=False)  # strides 16 and 8
        logits: Tensor = self.head.low_classifier(low) + self.head.high_classifier(fine)
        return logits.permute(0, 2, 3, 1)


def build(*, classes: int, net: str = "large", width: float = 1.0, inner: int = 128) -> nn.Module:
    """MobileNetV3 `net` ("large" or "small") with channels times `width`, the head `inner` channels wide.

    Raises Problem (exit 5) without torchvision.
    """
    from advisor.vision_operators import ensure

    if ensure() == "absent":
        raise bad_environment("this architecture is torchvision's, which is not installed", remedy="pip install 'edge-advisor[vision]'")
    from torchvision.models import mobilenet_v3_large, mobilenet_v3_small
    from torchvision.models.segmentation.lraspp import LRASPPHead, _lraspp_mobilenetv3

    backbone = {"large": mobilenet_v3_large, "small": mobilenet_v3_small}[net](weights=None, dilated=True, width_mult=width)
    found = _lraspp_mobilenetv3(backbone, classes)
    head: Any = found.classifier
    if inner != head.cbr[0].out_channels:
        found.classifier = LRASPPHead(head.low_classifier.in_channels, head.cbr[0].in_channels, classes, inner)
    for part in found.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.1  # torchvision's 0.01 is for long training: statistics would lag behind by thousands of steps
    return LrAspp(found)
