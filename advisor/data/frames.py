"""From a clip to the frames a net takes, by declared steps; and the clips that people have.

A clip is a zip file of its frames as pictures, one animated picture (GIF, WebP, PNG), or a video file, which PyAV reads where it is
installed. As many frames are taken as the net takes: the middle ones of equal parts, so that a clip of any length is seen whole.
The steps are those a bundle carries as JSON and its reader executes (`compress/reader/steps_video.py`, the same arithmetic).
Source: one frame from each of equal segments, Wang et al. 2016, arXiv:1608.00859.
Shape: file → pictures → (frames, side, side, 3) uint8, held → (b, frames, 3, side, side) float32. Needs Pillow and numpy.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advisor.data import lines, pictures
from rules.problems import Problem, bad_environment, bad_input

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm"})  # a frame
ANIMATIONS = frozenset({".gif", ".webp", ".apng", ".zip"})  # a whole clip, without a video decoder
VIDEOS = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv"})
MOST_FRAMES = 10_000  # of a clip
MOST_BYTES = 2**30
SHOWN = 160  # pixels: the longest side of a frame that goes into a bundle
CUT = "cut it into clips"

Film = NDArray[np.uint8]  # (frames, side, side, 3)


def steps(frames: int, side: int, *, fit: str = "crop", normalise: str = "half") -> tuple[pictures.Step, ...]:
    """The declared steps from a clip to an input of `frames` frames of `side` pixels."""
    mean, std = pictures.SCALES[normalise]
    return (
        {"op": "frames", "count": frames, "mode": "RGB", "background": lines.PAPER},
        {"op": "fit_frames", "height": side, "width": side, "fit": fit, "resample": "bilinear"},
        {"op": "stack_frames", "dtype": "float32"},
        {"op": "scale", "by": 1 / 255, "mean": mean, "std": std},
    )


def middles(length: int, count: int) -> list[int]:
    """Which of `length` frames are taken: the middle ones of `count` equal parts. Of a shorter clip some come twice."""
    return [(2 * part + 1) * length // (2 * count) for part in range(count)]


def in_order(name: str) -> list[tuple[int, int, str]]:
    """How the names of frames are sorted: 2.png before 10.png."""
    return [(1, int(part), part) if part.isdigit() else (0, 0, part) for part in re.split("([0-9]+)", name)]


# -- reading -------------------------------------------------------------------------------------------------------------


def decode(raw: bytes, count: int, *, name: str) -> tuple[list[Image], int]:
    """A clip → (`count` of its frames in RGB, how many it has).

    Raises Problem naming `name`: exit 3 for what is no clip, damaged, empty or absurdly long; exit 5 for a video file without PyAV.
    """
    if len(raw) > MOST_BYTES:
        raise bad_input(f"{name} has {len(raw) // 2**20} MB, a clip may have {MOST_BYTES // 2**20}", remedy=CUT)
    if raw.startswith(b"PK"):
        return _zip(raw, count, name)
    if PurePosixPath(name.split(" (")[0]).suffix.lower() in VIDEOS:
        return _video(raw, count, name)
    return _animation(raw, count, name)


def film(images: Sequence[Image], side: int, *, fit: str = "crop") -> Film:
    """Pictures → (frames, side, side, 3)."""
    done: dict[int, pictures.Pixels] = {}
    return np.stack([done.setdefault(id(image), pictures.square(image, side, fit=fit)) for image in images])


def stack(films: Sequence[Film], *, normalise: str = "half") -> NDArray[np.float32]:
    """Clips of bytes → one input (b, frames, 3, side, side), bit for bit what the remaining steps make of each."""
    held = np.stack(films)
    flat: NDArray[np.float32] = pictures.stack(list(held.reshape(-1, *held.shape[2:])), normalise=normalise)
    return flat.reshape(*held.shape[:2], *flat.shape[1:])


def _zip(raw: bytes, count: int, name: str) -> tuple[list[Image], int]:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as held:
            names = sorted((each for each in held.namelist() if _is_frame(each)), key=in_order)
            check(len(names), name)
            places = middles(len(names), count)
            large = next((names[place] for place in places if held.getinfo(names[place]).file_size > lines.MOST_BYTES), None)
            if large:
                raise bad_input(f"{name}: {large} is larger than {lines.MOST_BYTES >> 20} MB", remedy="reduce it")
            read = {place: held.read(names[place]) for place in set(places)}
    except Problem:
        raise
    except Exception as error:  # zipfile and what it unpacks with raise whatever they meet
        said = " ".join(str(error).split()) or type(error).__name__
        raise bad_input(f"{name} cannot be read as a zip file: {said}", remedy="pack it anew, or leave it out") from None
    decoded = {place: pictures.decode(file, name=f"{name}: {names[place]}") for place, file in read.items()}
    return [decoded[place] for place in places], len(names)


def _is_frame(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURES and "__MACOSX" not in name


def _animation(raw: bytes, count: int, name: str) -> tuple[list[Image], int]:
    image = lines.load(raw, name)
    try:
        length = int(getattr(image, "n_frames", 1))
        check(length, name)
        found = {}
        for place in sorted(set(middles(length, count))):
            image.seek(place)
            found[place] = lines.flat(image.copy(), mode="RGB")
    except Problem:
        raise
    except Exception as error:  # a decoder that meets its first damaged frame only now
        said = " ".join(str(error).split()) or type(error).__name__
        raise bad_input(f"{name} cannot be read: {said}", remedy="repair it, or leave it out") from None
    return [found[place] for place in middles(length, count)], length


def _video(raw: bytes, count: int, name: str) -> tuple[list[Image], int]:
    """The frames of a video file: counted first, for what a file says of its length is often wrong, then those wanted are decoded."""
    try:
        import av
    except (ImportError, OSError):
        what = f"{name} is a video file, and PyAV, which reads those, is not installed"
        raise bad_environment(
            what, remedy="pip install 'edge-advisor[video]', or cut it into frames: ffmpeg -i FILE folder/%05d.png"
        ) from None
    try:
        length = 0
        for _ in _decoded(av, raw):
            length += 1
            if length > MOST_FRAMES:
                break
        check(length, name)
        wanted = set(middles(length, count))
        found = {place: frame.to_image() for place, frame in enumerate(_decoded(av, raw)) if place in wanted}
        return [found[place] for place in middles(length, count)], length
    except Problem:
        raise
    except Exception as error:  # ffmpeg says what it met in many classes
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise bad_input(f"{name} cannot be read as a video: {said}", remedy="repair it, or leave it out") from None


def _decoded(av: Any, raw: bytes) -> Iterator[Any]:
    with av.open(io.BytesIO(raw)) as held:
        if not held.streams.video:
            raise ValueError("it has no picture, only sound")
        yield from held.decode(video=0)


def check(length: int, name: str) -> None:
    """Refuse a clip without frames, and one of far too many. Raises Problem (exit 3)."""
    if length < 1:
        raise bad_input(f"{name} has no frame", remedy="a clip is pictures in the order of their names: 001.png, 002.png …")
    if length > MOST_FRAMES:
        raise bad_input(f"{name} has more than {MOST_FRAMES:,} frames", remedy=CUT)


# -- writing -------------------------------------------------------------------------------------------------------------


def zipped(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Files in one, the same bytes for the same files: stored, not packed, and without a date."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as target:
        for name, data in files:
            target.writestr(zipfile.ZipInfo(name), data)
    return held.getvalue()


def packed(clip: Sequence[pictures.Pixels]) -> bytes:
    """Frames (h, w, 3) as a zip file of PNG files."""
    return zipped((f"{number:05d}.png", pictures.png(frame)) for number, frame in enumerate(clip))


def shown(images: Sequence[Image]) -> bytes:
    """Frames as a zip file of PNG files of at most 160 pixels a side: what a bundle keeps of a sample."""
    from PIL import Image as kinds

    small = [image.copy() for image in images]
    for image in small:
        image.thumbnail((SHOWN, SHOWN), kinds.Resampling.BILINEAR)
    return packed([np.asarray(image, dtype=np.uint8) for image in small])


def strip(clip: Film) -> bytes:
    """The frames side by side, a PNG file: what a report shows of a clip."""
    return pictures.png(np.concatenate(list(clip), 1))
