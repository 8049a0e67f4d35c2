"""A picture and a text in one file, and what is said of two places. Python 3.8 and numpy, as the reader itself.

The file is JSON: {"image": the picture's file in base64, "words": "what it shows"}. Steps with "of" then work on one of the two.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import numpy as np

WORD = re.compile(r"[^\W_]+")


def fields(raw: bytes, binary: Any = (), text: Any = ()) -> dict[str, Any]:
    """JSON file -> its fields: those named in `binary` from base64 to bytes, those in `text` as they are."""
    try:
        entry = json.loads(raw.decode("utf-8"))
        found: dict[str, Any] = {name: base64.b64decode(entry[name], validate=True) for name in binary}
        found.update({name: entry[name] for name in text})
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("this is no JSON object with " + " and ".join([*binary, *text])) from None
    if not all(isinstance(found[name], str) for name in text):
        raise ValueError("this is no JSON object with a text in " + " and ".join(text))
    return found


def words(text: str, words: Any, length: int) -> np.ndarray:
    """Text -> (1, length) int64: the numbers of its words in lower case, counted from 2; 1 is unknown, 0 fills up."""
    numbers = {word: number for number, word in enumerate(words, 2)}
    found = [numbers.get(word, 1) for word in WORD.findall(text.lower())][:length]
    return np.array([found + [0] * (length - len(found))], dtype=np.int64)


def similarity(outputs: dict[str, np.ndarray], labels: Any, threshold: float) -> tuple[str, float]:
    """Two places (1, d) -> (label 1 where their cosine is at least `threshold`, else label 0; the cosine)."""
    one, other = (np.asarray(row[0], dtype=np.float64) for row in outputs.values())
    cosine = float((one * other).sum() / max(1e-12, float(np.sqrt((one * one).sum() * (other * other).sum()))))
    return labels[int(cosine >= threshold)], cosine


PREPROCESS: dict[str, Any] = {"fields": fields, "words": words}
POSTPROCESS: dict[str, Any] = {"similarity": similarity}
