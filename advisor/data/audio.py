"""From a recording to the waveform a model takes, by declared steps; and the files of sound that people have.

`apply(steps, raw)` is the definition on this side: a bundle carries the same steps as JSON and its reader executes them
(`compress/reader/steps_audio.py`, the same arithmetic). Plain wav files are read by the standard library, flac and whatever else by
soundfile, where that is installed.
"""

from __future__ import annotations

import io
import math
import struct
import wave
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.problems import Problem, bad_environment, bad_input

LONGEST = 3600  # seconds of a recording
WIDTHS = (1, 2, 3, 4)  # bytes a sample
ZEROS, BETA, KEEPS = 16, 8.0, 0.94  # of the resampler: zeros of the sinc on either side, its window, the share of the band that passes
SLOWEST, FASTEST = 4000, 48000  # samples a second that a model may hear
MOST_BYTES = 2**30
ENDINGS = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64", ".rf64", ".caf"})

Wave = NDArray[np.float32]
Step = Mapping[str, Any]


def steps(rate: int, samples: int) -> tuple[Step, ...]:
    """A clip of `samples` at `rate`: (1, samples)."""
    return ({"op": "wave"}, {"op": "resample", "rate": rate}, {"op": "clip", "samples_wanted": samples})


def speech_steps(rate: int, *, multiple: int, minimum: int, longest: int) -> tuple[Step, ...]:
    """An utterance at `rate`, silence behind it up to a multiple: (1, n). A bundle's reader cuts what is longer than `longest` samples."""
    return (
        {"op": "wave"},
        {"op": "resample", "rate": rate},
        {"op": "pieces", "longest": longest, "quiet": rate // 10},
        {"op": "pad", "multiple": multiple, "value": 0.0, "minimum": minimum},
    )


def apply(steps: Sequence[Step], raw: bytes, *, name: str = "recording") -> NDArray[Any]:
    """The bytes of a sound file → the model's input by the declared steps. Raises Problem (exit 3) naming `name`."""
    if steps[0]["op"] != "wave":
        raise ValueError(f"the first step is {steps[0]['op']!r}, a recording needs 'wave'")
    value: Any = decode(raw, name=name)
    for step in steps[1:]:
        value = OPERATIONS[step["op"]](value, **{key: item for key, item in step.items() if key != "op"})
    return np.asarray(value)


# -- files ---------------------------------------------------------------------------------------------------------------


def decode(raw: bytes, *, name: str = "recording") -> tuple[Wave, int]:
    """A sound file → (samples (n,) float32 in [-1, 1], rate), channels averaged.

    Raises Problem: exit 3 naming `name` for what is no sound, damaged, empty or absurdly long; exit 5 where soundfile is needed.
    """
    if len(raw) > MOST_BYTES:
        raise bad_input(f"{name} has {len(raw) // 2**20} MB, a recording may have {MOST_BYTES // 2**20}", remedy="cut it into utterances")
    samples, rate = plain(raw, name) or _other(raw, name)
    if not samples.size:
        raise bad_input(f"{name} holds no sound", remedy="leave it out of the list")
    if not np.isfinite(samples).all():
        raise bad_input(f"{name} holds samples that are no numbers", remedy="write it anew, or leave it out")
    return samples, rate


def plain(raw: bytes, name: str) -> tuple[Wave, int] | None:
    """A wav file of whole numbers, by the standard library; None for anything else."""
    try:
        with wave.open(io.BytesIO(raw)) as file:
            channels, width, rate, count = file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()
            if rate < 1 or channels < 1 or width not in WIDTHS:
                return None
            if count > LONGEST * rate:
                raise _too_long(name, count // rate)
            data = file.readframes(count)
    except (wave.Error, EOFError, OverflowError, RuntimeError, struct.error, ValueError):  # whatever its chunks provoke
        return None
    samples = _numbers(data[: len(data) // (channels * width) * channels * width], width)
    return samples.reshape(-1, channels).mean(axis=1, dtype=np.float64).astype(np.float32), rate


def _numbers(data: bytes, width: int) -> Wave:
    """Little-endian samples of `width` bytes → float32 in [-1, 1]; one byte is unsigned."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if width == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return (wide.reshape(-1).view("<i4") / 2.0**31).astype(np.float32)
    return (np.frombuffer(data, f"<i{width}") / 2.0 ** (8 * width - 1)).astype(np.float32)


def _other(raw: bytes, name: str) -> tuple[Wave, int]:
    """Flac, float wav and other files, by soundfile."""
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: its library is missing
        what = f"{name} is no plain wav file, and soundfile, which reads others, is not installed"
        raise bad_environment(what, remedy="pip install 'edge-advisor[audio]'") from None
    try:
        with soundfile.SoundFile(io.BytesIO(raw)) as file:
            if file.samplerate < 1 or file.frames > LONGEST * file.samplerate:
                raise _too_long(name, file.frames // max(1, file.samplerate))
            samples = file.read(dtype="float32", always_2d=True)
            return samples.mean(axis=1, dtype=np.float64).astype(np.float32), int(file.samplerate)
    except Problem:
        raise
    except Exception as error:  # libsndfile says what it met in many classes
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise bad_input(f"{name} cannot be read as sound: {said}", remedy="repair it, or leave it out of the list") from None


def _too_long(name: str, seconds: int) -> Problem:
    return bad_input(f"{name} lasts {seconds:,} seconds, a recording may last {LONGEST:,}", remedy="cut it into utterances")


def wav(samples: Wave, rate: int) -> bytes:
    """Samples (n,) in [-1, 1] as a wav file of 16 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as target:
        target.setnchannels(1)
        target.setsampwidth(2)
        target.setframerate(rate)
        target.writeframes(np.clip(np.round(samples.astype(np.float64) * 2**15), -(2**15), 2**15 - 1).astype("<i2").tobytes())
    return file.getvalue()


def as_plain(raw: bytes, *, name: str = "recording") -> bytes:
    """The file as a bundle's reader can open it: itself where it is a plain wav, else its sound as one of 16 bits."""
    return raw if plain(raw, name) is not None else wav(*decode(raw, name=name))


# -- the steps -----------------------------------------------------------------------------------------------------------


def resample(sound: tuple[Wave, int], rate: int) -> Wave:
    """(samples (n,), their rate) → (1, m) at `rate`, by a windowed sinc in float64; as they are where it is theirs already."""
    samples, have = sound
    if have == rate:
        return samples[None]
    shared = math.gcd(have, rate)
    up, down = rate // shared, have // shared
    count = -(-len(samples) * up // down)
    cut = KEEPS * min(1.0, rate / have)
    reach = math.ceil(ZEROS / cut)
    filled = np.concatenate([np.zeros(reach), samples.astype(np.float64), np.zeros(reach + 1)])
    whole, part = np.divmod(np.arange(count, dtype=np.int64) * down, up)
    table = _sinc(np.arange(-reach, reach + 1)[None] - np.arange(up)[:, None] / up, cut, reach + 1)
    out = np.empty(count)
    for first in range(0, count, 65536):
        piece = slice(first, first + 65536)
        places = whole[piece, None] + np.arange(2 * reach + 1)
        out[piece] = (filled[places] * table[part[piece]]).sum(axis=1)
    return out.astype(np.float32)[None]


def _sinc(offsets: NDArray[Any], cut: float, reach: int) -> NDArray[Any]:
    inside = np.clip(1 - (offsets / reach) ** 2, 0, None)
    return np.asarray(cut * np.sinc(cut * offsets) * np.i0(BETA * np.sqrt(inside)) / np.i0(BETA))


def clip(samples: Wave, samples_wanted: int) -> Wave:
    """(…, n) → (…, samples_wanted): the middle of what is longer; what is shorter stands in the middle of silence."""
    have = samples.shape[-1]
    if have >= samples_wanted:
        first = (have - samples_wanted) // 2
        return np.ascontiguousarray(samples[..., first : first + samples_wanted])
    filled = np.zeros((*samples.shape[:-1], samples_wanted), samples.dtype)
    first = (samples_wanted - have) // 2
    filled[..., first : first + have] = samples
    return filled


def pad(samples: Wave, *, multiple: int = 1, value: float = 0.0, minimum: int = 1) -> Wave:
    """(…, n) → silence behind it up to a multiple, at least `minimum`."""
    filled = np.full((*samples.shape[:-1], padded(samples.shape[-1], multiple=multiple, minimum=minimum)), value, samples.dtype)
    filled[..., : samples.shape[-1]] = samples
    return filled


def padded(count: int, *, multiple: int, minimum: int) -> int:
    """The length that `count` samples are filled up to."""
    return -(-max(minimum, count) // multiple) * multiple


def one_piece(samples: Wave, *, longest: int, quiet: int) -> Wave:
    """(1, n) as it is. Raises Problem (exit 3) where a bundle's reader would cut it: what is trained and scored on goes through whole."""
    if samples.shape[-1] > longest:
        raise bad_input(f"a recording of {samples.shape[-1]:,} samples, one piece has {longest:,} at most", remedy="cut it into utterances")
    return samples


OPERATIONS: Mapping[str, Callable[..., Any]] = {"resample": resample, "clip": clip, "pieces": one_piece, "pad": pad}


# -- a picture of sound, for the report ----------------------------------------------------------------------------------


def picture(samples: Wave, *, width: int = 320, height: int = 64) -> bytes:
    """The outline of a waveform (n,) as a grey PNG, without any image library."""
    edges = np.linspace(0, len(samples), width + 1).astype(int)
    canvas = np.full((height, width), 255, np.uint8)
    loudest = max(1e-3, float(np.abs(samples).max(initial=0.0)))
    for column, (first, last) in enumerate(pairwise(edges.tolist())):
        part = samples[first : max(last, first + 1)]
        low, high = (float(end) / loudest if part.size else 0.0 for end in (part.min(initial=0.0), part.max(initial=0.0)))
        top, bottom = round((1 - high) / 2 * (height - 1)), round((1 - low) / 2 * (height - 1))
        canvas[top : bottom + 1, column] = 60
    rows = b"".join(b"\0" + row.tobytes() for row in canvas)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, data) for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
