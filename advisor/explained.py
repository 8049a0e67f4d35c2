"""Everything about one term: task, architecture, device, rule, source, stage, claim, challenge, a word of the article, or the article.

A name is looked for as each of these in turn; what the source article says of it, and which challenge it answers, is told beside it.
A word that is none of them is looked for among the words by which claims and challenges are found ("layer norm", "Wide & Deep").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from advisor.catalogue import BUILT_IN, all_rules
from advisor.sections import CITED, SECTIONS, Section, about_challenge, about_claim, remedies_for, said_of, stage_json, to_see
from advisor.text import bold, definitions, paragraph
from rules.facts import STAGES, Challenge, Claim, Device, Source, TaskRow
from rules.knowledge import Knowledge
from rules.problems import Problem

SCHEMA_VERSION = 1
NEAREST = 3
SEE = "See for yourself"
ARTICLE = "article"


@dataclass(frozen=True, slots=True)
class Found:
    """What a term is: its kind and value (None for a word that only claims and challenges know), and what is said of it."""

    kind: str
    name: str
    value: Any
    claims: tuple[Claim, ...]
    challenges: tuple[Challenge, ...]


def explain(knowledge: Knowledge, term: str, form: str = "table", *, stages: Mapping[str, str] | None = None) -> str:
    """All about the term as "table" (text), "json" or "md". Raises Problem (exit 2) with the nearest terms for one that nobody knows.

    `stages` are the stages' own cards by name, where the caller has them.
    """
    found = find(knowledge, term, stages or {})
    if form == "json":
        return _json(knowledge, found, stages or {})
    title = "the source article, claim by claim" if found.kind == ARTICLE else f"{found.kind} {found.name}"
    return _render(knowledge, title, _sections(knowledge, found, stages or {}), form)


def find(known: Knowledge, term: str, stages: Mapping[str, str]) -> Found:
    """The term as it is written, then in small letters with hyphens, then without its plural."""
    plain = normal(term)
    for name in dict.fromkeys((term, plain, plain.removesuffix("s"))):
        for kind, look in _FINDERS:
            value = look(known, name)
            if value is not None:
                return _with_words(known, kind, _own_name(value, name), value, also=name)
        if name in stages or name in STAGES:
            return _with_words(known, "stage", name, name, also=name)
        if name == ARTICLE:
            return Found(ARTICLE, ARTICLE, None, tuple(known.claims.values()), ())
        word = _with_words(known, "term", name, None, also=name)
        if word.claims or word.challenges:
            return word
    raise _unknown(known, term, plain)


def normal(term: str) -> str:
    """A term as claims are found by it: `Wide & Deep` → `wide-and-deep`, `DeepLabv3+` → `deeplabv3-plus`."""
    text = re.sub(r"\+(?=\W|$)", " plus ", term.strip().lower()).replace("&", " and ")
    return re.sub(r"[^a-z0-9.]+", "-", text).strip("-")


def _with_words(known: Knowledge, kind: str, name: str, value: Any, *, also: str) -> Found:
    names = {name, also}
    claims = [claim for claim in known.claims.values() if names & {claim.id, *claim.terms, *claim.lives} and claim is not value]
    rows = [row for row in known.challenges.values() if names & {row.id, *row.terms} and row is not value]
    if isinstance(value, Challenge):
        claims = [known.claims[value.claim]] if value.claim in known.claims else []
    return Found(kind, name, value, tuple(claims), tuple(rows))


def _own_name(value: Any, name: str) -> str:
    return value.name if isinstance(value, TaskRow | Device) else name


def _task(known: Knowledge, name: str) -> TaskRow | None:
    return next((row for row in known.tasks.values() if name == row.name or name in row.aliases), None)


def _device(known: Knowledge, name: str) -> Device | None:
    from advisor.recommend import HERE, device

    return device(known, name) if name == HERE or name in known.devices else None


_FINDERS: tuple[tuple[str, Callable[[Knowledge, str], Any]], ...] = (
    ("task", _task),
    ("architecture", lambda known, name: known.cards.get(name)),
    ("device", _device),
    ("rule", lambda known, name: all_rules(known).get(name)),
    ("source", lambda known, name: known.sources.get(name)),
    ("claim", lambda known, name: known.claims.get(name)),
    ("challenge", lambda known, name: known.challenges.get(name)),
)


def terms(known: Knowledge) -> set[str]:
    """Every name that can be explained."""
    aliases = [alias for row in known.tasks.values() for alias in row.aliases]
    words = [word for claim in known.claims.values() for word in claim.terms]
    words += [word for row in known.challenges.values() for word in row.terms]
    files: Iterable[Iterable[str]] = (known.tasks, known.cards, known.devices, known.sources, known.claims, known.challenges)
    return {ARTICLE, *aliases, *words, *all_rules(known), *STAGES, *BUILT_IN, *(name for names in files for name in names)}


def _unknown(known: Knowledge, term: str, plain: str) -> Problem:
    near = get_close_matches(plain, sorted(terms(known)), n=NEAREST, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    remedy = "a task, architecture, device, rule, source, stage, claim or challenge; advisor matrix and advisor devices list many"
    return Problem(f"unknown term {term!r}{hint}", remedy=remedy)


# -- rendering -------------------------------------------------------------------------------------------------------------


def _sections(known: Knowledge, found: Found, stages: Mapping[str, str]) -> list[Section]:
    if found.kind == ARTICLE:
        parts = dict.fromkeys(claim.part for claim in found.claims)
        return [(part, [(claim.id, f"{claim.verdict}: {claim.says}") for claim in found.claims if claim.part == part]) for part in parts]
    sections = SECTIONS[found.kind](known, found.value, stages) if found.kind in SECTIONS else []
    if found.kind == "term":
        sections += [(claim.id, about_claim(claim)) for claim in found.claims]
    else:
        sections += [("What the source article says", said_of(found.claims))]
    if found.kind in ("stage", "rule"):
        sections += [("Remedy against", remedies_for(known, found.kind, found.name))]
    else:
        sections += [(f"Against {row.title}", about_challenge(row)) for row in found.challenges]
    return [*sections, (SEE, to_see(found.kind, found.value, found.claims))]


def _render(known: Knowledge, title: str, sections: Sequence[Section], form: str) -> str:
    lines = [f"## {title}" if form == "md" else bold(title)]
    for heading, rows in sections:
        if not rows:
            continue
        lines += ["", f"**{heading}**" if form == "md" else bold(heading)] if heading else []
        if form == "md":
            quoted = [(label, f"`{text}`" if heading == SEE else text) for label, text in rows]
            lines += ["", *(f"- {label}: {text}" if label else f"- {text}" for label, text in quoted)]
        else:
            lines += [f"  {text}" for _, text in rows] if heading == SEE else definitions(rows)  # a command stays on its line
    cited = _cited(known, "\n".join(text for _, rows in sections for _, text in rows))
    if not cited:
        return "\n".join(lines)
    lines += ["", "**Sources**", ""] if form == "md" else ["", bold("Sources")]
    for source in cited:
        if form == "md":
            lines.append(f"- [{source.id}]: {source.title} ({source.year}), {f'<{source.url}>' if '://' in source.url else source.url}")
        else:
            lines += [*paragraph(f"{source.title} ({source.year})", first=f"  [{source.id}] "), f"      {source.url}"]
    return "\n".join(lines)


def _cited(known: Knowledge, text: str) -> list[Source]:
    """The sources in brackets, in the order in which they are first named."""
    return [known.sources[name] for name in dict.fromkeys(CITED.findall(text)) if name in known.sources]


def _json(known: Knowledge, found: Found, stages: Mapping[str, str]) -> str:
    import json

    from advisor.answer import plain

    value = stage_json(known, found.name, stages) if found.kind == "stage" else found.name if found.value is None else plain(found.value)
    text = "\n".join(text for _, rows in _sections(known, found, stages) for _, text in rows)
    answer = {
        "schema_version": SCHEMA_VERSION,
        "kind": found.kind,
        found.kind: value,
        "claims": plain(found.claims),
        "challenges": plain(found.challenges),
        "see": [text for _, text in to_see(found.kind, found.value, found.claims)],
        "sources": [plain(source) for source in _cited(known, text)],
    }
    return json.dumps(answer, indent=2, ensure_ascii=False)
