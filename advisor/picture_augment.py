"""Makes a picture look photographed a little differently each epoch, and mixes pictures in pairs.

Idea: what a class does not depend on is varied: where the thing stands, how near it is, left and right where that says nothing,
light and contrast. MixUp blends two pictures and their labels, CutMix puts a piece of one into the other.
Source: shifted and mirrored crops as for CIFAR, He et al. 2015, arXiv:1512.03385; crops by area, Szegedy et al. 2014,
arXiv:1409.4842; MixUp, Zhang et al. 2017, arXiv:1710.09412; CutMix, Yun et al. 2019, arXiv:1905.04899.
Shape: (side, side, 3) uint8 → the same. All randomness is the caller's generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
RATIO = 4 / 3  # of width and height of a crop, at most


@dataclass(frozen=True, slots=True)
class Look:
    """How training pictures vary. Shares are of the side (`shift`), of the area (`crop`), of full brightness (`tone`)."""

    flip: bool = False  # left and right change places, half the time
    shift: float = 0.0  # moved by up to this share; what comes into view is mirrored
    crop: float = 1.0  # at least this share of the area is seen, scaled up; 1: all of it
    tone: float = 0.0  # contrast and brightness change by up to this share
    mixup: float = 0.0  # of Beta(a, a); 0: none
    cutmix: float = 0.0  # likewise; with both, half of the batches each
    smoothing: float = 0.0  # share of each label that goes to all classes alike


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The randomness of one picture in one epoch."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, index, 6])))


def varied(picture: Pixels, rng: np.random.Generator, look: Look) -> Pixels:
    """One picture, seen a little differently."""
    if look.crop < 1:
        picture = cropped(picture, rng, least=look.crop)
    if look.shift > 0:
        picture = shifted(picture, rng, most=round(look.shift * len(picture)))
    if look.flip and rng.random() < 0.5:
        picture = picture[:, ::-1]
    return toned(picture, rng, most=look.tone) if look.tone > 0 else picture


def cropped(picture: Pixels, rng: np.random.Generator, *, least: float) -> Pixels:
    """A part of the picture of at least `least` of its area, scaled to the whole."""
    from PIL import Image

    side = len(picture)
    area, ratio = rng.uniform(least, 1), np.exp(rng.uniform(-np.log(RATIO), np.log(RATIO)))
    wide, high = min(1.0, np.sqrt(area * ratio)) * side, min(1.0, np.sqrt(area / ratio)) * side
    left, top = rng.uniform(0, side - wide), rng.uniform(0, side - high)
    box = (float(left), float(top), min(side, float(left + wide)), min(side, float(top + high)))
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR, box=box))


def shifted(picture: Pixels, rng: np.random.Generator, *, most: int) -> Pixels:
    """Moved by up to `most` pixels each way."""
    side = len(picture)
    down, right = (int(step) for step in rng.integers(-most, most + 1, size=2))
    rows, columns = (_mirrored(np.arange(side) + step, side) for step in (down, right))
    return picture[rows][:, columns]


def _mirrored(places: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    places = np.abs(places)
    return np.where(places >= side, 2 * side - 2 - places, places)


def toned(picture: Pixels, rng: np.random.Generator, *, most: float) -> Pixels:
    """Another contrast and brightness, by a table."""
    contrast, light = 1 + rng.uniform(-most, most), 255 * rng.uniform(-most, most)
    middle = float(picture.mean())
    table = np.clip(middle + (np.arange(256) - middle) * contrast + light, 0, 255).astype(np.uint8)
    toned: Pixels = table[picture]
    return toned


def mixed(
    images: NDArray[np.float32], soft: NDArray[np.float32], rng: np.random.Generator, look: Look
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Each picture with its opposite number in the batch: images (b, 3, h, w) and class shares (b, classes), both mixed."""
    cut = look.cutmix > 0 and (look.mixup <= 0 or rng.random() < 0.5)
    power = look.cutmix if cut else look.mixup
    share = np.float32(rng.beta(power, power))
    if cut:
        high, wide = images.shape[2:]
        tall, broad = round(high * float(np.sqrt(1 - share))), round(wide * float(np.sqrt(1 - share)))
        top, left = int(rng.integers(0, high - tall + 1)), int(rng.integers(0, wide - broad + 1))
        other = images[::-1, :, top : top + tall, left : left + broad].copy()
        images = images.copy()
        images[:, :, top : top + tall, left : left + broad] = other
        share = np.float32(1 - tall * broad / (high * wide))
    else:
        images = share * images + (1 - share) * images[::-1]
    return images, share * soft + (1 - share) * soft[::-1]
