"""Steps from a recording to the waveform a model takes, and from its answer to text, for the bundle's reader.

Python 3.8, numpy and the standard library. A wav file of whole numbers (8, 16, 24 or 32 bits) becomes samples in [-1, 1]; several
channels are averaged; another sampling rate is converted by a windowed sinc, computed in float64 so that every machine agrees. What is longer
than the model takes goes through it in pieces, cut where it is quietest.
"""

from __future__ import annotations

import io
import math
import struct
import wave
from typing import Any

import numpy as np

LONGEST = 3600  # seconds of a recording
WIDTHS = (1, 2, 3, 4)  # bytes a sample
ZEROS = 16  # of the sinc on either side: the longer the sharper
BETA = 8.0  # of the Kaiser window
KEEPS = 0.94  # of the lower rate's band, below which sound passes unchanged


def wave_file(raw: bytes) -> tuple[np.ndarray, int]:
    """Bytes of a wav file -> (samples (n,) float32 in [-1, 1], rate). Raises ValueError for what is no such file."""
    try:
        with wave.open(io.BytesIO(raw)) as file:
            channels, width, rate, count = file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()
            if rate < 1 or channels < 1 or width not in WIDTHS:
                raise ValueError("a wav file of %d channels, %d bytes a sample, %d samples a second" % (channels, width, rate))  # noqa: UP031
            if count > LONGEST * rate:
                raise ValueError(f"a recording of {count // rate:,} seconds, allowed {LONGEST:,}")
            data = file.readframes(count)
    except (wave.Error, EOFError, OverflowError, RuntimeError, struct.error) as error:
        raise ValueError(f"this is no wav file of whole numbers that can be read: {error or 'it ends too early'}") from None
    samples = whole_numbers(data[: len(data) // (channels * width) * channels * width], width)
    if not samples.size:
        raise ValueError("this wav file holds no sound")
    return samples.reshape(-1, channels).mean(axis=1, dtype=np.float64).astype(np.float32), rate


def whole_numbers(data: bytes, width: int) -> np.ndarray:
    """Little-endian samples of `width` bytes -> float32 in [-1, 1]; one byte is unsigned, as wav files have it."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if width == 3:
        parts = np.frombuffer(data, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(parts), 4), np.uint8)
        wide[:, 1:] = parts
        return (wide.reshape(-1).view("<i4") / 2.0**31).astype(np.float32)
    return (np.frombuffer(data, "<i%d" % width) / 2.0 ** (8 * width - 1)).astype(np.float32)  # noqa: UP031


def resample(sound: tuple[np.ndarray, int], rate: int) -> np.ndarray:
    """(samples (n,), their rate) -> (1, m) float32 at `rate`: as they are where it is theirs."""
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
    table = sinc(np.arange(-reach, reach + 1)[None] - np.arange(up)[:, None] / up, cut, reach + 1)
    out = np.empty(count)
    for first in range(0, count, 65536):
        piece = slice(first, first + 65536)
        places = whole[piece, None] + np.arange(2 * reach + 1)
        out[piece] = (filled[places] * table[part[piece]]).sum(axis=1)
    return out.astype(np.float32)[None]


def sinc(offsets: np.ndarray, cut: float, reach: int) -> np.ndarray:
    """A low pass at `cut` of the band, under a Kaiser window that ends at `reach`."""
    inside = np.clip(1 - (offsets / reach) ** 2, 0, None)
    return np.asarray(cut * np.sinc(cut * offsets) * np.i0(BETA * np.sqrt(inside)) / np.i0(BETA))


def clip(samples: np.ndarray, samples_wanted: int) -> np.ndarray:
    """(1, n) -> (1, samples_wanted): the middle of what is longer; what is shorter stands in the middle of silence."""
    have = samples.shape[-1]
    if have >= samples_wanted:
        first = (have - samples_wanted) // 2
        return np.ascontiguousarray(samples[..., first : first + samples_wanted])
    filled = np.zeros((*samples.shape[:-1], samples_wanted), samples.dtype)
    first = (samples_wanted - have) // 2
    filled[..., first : first + have] = samples
    return filled


def pieces(samples: np.ndarray, longest: int, quiet: int) -> list[np.ndarray]:
    """(1, n) -> parts of at most `longest` samples, in order: each ends in the second half of what fits, amid the quietest `quiet` samples."""
    found = []
    while samples.shape[-1] > longest:
        half = longest // 2
        power = np.cumsum(np.concatenate([[0.0], samples[0, half:longest].astype(np.float64) ** 2]))
        cut = half + int(np.argmin(power[quiet:] - power[:-quiet])) + quiet // 2
        found.append(samples[:, :cut])
        samples = samples[:, cut:]
    return [*found, samples]


PREPROCESS: dict[str, Any] = {"wave": wave_file, "resample": resample, "clip": clip, "pieces": pieces}
CUTS: dict[str, Any] = {"pieces": pieces}  # of the steps above, those that make several of one
POSTPROCESS: dict[str, Any] = {}
