"""Where a convolutional net looked: Grad-CAM, a heat map over the picture for one class.

Idea: the last convolution that still knows places has maps, each of which fires for something; the gradient of the class's score with
respect to a map, averaged over its places, says how much that something speaks for the class. The weighted sum, where positive, is
the heat.
Source: Selvaraju et al. 2016, arXiv:1610.02391. It shows what spoke for a class, not whether the net is right, and it is as coarse as the
maps it is made of: sanity checks, Adebayo et al. 2018, arXiv:1810.03292.
Shape: picture (1, 3, side, side) → heat (side, side) in 0 to 1 → a PNG file of picture and heat. Needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advisor.data import pictures
from rules.examples import Sample
from rules.problems import Problem

if TYPE_CHECKING:
    from torch import Tensor, nn

FINE = 4  # rows and columns a map should have; coarser ones only where there are no others
SHOWN = 224  # pixels: the side of the PNG
STRENGTH = 0.55  # of the heat over the picture, where it is hottest


def explain(model: nn.Module, sample: Sample, place: int, *, layer: str = "") -> bytes:
    """A PNG file: the sample's picture, and beside it the heat that speaks for class `place` over it. Raises Problem as `heat` does."""
    found = heat(model, sample.inputs["image"], place, layer=layer)
    picture = pictures.square(pictures.decode(sample.raw, name=sample.name), SHOWN)
    return pictures.png(np.concatenate([picture, overlay(picture, found)], axis=1))


def heat(model: nn.Module, image: NDArray[np.float32], place: int, *, layer: str = "") -> NDArray[np.float32]:
    """What speaks for class `place` of a classifier in `image` (1, 3, h, w): (h, w), 0 to 1, all 0 where nothing does.

    `layer` names a convolution of the model; else the last one that has places. Raises Problem (exit 2) for a model without one, for
    an unknown layer and for a class that there is not.
    """
    import torch

    was = model.training
    model.eval()
    try:
        maps, logits = _watched(model, torch.from_numpy(np.ascontiguousarray(image)), layer)
    finally:
        model.train(was)
    if not 0 <= place < logits.shape[1]:
        raise Problem(f"there is no class {place}, the model has {logits.shape[1]}", remedy="count from 0")
    (slopes,) = torch.autograd.grad(logits[0, place], maps)
    weights = slopes.mean((2, 3), keepdim=True)
    small = torch.relu((weights * maps).sum(1, keepdim=True)).detach()
    large = torch.nn.functional.interpolate(small, size=image.shape[2:], mode="bilinear", align_corners=False)[0, 0].numpy()
    return np.asarray(large / max(float(large.max()), 1e-12), dtype=np.float32)


def _watched(model: nn.Module, image: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """The maps that the chosen convolution makes of `image`, and the logits that follow from them."""
    import torch
    from torch import nn

    convolutions = {name: part for name, part in model.named_modules() if isinstance(part, nn.Conv2d)}
    if layer and layer not in convolutions:
        raise Problem(
            f"there is no convolution {layer!r}", remedy=f"the last are {', '.join(list(convolutions)[-3:])}" if convolutions else None
        )
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            seen[name] = output

        return hook

    handles = [part.register_forward_hook(keep(name)) for name, part in convolutions.items()]
    try:
        with torch.enable_grad():
            logits = model(image.clone().requires_grad_(True))
    finally:
        for handle in handles:
            handle.remove()
    return seen[layer or _last(seen)], logits


def _last(seen: dict[str, Tensor]) -> str:
    """The last convolution whose maps have places. Raises Problem where there is none, or only the one that cuts a picture into patches."""
    for least in (FINE, 2):
        found = [name for name, maps in seen.items() if min(maps.shape[2:]) >= least]
        if len(found) > 1:
            return found[-1]
    raise Problem(
        "Grad-CAM needs convolutions whose maps have places, and this model has none",
        remedy="for a Transformer look at its attention, with care",
    )


def overlay(picture: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture (h, w, 3) with `heat` over it, from nothing over orange to yellow."""
    from PIL import Image

    scaled = Image.fromarray(np.round(heat * 255).astype(np.uint8)).resize(picture.shape[1::-1], Image.Resampling.BILINEAR)
    share = np.asarray(scaled, dtype=np.float32)[:, :, None] / 255
    colour = np.concatenate([np.full_like(share, 255), 80 + 175 * share, 0 * share], axis=2)
    mixed = picture + STRENGTH * share * (colour - picture)
    shades: NDArray[np.uint8] = np.clip(np.round(mixed), 0, 255).astype(np.uint8)
    return shades
