"""The last answer of `advisor recommend`, kept so that it can be argued with: its rule chain, and why another is not the pick.

One JSON file in the user's folder (`advisor.home`), the request and the answer as `--format json` prints them. What is explained is what
was said then, though the knowledge may have changed since.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from advisor.answer import as_json, cite
from advisor.asking import in_words as asked
from advisor.home import home
from advisor.text import bold, columns, md_table, paragraph
from rules.facts import Candidate, Recommendation, Verdict
from rules.problems import Problem, bad_input
from rules.ranking import name_of, pick

SCHEMA_VERSION = 1
DID = {"forbid": "refuses", "prefer": "prefers", "avoid": "avoids", "set": "sets", "assert": "derives", "stage": "adds", "warn": "warns"}
AGAIN = "advisor recommend writes it anew"


def file() -> Path:
    """Where the last answer is."""
    return home() / "last.json"


def remember(answer: Recommendation, *, plan: str = "") -> None:
    """Keep the answer. That it cannot be kept is no error: the answer itself was given.

    The file is the old or the new one, never half of one: it is written beside its place and renamed over it.
    """
    text = json.dumps({"schema_version": SCHEMA_VERSION, "answer": as_json(answer, plan=plan)}, ensure_ascii=False)
    path = file()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two that answer at once do not write into one file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except (OSError, UnicodeError):
        with suppress(OSError):
            part.unlink(missing_ok=True)


def recall() -> tuple[Recommendation, str]:
    """The last answer, and its task's title. Raises Problem: exit 2 when there is none, exit 3 for a file that is none of ours."""
    path = file()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Problem("no answer is remembered yet", remedy="ask first: advisor recommend --task ...") from None
    except (OSError, UnicodeError) as error:
        raise bad_input(f"cannot read {path}: {error}", remedy=AGAIN) from None
    try:
        found = json.loads(text)
        if found["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {found['schema_version']!r}")
        table = found["answer"]
        return _restored(Recommendation, table), str((table["task"] or {}).get("title", table["request"]["task"]))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise bad_input(f"{path} is no answer of this version: {type(error).__name__}: {error}", remedy=AGAIN) from None


