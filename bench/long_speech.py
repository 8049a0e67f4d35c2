"""How a recogniser that learned from short utterances reads long ones: word errors by length, and what a second of sound costs.

    python -m bench long_speech BUNDLE [--words N]

BUNDLE: of `advisor run --task speech-recognition` on the built-in utterances (`python -m bench picks speech-recognition`), which last two to
four words. Generated as those are, with the test voices: one voice in one room for the whole recording, or utterances of other voices and
other loudness in a row. Each length takes N words in all. A recording goes whole into one call of the model, or as the bundle's reader
sends it, in pieces of at most 30 seconds. One thread; processor seconds, the faster of two readings.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from advisor.data import audio, spoken
from advisor.data import spoken_sentences as built_in
from advisor.wer import word_edits
from compress.reader import reader

LENGTHS = (3, 10, 30, 100, 600)  # words of a recording; 600 are five minutes
SHORT = 3  # words of an utterance, where voices take turns
HEADER = 44  # bytes of a wav file before its samples, which have two each


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench long_speech", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--words", type=int, default=1200)
    chosen = parser.parse_args(arguments)
    manifest = reader.read_manifest(chosen.bundle)
    whole = {**manifest, "preprocess": [step for step in manifest["preprocess"] if step["op"] != "pieces"]}
    session = reader.open_model(chosen.bundle / "model.onnx")
    print(
        "| words | seconds | one voice: WER whole, in pieces | voices in turn: whole, in pieces | s a minute of sound: whole, in pieces |"
    )
    print("|---|---|---|---|---|")
    for words in LENGTHS:
        made = [[recording(index, words, turns=turns) for index in range(max(1, chosen.words // words))] for turns in (False, True)]
        read_so = [[read(session, how, recordings) for how in (whole, manifest)] for recordings in made]
        seconds = sum(len(raw) - HEADER for raw, _ in made[0]) / 2 / built_in.RATE
        shares = [", ".join(f"{100 * errors:.1f} %" for errors, _ in pair) for pair in read_so]
        costs = ", ".join(f"{60 * spent / seconds:.2f}" for _, spent in read_so[0])
        print(f"| {words} | {seconds / len(made[0]):.1f} | {shares[0]} | {shares[1]} | {costs} |", flush=True)
    return 0


def recording(index: int, words: int, *, turns: bool) -> tuple[bytes, str]:
    """A wav file of so many words and what it says; with `turns` another voice every `SHORT` words."""
    rng = np.random.default_rng([index, words, 17])
    told = [built_in.WORDS[int(place)] for place in rng.integers(len(built_in.WORDS), size=words)]
    step = SHORT if turns else words
    parts = [built_in.said(told[first : first + step], _voice(rng), rng) for first in range(0, words, step)]
    return audio.wav(np.concatenate(parts), built_in.RATE), " ".join(told)


def _voice(rng: np.random.Generator) -> spoken.Voice:
    """One of the voices that only the test split has (`spoken_sentences.record`)."""
    return spoken.voice(np.random.default_rng([2, int(rng.integers(built_in.VOICES["test"])), 90]))


def read(session: Any, manifest: dict[str, Any], recordings: list[tuple[bytes, str]]) -> tuple[float, float]:
    """The word error rate over these recordings, and the processor seconds it took, from the file to the text."""
    said, spent = [], 0.0
    for raw, _ in recordings:
        costs = []
        for _ in range(2):  # the first one of a length also pays for its memory
            began = time.process_time()
            text, _ = reader.read_file(session, manifest, raw)
            costs.append(time.process_time() - began)
        said.append(text)
        spent += min(costs)
    errors, weights = word_edits([text for _, text in recordings], said)
    return float(errors.sum() / weights.sum()), spent
