"""Classifiers that timm keeps: the call into it, and the few things an edge build needs beside it.

Idea: MobileNet, EfficientNet-Lite, RepViT, ResNet and the vision Transformers are maintained there, with their published weights. What
is added: `stride` takes strides out of the net from the front, so that small pictures are not shrunk to nothing before it has looked;
a net with branches that training needs and answering does not is given out `fused`.
Source: timm, https://github.com/huggingface/pytorch-image-models (Apache-2.0); the papers are named by the cards.
Shape: image (b, 3, side, side) → logits (b, classes), raw.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from advisor.published import HUB, local, of_timm
from rules.problems import bad_environment, bad_input

FULL = 32  # how much these convolutional nets shrink a picture
PATCHES = ("vit_", "deit_")  # built for one side
NARROW = {
    "efficientnet_lite": ("timm.models.efficientnet", "_gen_efficientnet_lite"),
    "mobilenetv2": ("timm.models.efficientnet", "_gen_mobilenet_v2"),
    "mobilenetv3_large": ("timm.models.mobilenetv3", "_gen_mobilenet_v3"),
    "mobilenetv4_conv": ("timm.models.mobilenetv3", "_gen_mobilenet_v4"),
}


class Branched(nn.Module):
    """A net trained with branches that become one convolution each: `fused` gives the same function without them.

    Source: re-parameterisation, Ding et al. 2021, arXiv:2101.03697.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.net(image)
        return logits

    def fused(self) -> nn.Module:
        """A copy in the form it answers in, in eval mode; it is not for training."""
        from timm.models import reparameterize_model

        return Branched(reparameterize_model(deepcopy(self.net).eval()))


def build(*, classes: int, side: int, net: str, stride: int = 0, width: float = 1.0, weights: str = "", **settings: Any) -> nn.Module:
    """timm's `net` for `classes` and pictures of `side` pixels; `settings` go to it as they are.

    `stride`: how much the net shrinks a picture in all, a power of two below its own 32. `width` multiplies the channels of the
    MobileNets and EfficientNet-Lite. `weights`: "hub" for timm's published ones, or a local .safetensors file of theirs; the head is
    always new where the classes differ. Raises Problem: exit 5 without timm or the Hub, exit 3 for weights that are not this net's.
    """
    timm = _timm()
    if net.startswith(PATCHES):
        settings = {"img_size": side, **settings}
    file = "" if not weights else of_timm(net) if weights == HUB else local(weights)
    if file:
        settings = {**settings, "pretrained_cfg_overlay": {"file": file}}
    create = timm.create_model if width == 1.0 else partial(_narrow(net), channel_multiplier=width)
    try:
        model: nn.Module = create(net, pretrained=bool(weights), num_classes=classes, **settings)
    except RuntimeError as error:
        if not weights:
            raise
        raise bad_input(
            f"{weights} does not fit {net}: {' '.join(str(error).split())[:200]}", remedy="weights must be timm's own of this net"
        ) from error
    if file:
        _filled(model, file, net)
    if stride:
        keep_size(model, by=FULL // stride)
    return Branched(model) if any(hasattr(part, "fuse") for part in model.modules()) else model


def _filled(model: Any, file: str, net: str) -> None:
    """Refuse a file without some of the net's numbers: with another head, timm takes what is there and says nothing."""
    from safetensors import safe_open

    with safe_open(file, "pt") as held:
        there = set(held.keys())
    heads = model.pretrained_cfg["classifier"]
    own = [name for name in model.state_dict() if not name.startswith(heads if isinstance(heads, str) else tuple(heads))]
    if missing := [name for name in own if name not in there]:
        raise bad_input(
            f"{file} does not fit {net}: {len(missing)} of its {len(own)} arrays are not there, {missing[0]} first",
            remedy="weights must be timm's own of this net",
        )


def keep_size(model: nn.Module, *, by: int) -> None:
    """Take strides out of `model` from the front, until it shrinks a picture `by` times less."""
    left = by
    part: Any
    for part in model.modules():
        spatial = (isinstance(part, nn.Conv2d) and max(part.kernel_size) > 1) or isinstance(part, nn.MaxPool2d)
        if left > 1 and spatial and part.stride in (2, (2, 2)):
            part.stride = (1, 1) if isinstance(part, nn.Conv2d) else 1
            left //= 2
    if left > 1:
        raise ValueError(f"{type(model).__name__} has no {by}-fold stride to take out")


def _narrow(net: str) -> Callable[..., nn.Module]:
    """timm's own builder behind `net`, which also takes a `channel_multiplier`; timm names only some widths."""
    place, function = next((found for start, found in NARROW.items() if net.startswith(start)), ("", ""))
    if not place:
        raise ValueError(f"{net} has no width to multiply: {', '.join(NARROW)} have")
    found: Callable[..., nn.Module] = getattr(import_module(place), function)
    return found


def _timm() -> Any:
    from advisor.vision_operators import ensure

    ensure()
    try:
        import timm
    except ImportError:
        raise bad_environment("this architecture is timm's, which is not installed", remedy="pip install 'edge-advisor[vision]'") from None
    return timm
