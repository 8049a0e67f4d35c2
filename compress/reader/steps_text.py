"""Steps from a text to the numbers of its subwords, for the bundle's reader. Python 3.8, numpy and the standard library.

A text is UTF-8. Its words are those between spaces, marks of punctuation standing alone; a word that a space (or nothing) stood before
begins with U+2581. A word is taken apart into letters, and pairs are joined again in the order in which training learned to join them
(byte pair encoding, Sennrich et al. 2016, arXiv:1508.07909). 0 fills up, 1 is unknown, 2 begins and 3 ends a text; then come the letters
of `alphabet`, then what each pair of `merges` (a text: "12 45 12 46" are two pairs) joins, where that is new.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

PADDING, UNKNOWN, BEGIN, END = range(4)
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
SPACE = "\u2581"  # stands where a space stood
LINE = "\n"  # a word of its own, where lines are kept
LONGEST_WORD = 64  # letters; a longer one is several
MOST_BYTES = 2**24
VOCABULARIES: dict[tuple[str, str], Any] = {}  # the tables of the last texts, by alphabet and merges


def text(raw: bytes, most: int = MOST_BYTES) -> str:
    """Bytes of a text file -> its text."""
    if len(raw) > most:
        raise ValueError(f"a text of {len(raw):,} bytes, allowed {most:,}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"this is no UTF-8 text: {error}") from None


def words(text: str, lower: bool, lines: bool = False) -> list[str]:
    """The words of a text, normalised (NFKC; in lower case where so chosen): "It's late" -> "▁it", "'", "s", "▁late"."""
    text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8")).replace(SPACE, " ")
    text = text.lower() if lower else text
    if not lines:
        return [part for word in text.split() for part in parts(SPACE + word)]
    found: list[str] = []
    for number, line in enumerate(text.split(LINE)):
        found += [LINE] if number else []
        found += [part for word in line.split() for part in parts(SPACE + word)]
    return found


def parts(word: str) -> list[str]:
    """A word between spaces -> its runs of letters and its marks of punctuation one by one; the first keeps the word's U+2581."""
    found = [""]
    for letter in word[1:]:
        mark = unicodedata.category(letter)[0] in "PS"
        if found[-1] and (mark or ends(found[-1])):
            found.append("")
        found[-1] += letter
    found[0] = SPACE + found[0]
    return found


def ends(part: str) -> bool:
    """Whether nothing may follow: a mark, or a word that is long enough."""
    return len(part) >= LONGEST_WORD or unicodedata.category(part[-1])[0] in "PS"


def pairs(merges: str) -> list[tuple[int, int]]:
    """ "12 45 12 46" -> [(12, 45), (12, 46)]."""
    found = [int(number) for number in merges.split()]
    return list(zip(found[::2], found[1::2]))  # noqa: B905 (Python 3.8)


def pieces(alphabet: str, merges: str) -> list[str]:
    """What every number stands for."""
    found = [*SPECIAL, *alphabet]
    known = set(found)
    for left, right in pairs(merges):
        joined = found[left] + found[right]
        if joined not in known:
            found.append(joined)
            known.add(joined)
    return found


class Vocabulary:
    """The tables of `alphabet` and `merges`: the number of a letter, and of a pair when it is joined and what it becomes."""

    def __init__(self, alphabet: str, merges: str) -> None:
        self.pieces = pieces(alphabet, merges)
        numbers = {piece: number for number, piece in enumerate(self.pieces)}
        self.letters = {letter: numbers[letter] for letter in alphabet}
        self.joins = {
            (left, right): (rank, numbers[self.pieces[left] + self.pieces[right]])
            for rank, (left, right) in reversed(list(enumerate(pairs(merges))))
        }
        self.known: dict[str, list[int]] = {}

    def word(self, word: str) -> list[int]:
        """The numbers of one word; letters that are not known are one unknown together."""
        if word in self.known:
            return self.known[word]
        row = [self.letters.get(letter, UNKNOWN) for letter in word]
        row = [number for place, number in enumerate(row) if number != UNKNOWN or place == 0 or row[place - 1] != UNKNOWN]
        while True:
            joined = [(*self.joins[pair], place) for place, pair in enumerate(zip(row, row[1:])) if pair in self.joins]  # noqa: B905, RUF007
            if not joined:
                break
            _, number, place = min((rank, number, place) for rank, number, place in joined)
            row[place : place + 2] = [number]
        if len(self.known) < 100_000:
            self.known[word] = row
        return row


def vocabulary(alphabet: str, merges: str) -> Vocabulary:
    """The tables, kept for the next text."""
    key = (alphabet, merges)
    if key not in VOCABULARIES:
        if len(VOCABULARIES) > 3:
            VOCABULARIES.clear()
        VOCABULARIES[key] = Vocabulary(alphabet, merges)
    found: Vocabulary = VOCABULARIES[key]
    return found


