"""What was measured on this machine, for recommendations: facts of the evidence store instead of predictions where both are there.

A fact stands for a prediction when everything is the same: processor, instruction sets, runtime, architecture, variant, precision, shape,
one thread, and what the card builds. Its interval reaches from an undisturbed call (a low quantile of the rounds' fastest, as
`compress/timing.py` takes it) over the median to the 99th of a hundred calls, each end moved out by how far two copies of one graph
appeared apart. Torch-free; it reads the store and nothing else.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

from advisor.evidence_store import Fact, read
from advisor.this_machine import detect, runtime_version
from rules.facts import Card, Prediction, Source, TaskRow, Variant
from rules.ranking import Measured

SOURCE = Source(
    "measured-here",
    "Measured on this machine by advisor recommend --measure",
    "docs/evidence.md",
    2026,
    "measurement",
    "Untrained graphs as the pipeline exports and quantizes them, interleaved in onnxruntime, processor time of the calling thread.",
)


def machine() -> dict[str, str]:
    """The processor, its instruction sets and the runtime, as facts of the store name them."""
    found = detect()
    cpu = found.title.removeprefix("this machine (").removesuffix(")")
    return {"cpu": cpu, "isa": " ".join(found.isa), "runtime": runtime_version()}


def built(card: Card, variant: Variant) -> str:
    """A short name for what a card builds of a variant: another builder, setting or count gives another."""
    what = [card.builds, dict(variant.settings), variant.params, variant.macs]
    return f"{zlib.crc32(json.dumps(what, sort_keys=True, default=str).encode()):08x}"


def predictions(row: TaskRow, cards: Mapping[str, Card]) -> Measured:
    """The newest latency of each candidate of a task that was measured here, in the place of a prediction.

    Raises Problem (exit 2) where the store is broken.
    """
    names, mine = {cell.architecture for cell in row.cells}, machine()
    if not mine["runtime"]:  # another package brings it: nothing says which version would run
        return {}
    facts = [fact for fact in read({"what": "latency", "unit": "ms", "threads": 1, **mine}) if fact.architecture in names]
    newest = {(fact.architecture, fact.variant, fact.precision, fact.shape): fact for fact in facts}
    return {key: _prediction(fact) for key, fact in newest.items() if _is(fact, cards[fact.architecture])}


def _is(fact: Fact, card: Card) -> bool:
    """Whether the card still builds what was measured."""
    return any(variant.name == fact.variant and built(card, variant) == fact.built for variant in card.variants)


def _prediction(fact: Fact) -> Prediction:
    calls = fact.details.get("calls")
    counted = f"the median of {calls:,} calls" if isinstance(calls, int) else "the median"
    return Prediction(
        low_ms=fact.low,
        mid_ms=fact.value,
        high_ms=fact.high,
        precision=fact.precision,
        kind="measured",
        basis=(
            f"timed on this machine on {fact.at[:10]}, {counted} of the untrained graph at {fact.shape}, {fact.precision}, 1 thread, "
            f"onnxruntime {fact.runtime}; from an undisturbed call to the 99th of a hundred"
        ),
        sources=(SOURCE.id,),
    )
