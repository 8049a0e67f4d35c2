"""What all data of one class an example have in common: a class that must be known, the share that is right, how uneven the classes are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.corpus import SPLITS, Line, Split
from rules.examples import Batch, Feeds, Metric, Score
from rules.problems import bad_input

ACCURACY = Metric("accuracy", "higher", "%")
TOP = 5  # answers among which the right one is looked for where there are more than twice as many classes
UNEVEN = 10  # times as many examples as the rarest class has: then the mean over classes says more

Predict = Callable[[Feeds], Mapping[str, NDArray[Any]]]


def score(logits: NDArray[Any], truth: NDArray[np.int64]) -> Score:
    """The share of rows of logits (n, classes) whose largest is the true class (n,). Per example: 1 for right.

    `also`: the mean of that share over the classes that occur, and with many classes how often the right one is among the best five.
    """
    right = (logits.argmax(-1) == truth).astype(np.float64)
    also = {"mean_over_classes": float(np.mean([right[truth == place].mean() for place in np.unique(truth)]))} if len(truth) else {}
    if logits.shape[-1] > 2 * TOP and len(truth):
        best = np.argpartition(-logits, TOP, axis=-1)[:, :TOP]
        also["top5"] = float((best == truth[:, None]).any(-1).mean())
    return Score(ACCURACY, float(right.sum() / max(1, len(right))), right, np.ones_like(right), also)


def asked(predict: Predict, batches: Iterable[Batch], count: int) -> NDArray[Any]:
    """The logits (n, count) of all batches, in their order."""
    found = [predict(batch.inputs)["logits"] for batch in batches]
    return np.concatenate(found) if found else np.zeros((0, count), np.float32)


def check(lines: Mapping[Split, Sequence[Line]], index: Mapping[str, int], *, given: bool, noun: str, remedy: str) -> None:
    """Refuse an example without a class, one of a class that is not known, and a single class.

    `given`: the classes were named in the settings. `noun`: what the examples are ("image"). Raises Problem (exit 3) naming the place.
    """
    known = "in the list given" if given else f"in the training {noun}s"
    for line in (line for split in SPLITS for line in lines[split]):
        if not line.text.strip():
            raise bad_input(f"{line.named}: no class is named", remedy=f"write '{noun}<TAB>class'")
        if line.text not in index:
            some = ", ".join(list(index)[:5]) + (" …" if len(index) > 5 else "")
            what = f"{line.named}: class {line.text!r} is not {known} ({len(index)}: {some})"
            raise bad_input(what, remedy="mend it, or leave it out")
    if len(index) < 2:
        raise bad_input(f"there is one class only, {next(iter(index), '')!r}", remedy=remedy)


def sizes(lines: Sequence[Line], labels: Sequence[str]) -> dict[str, int]:
    """How many examples the rarest and the commonest of `labels` have, for the provenance."""
    counts = Counter(line.text for line in lines)
    each = [counts[label] for label in labels]
    return {"smallest_class": min(each, default=0), "largest_class": max(each, default=0)}


def uneven(lines: Sequence[Line], noun: str) -> Iterator[str]:
    """A warning where the commonest class has more than ten times the examples of the rarest."""
    counts = Counter(line.text for line in lines)
    if counts and max(counts.values()) > UNEVEN * min(counts.values()):
        rare = min(counts, key=lambda label: (counts[label], label))
        yield f"class {rare!r} has {counts[rare]} training {noun}s, the largest {max(counts.values())}: look at mean_over_classes"
