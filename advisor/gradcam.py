"""Where a convolutional net looked: Grad-CAM, a heat map over the picture for one class.

Idea: the last convolution that still knows places has maps, each of which fires for something; the gradient of the class's score with
respect to a map, averaged over its places, says how much that something speaks for the class. The weighted sum, where positive, is
the heat.
Source: Selvaraju et al. 2016, arXiv:1610.02391. It shows what spoke for a class, not whether the net is right, and it is as coarse as the
maps it is made of: sanity checks, Adebayo et al. 2018, arXiv:1810.03292.
So every map comes with a measurement: how much of its certainty the net loses when the hottest fifth of a picture is greyed out, beside
a fifth chosen at random.
Shape: picture (1, 3, side, side) → heat (side, side) in 0 to 1 → a PNG file of picture and heat. Needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advisor.data import pictures
from rules.examples import Explanation, Sample, Seen
from rules.problems import Problem

if TYPE_CHECKING:
    from torch import Tensor, nn

FINE = 4  # rows and columns a map should have; coarser ones only where there are no others
SHOWN = 224  # pixels: the side of the PNG
STRENGTH = 0.55  # of the heat over the picture, where it is hottest
PICTURES = 6  # of a report, half of them wrong answers where there are so many
HIDDEN = 0.2  # share of a picture that is greyed out
TITLE = "Grad-CAM: which region spoke for the class"
CAVEAT = "The brighter, the more the region spoke for the class; as coarse as the last maps of the net. It is evidence of where, not of why, and not of whether the answer is right."
SOURCE = "Selvaraju et al. 2016, arXiv:1610.02391"


def explanation(model: nn.Module, samples: Sequence[Sample], labels: Sequence[str]) -> Explanation:
    """Some answers of a classifier with their heat, wrong ones first, and how much hangs on what is hot. Raises Problem as `heat` does."""
    answers = [(sample, _shares(model, sample.inputs["image"])) for sample in samples]
    wrong = [one for one in answers if labels[int(one[1].argmax())] != one[0].truth][: PICTURES // 2]
    right = [one for one in answers if labels[int(one[1].argmax())] == one[0].truth]
    seen = tuple(_seen(model, *one, labels) for one in [*wrong, *right][:PICTURES])
    return Explanation(TITLE, CAVEAT, SOURCE, seen, (measured(model, samples, lambda image, place: heat(model, image, place)),))


def _seen(model: nn.Module, sample: Sample, shares: NDArray[np.float32], labels: Sequence[str]) -> Seen:
    said = int(shares.argmax())
    places = [said]
    words = f"says {labels[said]}, {100 * shares[said]:.0f} % sure"
    if labels[said] != sample.truth and sample.truth in labels:
        places.append(list(labels).index(sample.truth))
        words += f"; it is {sample.truth}. Picture, what spoke for {labels[said]}, what spoke for {sample.truth}"
    return Seen(sample.name, words, explain(model, sample, *places))


def measured(model: nn.Module, samples: Sequence[Sample], heat: Callable[[NDArray[np.float32], int], NDArray[np.float32]]) -> str:
    """What greying out the fifth of each picture that `heat` (image, class → (h, w)) finds hottest costs, beside a random fifth."""
    lost = []
    for index, sample in enumerate(samples):
        image = sample.inputs["image"]
        shares = _shares(model, image)
        said = int(shares.argmax())
        found = heat(image, said)
        order, chance = np.argsort(-found, axis=None, kind="stable"), np.random.default_rng([index, 5]).permutation(found.size)
        lost.append([shares[said] - _shares(model, _without(image, places))[said] for places in (order, chance)])
    hot, drawn = 100 * np.mean(lost, axis=0)
    return (
        f"Greying out the hottest fifth of a picture took {hot:.0f} points of certainty on average, a random fifth of its pixels {drawn:.0f} "
        f"(measured on {len(samples)} test pictures)."
    )


def _without(image: NDArray[np.float32], order: NDArray[np.intp]) -> NDArray[np.float32]:
    """The picture (1, 3, h, w) with the first fifth of `order` replaced by its mean colour."""
    hidden = np.zeros(image.shape[2:], dtype=bool)
    hidden.flat[order[: round(HIDDEN * hidden.size)]] = True
    return np.where(hidden, image.mean((2, 3), keepdims=True), image).astype(np.float32)


def _shares(model: nn.Module, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probabilities of the classes, (classes,)."""
    import torch

    with torch.inference_mode():
        return np.asarray(model(torch.from_numpy(np.ascontiguousarray(image))).float().softmax(-1)[0].numpy())


def explain(model: nn.Module, sample: Sample, *places: int, layer: str = "") -> bytes:
    """A PNG file: the sample's picture, and beside it the heat that speaks for each class of `places` over it. Raises Problem as `heat` does."""
    found = [heat(model, sample.inputs["image"], place, layer=layer) for place in places]
    picture = pictures.square(pictures.decode(sample.raw, name=sample.name), SHOWN)
    return pictures.png(np.concatenate([picture, *(overlay(picture, one) for one in found)], axis=1))


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
