"""From the file of a text line to the array a model reads, by declared steps.

`apply(steps, raw)` is the definition: a bundle carries the same steps as JSON and its reader executes them. `STEPS` is what this
project's recognisers are trained on: grey, 32 pixels high with the ratio kept, paper-white on the right up to a multiple of 16.
Needs Pillow and numpy.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rules.problems import bad_input

if TYPE_CHECKING:
    from PIL.Image import Image

HEIGHT = 32
MULTIPLE = 16  # of the padded width
NARROWEST, WIDEST = 32, 1024  # of the padded width; a line that would be wider is squeezed
PAPER = 255  # what stands to the right of a line
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "PPM", "WEBP", "GIF")
MOST_PIXELS = 50_000_000
MOST_BYTES = 256 * 2**20
RESAMPLING = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4}  # Pillow's own numbers

Array = NDArray[Any]
Step = Mapping[str, Any]

STEPS: tuple[Step, ...] = (
    {"op": "decode", "mode": "L", "background": PAPER},
    {"op": "resize", "height": HEIGHT, "resample": "bilinear", "max_width": WIDEST},
    {"op": "array", "layout": "chw", "dtype": "float32"},
    {"op": "pad", "multiple": MULTIPLE, "value": PAPER, "minimum": NARROWEST},
    {"op": "scale", "by": 1 / 255, "mean": 0.5, "std": 0.5},
)


def apply(steps: Sequence[Step], raw: bytes, *, name: str = "image") -> Array:
    """The bytes of an image file → the model's input, (1, c, h, w), by the declared steps.

    Raises Problem (exit 3) naming `name` when it is no image, damaged or absurdly large.
    """
    value: Any = decode(raw, name=name, **_settings(steps[0], "decode"))
    for step in steps[1:]:
        value = OPERATIONS[step["op"]](value, **{key: item for key, item in step.items() if key != "op"})
    return np.asarray(value)


def _settings(step: Step, expected: str) -> dict[str, Any]:
    if step["op"] != expected:
        raise ValueError(f"the first step is {step['op']!r}, an image file needs {expected!r}")
    return {key: item for key, item in step.items() if key != "op"}


# -- the steps -----------------------------------------------------------------------------------------------------------


def decode(raw: bytes, *, mode: str = "L", background: int = PAPER, name: str = "image") -> Image:
    """An image file → a picture in `mode`. Transparent parts show `background`."""
    return flat(load(raw, name), mode=mode, background=background)


def flat(image: Image, *, mode: str, background: int = PAPER) -> Image:
    """A picture in `mode`, transparent parts on `background`."""
    from PIL import Image as images

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        below = images.new("RGBA", image.size, (background, background, background, 255))
        image = images.alpha_composite(below, image)
    return image if image.mode == mode else image.convert(mode)


def load(raw: bytes, name: str) -> Image:
    """An image file, its first frame decoded. Raises Problem (exit 3) naming `name`."""
    from PIL import Image as images
    from PIL import UnidentifiedImageError

    if len(raw) > MOST_BYTES:
        raise bad_input(f"{name} has {len(raw) // 2**20} MB, an image may have {MOST_BYTES // 2**20}", remedy="leave it out or reduce it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", images.DecompressionBombWarning)
            image = images.open(io.BytesIO(raw), formats=FORMATS)
            too_large = image.width * image.height > MOST_PIXELS
            if not too_large:
                image.load()
    except (images.DecompressionBombError, images.DecompressionBombWarning):
        too_large = True
    except Exception as error:  # Pillow's decoders raise whatever they meet: OSError, SyntaxError, ValueError, struct.error …
        reason = "it is no image of a known format" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise bad_input(
            f"{name} cannot be read: {reason or type(error).__name__}", remedy="repair it, or leave it out of the list"
        ) from None
    if too_large:
        raise bad_input(f"{name} has more than {MOST_PIXELS:,} pixels", remedy="a text line needs far fewer: reduce it") from None
    return image


def resize(
    image: Image, *, height: int, width: int | None = None, resample: str = "bilinear", min_width: int = 1, max_width: int | None = None
) -> Image:
    """A picture → one of `height`; without `width` the ratio is kept, rounded half to even, within the widths given."""
    if width is None:
        width = max(min_width, round(image.width * height / image.height))
        width = min(width, max_width) if max_width else width
    return image if image.size == (width, height) else image.resize((width, height), RESAMPLING[resample])


def array(image: Image, *, layout: str = "chw", dtype: str = "float32") -> Array:
    """A picture → its bytes 0 to 255, (1, c, h, w) or, with layout "hwc", (1, h, w, c)."""
    pixels = np.asarray(image, dtype=dtype)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if layout == "chw" else pixels)[None]


def pad(pixels: Array, *, multiple: int = 1, value: float = 0.0, minimum: int = 1) -> Array:
    """Fill up the last axis on the right to a multiple of `multiple`, at least `minimum`."""
    filled = np.full((*pixels.shape[:-1], padded(pixels.shape[-1], multiple=multiple, minimum=minimum)), value, dtype=pixels.dtype)
    filled[..., : pixels.shape[-1]] = pixels
    return filled


def scale(pixels: Array, *, by: float = 1.0, mean: float = 0.0, std: float = 1.0) -> Array:
    """(pixels · by - mean) / std, in float32."""
    return (pixels.astype(np.float32) * np.float32(by) - np.float32(mean)) / np.float32(std)


OPERATIONS: Mapping[str, Callable[..., Any]] = {"resize": resize, "array": array, "pad": pad, "scale": scale}


# -- what training needs of them -----------------------------------------------------------------------------------------


def padded(width: int, *, multiple: int = MULTIPLE, minimum: int = NARROWEST) -> int:
    """The width a line of `width` pixels is filled up to."""
    return -(-max(minimum, width) // multiple) * multiple


def pixels(raw: bytes, *, name: str = "image") -> NDArray[np.uint8]:
    """The line as bytes, (32, w): the steps up to the array."""
    return np.asarray(resize(decode(raw, name=name, **_settings(STEPS[0], "decode")), **_settings(STEPS[1], "resize")), dtype=np.uint8)


def stack(rows: Sequence[NDArray[np.uint8]], *, width: int) -> NDArray[np.float32]:
    """Lines of bytes → one input (b, 1, 32, width) float32, bit for bit what the remaining steps make of each."""
    filled = np.full((len(rows), 1, HEIGHT, width), PAPER, dtype=np.uint8)
    for place, row in enumerate(rows):
        filled[place, 0, :, : row.shape[1]] = row
    table: NDArray[np.float32] = scale(np.arange(256, dtype=np.float32), **_settings(STEPS[4], "scale"))
    return table[filled]


def png(row: NDArray[np.uint8]) -> bytes:
    """Grey pixels (h, w) as a PNG file."""
    from PIL import Image as images

    file = io.BytesIO()
    images.fromarray(row).save(file, "PNG")
    return file.getvalue()
