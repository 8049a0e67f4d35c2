"""Subwords: what texts are cut into for a net, learned from the training texts, the same on every machine.

Idea: the letters that training texts have, and as many joined pairs of them as the vocabulary holds: frequent words become one number,
rare ones a few, and no text is beyond it (byte pair encoding, Sennrich et al. 2016, arXiv:1508.07909). The `tokenizers` library learns
and applies the pairs; the bundle's reader applies the same tables in plain Python (compress/reader/steps_text.py).
A text is normalised (NFKC, in lower case by choice), words are those between spaces, marks of punctuation stand alone; a word that a
space (or nothing) stood before begins with U+2581. With `lines` a line's end is a subword of its own, else it is a space.

    known = learn(training_texts, size=4000, lower=True)   # Subwords: a frozen value
    known.size                                             # rows of the table of embeddings; 0 padding, 1 unknown, 2 begin, 3 end
    known.encode("Where is my card?")                      # [17, 9, …]; encode_all(texts) for many
    known.decode(ids)                                      # the text, spaces in one form
    known.step(length=64, multiple=16, of="source")        # the declared step of a bundle; put {"op": "text"} before it for a .txt file
    parsed(known.plain())                                  # plain JSON and back, for `provenance["reopen"]` and a setting of the task

Shape: text → list of numbers below `size`. Padding is the caller's. Needs `tokenizers` (the extra `text`) to learn and to encode.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rules.problems import Problem, bad_environment, bad_input

PADDING, UNKNOWN, BEGIN, END = range(4)
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
SPACE, LINE = "\u2581", "\n"
SHOWN_UNKNOWN = "\u2047"
LONGEST_WORD = 64  # letters; a longer one is several
MOST_LETTERS = 1000  # of an alphabet: the most frequent ones
MOST_SIZE = 100_000
TWICE = 2  # how often a pair must be seen to be joined


@dataclass(frozen=True)
class Subwords:
    """A vocabulary: its letters, and which pairs of numbers are joined, in order. `alphabet` and `merges` say all of it."""

    alphabet: str
    merges: tuple[tuple[int, int], ...]
    lower: bool = True
    lines: bool = False

    @cached_property
    def pieces(self) -> list[str]:
        """What each number stands for."""
        found = [*SPECIAL, *self.alphabet]
        known = set(found)
        for left, right in self.merges:
            joined = found[left] + found[right]
            if joined not in known:
                found.append(joined)
                known.add(joined)
        return found

    @property
    def size(self) -> int:
        return len(self.pieces)

    @cached_property
    def _library(self) -> Any:
        models = _tokenizers()
        numbers = {piece: number for number, piece in enumerate(self.pieces)}
        pairs = [(self.pieces[left], self.pieces[right]) for left, right in self.merges]
        return models.Tokenizer(models.models.BPE(numbers, pairs, unk_token=SPECIAL[UNKNOWN], fuse_unk=True))

    def encode(self, text: str) -> list[int]:
        """The numbers of a text, without begin and end."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The numbers of many texts."""
        split = [words(text, lower=self.lower, lines=self.lines) for text in texts]
        found = self._library.encode_batch([row or [SPACE] for row in split], is_pretokenized=True, add_special_tokens=False)
        return [list(one.ids) if row else [] for one, row in zip(found, split, strict=True)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of numbers: padding, begin and end say nothing, an unknown one is shown as U+2047."""
        shown = [SHOWN_UNKNOWN if number == UNKNOWN else self.pieces[number] for number in ids if number not in (PADDING, BEGIN, END)]
        lines = "".join(shown).split(LINE)
        return LINE.join(line.replace(SPACE, " ").strip() for line in lines)

    def plain(self) -> dict[str, Any]:
        """All of it as plain JSON; the merges are one text, "12 45 12 46" for two pairs, which keeps a manifest small."""
        merges = " ".join(f"{left} {right}" for left, right in self.merges)
        return {"alphabet": self.alphabet, "merges": merges, "lower": self.lower, "lines": self.lines}

    def step(self, *, length: int, multiple: int = 0, begin: bool = False, end: bool = False, of: str = "") -> dict[str, Any]:
        """The declared step from a text to (1, n) int64: cut to `length`; n is `length`, or the next multiple of `multiple`.

        `of` names the input, where a model has several.
        """
        step = {"op": "subwords", **self.plain(), "length": length, "multiple": multiple, "begin": begin, "end": end}
        return {**step, "of": of} if of else step


def learn(texts: Iterable[str], *, size: int, lower: bool = True, lines: bool = False) -> Subwords:
    """The vocabulary of `texts`, at most `size` numbers: their letters, and the most frequent pairs. Same texts, same vocabulary.

    Raises Problem: exit 3 where the texts hold no word, exit 5 without `tokenizers`.
    """
    models = _tokenizers()
    split = [words(text, lower=lower, lines=lines) for text in texts]
    counts = Counter(letter for row in split for word in row for letter in word)
    if not counts:
        raise bad_input("the training texts hold no word", remedy="is the column of texts the right one?")
    room = max(1, min(MOST_LETTERS, size - len(SPECIAL) - 1))
    often = sorted(counts, key=lambda letter: (letter != SPACE, -counts[letter], letter))[:room]
    how = {"initial_alphabet": often, "limit_alphabet": len(often), "special_tokens": list(SPECIAL), "min_frequency": TWICE}
    tokenizer = models.Tokenizer(models.models.BPE(unk_token=SPECIAL[UNKNOWN]))
    tokenizer.pre_tokenizer = models.pre_tokenizers.CharDelimiterSplit(" ")
    tokenizer.train_from_iterator((" ".join(row) for row in split), models.trainers.BpeTrainer(vocab_size=size, show_progress=False, **how))
    return _restored(tokenizer, "".join(sorted(often)), lower=lower, lines=lines)


def _restored(tokenizer: Any, alphabet: str, *, lower: bool, lines: bool) -> Subwords:
    """The library's merges by our numbers: those follow from the letters and the order of the merges."""
    import json

    numbers = {piece: number for number, piece in enumerate((*SPECIAL, *alphabet))}
    merges = []
    for left, right in json.loads(tokenizer.to_str())["model"]["merges"]:
        merges.append((numbers[left], numbers[right]))
        numbers.setdefault(left + right, len(numbers))
    return Subwords(alphabet, tuple(merges), lower, lines)


def parsed(value: Any, *, name: str = "subwords") -> Subwords:
    """What `plain` gave, checked. Raises Problem (exit 2) for anything else; `name` is the setting in the message."""
    keys = {"alphabet": str, "merges": str, "lower": bool, "lines": bool}
    if not isinstance(value, Mapping) or set(value) != set(keys) or not all(isinstance(value[key], kind) for key, kind in keys.items()):
        raise Problem(f"{name} is no vocabulary: alphabet, merges, lower and lines are needed", remedy="leave it out to learn one")
    alphabet, numbers = value["alphabet"], value["merges"].split()
    if len(set(alphabet)) != len(alphabet) or len(numbers) > 2 * MOST_SIZE:
        raise Problem(f"{name}: letters stand twice in the alphabet, or there are more than {MOST_SIZE:,} merges")
    if len(numbers) % 2 or not all(number.isascii() and number.isdigit() and len(number) < 8 for number in numbers):
        raise Problem(f"{name}: the merges are no pairs of numbers", remedy="leave it out to learn one")
    merges = list(zip(map(int, numbers[::2]), map(int, numbers[1::2]), strict=True))
    known, pieces = {*SPECIAL, *alphabet}, [*SPECIAL, *alphabet]
    for place, pair in enumerate(merges):
        if not all(len(SPECIAL) <= one < len(pieces) for one in pair):
            raise Problem(f"{name}: merge {place} joins no two numbers that are there before it")
        joined = pieces[pair[0]] + pieces[pair[1]]
        if joined not in known:
            pieces.append(joined)
            known.add(joined)
    return Subwords(alphabet, tuple(merges), value["lower"], value["lines"])


def words(text: str, *, lower: bool, lines: bool = False) -> list[str]:
    """The words of a text, normalised: "It's late" → "▁it", "'", "s", "▁late"."""
    text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8")).replace(SPACE, " ")
    text = text.lower() if lower else text
    if not lines:
        return [part for word in text.split() for part in _parts(word)]
    found: list[str] = []
    for number, line in enumerate(text.split(LINE)):
        found += [LINE] if number else []
        found += [part for word in line.split() for part in _parts(word)]
    return found


def _parts(word: str) -> list[str]:
    """Runs of letters, and marks of punctuation and symbols one by one."""
    found: list[str] = []
    run = ""
    for letter in word:
        mark = unicodedata.category(letter)[0] in "PS"
        if run and (mark or len(run) >= LONGEST_WORD):
            found.append(run)
            run = ""
        if mark:
            found.append(letter)
        else:
            run += letter
    found += [run] if run else []
    return [SPACE + found[0], *found[1:]]


def _tokenizers() -> Any:
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        raise bad_environment("texts need tokenizers, which is not installed", remedy="pip install 'edge-advisor[text]'") from None
    return tokenizers
