"""Translating word by word with a cache: the source is read once, then one graph is asked for each next word, greedily or by beam.

Idea: `model.reader()` and `model.step()` of the translators are modules like any other, exported by the signatures here. A beam keeps the
`width` likeliest beginnings at once, each a row of the batch with its own state; what wins is the likeliest by the mean over its words, since
every further word makes a translation less likely. A sentence that ended keeps its place among the best.
Source: beam search with length normalisation, Wu et al. 2016, arXiv:1609.08144 (its alpha = 1, a plain mean).
Shape: reader: source (b, s) → memory (layers, 2, b, heads, s, size). Step: ids (b, 1), place (1,), source, memory, past → logits (b, 1, n),
present. Torch is not needed to decode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from advisor.data.subwords import BEGIN, END, PADDING
from advisor.stand_in import StandIn
from rules.examples import Feeds, Port, Signature

Array = NDArray[Any]
Predict = Callable[[Feeds], Mapping[str, Array]]
BATCH = 2  # the axis of memory and past that is the batch
BEAM = 5


class Translates(Protocol):
    """A translator with a cache, as far as it is asked here: the shapes of what it keeps, growing axes by name."""

    @property
    def past(self) -> Sequence[int | str]: ...

    @property
    def memory(self) -> Sequence[int | str]: ...


@dataclass(frozen=True, slots=True)
class Translation:
    """Numbers of subwords without their end, and the logarithm of the mean chance of each."""

    ids: tuple[int, ...]
    mean: float


def reader_stand_in(model: Translates, *, vocabulary: int, length: int) -> StandIn:
    """Random sources for `model.reader()`."""
    memory = Port("memory", "float32", tuple(model.memory), decides=False)
    return StandIn(Signature((_source(vocabulary, length),), (memory,)), {"s": {"source": length}, "short": {"source": min(8, length)}})


def step_stand_in(model: Translates, *, vocabulary: int, length: int) -> StandIn:
    """Random words and states for `model.step()`: one word after others, and several."""
    past = tuple(model.past)
    ids = Port("ids", "int64", ("batch", "time"), {"batch": (1, 256, 1), "time": (1, length, 1)}, values=(0, vocabulary - 1))
    place = Port("place", "int64", (1,), values=(0, length // 2))
    state = Port("past", "float32", past, {"past": (0, length - 1, 1)} if "past" in past else {})
    present = tuple("total" if axis == "past" else axis for axis in past)
    outputs = Port("logits", "float32", ("batch", "time", vocabulary)), Port("present", "float32", present, decides=False)
    inputs = (ids, place, _source(vocabulary, length), Port("memory", "float32", tuple(model.memory)), state)
    some = min(4, length // 2)
    sizes = {"step": {"time": 1, "past": length // 2, "source": length}, "some": {"time": some, "past": some, "source": min(8, length)}}
    return StandIn(Signature(inputs, outputs), sizes)


def _source(vocabulary: int, length: int) -> Port:
    return Port("source", "int64", ("batch", "source"), {"batch": (1, 256, 1), "source": (8, length, 8)}, values=(1, vocabulary - 1))


def beginning(model: Translates, *, batch: int = 1) -> NDArray[np.float32]:
    """What is kept before the first word: zeros, and no place in a cache."""
    sizes = {"batch": batch, "past": 0}
    return np.zeros([sizes[axis] if isinstance(axis, str) else axis for axis in model.past], np.float32)


def translate(reader: Predict, step: Predict, source: Array, past: Array, *, most: int, beam: int = BEAM) -> Translation:
    """The translation of one source (1, s). `past` is `beginning(model)`; `beam` 1 takes the likeliest word each time.

    At most `most` words, the end among them.
    """
    memory = np.asarray(reader({"source": source})["memory"])
    kept, told, done = [Translation((), 0.0)], np.zeros(1), list[Translation]()
    for place in range(most):
        words = np.array([[one.ids[-1] if one.ids else BEGIN] for one in kept], dtype=np.int64)
        rows = len(kept)
        fed = {"ids": words, "place": np.array([place], dtype=np.int64), "source": np.repeat(source, rows, 0), "past": past}
        answer = step({**fed, "memory": np.repeat(memory, rows, BATCH)})
        chances = log_chances(np.asarray(answer["logits"])[:, -1])
        chances[:, [PADDING, BEGIN]] = -np.inf
        best = _best(told[:, None] + chances, beam)
        grown = [(row, Translation((*kept[row].ids, number), total / (place + 1)), total) for row, number, total in best]
        done += [one for _, one, _ in grown if one.ids[-1] == END]
        going = [entry for entry in grown if entry[1].ids[-1] != END]
        if not going or (len(done) >= beam and max(one.mean for one in done) >= max(one.mean for _, one, _ in going)):
            break
        kept, told = [one for _, one, _ in going], np.array([total for _, _, total in going])
        past = np.take(np.asarray(answer["present"]), [row for row, _, _ in going], axis=BATCH)
    winner = max(done or kept, key=lambda one: one.mean)
    return Translation(tuple(number for number in winner.ids if number != END), winner.mean)


def _best(totals: Array, width: int) -> list[tuple[int, int, float]]:
    """The `width` largest of (rows, words): row, word and value, the largest first."""
    order = np.argsort(-totals, axis=None, kind="stable")[:width]
    places = (np.unravel_index(int(place), totals.shape) for place in order)
    return [(int(row), int(number), float(totals[row, number])) for row, number in places]


def log_chances(logits: Array) -> NDArray[np.float64]:
    """(…, n) scores → logarithms of chances."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found
