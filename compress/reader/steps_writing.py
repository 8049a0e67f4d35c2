"""Steps of texts that go on: a text file -> the numbers of its last signs; scores of what follows -> a sign, or a whole text.

A text is UTF-8, its ends of lines in one form ("\\n"). A sign is a character, its number its place in `known`, 0 where it is not there;
or it is a subword (steps_text.py). What follows is chosen sign by sign, the likeliest or one drawn by its chance, and read again
together with what was written before. Python 3.8, numpy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def characters(raw: bytes, known: str) -> np.ndarray:
    """Bytes of a text file -> (1, n) int64: the place of each character in `known`, 0 for any other."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"this is no UTF-8 text: {error}") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text:
        raise ValueError("an empty text has nothing that could go on")
    places = {character: place for place, character in reversed(list(enumerate(known)))}
    return np.array([[places.get(character, 0) for character in text]], dtype=np.int64)


def last(ids: np.ndarray, length: int) -> np.ndarray:
    """(1, n) -> (1, n) of the last `length` at most."""
    return np.ascontiguousarray(ids[:, -length:])


def chances(logits: np.ndarray) -> np.ndarray:
    """(n,) scores -> chances, in float64."""
    logits = np.asarray(logits, dtype=np.float64)
    found = np.exp(logits - logits.max())
    return np.asarray(found / found.sum())


def following(output: np.ndarray, labels: list[str], length: int, never: int = 1, space: str = "") -> tuple[str, float]:
    """(1, t, n) scores -> the likeliest sign to follow, as Python writes it, and its chance. The first `never` signs do not count."""
    found = chances(output[0, -1])
    place = never + int(found[never:].argmax())
    return repr(labels[place]), float(found[place])


def written(
    run: Any,
    ids: np.ndarray,
    labels: list[str],
    steps: int,
    temperature: float,
    seed: int,
    length: int,
    never: int = 1,
    space: str = "",
) -> tuple[str, float]:
    """The text that goes on after `ids` (1, n): `steps` signs of it, and the geometric mean of their chances.

    `run`: (1, n) ids -> (1, n, signs) scores, n at most `length`. Where that is reached the older half is let go, so that what was read can
    be kept until it is reached again. At `temperature` 0 the likeliest is taken each time; above it one is drawn, and the same seed draws
    the same. The first `never` signs are never written; `space` is what stands for one in a subword.
    """
    dice, found, told = np.random.RandomState(seed), [], 0.0
    ids = ids[:, -length:]
    for _ in range(steps):
        ids = ids if ids.shape[1] <= length else ids[:, -max(1, length // 2) :]
        logits = np.asarray(run(ids), dtype=np.float64)[0, -1]
        own = chances(logits)
        logits[:never] = -np.inf
        if temperature > 0:
            reached = np.cumsum(chances(logits / temperature))
            place = int(np.searchsorted(reached, dice.random_sample() * reached[-1], side="right"))
        else:
            place = int(logits.argmax())
        told += float(np.log(max(own[place], 1e-300)))
        found.append(labels[place])
        ids = np.concatenate([ids, np.array([[place]], dtype=ids.dtype)], axis=1)
    text = "".join(found)
    return (text.replace(space, " ") if space else text), float(np.exp(told / max(1, steps)))


PREPROCESS: dict[str, Any] = {"characters": characters, "last": last}
POSTPROCESS: dict[str, Any] = {"following": following}
WRITES: dict[str, Any] = {"following": written}
