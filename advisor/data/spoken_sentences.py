"""Utterances without a download: two to four commands or digits in a row, generated (`spoken.py`), in a noisy room.

Voices are divided first, as for keywords. Validation and test never change; training utterances follow the seed.
Shape: (split, index) → samples (n,) float32 at 8 kHz, 0.6 to 3 s, and a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data import audio, spoken
from advisor.data.corpus import SPLITS, Corpus, Line, Split

RATE = 8000
COUNTS: Mapping[Split, int] = {"train": 1300, "val": 160, "test": 320}
VOICES: Mapping[Split, int] = {"train": 80, "val": 15, "test": 30}
FEWEST, MOST = 2, 4  # words
QUIETEST, LOUDEST = 10.0, 30.0  # decibels the voice stands above the room
WORDS = tuple(spoken.WORDS)
Wave = NDArray[np.float32]


def _choose(split: Split, index: int, seed: int) -> tuple[np.random.Generator, list[str]]:
    """The utterance's own randomness, and its words."""
    rng = np.random.default_rng([SPLITS.index(split), *([seed] if split == "train" else []), index, 9])
    return rng, [WORDS[int(place)] for place in rng.integers(len(WORDS), size=int(rng.integers(FEWEST, MOST + 1)))]


def record(split: Split, index: int, *, seed: int = 0) -> tuple[Wave, str]:
    """Utterance `index` of `split` and what it says. Only training ones depend on `seed`."""
    rng, words = _choose(split, index, seed)
    who = spoken.voice(np.random.default_rng([SPLITS.index(split), int(rng.integers(VOICES[split])), 90]))
    return said(words, who, rng), " ".join(words)


def said(words: Sequence[str], who: spoken.Voice, rng: np.random.Generator) -> Wave:
    """The words (of `WORDS`) one after another by one voice in one room, (n,) samples."""
    parts = [_pause(rng, 0.05, 0.2)]
    for word in words:
        spelled = spoken.say(spoken.WORDS[word].split(), who, rng, rate=RATE)
        parts += [spelled * np.float32(rng.uniform(0.6, 1.0)), _pause(rng, 0.03, 0.15)]
    voice = np.concatenate(parts)
    below = 10 ** (-float(rng.uniform(QUIETEST, LOUDEST)) / 20)
    sound = voice + spoken.room(len(voice), rng, rate=RATE) * np.float32(below * voice.std())
    level = np.float32(10 ** (float(rng.uniform(-20, -1)) / 20) / max(1e-6, float(np.abs(sound).max())))
    return sound * level


def _pause(rng: np.random.Generator, shortest: float, longest: float) -> Wave:
    return np.zeros(round(float(rng.uniform(shortest, longest)) * RATE), np.float32)


def corpus(counts: Mapping[Split, int], *, seed: int) -> Corpus:
    """The built-in corpus: `counts` utterances a split, each made when it is read."""

    def lines(split: Split) -> tuple[Line, ...]:
        texts = (" ".join(_choose(split, index, seed)[1]) for index in range(counts[split]))
        return tuple(Line(f"{split}/{index:05d}", text, f"built-in utterances, {split} {index}") for index, text in enumerate(texts))

    def read(line: Line) -> bytes:
        split, _, index = line.id.partition("/")
        return audio.wav(record(split, int(index), seed=seed)[0], RATE)  # type: ignore[arg-type]

    return Corpus({split: lines(split) for split in SPLITS}, read, facts(seed))


def facts(seed: int) -> dict[str, Any]:
    """Where the utterances come from, for the provenance."""
    return {
        "source": "generated here: two to four of twenty words, synthesised from phones (advisor/data/spoken.py); nobody said them",
        "original": "no recording; vowels after Peterson & Barney 1952, other phones after Klatt 1980, the words of Speech Commands (Warden 2018)",
        "licence": "Apache-2.0, as the generator",
        "generator": "advisor.data.spoken_sentences:record",
        "split": "by voice: those of training, validation and test are drawn apart; texts are drawn alike",
        "voices": dict(VOICES),
        "seed": seed,
    }
