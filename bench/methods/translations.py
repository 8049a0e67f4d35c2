"""Pairs of sentences in two languages.

Source: words that stand for words, Brown et al. 1993 (Computational Linguistics 19), model 1; translation memories are how translators work.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from advisor.data.translations import BLEU
from rules.examples import Score

WORD = re.compile(r"\w+|[^\w\s]")
STOPS = re.compile(r" ([.,;:!?])")  # what stands close behind a word
ROUNDS = 10
NOTHING = ""  # stands before every source: what nothing in it stands for


def memory(data: Any) -> Any:
    """The translation of the training sentence that is most alike, by TF-IDF of words and pairs of them."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    sources, targets = _texts(data, "train")
    asked, right = _texts(data, "test")
    vectors = TfidfVectorizer(token_pattern=WORD.pattern, ngram_range=(1, 2), sublinear_tf=True)
    known = vectors.fit_transform(sources)
    nearest = (vectors.transform(asked) @ known.T).toarray().argmax(1)
    return _score([targets[place] for place in nearest], right)


def dictionary(data: Any) -> Any:
    """Word for word, in the order of the source: each word as the likeliest one of a dictionary that the pairs teach (IBM's model 1)."""
    sources, targets = ([WORD.findall(text) for text in side] for side in _texts(data, "train"))
    asked, right = _texts(data, "test")
    best = _likeliest([[NOTHING, *words] for words in sources], targets)
    told = [" ".join(best.get(word) or best.get(word.lower()) or word for word in WORD.findall(text)) for text in asked]
    return _score([STOPS.sub(r"\1", text) for text in told], right)


def _likeliest(sources: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> dict[str, str]:
    """The likeliest target word of each source word: expectation maximisation over every link of a word with one of its sentence."""
    numbers: tuple[dict[str, int], dict[str, int]] = ({}, {})
    links, owners, place = [], [], 0
    for source, target in zip(sources, targets, strict=True):
        left, right = (
            np.array([table.setdefault(word, len(table)) for word in words]) for table, words in zip(numbers, (source, target), strict=True)
        )
        links.append(np.stack([np.tile(left, len(right)), np.repeat(right, len(left))], axis=1))
        owners.append(np.repeat(np.arange(place, place + len(right)), len(left)))
        place += len(right)
    width = len(numbers[1])
    link, owner = np.concatenate(links), np.concatenate(owners)
    pairs, pair = np.unique(link[:, 0] * width + link[:, 1], return_inverse=True)
    source_of = pairs // width
    chance = np.ones(len(pairs))
    for _ in range(ROUNDS):
        share = chance[pair] / np.bincount(owner, chance[pair], place)[owner]
        counted = np.bincount(pair, share, len(pairs))
        chance = counted / np.bincount(source_of, counted, len(numbers[0]))[source_of]
    last: dict[int, int] = {}
    for number in np.argsort(chance, kind="stable").tolist():
        last[int(source_of[number])] = int(pairs[number] % width)
    words = list(numbers[1])
    return {word: words[last[number]] for word, number in numbers[0].items() if number in last}


def _texts(data: Any, split: str) -> tuple[list[str], list[str]]:
    found = data.samples(split, data.count(split))
    return [sample.raw.decode() for sample in found], [sample.truth for sample in found]


def _score(told: Sequence[str], right: Sequence[str]) -> Score:
    """Corpus BLEU, as translators are scored: sacrebleu's own, 13a."""
    from sacrebleu import corpus_bleu, sentence_bleu

    own = np.array([sentence_bleu(one, [other]).score / 100 for one, other in zip(told, right, strict=True)])
    return Score(BLEU, corpus_bleu(list(told), [list(right)]).score / 100, own, np.ones_like(own))
