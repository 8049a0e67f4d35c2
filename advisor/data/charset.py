"""Which characters a recogniser knows, and how a text becomes class indices.

Texts are taken in Unicode's composed form (NFC), in the case asked for, without spaces at either end. Class 0 is the CTC blank,
class i + 1 is label i.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, get_args

from advisor.data.corpus import Line
from rules.problems import Problem, bad_input

Case = Literal["keep", "upper", "lower"]
CASES: tuple[str, ...] = get_args(Case)
_FOLD: dict[str, Callable[[str], str]] = {"keep": str, "upper": str.upper, "lower": str.lower}


def normalise(text: str, case: str) -> str:
    """The text as it is learned and compared."""
    return unicodedata.normalize("NFC", _FOLD[case](unicodedata.normalize("NFC", text))).strip()


def normalised(lines: Iterable[Line], case: str) -> tuple[Line, ...]:
    """The lines with their texts normalised."""
    return tuple(line if (text := normalise(line.text, case)) == line.text else replace(line, text=text) for line in lines)


def learned(lines: Iterable[Line]) -> tuple[str, ...]:
    """Every character of the texts, sorted by code point."""
    return tuple(sorted({character for line in lines for character in line.text}))


def given(charset: str | Sequence[str], case: str) -> tuple[str, ...]:
    """The characters asked for, in their order. Raises Problem (exit 2) for one that is doubled, or that `case` would never produce."""
    labels = tuple(charset)
    wrong = [label for label in labels if len(label) != 1]
    if not labels or wrong:
        raise Problem(
            f"charset holds {wrong[0]!r}, which is not one character" if wrong else "charset is empty",
            remedy='e.g. charset = "0123456789.-"',
        )
    doubled = [label for label, count in Counter(labels).items() if count > 1]
    if doubled:
        raise Problem(f"charset names {doubled[0]!r} twice", remedy="name each character once")
    strange = [label for label in labels if label != " " and normalise(label, case) != label]
    if strange:
        raise Problem(
            f"charset holds {strange[0]!r}, which never occurs with case = {case!r}",
            remedy='write the charset in that case, or set case = "keep"',
        )
    return labels


def check(lines: Iterable[Line], labels: Sequence[str]) -> None:
    """Raises Problem (exit 3) at the first text with a character outside `labels`: the place and the character."""
    known = frozenset(labels)
    for line in lines:
        for character in line.text:
            if character not in known:
                what = f"{line.where}: {character!r} (U+{ord(character):04X}) in {line.text!r} is not in the charset"
                raise bad_input(what, remedy="add it to charset, or mend the label")


def unseen(lines: Iterable[Line], labels: Sequence[str]) -> dict[str, int]:
    """Characters of the texts that training never showed, with how often: each will be read wrong, and is counted so."""
    known = frozenset(labels)
    return dict(sorted(Counter(character for line in lines for character in line.text if character not in known).items()))
