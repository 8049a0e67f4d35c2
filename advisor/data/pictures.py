"""From an image file to the square array a classifier reads, by declared steps.

The steps are those a bundle carries as JSON and its reader executes; what is computed here is bit for bit the same. The largest
centred square is scaled to `side` (`fit = "crop"`), or the whole picture is squeezed into it (`fit = "stretch"`).
Shape: image file → (side, side, 3) uint8, held → (b, 3, side, side) float32. Needs Pillow and numpy.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advisor.data import lines

if TYPE_CHECKING:
    from PIL.Image import Image

CHANNELS = 3
FITS = ("crop", "stretch")
SCALES: Mapping[str, tuple[Any, Any]] = {  # mean and deviation of a channel, of pixels in 0 to 1
    "half": (0.5, 0.5),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),  # what most published weights were trained with
}
PUBLISHED: Mapping[str, Any] = {"normalise": "imagenet"}  # settings of a task whose net starts from published weights
SHOWN = 512  # pixels: the longest side of a sample that goes into a bundle

Pixels = NDArray[np.uint8]
Step = Mapping[str, Any]


def steps(side: int, *, fit: str = "crop", normalise: str = "half") -> tuple[Step, ...]:
    """The declared steps from a file to an input of `side` pixels."""
    mean, std = SCALES[normalise]
    square = {"op": "cover" if fit == "crop" else "resize", "height": side, "width": side, "resample": "bilinear"}
    return (
        {"op": "decode", "mode": "RGB", "background": lines.PAPER},
        square,
        {"op": "array", "layout": "chw", "dtype": "float32"},
        {"op": "scale", "by": 1 / 255, "mean": mean, "std": std},
    )


def cover(image: Image, *, height: int, width: int, resample: str = "bilinear") -> Image:
    """The largest centred part of a picture that has the ratio of `height` and `width`, scaled to them."""
    if image.size == (width, height):
        return image
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
    box = (left, top, min(image.width, left + width * scale), min(image.height, top + height * scale))
    return image.resize((width, height), lines.RESAMPLING[resample], box=box)


def decode(raw: bytes, *, name: str) -> Image:
    """An image file → a picture in RGB. Raises Problem (exit 3) naming `name` when it is none, damaged or absurdly large."""
    return lines.decode(raw, mode="RGB", name=name)


def square(image: Image, side: int, *, fit: str = "crop") -> Pixels:
    """A picture → (side, side, 3) uint8, the steps up to the array."""
    fitted = cover(image, height=side, width=side) if fit == "crop" else lines.resize(image, height=side, width=side)
    return np.asarray(fitted, dtype=np.uint8)


def stack(pictures: Sequence[Pixels], *, normalise: str = "half") -> NDArray[np.float32]:
    """Pictures of bytes → one input (b, 3, side, side) float32, bit for bit what the remaining steps make of each."""
    held = np.stack(pictures).transpose(0, 3, 1, 2)
    mean, std = (np.broadcast_to(np.asarray(value, dtype=np.float32), CHANNELS) for value in SCALES[normalise])
    shades = np.arange(256, dtype=np.float32) * np.float32(1 / 255)
    scaled = np.empty(held.shape, dtype=np.float32)
    for channel in range(CHANNELS):
        table = (shades - mean[channel]) / std[channel]
        scaled[:, channel] = table[held[:, channel]]
    return scaled


def shown(raw: bytes, *, name: str) -> bytes:
    """The picture as a PNG file of at most 512 pixels a side: what a bundle keeps of a sample."""
    from PIL import Image as images

    image = decode(raw, name=name)
    image.thumbnail((SHOWN, SHOWN), images.Resampling.BILINEAR)
    return png(np.asarray(image, dtype=np.uint8))


def png(picture: Pixels) -> bytes:
    """(h, w, 3) or (h, w) bytes as a PNG file."""
    from PIL import Image as images

    file = io.BytesIO()
    images.fromarray(picture).save(file, "PNG")
    return file.getvalue()
