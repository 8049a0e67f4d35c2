"""TSM sees motion with a net for single pictures: some channels of every frame are handed to the frames before and after it.

Idea: a two-dimensional net runs on each frame; in front of the first convolution of every residual branch an eighth of the channels is
taken from the next frame and an eighth from the one before, which costs no multiplication. Frames that are not there are zeros. The
scores of the frames are averaged. `online` hands channels on only forwards, so that a frame never waits for the next. With `share` 0
nothing is handed on: the mean of a 2-D net over frames (TSN), which cannot tell a clip from the same clip in another order.
Source: Lin, Gan & Han 2019, arXiv:1811.08383, residual shift; the mean over frames, Wang et al. 2016, arXiv:1608.00859; nets of timm, and
ResNet-8 (`resnet_small.py`) for small frames: a net that shrinks a frame 32-fold before it compares two has lost what moved by a few pixels.
Shape: clip (b, frames, 3, side, side) → frames (b · frames, 3, side, side) → logits (b, classes), raw; any number of frames of one shape.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advisor.architectures import resnet_small, timm_classifier

RESNET_8 = "resnet-8"
USUAL = 1000  # classes that timm's first weights of a head suit


class Shift(nn.Module):
    """Hands channels on between the frames of a clip: (b · frames, c, h, w) → the same, 1 / `share` of them each way.

    The first share comes from the next frame and the second from the one before; `online` has only the latter, in the first's place.
    """

    def __init__(self, frames: int, *, share: int, online: bool) -> None:
        super().__init__()
        self.frames, self.share, self.online = frames, share, online

    def forward(self, x: Tensor) -> Tensor:
        clip = x.reshape(-1, self.frames, *x.shape[1:])
        part = x.shape[1] // self.share
        start = 0 if self.online else part
        later = [] if self.online else [F.pad(clip[:, 1:, :part], (0, 0, 0, 0, 0, 0, 0, 1))]
        earlier = F.pad(clip[:, :-1, start : start + part], (0, 0, 0, 0, 0, 0, 1, 0))
        return torch.cat([*later, earlier, clip[:, :, start + part :]], 2).reshape(x.shape)


class Frames(nn.Module):
    """A net for pictures on every frame, its scores averaged. `forward(clip)`: (b, frames, 3, side, side) float32 → logits (b, classes)."""

    def __init__(self, net: nn.Module, frames: int) -> None:
        super().__init__()
        self.net = net
        self.frames = frames

    def forward(self, clip: Tensor) -> Tensor:
        each: Tensor = self.net(clip.flatten(0, 1))
        return each.reshape(-1, self.frames, each.shape[1]).mean(1)


def build(
    *,
    classes: int,
    frames: int,
    side: int,
    net: str,
    share: int = 8,
    online: bool = False,
    stride: int = 0,
    width: float = 1.0,
    weights: str = "",
    **settings: Any,
) -> Frames:
    """timm's `net`, or "resnet-8", on `frames` frames of `side` pixels, with 1 / `share` of its channels shifted each way; 0: none.

    `stride`, `width`, `weights` and `settings` as for `timm_classifier.build`; "resnet-8" takes `settings` as `resnet_small.build` does.
    Raises ValueError for a net without residual branches.
    """
    if net == RESNET_8:
        model: nn.Module = resnet_small.build(classes=classes, side=side, **settings)
    else:
        model = timm_classifier.build(classes=classes, side=side, net=net, stride=stride, width=width, weights=weights, **settings)
        if not weights:
            calm(model, classes)
    if share:
        shift(model, frames, share=share, online=online)
    return Frames(model, frames)


def calm(model: Any, classes: int) -> None:
    """Give a new head first weights that take no side. timm draws a MobileNet's as for a thousand classes: with eight the first answers
    are so sure that cross entropy begins at 5.9, where guessing has 2.1, and the net spends its first rounds on that."""
    head = model.get_classifier()
    if isinstance(head, nn.Linear) and classes < USUAL:
        nn.init.normal_(head.weight, std=0.01)


def shift(model: nn.Module, frames: int, *, share: int, online: bool) -> None:
    """Put a shift in front of the first convolution of every residual branch of `model`."""
    branches = [block for block in model.modules() if _first(block)]
    if not branches:
        raise ValueError(f"{type(model).__name__} has no residual branch to shift channels in")
    for block in branches:
        name = _first(block)
        setattr(block, name, nn.Sequential(Shift(frames, share=share, online=online), getattr(block, name)))


def _first(block: nn.Module) -> str:
    """The name of the first convolution of a residual branch: of MobileNetV2's blocks that add to their input, of all of ResNet's."""
    if isinstance(block, resnet_small.Block):
        return "first"
    if hasattr(block, "conv_pwl"):
        return "conv_pw" if getattr(block, "has_skip", False) else ""
    return "conv1" if hasattr(block, "conv2") and hasattr(block, "bn2") else ""


class Recall(nn.Module):
    """A one-directional shift that is given one frame at a time: (b, c, h, w) → the same, the first share from the frame before."""

    def __init__(self, share: int) -> None:
        super().__init__()
        self.share = share
        self.memory: list[Tensor] = []  # what the frame before handed on, while a frame is computed: what this one does

    def forward(self, x: Tensor) -> Tensor:
        part = x.shape[1] // self.share
        before = self.memory.pop() if self.memory else torch.zeros_like(x[:, :part])
        self.memory.append(x[:, :part])
        return torch.cat([before, x[:, part:]], 1)


class Stream(nn.Module):
    """The online form, frame by frame. `forward(frame, *memory)`: (b, 3, side, side) and what it returned the time before → (logits, *memory).

    Without memory a clip begins. Logits are those of the frame; a clip's are their mean.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, frame: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        recalls = [part for part in self.modules() if isinstance(part, Recall)]
        for part, before in zip(recalls, memory, strict=bool(memory)):
            part.memory.append(before)
        logits = self.net(frame)
        return (logits, *(part.memory.pop() for part in recalls))


def stream(model: Frames) -> Stream:
    """A copy of an online net that takes one frame and what it remembers of the one before. Raises ValueError for a net that looks ahead."""
    net = deepcopy(model.net).eval()
    shifts = {name: part for name, part in net.named_modules() if isinstance(part, Shift)}
    if not shifts or not all(part.online for part in shifts.values()):
        raise ValueError("only a net built with online = true answers frame by frame: the others wait for the frame after")
    for name, part in shifts.items():
        net.set_submodule(name, Recall(part.share))
    return Stream(net)
