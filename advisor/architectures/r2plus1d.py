"""R(2+1)D: a ResNet for clips whose 3x3x3 convolutions are taken apart into one over the picture and one over time.

Idea: between the two stands one more nonlinearity, and the pair is easier to train than the convolution that it replaces, at as many
parameters. Time and picture are both halved from the second stage on.
Source: Tran et al. 2018, arXiv:1711.11248; torchvision's net, https://github.com/pytorch/vision (BSD-3-Clause).
Shape: clip (b, frames, 3, side, side) → (b, 3, frames, side, side) → logits (b, classes), raw; any number of frames and any side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from advisor.published import begin
from rules.problems import bad_environment

USUAL = (64, 128, 256, 512)


class R2Plus1d(nn.Module):
    """torchvision's net on clips as the task has them. `forward(clip)`: (b, frames, 3, side, side) float32 → logits (b, classes)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, clip: Tensor) -> Tensor:
        logits: Tensor = self.net(clip.transpose(1, 2))
        return logits


def build(
    *,
    classes: int,
    frames: int,
    side: int,
    widths: Sequence[int] = USUAL,
    depths: Sequence[int] = (2, 2, 2, 2),
    weights: str = "",
) -> R2Plus1d:
    """torchvision's R(2+1)D with `depths` blocks a stage of `widths` channels.

    `weights`: a local .safetensors file of this very net (torchvision's own are pickles, which nothing here opens). It takes any number of
    frames and any side. Raises Problem: exit 5 without torchvision, exit 3 for a file that is not there or does not fit.
    """
    from advisor.vision_operators import ensure

    if ensure() == "absent":
        raise bad_environment("this architecture is torchvision's, which is not installed", remedy="pip install 'edge-advisor[vision]'")
    from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet

    net: Any = VideoResNet(BasicBlock, [Conv2Plus1D] * 4, list(depths), R2Plus1dStem, num_classes=classes)
    if tuple(widths) != USUAL:
        _resize(net, widths, depths, classes)
    model = R2Plus1d(net)
    if weights:
        begin(model, weights)
    return model


def _resize(net: Any, widths: Sequence[int], depths: Sequence[int], classes: int) -> None:
    """Give torchvision's net stages of other widths: its builder knows one."""
    from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D

    across, over = net.stem[0], net.stem[3]
    net.stem[3] = nn.Conv3d(across.out_channels, widths[0], over.kernel_size, over.stride, over.padding, bias=False)
    net.stem[4] = nn.BatchNorm3d(widths[0])
    net.inplanes = widths[0]
    for place, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        setattr(net, f"layer{place + 1}", net._make_layer(BasicBlock, Conv2Plus1D, width, depth, stride=2 if place else 1))
    net.fc = nn.Linear(widths[-1], classes)
