"""Words and their numbers: a text in lower case, cut at whatever is neither letter nor digit; what training never said is unknown.

Idea: captions of one domain use few words, and a table of words is a dozen lines in any language. 0 is padding, 1 a word unknown.
Shape: text → (length,) int64, the rest 0; a text that is longer is cut. Needs numpy. The bundle's reader does the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

PADDING, UNKNOWN, FIRST = 0, 1, 2
WORD = re.compile(r"[^\W_]+")


def split(text: str) -> list[str]:
    """The words of a text."""
    return WORD.findall(text.lower())


def learned(texts: Iterable[str], *, most: int) -> list[str]:
    """The words of `texts`, the most frequent first, equally frequent by the alphabet; at most so many."""
    counts = Counter(word for text in texts for word in split(text))
    return sorted(counts, key=lambda word: (-counts[word], word))[:most]


def encode(text: str, words: Sequence[str], length: int) -> NDArray[np.int64]:
    """The numbers of a text's words."""
    numbers = {word: number for number, word in enumerate(words, FIRST)}
    found = [numbers.get(word, UNKNOWN) for word in split(text)][:length]
    return np.array(found + [PADDING] * (length - len(found)), dtype=np.int64)
