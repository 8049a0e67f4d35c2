"""`advisor recommend --measure`: which candidates of an answer are built and timed here, and what was predicted of them against what was measured.

The first that are kept come first, then those that only a predicted latency refuses, because a prediction is what is in question.
What is timed is the untrained net at the sizes its card is counted at. `compress/measuring.py` does the timing; this names the nets and
reads the times. Torch is needed only when a net is built.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from shlex import join
from typing import Any, Protocol

from advisor.asking import flags
from advisor.evidence_store import LONGEST, Fact
from advisor.instantiate import module, task_of
from advisor.measured import built, machine
from advisor.text import bold, columns, md_table, milliseconds, paragraph
from advisor.this_machine import NAME
from rules.examples import Feeds
from rules.facts import Candidate, Card, Prediction, Recommendation, Variant
from rules.knowledge import Knowledge
from rules.latency import cost_of, predict
from rules.problems import Problem
from rules.ranking import name_of

PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True, slots=True)
class Net:
    """A candidate to be timed: how it is built, what it is fed, and what was predicted of it by precision."""

    name: str
    card: Card
    variant: Variant
    given: Mapping[str, Any]
    data: Any  # a StandIn
    shape: str
    feeds: Feeds
    predicted: Mapping[str, Prediction | None]

    @property
    def build(self) -> Callable[[], Any]:
        """Builds the untrained module. Raises Problem (exit 5) without torch."""
        return partial(module, self.card, self.variant.name, **self.given)

    @property
    def form(self) -> str:
        """Its form of 8 bits, as the card calls it."""
        return str(self.card.traits.get("int8", "none"))


class Timed(Protocol):
    """One file's times in milliseconds, as `compress/measuring.py` has them."""

    @property
    def name(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def undisturbed_ms(self) -> float: ...
    @property
    def p50_ms(self) -> float: ...
    @property
    def p90_ms(self) -> float: ...
    @property
    def p99_ms(self) -> float: ...
    @property
    def calls(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One file: what was predicted (None: nothing could be), what was measured, and whether that lies in the interval."""

    candidate: str
    precision: str
    shape: str
    predicted: Prediction | None
    undisturbed_ms: float
    p50_ms: float
    p99_ms: float
    inside: bool | None


def refuse_elsewhere(answer: Recommendation) -> None:
    """Raises Problem (exit 2) where the answer is for another device than this machine."""
    if answer.device.name != NAME:
        what = f"--measure times on this machine, and the device is {answer.device.name}"
        raise Problem(what, remedy="run it there, with --device this-machine")


# -- what is timed -------------------------------------------------------------------------------------------------------


def nets(answer: Recommendation, knowledge: Knowledge, *, top: int) -> list[Net]:
    """The first `top` candidates that can be built here, ready to be timed."""
    everyone = (*answer.kept, *filter(_only_slow, answer.refused))
    built_here = [found for found in everyone if found.status == "built" and _task(knowledge, found.architecture)]
    return [_net(candidate, answer, knowledge) for candidate in built_here[:top]]


def _task(knowledge: Knowledge, architecture: str) -> str:
    """The built-in task that feeds it; "" where none does."""
    try:
        return task_of(knowledge, architecture)
    except Problem:
        return ""


def _only_slow(candidate: Candidate) -> bool:
    return {said.rule for said in candidate.verdicts if said.effect == "forbid"} == {"budget.latency"}


def _net(candidate: Candidate, answer: Recommendation, knowledge: Knowledge) -> Net:
    from advisor.tasks import task

    card = knowledge.cards[candidate.architecture]
    variant = next(item for item in card.variants if item.name == candidate.variant)
    subject = task(variant.task or _task(knowledge, card.name))
    given = {**subject.counted, **variant.given}
    data = subject.stand_in(given)
    costs = knowledge.costs.get(card.name, ())
    found = {precision: cost_of(card, variant, costs, precision) for precision in PRECISIONS}
    wanted = next((cost.shape for cost in found.values() if cost), variant.shape)
    probes = {shape_of(feeds): feeds for feeds in data.probes().values()}
    shape = wanted if wanted in probes else next(iter(probes))
    predicted = {
        precision: predict(variant, cost, answer.device, precision) if shape == (cost.shape if cost else variant.shape) else None
        for precision, cost in found.items()
    }
    return Net(name_of(card.name, variant.name), card, variant, given, data, shape, probes[shape], predicted)


def shape_of(feeds: Feeds) -> str:
    """`1x1x32x128`, as cost tables say it; of several inputs joined by "+"."""
    return "+".join("x".join(map(str, array.shape)) for array in feeds.values())


def rest(answer: Recommendation, chosen: Sequence[Net], failed: Mapping[str, str]) -> list[tuple[str, str]]:
    """The candidates that were not timed, each with why not."""
    done = {net.name for net in chosen} - set(failed)
    everyone = {name_of(found.architecture, found.variant): found for found in (*answer.kept, *answer.refused)}
    return [(name, failed.get(name) or _why(found)) for name, found in everyone.items() if name not in done]


def _why(candidate: Candidate) -> str:
    if candidate.status == "planned":
        return "not built here yet"
    if candidate.status == "reference":
        return next((said.because for said in candidate.verdicts if said.rule == "status.reference"), "a reference")
    binding = ", ".join(dict.fromkeys(said.rule for said in candidate.verdicts if said.effect == "forbid"))
    return f"refused ({binding})" if binding else "behind the first; --top N measures more"


# -- what came of it -----------------------------------------------------------------------------------------------------


def facts(answer: Recommendation, chosen: Sequence[Net], timed: Sequence[Timed], *, spread: float, runtime: str, at: str) -> list[Fact]:
    """The times as facts for the store, the interval moved out by `spread`, how far two copies of one graph appeared apart."""
    known, mine = {net.name: net for net in chosen}, machine()
    said = join(["advisor", "recommend", "--task", answer.request.task, *flags(answer.request), "--measure"])
    command = (said if said.isprintable() else ascii(said))[:LONGEST]
    return [
        Fact(
            what="latency",
            architecture=known[item.name].card.name,
            variant=known[item.name].variant.name,
            precision=item.precision,
            shape=known[item.name].shape,
            threads=1,
            cpu=mine["cpu"],
            isa=mine["isa"],
            runtime=mine["runtime"] or runtime,
            at=at,
            command=command,
            value=item.p50_ms,
            low=item.undisturbed_ms / (1 + spread),
            high=item.p99_ms * (1 + spread),
            unit="ms",
            built=built(known[item.name].card, known[item.name].variant),
            details=_details(known[item.name], item, spread),
        )
        for item in timed
    ]


def _details(net: Net, item: Timed, spread: float) -> dict[str, Any]:
    told = net.predicted.get(item.precision)
    return {
        "calls": item.calls,
        "undisturbed_ms": item.undisturbed_ms,
        "p90_ms": item.p90_ms,
        "p99_ms": item.p99_ms,
        "spread": spread,
        "size_bytes": item.size_bytes,
        "given": dict(net.given),
        "predicted": {"low_ms": told.low_ms, "mid_ms": told.mid_ms, "high_ms": told.high_ms, "kind": told.kind} if told else None,
    }


def rows(chosen: Sequence[Net], timed: Sequence[Timed]) -> list[Row]:
    """Each file's prediction beside what was measured. What is predicted is an undisturbed call, and that is what is compared."""
    known, found = {net.name: net for net in chosen}, []
    for item in timed:
        told = known[item.name].predicted.get(item.precision)
        inside = told.low_ms <= item.undisturbed_ms <= told.high_ms if told else None
        found.append(Row(item.name, item.precision, known[item.name].shape, told, item.undisturbed_ms, item.p50_ms, item.p99_ms, inside))
    return found


@dataclass(frozen=True, slots=True)
class Report:
    """Predicted against measured, and why the others were not measured. `spread`: how far two copies of one graph appeared apart."""

    rows: Sequence[Row]
    rest: Sequence[tuple[str, str]]
    spread: float = 0.0
    noisy: bool = False

    def beside(self, answer: Recommendation, form: str = "table", *, plan: str = "") -> str:
        """The answer with this under it (as text or Markdown) or in it (as JSON, under `measured`)."""
        from advisor.answer import as_json, recommendation

        if form == "json":
            return json.dumps({**as_json(answer, plan=plan), "measured": self._plain()}, indent=2, ensure_ascii=False)
        return "\n".join([recommendation(answer, form, plan=plan), *(self._md() if form == "md" else self._text())])

    def _plain(self) -> dict[str, Any]:
        return {
            "files": [asdict(row) for row in self.rows],
            "not_measured": [{"candidate": name, "why": why} for name, why in self.rest],
            "spread": self.spread,
            "noisy": self.noisy,
        }

    def _text(self) -> list[str]:
        body = [HEAD, *map(_columns, self.rows)] if self.rows else []
        lines = ["", bold("Measured here"), *columns(body, indent=2), *paragraph(self._note(), indent=2)]
        return [*lines, *(["", bold("Not measured"), *columns(self.rest, indent=2)] if self.rest else [])]

    def _md(self) -> list[str]:
        body = md_table(HEAD, map(_columns, self.rows)) if self.rows else []
        return ["", "**Measured here**", "", *body, "", self._note(), "", *(f"- {name}: {why}" for name, why in self.rest)]

    def _note(self) -> str:
        if not self.rows:
            return "none of the candidates can be built and timed here"
        noise = f"Two copies of one graph appeared within {100 * self.spread:.1f} %" + (": noisy" if self.noisy else "")
        return f"Untrained nets on onnxruntime, batch 1, one thread, processor time, interleaved; what is predicted is an undisturbed call. {noise}."


HEAD = ("candidate", "as", "predicted", "undisturbed", "p50", "p99", "inside")


def _columns(row: Row) -> tuple[str, ...]:
    took = [milliseconds(value) for value in (row.undisturbed_ms, row.p50_ms, row.p99_ms)]
    return (row.candidate, row.precision, _told(row.predicted), *took, _verdict(row))


def _told(told: Prediction | None) -> str:
    if told is None:
        return "nothing"
    return f"{milliseconds(told.mid_ms)} ({milliseconds(told.low_ms)[:-3]} to {milliseconds(told.high_ms)[:-3]}), {told.kind}"


def _verdict(row: Row) -> str:
    if row.predicted is None:
        return "–"
    return f"{'yes' if row.inside else 'no'}, {row.undisturbed_ms / row.predicted.mid_ms:.2f}x"
