"""Keywords without a download: ten commands, other words and silence, generated (`spoken.py`), one second each, in a noisy room.

Voices are divided first: nobody who is heard in training is heard in validation or test. Validation and test never change; training
recordings follow the seed.
Shape: (split, index) → samples (8000,) float32 at 8 kHz, and a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data import audio, spoken
from advisor.data.corpus import SPLITS, Corpus, Line, Split

RATE = 8000
SAMPLES = 8000
COUNTS: Mapping[Split, int] = {"train": 960, "val": 240, "test": 600}
VOICES: Mapping[Split, int] = {"train": 80, "val": 15, "test": 30}
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE = "unknown", "silence"
LABELS = (*COMMANDS, SILENCE, UNKNOWN)
OTHERS = tuple(word for word in spoken.WORDS if word not in COMMANDS)
QUIETEST, LOUDEST = 0.0, 25.0  # decibels a word stands above the room
Wave = NDArray[np.float32]


def label(index: int) -> str:
    """Labels take turns."""
    return LABELS[index % len(LABELS)]


def record(split: Split, index: int, *, seed: int = 0) -> Wave:
    """Recording `index` of `split`. Only training ones depend on `seed`."""
    rng = np.random.default_rng([SPLITS.index(split), *([seed] if split == "train" else []), index, 8])
    who = spoken.voice(np.random.default_rng([SPLITS.index(split), int(rng.integers(VOICES[split])), 80]))
    sound = spoken.room(SAMPLES, rng, rate=RATE)
    sound *= np.float32(10 ** (float(rng.uniform(-65, -40)) / 20))
    if label(index) != SILENCE:
        word = spoken.say(_phones(label(index), rng), who, rng, rate=RATE)[:SAMPLES]
        first = int(rng.integers(0, SAMPLES - len(word) + 1))
        above = 10 ** (float(rng.uniform(QUIETEST, LOUDEST)) / 20)
        sound[first : first + len(word)] += word * np.float32(above * sound.std() / max(1e-6, float(word.std())))
    quiet = 0.9 / max(0.9, float(np.abs(sound).max()))
    return sound * np.float32(quiet)


def _phones(label: str, rng: np.random.Generator) -> list[str]:
    """How a word is spelled; for the unknown another word, or one that there is not."""
    if label != UNKNOWN:
        return spoken.WORDS[label].split()
    if rng.uniform() < 0.6:
        return spoken.WORDS[OTHERS[int(rng.integers(len(OTHERS)))]].split()
    names = [name for name in spoken.PHONES if name != "-"]
    return [names[int(place)] for place in rng.integers(len(names), size=int(rng.integers(3, 6)))]


def corpus(counts: Mapping[Split, int], *, seed: int) -> Corpus:
    """The built-in corpus: `counts` recordings a split, each made when it is read."""

    def lines(split: Split) -> tuple[Line, ...]:
        names = (f"{split}/{index:05d}" for index in range(counts[split]))
        return tuple(Line(name, label(index), f"built-in words, {split} {index}") for index, name in enumerate(names))

    def read(line: Line) -> bytes:
        split, _, index = line.id.partition("/")
        return audio.wav(record(split, int(index), seed=seed), RATE)  # type: ignore[arg-type]

    return Corpus({split: lines(split) for split in SPLITS}, read, facts(seed))


def facts(seed: int) -> dict[str, Any]:
    """Where the recordings come from, for the provenance."""
    return {
        "source": "generated here: ten commands, other words and silence, synthesised from phones (advisor/data/spoken.py); nobody said them",
        "original": "no recording; vowels after Peterson & Barney 1952, other phones after Klatt 1980, the words of Speech Commands (Warden 2018)",
        "licence": "Apache-2.0, as the generator",
        "generator": "advisor.data.spoken_words:record",
        "split": "by voice: those of training, validation and test are drawn apart",
        "voices": dict(VOICES),
        "seed": seed,
    }
