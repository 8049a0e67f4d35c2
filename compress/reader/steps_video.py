"""Declared steps from a clip to the array a video net takes. Python 3.8, numpy and Pillow, as the reader itself.

A clip is a zip file of its frames as pictures, in the order of their names (numbers count as numbers), or one animated picture (GIF,
WebP, PNG). Of a video file: ffmpeg -i clip.mp4 frames/%05d.png, and zip the folder.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from typing import Any, Iterator  # noqa: UP035 (Python 3.8)

import numpy as np

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "PPM", "WEBP", "GIF")
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm")
MOST_FRAMES, MOST_PIXELS, MOST_BYTES = 10_000, 50_000_000, 256 * 2**20
RESAMPLING = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4}


def frames(raw: bytes, count: int, mode: str = "RGB", background: int = 255) -> list[Any]:
    """Clip -> `count` pictures: the middle of each of as many equal parts of it. Transparent parts show `background`."""
    from PIL import Image

    packed = raw.startswith(b"PK")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            found = list(_from_zip(raw, count) if packed else _from_animation(raw, count))
            return [_flat(image, mode, background) for image in found]
    except ValueError:
        raise
    except Exception as error:  # zipfile and Pillow raise whatever they meet
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError("this is no clip that can be read (a zip of pictures, or an animated picture): %s" % said) from None  # noqa: UP031


def middles(length: int, count: int) -> list[int]:
    """Which of `length` frames are taken: the middle ones of `count` equal parts. Of a shorter clip some come twice."""
    return [(2 * part + 1) * length // (2 * count) for part in range(count)]


def in_order(name: str) -> list[Any]:
    """How names are sorted: 2.png before 10.png."""
    return [(1, int(part), part) if part.isdigit() else (0, 0, part) for part in re.split("([0-9]+)", name)]


def _from_zip(raw: bytes, count: int) -> Iterator[Any]:
    with zipfile.ZipFile(io.BytesIO(raw)) as held:
        names = sorted((name for name in held.namelist() if name.lower().endswith(ENDINGS) and "__MACOSX" not in name), key=in_order)
        _check(len(names))
        for place in middles(len(names), count):
            if held.getinfo(names[place]).file_size > MOST_BYTES:
                raise ValueError(names[place] + " is larger than %d MB" % (MOST_BYTES >> 20))  # noqa: UP031
            yield _opened(held.read(names[place]))


def _from_animation(raw: bytes, count: int) -> Iterator[Any]:
    image = _opened(raw)
    length = getattr(image, "n_frames", 1)
    _check(length)
    for place in middles(length, count):
        image.seek(place)
        yield image.copy()


def _opened(raw: bytes) -> Any:
    from PIL import Image

    image = Image.open(io.BytesIO(raw), formats=FORMATS)
    if image.width * image.height > MOST_PIXELS:
        raise ValueError("a frame has more than {:,} pixels".format(MOST_PIXELS))  # noqa: UP032
    image.load()
    return image


def _check(length: int) -> None:
    if not 1 <= length <= MOST_FRAMES:
        raise ValueError("a clip of {:,} frames, allowed: 1 to {:,}".format(length, MOST_FRAMES))  # noqa: UP032


def _flat(image: Any, mode: str, background: int) -> Any:
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        below = Image.new("RGBA", image.size, (background, background, background, 255))
        image = Image.alpha_composite(below, image)
    return image.convert(mode)


def fit_frames(pictures: list[Any], height: int, width: int, fit: str = "crop", resample: str = "bilinear") -> list[Any]:
    """Pictures -> each scaled to these sides: its largest centred part of their ratio ("crop"), or all of it ("stretch")."""
    return [_fitted(image, height, width, fit, RESAMPLING[resample]) for image in pictures]


def _fitted(image: Any, height: int, width: int, fit: str, resample: int) -> Any:
    if image.size == (width, height):
        return image
    if fit == "stretch":
        return image.resize((width, height), resample)
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
    box = (left, top, min(image.width, left + width * scale), min(image.height, top + height * scale))
    return image.resize((width, height), resample, box=box)


def stack_frames(pictures: list[Any], dtype: str = "float32") -> np.ndarray:
    """Pictures -> (1, frames, c, h, w) of their bytes, 0 to 255."""
    return np.ascontiguousarray(np.stack([np.asarray(image, dtype=dtype) for image in pictures]).transpose(0, 3, 1, 2))[None]


PREPROCESS: dict[str, Any] = {"frames": frames, "fit_frames": fit_frames, "stack_frames": stack_frames}
POSTPROCESS: dict[str, Any] = {}
