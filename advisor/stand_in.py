"""What a task feeds a model, without its data: the signature and random inputs, to export, count and check an untrained net by.

A task says how its signature follows from what its data decides (`Given`: classes, columns, vocabulary …) and which sizes are
typical. Same seed, same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rules.examples import Batch, Feeds, Port, Signature

Given = Mapping[str, Any]  # what the data decides of a model: keyword arguments of its builder


@dataclass(frozen=True)
class StandIn:
    """As much of a task's data as export, quantization and cost tables ask for.

    `sizes` are the named probes, each the sizes of its dynamic axes (the batch is 1); the first is the one that cards are counted at.
    `ready` makes inputs out of random ones where plain noise will not do (a mask that has ones on the left, say). `padded` gives
    inputs the same meaning with more padding, where a mask says what is padding.
    """

    signature: Signature
    sizes: Mapping[str, Mapping[str, int]]
    ready: Callable[[dict[str, np.ndarray], np.random.Generator], dict[str, np.ndarray]] | None = field(default=None, compare=False)
    padded: Callable[[Feeds], Feeds] | None = field(default=None, compare=False)

    def feeds(self, sizes: Mapping[str, int], *, batch: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
        """Random inputs: normal floats, integers within the port's `values`, of these sizes."""
        generator = np.random.default_rng(seed)
        made = {port.name: _random(port, {"batch": batch, **sizes}, generator) for port in self.signature.inputs}
        return self.ready(made, generator) if self.ready else made

    def probes(self) -> dict[str, Feeds]:
        """One example of each named size."""
        return {name: self.feeds(sizes, seed=number) for number, (name, sizes) in enumerate(self.sizes.items())}

    def count(self, split: str) -> int:
        return 4 * len(self.sizes)

    def batches(self, split: str, **_: Any) -> Iterator[Batch]:
        """A few examples of every size, for calibration."""
        for number in range(4):
            for name, sizes in self.sizes.items():
                yield Batch(self.feeds(sizes, seed=100 + number), {}, (f"{name}-{number}",))


def _random(port: Port, sizes: Mapping[str, int], generator: np.random.Generator) -> np.ndarray:
    shape = [sizes[axis] if isinstance(axis, str) else axis for axis in port.shape]
    if port.dtype.startswith("float"):
        return generator.standard_normal(shape, dtype=np.float32).astype(port.dtype)
    low, high = port.values or (0, 1)
    return generator.integers(low, high + 1, shape).astype(port.dtype)
