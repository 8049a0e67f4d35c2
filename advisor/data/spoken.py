"""Speech-like sound without a download: words spelled in phones, each phone a few resonances, said by voices that differ.

Nobody said these: a harmonic buzz at the voice's pitch is shaped by three moving formants, and noise stands for what is hissed. It is
enough to try a pipeline on and says nothing about how well a net hears people; `facts` records that it was generated, and how.
Sources: vowels are the men's means of Peterson & Barney 1952 (J. Acoust. Soc. Am. 24, 175-184); glides, nasals and noises follow Klatt
1980 (J. Acoust. Soc. Am. 67, 971-995), rounded; the words are those of Speech Commands, Warden 2018, arXiv:1804.03209.
Shape: phones → samples (n,) float32 in [-1, 1] at `rate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]
FRAME = 0.005  # seconds between two shapes of the mouth
WIDTHS = (70.0, 110.0, 170.0)  # Hz: how broad the formants are
HIGHEST = 7600.0  # Hz of harmonics

# three formants in Hz, seconds, loudness of the voice; then (centre, width, loudness) of a noise in Hz
Phone = tuple[tuple[float, float, float], float, float, tuple[float, float, float] | None]
PHONES: Mapping[str, Phone] = {
    "iy": ((270, 2290, 3010), 0.13, 1.0, None),
    "ih": ((390, 1990, 2550), 0.09, 1.0, None),
    "eh": ((530, 1840, 2480), 0.11, 1.0, None),
    "ae": ((660, 1720, 2410), 0.13, 1.0, None),
    "ah": ((640, 1190, 2390), 0.10, 1.0, None),
    "aa": ((730, 1090, 2440), 0.14, 1.0, None),
    "ao": ((570, 840, 2410), 0.14, 1.0, None),
    "uh": ((440, 1020, 2240), 0.09, 1.0, None),
    "uw": ((300, 870, 2240), 0.13, 1.0, None),
    "er": ((490, 1350, 1690), 0.13, 1.0, None),
    "w": ((290, 610, 2150), 0.06, 0.6, None),
    "y": ((260, 2070, 3020), 0.06, 0.6, None),
    "r": ((310, 1060, 1380), 0.06, 0.6, None),
    "l": ((310, 1050, 2880), 0.06, 0.6, None),
    "m": ((250, 1270, 2130), 0.07, 0.35, None),
    "n": ((250, 1340, 2470), 0.07, 0.35, None),
    "s": ((320, 1390, 2530), 0.11, 0.0, (5200, 1400, 0.35)),
    "z": ((240, 1390, 2530), 0.09, 0.2, (5200, 1400, 0.25)),
    "f": ((340, 1100, 2080), 0.10, 0.0, (4200, 3500, 0.12)),
    "v": ((220, 1100, 2080), 0.07, 0.3, (4200, 3500, 0.08)),
    "th": ((320, 1290, 2540), 0.09, 0.0, (5000, 3000, 0.10)),
    "h": ((500, 1500, 2500), 0.06, 0.0, (1600, 1800, 0.12)),
    "t": ((400, 1600, 2600), 0.03, 0.0, (4200, 1500, 0.55)),
    "k": ((350, 1990, 2850), 0.04, 0.0, (2000, 700, 0.55)),
    "p": ((400, 1100, 2150), 0.03, 0.0, (900, 700, 0.45)),
    "d": ((200, 1600, 2600), 0.03, 0.3, (3800, 1500, 0.25)),
    "g": ((200, 1990, 2850), 0.04, 0.3, (1900, 700, 0.25)),
    "b": ((200, 1100, 2150), 0.03, 0.3, (800, 600, 0.20)),
    "-": ((400, 1400, 2500), 0.05, 0.0, None),  # the closure before a stop
}
STOPS = frozenset({"t", "k", "p", "d", "g", "b"})
WORDS: Mapping[str, str] = {
    "yes": "y eh s",
    "no": "n ao uw",
    "up": "ah p",
    "down": "d aa uw n",
    "left": "l eh f t",
    "right": "r aa iy t",
    "on": "aa n",
    "off": "ao f",
    "stop": "s t aa p",
    "go": "g ao uw",
    "zero": "z ih r ao uw",
    "one": "w ah n",
    "two": "t uw",
    "three": "th r iy",
    "four": "f ao r",
    "five": "f aa iy v",
    "six": "s ih k s",
    "seven": "s eh v ah n",
    "eight": "eh iy t",
    "nine": "n aa iy n",
}


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks: pitch in Hz, length of the throat (formants are divided by it), pace, how breathy and how lively."""

    pitch: float
    throat: float
    pace: float
    breath: float
    lively: float


def voice(rng: np.random.Generator) -> Voice:
    """Somebody: a deep or a high voice, its throat to match."""
    high = float(rng.uniform())
    return Voice(
        pitch=95 * 2 ** (1.3 * high + float(rng.normal(0, 0.08))),
        throat=float(np.clip(1.04 - 0.2 * high + rng.normal(0, 0.03), 0.75, 1.15)),
        pace=float(rng.uniform(0.8, 1.3)),
        breath=float(rng.uniform(0.0, 0.03)),
        lively=float(rng.uniform(0.02, 0.15)),
    )


def say(phones: Sequence[str], who: Voice, rng: np.random.Generator, *, rate: int) -> Wave:
    """Phones, said once by `who`: never twice alike. The loudest sample is 0.5."""
    track, voiced, noise = _track(phones, who, rng)
    samples = round(len(track) * FRAME * rate)
    at = np.arange(samples) / (FRAME * rate)
    sound = _buzz(track, voiced, who, rng, at=at, rate=rate) + _hiss(noise, rng, at=at, rate=rate)
    sound += who.breath * np.interp(at, np.arange(len(voiced)), voiced) * rng.standard_normal(samples)
    found: Wave = (0.5 / max(1e-6, float(np.abs(sound).max())) * sound).astype(np.float32)
    return found


