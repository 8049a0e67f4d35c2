"""What the source article claims, each with today's verdict, and what is done about the challenges it names.

`claims.toml` and `challenges.toml`, read only when something is explained: no answer of the engine rests on them.
A claim says what the article says (in our words), whether it holds, the fact, its sources, and how to see it for oneself.
A challenge is a row of remedies, step by step, each with what runs it here or a plain "not built yet".
"""

from __future__ import annotations

from typing import get_args

from rules.facts import Challenge, Claim, Remedy, VerdictOnClaim
from rules.problems import Problem
from rules.tables import IDENTIFIER, Table, shown

VERDICTS: tuple[str, ...] = get_args(VerdictOnClaim)
NEEDS_NO_SOURCE = ("unsourced", "opinion")  # there is nothing to cite against a number without a benchmark


def claims(table: Table) -> list[Claim]:
    """claims.toml, in the article's order. Ids are unique."""
    found: dict[str, Claim] = {}
    for item in table.tables("claim"):
        claim = Claim(
            id=item.identifier("id"),
            part=item.text("part"),
            says=item.text("says"),
            verdict=item.choice("verdict", VERDICTS),
            fact=item.text("fact"),
            sources=item.texts("sources", ()),
            terms=_terms(item),
            see=item.texts("see", ()),
            lives=item.texts("lives", ()),
        )
        item.done()
        if claim.id in found:
            raise Problem(f"{table.where}: claim {claim.id!r} is there twice", remedy="ids are unique over all files")
        if not claim.sources and claim.verdict not in NEEDS_NO_SOURCE:
            raise Problem(f"{item.where}: a verdict of {claim.verdict!r} needs a source")
        found[claim.id] = claim
    table.done()
    return list(found.values())


def challenges(table: Table) -> list[Challenge]:
    """challenges.toml: one row a challenge, its remedies in the order in which they are tried."""
    found: dict[str, Challenge] = {}
    for item in table.tables("challenge"):
        row = Challenge(
            id=item.identifier("id"),
            title=item.text("title"),
            claim=item.identifier("claim"),
            terms=_terms(item),
            remedies=tuple(map(_remedy, item.tables("remedy"))),
        )
        item.done()
        if row.id in found or not row.remedies:
            raise Problem(f"{item.where}: a challenge is there once and has at least one remedy")
        found[row.id] = row
    table.done()
    return list(found.values())


def _remedy(table: Table) -> Remedy:
    found = Remedy(
        what=table.text("what"),
        status=table.choice("status", ("built", "advice", "planned")),
        how=table.text("how"),
        rules=table.texts("rules", ()),
        source=table.identifier("source"),
    )
    table.done()
    return found


def _terms(table: Table) -> tuple[str, ...]:
    terms = table.texts("terms", ())
    for term in terms:
        if not IDENTIFIER.fullmatch(term):
            raise Problem(f"{table.where}: term {shown(term)} is no name of lower-case letters, digits and '.', '_', '-'")
    return terms
