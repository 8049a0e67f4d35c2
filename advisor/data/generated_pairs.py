"""The built-in pairs: short English sentences and their translation into a language that does not exist.

Idea: what makes translating more than looking words up is here in small: the verb goes to the end, the time to the front; an adjective
stands behind its noun and agrees with it in gender and number; the article follows the gender; the place goes before the object. Every
sentence has one right translation, so a score says how much of the grammar was learned.
Source: this generator. Shape: (seed-free) split, index → pair; the same for every seed. Standard library and numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advisor.data.corpus import SPLITS, Split
from advisor.data.parallel import Pair

COUNTS: Mapping[Split, int] = {"train": 6000, "val": 300, "test": 500}
GENERATOR = 1  # its version: another one says other sentences
ENDINGS: Mapping[str, tuple[str, str]] = {"a": ("a", "ari"), "o": ("o", "ori"), "e": ("e", "eri")}  # by gender: one, several
NOUNS: Mapping[str, tuple[str, str]] = {  # English → stem and gender
    "bird": ("tirs", "a"),
    "stone": ("golm", "o"),
    "river": ("nave", "e"),
    "child": ("pini", "a"),
    "teacher": ("madru", "o"),
    "boat": ("selk", "e"),
    "horse": ("bront", "o"),
    "house": ("dom", "a"),
    "tree": ("vald", "e"),
    "letter": ("skrib", "a"),
    "garden": ("hort", "o"),
    "king": ("regu", "o"),
    "window": ("fenst", "e"),
    "song": ("cant", "a"),
    "friend": ("amil", "e"),
    "dog": ("kana", "a"),
    "bridge": ("pontu", "o"),
    "clock": ("hora", "e"),
    "cloud": ("nubi", "a"),
    "door": ("portu", "e"),
}
ADJECTIVES: Mapping[str, str] = {
    "red": "rosk",
    "small": "min",
    "old": "vetr",
    "quiet": "silv",
    "heavy": "grav",
    "new": "nov",
    "green": "verd",
    "strange": "ximp",
    "tall": "alt",
    "cold": "frid",
}
VERBS: Mapping[str, tuple[str, str]] = {  # English with one, with several → stem
    "sees": ("see", "vid"),
    "finds": ("find", "trov"),
    "carries": ("carry", "port"),
    "loves": ("love", "amor"),
    "paints": ("paint", "kolor"),
    "follows": ("follow", "sekv"),
    "hears": ("hear", "aud"),
    "opens": ("open", "aper"),
    "builds": ("build", "konst"),
    "waits for": ("wait for", "atend"),
}
PLACES: Mapping[str, str] = {"near": "apud", "behind": "post", "under": "sub", "without": "sen", "with": "kun"}
TIMES: Mapping[str, str] = {
    "today": "hodie",
    "in the morning": "matene",
    "every year": "omnane",
    "at night": "nokte",
    "again": "denov",
    "on Monday": "lundie",
}
COUNTED: Mapping[str, str] = {"two": "du", "three": "tri", "many": "mult", "all the": "ful"}


def pairs() -> tuple[dict[Split, list[Pair]], dict[str, Any]]:
    """The pairs of each split, no source sentence twice, and where they come from."""
    seen: set[str] = set()
    found: dict[Split, list[Pair]] = {}
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng([GENERATOR, number])
        found[split] = []
        while len(found[split]) < COUNTS[split]:
            source, target = _sentence(rng)
            if source not in seen:
                seen.add(source)
                found[split].append(Pair(source, target, f"{split}:{len(found[split]) + 1}"))
    facts = {
        "source": "sentences in English and a language that does not exist, by a grammar",
        "licence": "Apache-2.0",
        "split": "by the generator",
    }
    return found, {**facts, "generator": GENERATOR, "seed": None}


def _sentence(rng: np.random.Generator) -> tuple[str, str]:
    """A sentence and its translation: who, does, to whom or what, where by chance, when by chance."""
    (who, told_who, several), (whom, told_whom, _) = _phrase(rng), _phrase(rng)
    verb = _one(rng, VERBS)
    plural, stem = VERBS[verb]
    source, target = [who, plural if several else verb, whom], [told_who]
    if rng.random() < 0.4:
        place = _one(rng, PLACES)
        what, told, _ = _phrase(rng)
        source.append(f"{place} {what}")
        target.append(f"{PLACES[place]} {told}")
    target += [told_whom, stem + ("un" if several else "it")]
    if rng.random() < 0.5:
        time = _one(rng, TIMES)
        source.append(time)
        target.insert(0, TIMES[time])
    return _written(source), _written(target)


def _phrase(rng: np.random.Generator) -> tuple[str, str, bool]:
    """A noun with what belongs to it, its translation, and whether there are several."""
    noun = _one(rng, NOUNS)
    stem, gender = NOUNS[noun]
    several = bool(rng.random() < 0.35)
    end = ENDINGS[gender][several]
    described = [_one(rng, ADJECTIVES)] if rng.random() < 0.6 else []
    if several:
        count = _one(rng, COUNTED)
        english, first = " ".join([count, *described, noun if noun == "child" else f"{noun}s"]), COUNTED[count]
        english = english.replace("child", "children")
    else:
        sure = bool(rng.random() < 0.6)
        article = "the" if sure else "an" if (described or [noun])[0][0] in "aeiou" else "a"
        english, first = " ".join([article, *described, noun]), f"l{gender}" if sure else f"un{gender}"
    told = " ".join([first, stem + end, *(ADJECTIVES[adjective] + end for adjective in described)])
    return english, told, several


def _one(rng: np.random.Generator, among: Mapping[str, Any] | Sequence[str]) -> str:
    keys = list(among)
    return keys[int(rng.integers(len(keys)))]


def _written(parts: Sequence[str]) -> str:
    text = " ".join(parts)
    return f"{text[0].upper()}{text[1:]}."