def _track(phones: Sequence[str], who: Voice, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The mouth every 5 ms: formants (n, 3), loudness of the voice (n,), noise (n, 3) as centre, width and loudness."""
    spelled = [part for phone in phones for part in (("-", phone) if phone in STOPS else (phone,))]
    formants, voiced, noise = [], [], []
    for phone in spelled:
        shape, seconds, loud, hiss = PHONES[phone]
        count = max(3, round(seconds * who.pace * float(rng.uniform(0.8, 1.25)) / FRAME))
        target = np.array(shape) / who.throat * rng.normal(1, 0.03, 3)
        formants += [target] * count
        voiced += [loud] * count
        noise += [np.array(hiss or (2000.0, 1000.0, 0.0)) * (1 / who.throat, 1, float(rng.uniform(0.7, 1.3)))] * count
    edge = [np.zeros(1)] * 4
    smooth = [_smooth(np.array(values, dtype=float), width) for values, width in ((formants, 9), (voiced, 5), (noise, 3))]
    smooth[1] = np.concatenate([*edge, smooth[1], *edge])
    return (
        np.concatenate([smooth[0][:1]] * 4 + [smooth[0]] + [smooth[0][-1:]] * 4),
        smooth[1],
        np.concatenate([smooth[2][:1] * (1, 1, 0)] * 4 + [smooth[2]] + [smooth[2][-1:] * (1, 1, 0)] * 4),
    )


def _smooth(values: NDArray[Any], width: int) -> NDArray[Any]:
    """A moving mean along time: one phone glides into the next."""
    wide = values if values.ndim > 1 else values[:, None]
    held = np.concatenate([wide[:1].repeat(width // 2, 0), wide, wide[-1:].repeat(width // 2, 0)])
    total = np.cumsum(np.concatenate([np.zeros((1, held.shape[1])), held]), axis=0)
    found: NDArray[Any] = (total[width:] - total[:-width]) / width
    return found if values.ndim > 1 else found[:, 0]


def _buzz(track: NDArray[Any], voiced: NDArray[Any], who: Voice, rng: np.random.Generator, *, at: NDArray[Any], rate: int) -> NDArray[Any]:
    """Harmonics of a pitch that falls and wavers, each as loud as the formants let it through."""
    frames = len(track)
    bend = np.cumsum(rng.normal(0, who.lively / 4, frames)) * 0.3 + np.linspace(who.lively, -who.lively, frames)
    pitch = who.pitch * 2.0 ** np.clip(bend, -0.5, 0.5)
    phase = 2 * np.pi * np.cumsum(np.interp(at, np.arange(frames), pitch)) / rate
    count = max(1, int(min(HIGHEST, 0.48 * rate) / pitch.max()))
    numbers = np.arange(1, count + 1)
    levels = _through(track, numbers[None] * pitch[:, None]) * voiced[:, None] / numbers  # -6 dB an octave
    turn, one = np.exp(1j * phase), np.ones(len(at), dtype=np.complex128)
    sound = np.zeros(len(at))
    for number in range(count):
        one = one * turn
        sound += one.imag * np.interp(at, np.arange(frames), levels[:, number])
    return sound


def _through(track: NDArray[Any], hertz: NDArray[Any]) -> NDArray[Any]:
    """What three resonances let through: (n, 3) formants, (n, k) frequencies → (n, k)."""
    gain = np.ones_like(hertz)
    for place, width in enumerate(WIDTHS):
        centre = track[:, place : place + 1]
        squared, spread = hertz**2, width * hertz
        gain *= centre**2 / np.sqrt((centre**2 - squared) ** 2 + spread**2)
    return gain


def _hiss(noise: NDArray[Any], rng: np.random.Generator, *, at: NDArray[Any], rate: int) -> NDArray[Any]:
    """White noise, in every stretch with the spectrum of its phone."""
    sound = np.zeros(len(at))
    loud = np.interp(at, np.arange(len(noise)), noise[:, 2])
    frames = np.clip(at.astype(int), 0, len(noise) - 1)
    edges = np.flatnonzero(np.diff(np.round(noise[:, 0], -2), prepend=-1, append=-1))
    for first, last in pairwise(edges.tolist()):
        members = np.flatnonzero((frames >= first) & (frames < last))
        if len(members) < 8 or noise[first:last, 2].max() < 1e-3:
            continue
        centre, width = noise[(first + last) // 2, :2]
        spectrum = np.fft.rfft(rng.standard_normal(len(members)))
        hertz = np.fft.rfftfreq(len(members), 1 / rate)
        shaped = np.fft.irfft(spectrum * np.exp(-(((hertz - centre) / width) ** 2)), len(members))
        sound[members] = shaped / max(1e-6, float(np.abs(shaped).max())) * loud[members] * 2
    return sound


def room(count: int, rng: np.random.Generator, *, rate: int) -> Wave:
    """What is there when nobody speaks: noise that is duller or brighter, sometimes with a hum. Its mean square is 1."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / rate)
    spectrum *= (1 + hertz / 200) ** -float(rng.uniform(0.0, 1.2))
    sound = np.fft.irfft(spectrum, count)
    if rng.uniform() < 0.3:
        sound += float(rng.uniform(0.3, 1.5)) * sound.std() * np.sin(2 * np.pi * float(rng.uniform(45, 400)) * np.arange(count) / rate)
    found: Wave = (sound / max(1e-9, float(sound.std()))).astype(np.float32)
    return found