def numbers(text: str, alphabet: str, merges: str, lower: bool, lines: bool = False, most: int = 0) -> list[int]:
    """Text -> the numbers of its subwords; `most` ends the work early, 0 does not."""
    known, found = vocabulary(alphabet, merges), []
    for word in words(text, lower, lines):
        found += known.word(word)
        if most and len(found) >= most:
            return found[:most]
    return found


def subwords(
    text: str,
    alphabet: str,
    merges: str,
    length: int,
    lower: bool = True,
    lines: bool = False,
    multiple: int = 0,
    begin: bool = False,
    end: bool = False,
) -> np.ndarray:
    """Text -> (1, n) int64: its numbers, at most `length` of them with the ones that begin and end it, then 0.

    n is `length`, or with `multiple` the next multiple of it that holds them all.
    """
    room = max(0, length - begin - end)
    found = [BEGIN] * begin + numbers(text, alphabet, merges, lower, lines, room)[:room] + [END] * end
    wanted = max(multiple, -(-len(found) // multiple) * multiple) if multiple else length
    return np.array([found + [PADDING] * (wanted - len(found))], dtype=np.int64)


def spelled(ids: Any, pieces: Any) -> str:
    """Numbers -> the text they stand for: 0, 2 and 3 say nothing, an unknown one is shown as U+2047."""
    shown = ["\u2047" if number == UNKNOWN else pieces[number] for number in ids if number not in (PADDING, BEGIN, END)]
    lines = "".join(shown).split(LINE)
    return LINE.join(line.replace(SPACE, " ").strip() for line in lines)


# -- translations ----------------------------------------------------------------------------------------------------------


def begun(source: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers of a source (1, n) -> the two inputs of a translator that has written nothing yet."""
    return {"source": source, "target": np.array([[BEGIN]], dtype=np.int64)}


def log_chances(logits: np.ndarray) -> np.ndarray:
    """(..., n) scores -> logarithms of chances, in float64."""
    logits = np.asarray(logits, dtype=np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))


def until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(END)] if END in ids else ids


def translation(output: np.ndarray, labels: list[str], most: int) -> tuple[str, float]:
    """(1, t, n) scores -> what they say at each place, up to the end, and the mean chance (geometric) of it: the answer to one call."""
    found = log_chances(output[0])
    ids = found.argmax(-1).tolist()
    told = [float(row[number]) for row, number in zip(found, ids)][: len(until_end(ids)) + 1]  # noqa: B905 (Python 3.8)
    return spelled(until_end(ids), labels), float(np.exp(np.mean(told)))


def translated(run: Any, feeds: dict[str, np.ndarray], labels: list[str], most: int, beam: int = 0) -> tuple[str, float]:
    """The translation of `feeds["source"]` (1, n), and the mean chance (geometric) of its subwords.

    `run`: {"source": (k, n), "target": (k, t)} -> (k, t, subwords) scores. The model is asked again with what it wrote, until the end or
    `most` subwords. `beam`: so many translations are kept at once, 0 or 1 the likeliest word each time; the best by mean chance a word wins,
    since every further word makes a translation less likely (Wu et al. 2016, arXiv:1609.08144, with its alpha = 1).
    """
    width = max(1, beam)
    kept: list[tuple[float, list[int]]] = [(0.0, [])]
    done: list[tuple[float, list[int]]] = []
    for _ in range(most):
        target = np.array([[BEGIN, *ids] for _, ids in kept], dtype=np.int64)
        found = log_chances(run({"source": np.repeat(feeds["source"], len(kept), 0), "target": target})[:, -1])
        found[:, [PADDING, BEGIN]] = -np.inf
        grown = [
            (score + float(row[number]), [*ids, int(number)])
            for (score, ids), row in zip(kept, found)  # noqa: B905
            for number in np.argsort(-row, kind="stable")[:width]
        ]
        grown.sort(key=lambda one: -one[0])
        done += [one for one in grown[:width] if one[1][-1] == END]
        kept = [one for one in grown[:width] if one[1][-1] != END]
        if not kept or (len(done) >= width and max(map(mean_chance, done)) >= max(map(mean_chance, kept))):
            break
    best = max(done or kept, key=mean_chance)
    return spelled(until_end(best[1]), labels), float(np.exp(mean_chance(best)))


def mean_chance(one: tuple[float, list[int]]) -> float:
    """The logarithm of the mean chance of a translation's subwords."""
    return one[0] / max(1, len(one[1]))


PREPROCESS: dict[str, Any] = {"text": text, "subwords": subwords, "begun": begun}
POSTPROCESS: dict[str, Any] = {"translation": translation}
ANSWERS: dict[str, Any] = {"translation": translated}
