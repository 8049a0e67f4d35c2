"""The evidence store as people see it: a list, and a folder of knowledge that another machine or a colleague can read.

What is exported is `evidence/measured.toml` and the sources it cites, in the format of a user's own folder (docs/knowledge.md), so that
`--knowledge FOLDER` shows the figures on their cards. They are evidence there: only on the machine itself do they replace predictions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from advisor.evidence_store import Fact, file, read
from advisor.measured import machine
from advisor.recommend import literal
from advisor.text import columns, milliseconds
from rules.facts import Value
from rules.knowledge import HERE, Knowledge
from rules.problems import Problem, unknown
from rules.ranking import name_of

SCHEMA_VERSION = 1
EXPORTED = "evidence/measured.toml"


def listed(facts: Sequence[Fact], form: str = "table") -> str:
    """The facts as a table or JSON; `here` marks those of this processor with this runtime."""
    here = {fact.id for fact in facts if _here(fact)}
    if form == "json":
        rows = [{**asdict(fact), "here": fact.id in here} for fact in facts]
        return json.dumps({"schema_version": SCHEMA_VERSION, "store": str(file()), "facts": rows}, indent=2, ensure_ascii=False)
    if not facts:
        return "nothing was measured yet: advisor recommend --task ... --measure"
    head = ("id", "what", "candidate", "as", "at", "median (interval)", "when", "on")
    return "\n".join(columns([head, *(_row(fact, here) for fact in facts)], right=(0,)))


def _row(fact: Fact, here: Collection[int]) -> tuple[str, ...]:
    where = "this machine" if fact.id in here else f"{fact.cpu}, onnxruntime {fact.runtime}"
    return (str(fact.id), fact.what, _name(fact), fact.precision, fact.shape, _figure(fact), fact.at[:10], where)


def _here(fact: Fact) -> bool:
    return {"cpu": fact.cpu, "isa": fact.isa, "runtime": fact.runtime} == machine()


def _name(fact: Fact) -> str:
    return name_of(fact.architecture, fact.variant)


def _figure(fact: Fact) -> str:
    if fact.unit != "ms":
        return f"{fact.value:.4g} {fact.unit} ({fact.low:.4g} to {fact.high:.4g})"
    return f"{milliseconds(fact.value)} ({milliseconds(fact.low)[:-3]} to {milliseconds(fact.high)[:-3]})"


def matching(ids: Sequence[int], architecture: str | None) -> list[Fact]:
    """The facts with these ids, or of this architecture, or both; all where neither is said. Raises Problem (exit 2) where one is not there."""
    facts = read()
    strange = sorted(set(ids) - {fact.id for fact in facts})
    if strange:
        raise Problem(f"the evidence store has no fact {strange[0]}", remedy="advisor evidence list shows them")
    if architecture is not None and architecture not in {fact.architecture for fact in facts}:
        raise unknown("architecture in the evidence store", architecture, {fact.architecture for fact in facts})
    return [fact for fact in facts if (not ids or fact.id in ids) and architecture in (None, fact.architecture)]


# -- exported ------------------------------------------------------------------------------------------------------------


def exported(facts: Sequence[Fact], folder: Path) -> tuple[dict[str, str], list[str]]:
    """The files to write into a folder of knowledge, by name, and the architectures that nobody who reads it would know.

    The newest of each fact is taken. Raises Problem (exit 2) where the folder's own sources are broken, or there is nothing to export.
    """
    known = Knowledge([HERE, folder])
    taken = [fact for fact in newest(facts) if fact.architecture in known.cards]
    if not taken:
        raise Problem("there is nothing to export", remedy="advisor recommend --task ... --measure")
    missing = sources_toml(taken, present=known.sources)
    sources = folder / "sources.toml"
    before = sources.read_text(encoding="utf-8") if sources.exists() else ""
    files = {EXPORTED: evidence_toml(taken), **({"sources.toml": before + missing} if missing else {})}
    return files, sorted({fact.architecture for fact in facts} - {fact.architecture for fact in taken})


def newest(facts: Sequence[Fact]) -> list[Fact]:
    """The last fact of each thing that was measured."""
    return list({(f.what, f.architecture, f.variant, f.precision, f.shape, f.threads, f.cpu, f.isa, f.runtime): f for f in facts}.values())


def evidence_toml(facts: Sequence[Fact]) -> str:
    """The facts as a file of evidence."""
    return "# Written by advisor evidence export.\n" + "".join(map(_evidence, facts))


def _evidence(fact: Fact) -> str:
    calls = fact.details.get("calls")
    return _table(
        "evidence",
        architecture=fact.architecture,
        what=fact.what,
        value=_rounded(fact.value),
        unit=fact.unit,
        on=(
            f"variant {fact.variant}, {fact.precision}, {fact.shape}, {fact.threads} thread{'s' if fact.threads > 1 else ''}, "
            f"{fact.cpu} ({fact.isa}), onnxruntime {fact.runtime}"
        ),
        source=source_id(fact),
        kind="measured",
        note=f"{fact.low:.4g} to {fact.high:.4g} {fact.unit}"
        + (f", {calls} calls" if isinstance(calls, int) else "")
        + f", {fact.at[:10]}",
    )


def sources_toml(facts: Sequence[Fact], present: Collection[str]) -> str:
    """The sources that the facts cite, without those that are there."""
    cited = {source_id(fact): fact for fact in facts}
    return "".join(_source(name, fact) for name, fact in cited.items() if name not in present)


def source_id(fact: Fact) -> str:
    """`measured-amd-epyc-onnxruntime-1.32.0`"""
    return "measured-" + re.sub(r"[^a-z0-9.]+", "-", f"{fact.cpu} onnxruntime {fact.runtime}".lower()).strip("-")


def _source(name: str, fact: Fact) -> str:
    return _table(
        "source",
        id=name,
        title=f"Measured by the advisor on {fact.cpu} with onnxruntime {fact.runtime}",
        url="docs/evidence.md",
        year=int(fact.at[:4]),
        kind="measurement",
        note="Untrained graphs as the pipeline makes them, interleaved, processor time of the calling thread.",
    )


def _table(name: str, **values: Value) -> str:
    return f"\n[[{name}]]\n" + "".join(f"{key} = {literal(value)}\n" for key, value in values.items())


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
