"""The built-in text: small stories by a grammar, whose words agree with words far before them.

Idea: a story has a hero and a thing the hero looks for; both are drawn once and come back in every sentence, verbs agree in number with
a subject that a clause may stand between, and a quotation ends as it began. So a net gains by remembering: within a word, a sentence, a
story. The chance of every choice is known, and so is how many nats a character the whole takes at most.
Source: this generator; agreement across a clause as in Linzen et al. 2016, arXiv:1611.01368. Shape: seed, number of stories → texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import Any

import numpy as np

from advisor.data.corpus import SPLITS, Split
from advisor.data.documents import Text

GENERATOR = 1  # its version: another one writes other stories
COUNTS: Mapping[Split, int] = {"train": 360, "val": 40, "test": 40}
HEROES = ("miller", "baker", "sailor", "tailor", "weaver", "hunter", "farmer", "fisher", "potter", "piper", "cobbler", "shepherd")
THINGS = ("lantern", "silver ring", "red kite", "old map", "bell", "violin", "golden key", "white horse", "small boat", "blue stone")
PLACES = ("the river", "the market", "the old bridge", "the dark forest", "the harbour", "the mill", "the high tower", "the garden")
CROWD = ("bird", "child", "neighbour", "dog", "soldier", "merchant", "goat", "stranger")
DOES = ("wait", "sing", "sleep", "laugh", "stand", "rest")
SAYS = ("asked", "said", "cried", "whispered")
WHEN = ("one morning", "at noon", "in the evening", "before the rain", "after the feast", "in the winter")


class Teller:
    """Draws from lists, and adds up what each choice told (nats)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.nats = rng, 0.0

    def one(self, words: Sequence[str]) -> str:
        self.nats += log(len(words))
        return words[int(self.rng.integers(len(words)))]

    def share(self, chance: float) -> bool:
        """Whether it happens, as it does with `chance`."""
        happens = bool(self.rng.random() < chance)
        self.nats -= log(chance if happens else 1 - chance)
        return happens


def story(split: Split, index: int, *, seed: int) -> tuple[str, float]:
    """Story `index` of a split, and how many nats its choices told."""
    teller = Teller(np.random.default_rng([GENERATOR, seed, SPLITS.index(split), index]))
    hero, thing = teller.one(HEROES), teller.one(THINGS)
    told = [f"There was a {hero} who had lost {_a(thing)}."]
    for _ in range(4):
        kind = int(teller.one("0123"))
        told.append((_walks, _asks, _crowd, _thinks)[kind](teller, hero, thing))
    end = f"found the {thing}" if teller.share(0.5) else f"never saw the {thing} again"
    told.append(f"And so the {hero} {end}.")
    return " ".join(told) + "\n", teller.nats


def _walks(teller: Teller, hero: str, thing: str) -> str:
    return f"{_upper(teller.one(WHEN))} the {hero} went to {teller.one(PLACES)} to look for the {thing}."


def _asks(teller: Teller, hero: str, thing: str) -> str:
    who, verb = teller.one(CROWD), teller.one(SAYS)
    answer = f"It is near {teller.one(PLACES)}" if teller.share(0.6) else "Nobody knows"
    return f'"Where is my {thing}?" {verb} the {hero}. "{answer}," {teller.one(SAYS)} the {who}.'


def _crowd(teller: Teller, hero: str, thing: str) -> str:
    who, several, does = teller.one(CROWD), teller.share(0.5), teller.one(DOES)
    between = f" near {teller.one(PLACES)}" if teller.share(0.5) else ""
    clause = f" that the {hero} {teller.one(('knows', 'fears', 'likes'))}" if teller.share(0.4) else ""
    return f"The {_many(who) if several else who}{clause}{between} {does if several else does + 's'} {teller.one(WHEN)}."


def _thinks(teller: Teller, hero: str, thing: str) -> str:
    return f"The {hero} thought of the {thing} and {teller.one(('smiled', 'wept', 'went on'))}."


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _many(word: str) -> str:
    return "children" if word == "child" else word + "s"


def _upper(words: str) -> str:
    return words[0].upper() + words[1:]


def texts(counts: Mapping[Split, int], *, seed: int) -> tuple[dict[Split, list[Text]], dict[str, Any]]:
    """The stories of each split, and where they come from. No story is in two splits."""
    found: dict[Split, list[Text]] = {}
    seen: set[str] = set()
    nats = characters = 0.0
    for split in SPLITS:
        held: list[Text] = []
        index = 0
        while len(held) < counts[split]:
            told, cost = story(split, index, seed=seed)
            index += 1
            if told in seen:
                continue
            seen.add(told)
            held.append(Text(f"{split} story {index:05d}", told))
            nats, characters = nats + cost, characters + len(told)
        found[split] = held
    facts = {
        "source": "built-in stories, made by a grammar",
        "licence": "Apache-2.0",
        "generator": GENERATOR,
        "seed": seed,
        "split": "each story is drawn for its split, and none is in two",
        "nats_a_character_of_the_grammar": round(nats / characters, 4),
    }
    return found, facts
