"""What a translator is fed that is cut in two for a cache: the source is read once, then one graph is asked for each next word.

Idea: `model.reader()` and `model.step()` of the translators are modules like any other, exported by the signatures here. A bundle's reader
asks them through `steps_cache.Remembering`, greedily or by beam (`steps_text.translated`).
Shape: reader: source (b, s) → memory (layers, 2, b, heads, s, size). Step: ids (b, t), place (1,), source, memory, past → logits (b, t, n),
present. Past and memory have the batch as their third axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from advisor.stand_in import StandIn
from rules.examples import Port, Signature


class Translates(Protocol):
    """A translator with a cache, as far as it is asked here: the shapes of what it keeps, growing axes by name."""

    @property
    def past(self) -> Sequence[int | str]: ...

    @property
    def memory(self) -> Sequence[int | str]: ...


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
