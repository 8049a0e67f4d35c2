"""From the waveform to a log-mel spectrogram inside the graph, so that what ships takes sound and nothing has to be computed before it.

Idea: frames overlap by whole hops, so they are cut by shifting blocks. The Fourier transform of a frame is done in two small matrix
products with a twist between them instead of one large one: a frame of n = r c samples costs r and c products a sample, not n / 2, and
its matrices hold a few thousand numbers, not half a million. Powers are gathered into mel bands and their logarithm taken.
Source: Cooley & Tukey 1965 (Mathematics of Computation 19, 297-301); mel bands as in Davis & Mermelstein 1980 (IEEE Trans. ASSP 28,
357-366), each triangle averaged over the width of a bin, so that narrow bands at the bottom are not empty.
Shape: waveform (b, s) in [-1, 1], s a multiple of the hop → (b, frames, bands), or with `coefficients` cepstra (b, frames, coefficients).

Nothing here is learned, and everything before the logarithm needs float: powers of a quiet and of a loud sound are 10⁸ apart.
Levels: ln of 10⁴ times the power, of a full-scale tone 9.2, of -80 dB and below -9.2.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

GAIN = 100.0  # of amplitudes: the middle of the scale is -40 dB
FLOOR = 1e-4  # of powers after the gain: -80 dB


class LogMel(nn.Module):
    """Waveform (b, s) float32 → log-mel bands or cepstra (b, frames, n), frames = s / hop - overlap + 1. Always in float32."""

    window: Tensor
    first: Tensor
    cosine: Tensor
    sine: Tensor
    second: Tensor
    mel: Tensor
    cepstra: Tensor | None

    def __init__(
        self,
        rate: int,
        *,
        hop: float = 0.01,
        overlap: int = 3,
        bands: int = 40,
        low: float = 20.0,
        high: float = 8000.0,
        coefficients: int = 0,
    ) -> None:
        super().__init__()
        self.hop, self.overlap = round(hop * rate), overlap
        size = self.hop * overlap
        self.rows = rows(size)
        filters = triangles(size, rate, bands=bands, low=low, high=min(high, rate / 2))
        highest = int(np.flatnonzero(filters.any(axis=1)).max())
        self.kept = highest // self.rows + 1
        first, cosine, sine, second = stages(size, self.rows, kept=self.kept)
        constants = {"window": hann(size), "first": first, "cosine": cosine, "sine": sine, "second": second}
        wide = np.concatenate([filters, np.zeros((max(0, self.rows * self.kept - len(filters)), bands))])
        constants["mel"] = wide[bins(self.rows, self.kept)]
        for name, values in constants.items():
            self.register_buffer(name, _tensor(values), persistent=False)
        self.register_buffer("cepstra", _tensor(cosines(bands, coefficients)) if coefficients else None, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        with torch.autocast(waveform.device.type, enabled=False):
            bands = torch.log(torch.matmul(self.power(self.frames(waveform.float())), self.mel) + FLOOR)
            return bands if self.cepstra is None else torch.matmul(bands, self.cepstra)

    def frames(self, waveform: Tensor) -> Tensor:
        """(b, s) → (b, frames, size): blocks of a hop, each beside the ones that follow it."""
        blocks = waveform.reshape(waveform.shape[0], -1, self.hop)
        shifted = [blocks[:, first : first + 1 - self.overlap or None] for first in range(self.overlap)]
        return torch.cat(shifted, dim=2)

    def power(self, frames: Tensor) -> Tensor:
        """(b, frames, size) → powers (b, frames, rows · kept), in the order of `bins`: no higher than the highest band reaches."""
        grid = (frames * self.window).reshape(frames.shape[0], -1, self.rows, self.cosine.shape[1])
        short = torch.matmul(self.first, grid)
        real, imaginary = short[:, :, : self.rows], short[:, :, self.rows :]
        turned = torch.cat([real * self.cosine - imaginary * self.sine, real * self.sine + imaginary * self.cosine], dim=3)
        whole = torch.matmul(turned, self.second)
        squared = whole * whole
        return (squared[:, :, :, : self.kept] + squared[:, :, :, self.kept :]).flatten(2)


def rows(size: int) -> int:
    """How a frame is folded: the divisor nearest the root."""
    fits = [divisor for divisor in range(2, size // 2 + 1) if size % divisor == 0]
    if not fits:
        raise ValueError(f"a frame of {size} samples cannot be folded: it is a prime number")
    return min(fits, key=lambda divisor: abs(math.log(divisor * divisor / size)))


def stages(size: int, rows: int, *, kept: int) -> tuple[NDArray[np.float64], ...]:
    """The first product (2 rows, rows), the twist as cosines and sines (rows, columns), the second product (2 columns, 2 kept)."""
    columns = size // rows
    small = _angles(rows, rows, rows)
    twist = _angles(rows, columns, size)
    large = _angles(columns, kept, columns)
    first = np.concatenate([np.cos(small), np.sin(small)])
    second = np.block([[np.cos(large), np.sin(large)], [-np.sin(large), np.cos(large)]])
    return first, np.cos(twist), np.sin(twist), second


def _angles(high: int, wide: int, period: int) -> NDArray[np.float64]:
    found: NDArray[np.float64] = -2 * np.pi * (np.outer(np.arange(high), np.arange(wide)) % period) / period
    return found


def bins(rows: int, kept: int) -> NDArray[np.int64]:
    """Which Fourier bin each of the powers is: rows lie side by side, every `rows`-th bin in one."""
    return (np.arange(rows)[:, None] + rows * np.arange(kept)[None]).reshape(-1)


def hann(size: int) -> NDArray[np.float64]:
    """A raised cosine, scaled so that a full-scale tone has the power GAIN²."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    found: NDArray[np.float64] = window * (2 * GAIN / window.sum())
    return found


def triangles(size: int, rate: int, *, bands: int, low: float, high: float, fine: int = 64) -> NDArray[np.float64]:
    """Mel bands (size / 2, bands): triangles that rise from one centre and fall to the next, evenly spaced in mel. Means over a bin."""
    edges = _hertz(np.linspace(_mel(low), _mel(high), bands + 2))
    at = (np.arange(size // 2 * fine) + 0.5) / fine - 0.5  # the places inside every bin, in bins
    hertz = np.abs(at) * rate / size
    rise = (hertz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - hertz[:, None]) / (edges[2:] - edges[1:-1])
    found: NDArray[np.float64] = np.clip(np.minimum(rise, fall), 0, None).reshape(size // 2, fine, bands).mean(axis=1)
    return found


def _mel(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return found


def cosines(bands: int, coefficients: int) -> NDArray[np.float64]:
    """The orthonormal cosine transform that makes cepstra of log bands: (bands, coefficients)."""
    angles = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(coefficients)[None]
    scale = np.where(np.arange(coefficients) == 0, np.sqrt(1 / bands), np.sqrt(2 / bands))
    found: NDArray[np.float64] = np.cos(angles) * scale
    return found


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