def _restored(kind: Any, value: Any) -> Any:
    """Plain data as the noun it was made from. Raises KeyError, TypeError or ValueError where it does not fit."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        noun: Any = kind
        return noun(**{item.name: _restored(hints[item.name], value[item.name]) for item in fields(kind) if item.name in value})
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _either(parts, value)
    if origin is Literal:
        return _checked(value, value in parts, kind)
    if origin in (tuple, Sequence):
        return tuple([_restored(parts[0], item) for item in _checked(value, isinstance(value, list), kind)])
    if origin is Mapping:
        return {str(name): _restored(parts[1], item) for name, item in value.items()}
    if kind is float:
        return float(_checked(value, isinstance(value, int | float), kind))
    return _checked(value, kind is Any or isinstance(value, kind), kind)


def _either(parts: Sequence[Any], value: Any) -> Any:
    if value is None:
        return _checked(value, type(None) in parts, parts)
    for part in parts:
        with suppress(TypeError, ValueError, KeyError):
            return _restored(part, value)
    return _checked(value, False, parts)


def _checked(value: Any, fits: bool, kind: Any) -> Any:
    if not fits:
        raise ValueError(f"{str(value)[:60]!r} is no {getattr(kind, '__name__', kind)}")
    return value


# -- the rule chain ------------------------------------------------------------------------------------------------------


def chain(answer: Recommendation, title: str, form: str = "table") -> str:
    """Every rule that fired for the pick, what it derived or set, and for each refused candidate the rules that refuse it."""
    if form == "json":
        return json.dumps(_chain_json(answer), indent=2, ensure_ascii=False)
    return "\n".join(_chain_md(answer, title) if form == "md" else _chain_text(answer, title))


def _shown(answer: Recommendation) -> Candidate | None:
    """The pick, or the best reference where nothing can be built."""
    return pick(answer.kept) or next(iter(answer.kept), None)


def _chain_json(answer: Recommendation) -> dict[str, Any]:
    from advisor.answer import plain

    best = _shown(answer)
    refused = [{"candidate": _name(found), "rules": [plain(said) for said in _forbids(found)]} for found in answer.refused]
    return {
        "schema_version": SCHEMA_VERSION,
        "request": plain(answer.request),
        "pick": _name(best) if best and best.status != "reference" else None,
        "fit": _fit(best) if best else None,
        "score": best.score if best else None,
        "rules": [plain(said) for said in best.verdicts] if best else [],
        "kept": [{"candidate": _name(found), "score": found.score} for found in answer.kept],
        "refused": refused,
    }


def _name(candidate: Candidate) -> str:
    return name_of(candidate.architecture, candidate.variant)


def _fit(candidate: Candidate) -> float:
    """The score of the cell before any rule spoke."""
    return candidate.score - sum(said.weight for said in candidate.verdicts)


def _forbids(candidate: Candidate) -> list[Verdict]:
    return [said for said in candidate.verdicts if said.effect == "forbid"]


def _effect(said: Verdict) -> str:
    """What a rule did: `prefers +8`, `sets prune.align is 16`, `derives derived.weights is int8`."""
    weight = f" {said.weight:+g}" if said.weight else ""
    return f"{DID.get(said.effect, said.effect)}{weight} {', '.join(said.follows)}".rstrip()


def _chain_text(answer: Recommendation, title: str) -> list[str]:
    best = _shown(answer)
    lines = [bold(f"{title} on {answer.device.title}"), *paragraph(asked(answer.request)), ""]
    if best is None:
        lines += [bold("Nothing fits."), *paragraph(f"nearest miss {answer.nearest_miss}: {answer.binding}", indent=2)]
    else:
        arrow = "→ " if best.status != "reference" else "as a reference: "
        lines += [bold(f"{arrow}{_name(best)}, score {best.score:g}")]
        lines += paragraph(f"fit {_fit(best):g}: {cite(best.because, best.source)}", indent=2)
        for said in best.verdicts:
            lines += ["", f"  {said.rule} {_effect(said)}", *paragraph(cite(said.because, said.source), indent=6)]
            lines += paragraph(f"as {'; '.join(said.facts)}", indent=6) if said.facts else []
    lines += _behind(answer, best)
    rows = [
        (_name(found) if number == 0 else "", _refusal(said)) for found in answer.refused for number, said in enumerate(_forbids(found))
    ]
    return [*lines, *(["", bold("Refused"), *columns(rows, indent=2)] if rows else []), *_cited(answer, "\n".join(lines))]


def _behind(answer: Recommendation, best: Candidate | None) -> list[str]:
    rows = [(f"{found.score:g}", _name(found), found.status) for found in answer.kept if found is not best]
    hint = "  advisor explain --why-not NAME says what speaks for and against one"
    return ["", bold("Behind it"), *columns(rows, indent=2, right=(0,)), hint] if rows else []


def _refusal(said: Verdict) -> str:
    matched = f", as {'; '.join(said.facts)}" if said.facts else ""
    return cite(f"{said.rule}: {said.because}{matched}", said.source)


def _cited(answer: Recommendation, text: str) -> list[str]:
    used = [source for source in answer.sources if f"[{source.id}]" in text]
    rows = [(f"[{source.id}]", f"{source.title} ({source.year}), {source.url}") for source in used]
    return ["", bold("Sources"), *columns(rows, indent=2)] if rows else []


def _chain_md(answer: Recommendation, title: str) -> list[str]:
    best = _shown(answer)
    lines = [f"### {title} on {answer.device.title}", "", asked(answer.request), ""]
    if best:
        lines += [f"**{_name(best)}**, score {best.score:g}, fit {_fit(best):g}: {cite(best.because, best.source)}", ""]
        rows = [[said.rule, _effect(said), "; ".join(said.facts), cite(said.because, said.source)] for said in best.verdicts]
        lines += [*md_table(["rule", "does", "as", "because"], rows), ""]
    refused = [[_name(found), _refusal(said)] for found in answer.refused for said in _forbids(found)]
    return [*lines, *(md_table(["refused", "by"], refused) if refused else [])]
