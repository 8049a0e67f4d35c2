"""Asking a net for one word after another without reading all again: what was read is kept, row by row, by what was written so far.

A net that writes is exported whole (model.onnx reads everything at every call) and cut (step.onnx reads one more word and what it kept;
encoder.onnx, where there is one, reads the source once). `Remembering` is asked as the whole graph is, and answers for the words that are
new. Python 3.8, numpy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Remembering:
    """Feeds of the whole graph -> {"logits": (b, new, n)}: scores at the places that were not asked for before, the last one always.

    step: {"ids": (b, t), "past"} -> {"logits": (b, t, n), "present"}, and with `encoder` ({"source"} -> {"memory"}) also "place" (1,),
    "source" and "memory" in. `past` and `memory` are the shapes of what is kept; the axis "batch" holds the rows, "past" begins empty.
    A row is known by its source and what was written before its last word; where one row is not known, all are read from the start.
    """

    def __init__(self, step: Any, past: Any, encoder: Any = None, memory: Any = ("batch",)) -> None:
        self.step, self.encoder = step, encoder
        self.past, self.rows = list(past), (list(past).index("batch"), list(memory).index("batch"))
        self.kept: tuple[Any, Any] = (None, None)  # present, memory
        self.known: dict[Any, int] = {}

    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        source = feeds.get("source")
        words = feeds["ids"] if source is None else feeds["target"]
        whose = [b""] * len(words) if source is None else [row.tobytes() for row in source]
        written = [(one, tuple(row)) for one, row in zip(whose, words.tolist())]  # noqa: B905 (Python 3.8)
        before = [self.known.get((one, row[:-1])) for one, row in written]
        past, memory, new = self._from(before, words, source)
        fed = {"ids": np.ascontiguousarray(words[:, -new:]), "past": past}
        if self.encoder is not None:
            fed.update(place=np.array([words.shape[1] - new], dtype=np.int64), source=source, memory=memory)
        answer = self.step(fed)
        self.kept, self.known = (answer["present"], memory), {key: place for place, key in enumerate(written)}
        return {"logits": answer["logits"]}

    def _from(self, before: list[Any], words: np.ndarray, source: Any) -> tuple[Any, Any, int]:
        """What is kept for these rows, and how many words of each are still to be read."""
        if words.shape[1] > 1 and None not in before:
            past, memory = (None if kept is None else np.take(kept, before, axis) for kept, axis in zip(self.kept, self.rows))  # noqa: B905
            return past, memory, 1
        sizes = {"batch": len(words), "past": 0}
        empty = np.zeros([sizes[axis] if isinstance(axis, str) else axis for axis in self.past], np.float32)
        return empty, None if self.encoder is None else self.encoder({"source": source})["memory"], words.shape[1]


REMEMBERS: dict[str, Any] = {"step": Remembering}
