"""What a net that writes is fed step by step: a sign and its state or cache in, what may follow and the state after it out.

Idea: `model.step()` of the nets that write is a module like any other, so it is exported like any: by the signature here. One graph
serves a whole beginning at once (an empty cache, or a state of zeros) and then a sign at a time.
Shape: ids (b, n) int64, past → logits (b, n, vocabulary), present. Past and present are (layers, cells, b, hidden) of a recurrent net
and (layers, 2, b, heads, p, size) of one with a cache, where present has n places more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from advisor.stand_in import StandIn
from rules.examples import Port, Signature


class Writes(Protocol):
    """A net that writes, as far as it is asked here."""

    @property
    def past(self) -> Sequence[int | str]:
        """The shape of its state; "past" is the axis that grows, where one does."""
        ...


def stand_in(model: Writes, *, vocabulary: int, length: int) -> StandIn:
    """Random signs and states for `model.step()`: one sign after others, and several."""
    past = tuple(model.past)
    present = tuple("total" if axis == "past" else axis for axis in past)
    ids = Port("ids", "int64", ("batch", "time"), {"batch": (1, 256, 1), "time": (1, length, 1)}, values=(0, vocabulary - 1))
    state = Port("past", "float32", past, {"past": (0, length - 1, 1)} if "past" in past else {})
    outputs = Port("logits", "float32", ("batch", "time", vocabulary)), Port("present", "float32", present, decides=False)
    some = min(4, length // 2)
    return StandIn(Signature((ids, state), outputs), {"step": {"time": 1, "past": length // 2}, "some": {"time": some, "past": some}})


def beginning(model: Writes, *, batch: int = 1) -> NDArray[np.float32]:
    """The state before anything was read: zeros, and no place in a cache."""
    sizes = {"batch": batch, "past": 0}
    return np.zeros([sizes[axis] if isinstance(axis, str) else axis for axis in model.past], np.float32)
