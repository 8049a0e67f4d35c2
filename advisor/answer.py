"""A recommendation as people read it (text, Markdown) and as programs do (JSON): the pick, why, why not the others, what next.

Every number says whether it is measured, published or an estimate; every reason names its rule and, in brackets, its source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from advisor.asking import flags
from advisor.asking import in_words as asked
from advisor.flips import in_words
from advisor.text import bold, columns, md_table, megabytes, milliseconds, paragraph
from rules.facts import Candidate, Evidence, PlannedStage, Recommendation, Verdict
from rules.ranking import baseline, name_of, pick
from rules.whatif import why_not as reasons_against

if TYPE_CHECKING:
    from rules.knowledge import Knowledge

SCHEMA_VERSION = 1
SHOWN_EVIDENCE = 3
SHOWN_FLIPS = 10


def recommendation(answer: Recommendation, form: str = "table", *, plan: str = "") -> str:
    """The answer as "table" (text), "json" or "md". `plan` is the plan file that was written, for the next command."""
    if form == "json":
        import json

        return json.dumps(as_json(answer, plan=plan), indent=2, ensure_ascii=False)
    return "\n".join(_markdown(answer, plan) if form == "md" else _text(answer, plan))


def why_not(answer: Recommendation, name: str, form: str = "table") -> str:
    """Why a candidate is not the pick. Raises Problem (exit 2) for a name the task does not have."""
    reasons = reasons_against(answer, name)
    if form == "json":
        import json

        return json.dumps({"schema_version": SCHEMA_VERSION, "candidate": name, "reasons": list(reasons)}, indent=2, ensure_ascii=False)
    return "\n".join(line for reason in reasons for line in (paragraph(reason, first="- ") if form != "md" else [f"- {reason}"]))


def matrix(knowledge: Knowledge, form: str = "table") -> str:
    """The task-fit matrix (imported only when it is asked for, as the two below)."""
    from advisor.matrix import matrix as render

    return render(knowledge, form)


def devices(knowledge: Knowledge, form: str = "table") -> str:
    """The known devices."""
    from advisor.catalogue import devices as render

    return render(knowledge, form)


def explain(knowledge: Knowledge, term: str, form: str = "table", *, stages: Mapping[str, str] | None = None) -> str:
    """Everything about one term; `stages` are the stages' own cards by name. Raises Problem (exit 2) with the nearest term."""
    from advisor.explained import explain as render

    return render(knowledge, term, form, stages=stages)


def as_json(answer: Recommendation, *, plan: str = "") -> dict[str, Any]:
    """The whole answer as plain data, `schema_version` first. Flips carry their sentence.

    `pick` is null when nothing can be built, `baseline` when none outranks the pick.
    """
    best, before = pick(answer.kept), baseline(answer.kept)
    row = answer.row
    return {
        "schema_version": SCHEMA_VERSION,
        "task": {"name": row.name, "title": row.title, "metric": row.metric, "better": row.better, "status": row.status} if row else None,
        "baseline": _name(before) if before else None,
        "pick": _name(best) if best else None,
        **{item.name: plain(getattr(answer, item.name)) for item in fields(answer) if item.name not in ("row", "flips")},
        "flips": [{**plain(flip), "says": in_words(flip)} for flip in answer.flips],
        "next": next_commands(answer, plan),
    }


def plain(value: Any) -> Any:
    """A noun as dictionaries, lists and numbers."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def next_commands(answer: Recommendation, plan: str = "") -> list[str]:
    """What to type next: write the plan if it is not written, then run it. Empty without a pick, or for a task that cannot be run."""
    best = pick(answer.kept)
    if best is None or best.status != "built" or not answer.row or answer.row.status != "built":
        return []
    from shlex import join

    task = answer.row.name
    write = [] if plan else [join(["advisor", "recommend", "--task", task, *flags(answer.request), "-o", "plan.toml"])]
    return [*write, join(["advisor", "run", "--task", task, "--plan", plan or "plan.toml"])]


# -- text --------------------------------------------------------------------------------------------------------------


def _text(answer: Recommendation, plan: str) -> list[str]:
    best = pick(answer.kept)
    lines = [bold(f"{_title(answer)} on {answer.device.title}"), *paragraph(asked(answer.request)), ""]
    lines += _before(answer)
    lines += _pick(best) if best else _nothing(answer)
    behind = [candidate for candidate in answer.kept if candidate is not (best or answer.kept[0])]
    lines += _group("Runners-up", [candidate for candidate in behind if candidate.status != "reference"])
    lines += _group("Fit too, but only as references: nothing here builds them", [found for found in behind if found.status == "reference"])
    lines += _refused(answer.refused)
    lines += _plan(best) if best else []
    lines += _flips(answer)
    lines += _heading("The source article", _article(answer)) if answer.article else []
    lines += _heading("Next", [f"  {command}" for command in next_commands(answer, plan)] or _no_command(answer))
    lines += _heading("Rules that could not be used", [line for error in answer.errors for line in paragraph(error, first="  - ")])
    return [*lines, *_sources(answer, "\n".join(lines))]


def _title(answer: Recommendation) -> str:
    return answer.row.title if answer.row else answer.request.task


def _heading(title: str, lines: Sequence[str]) -> list[str]:
    return ["", bold(title), *lines] if lines else []


def _before(answer: Recommendation) -> list[str]:
    """The baseline that outranks every net built here, said before them."""
    found = baseline(answer.kept)
    if found is None:
        return []
    said = cite(found.because, found.source)
    return [bold(f"First, before any net: {_name(found)}, score {found.score:g}") + f"  {found.title}", *paragraph(said, indent=2), ""]


def _pick(best: Candidate) -> list[str]:
    rows = [("because", cite(best.because, best.source))]
    rows += [(f"{said.weight:+g}", ruled(said)) for said in best.verdicts if said.effect in ("prefer", "avoid")]
    rows += [("latency", _latency(best)), ("size", _size(best))]
    rows += [("evidence" if number == 0 else "", evidence(item)) for number, item in enumerate(best.evidence[:SHOWN_EVIDENCE])]
    rows += [("heed", ruled(said)) for said in best.verdicts if said.effect == "warn"]
    arrow = "→ " if best.status != "reference" else ""
    return [bold(f"{arrow}{_name(best)}, score {best.score:g}") + f"  {best.title}", *columns(rows, indent=2)]


def _name(candidate: Candidate) -> str:
    return name_of(candidate.architecture, candidate.variant)


def cite(text: str, source: str) -> str:
    """A sentence with its source in brackets; the engine's own have none."""
    return f"{text} [{source}]" if source else text


def ruled(said: Verdict) -> str:
    """A verdict with its rule and its source."""
    return cite(f"{said.because} ({said.rule})", said.source)


def evidence(item: Evidence) -> str:
    """One number with its conditions, its kind and its source."""
    unit = f" {item.unit}" if item.unit not in ("", "ratio") else ""
    note = f"; {item.note}" if item.note else ""
    return cite(f"{item.what} {item.value:g}{unit} {item.kind}: {item.on}{note}", item.source)


def _latency(candidate: Candidate) -> str:
    found = candidate.prediction
    if found is None:
        return "not predicted: nothing was counted, or the device has no rate"
    cited = "".join(f" [{source}]" for source in found.sources)
    kind = "an estimate" if found.kind == "estimate" else found.kind
    return f"{_interval(candidate)}, {kind}: {found.basis}{cited}"


def _interval(candidate: Candidate) -> str:
    found = candidate.prediction
    if found is None:
        return "latency unknown"
    return f"{milliseconds(found.mid_ms)} ({milliseconds(found.low_ms)[:-3]} to {milliseconds(found.high_ms)[:-3]})"


def _size(candidate: Candidate) -> str:
    if candidate.size_bytes is None:
        return "unknown"
    how = (
        "measured on the exported graph before training and pruning"
        if candidate.size_kind == "measured"
        else "an estimate from its parameters"
    )
    return f"{megabytes(candidate.size_bytes)}, {how}; {candidate.params or 0:,} parameters"


def _nothing(answer: Recommendation) -> list[str]:
    """Without a pick: the best reference where one fits, and the nearest miss with what binds it."""
    lines = [bold("Nothing fits that can be built here." if answer.kept else "Nothing fits.")]
    if answer.nearest_miss:
        lines += columns([("nearest miss", answer.nearest_miss), ("bound by", answer.binding)], indent=2)
    elif not answer.kept:
        lines += paragraph(answer.binding, indent=2)
    return [*lines, "", "The best fit on paper:", *_pick(answer.kept[0])] if answer.kept else lines


def _group(title: str, candidates: Sequence[Candidate]) -> list[str]:
    rows = [(f"{found.score:g}", _name(found), _interval(found), _short_size(found)) for found in candidates]
    lines: list[str] = []
    for candidate, line in zip(candidates, columns(rows, indent=2, right=(0,)), strict=True):
        missing = "".join(f"{said.because} ({said.rule}). " for said in candidate.verdicts if said.rule.startswith("budget."))
        lines += [line, *paragraph(missing + cite(candidate.because, candidate.source), indent=6)]
    return _heading(title, lines)


def _short_size(candidate: Candidate) -> str:
    return "size unknown" if candidate.size_bytes is None else megabytes(candidate.size_bytes)


def _refused(candidates: Sequence[Candidate]) -> list[str]:
    rows = []
    for candidate in candidates:
        binding = [said for said in candidate.verdicts if said.effect == "forbid"]
        rows += [(_name(candidate) if number == 0 else "", ruled(said)) for number, said in enumerate(binding)]
    return _heading("Refused", columns(rows, indent=2))


def _plan(best: Candidate) -> list[str]:
    order = " → ".join(stage.name for stage in best.stages)
    teacher = f"; {name_of(best.architecture, best.teacher)} teaches" if any(stage.name == "distil" for stage in best.stages) else ""
    rows = [(stage.name, f"{settings(stage)}{reason(best, stage)}") for stage in best.stages]
    rows += [("note", ruled(said)) for said in best.verdicts if said.effect == "assert"]
    return _heading("Compression plan", [*paragraph(order + teacher, indent=2), *columns(rows, indent=2)])


def reason(best: Candidate, stage: PlannedStage) -> str:
    """Why a stage is in the plan, with the rules that asked for it and their sources."""
    sources = {said.rule: said.source for said in best.verdicts if said.effect == "stage"}
    cited = dict.fromkeys(sources.get(rule, "") for rule in stage.rule.split(", "))
    return f"{stage.because} ({stage.rule})" + "".join(f" [{source}]" for source in cited if source)


def settings(stage: PlannedStage) -> str:
    """The settings that rules set, "align 16, latency_ratio 0.5: ", or nothing."""
    return ", ".join(f"{key} {str(value).lower()}" for key, value in sorted(stage.settings.items())) + (": " if stage.settings else "")


def _flips(answer: Recommendation) -> list[str]:
    lines = [line for flip in answer.flips[:SHOWN_FLIPS] for line in paragraph(in_words(flip), first="  - ")]
    return _heading("What would change the answer", lines or ["  no single change of the request would"])


def _article(answer: Recommendation) -> list[str]:
    article = answer.article
    assert article is not None
    instead = f", or else {article.alternative}" if article.alternative else ""
    return paragraph(f"names {article.recommended}{instead}. {cite(article.verdict, article.source)}", indent=2)


def _no_command(answer: Recommendation) -> list[str]:
    if not pick(answer.kept):
        near = answer.nearest_miss.partition("/")[0] or (answer.kept[0].architecture if answer.kept else answer.request.task)
        return [f"  advisor explain {near}"]
    return ["  nothing to run yet: the pick is advice, its module is not built here"]


def _sources(answer: Recommendation, text: str) -> list[str]:
    used = [source for source in answer.sources if f"[{source.id}]" in text]
    lines = [
        line
        for source in used
        for line in (*paragraph(f"{source.title} ({source.year})", first=f"  [{source.id}] "), f"      {source.url}")
    ]
    return _heading("Sources", lines)


# -- Markdown ------------------------------------------------------------------------------------------------------------


def _markdown(answer: Recommendation, plan: str) -> list[str]:
    best = pick(answer.kept)
    lines = [f"### {_title(answer)} on {answer.device.title}", "", asked(answer.request), ""]
    before = baseline(answer.kept)
    lines += [f"First, before any net: **{_name(before)}** ({before.title}): {cite(before.because, before.source)}", ""] if before else []
    lines += [f"**{_name(best)}** ({best.title}), score {best.score:g}: {cite(best.because, best.source)}", ""] if best else []
    lines += [] if best else [f"**Nothing fits.** Nearest miss: {answer.nearest_miss or 'none'}; {answer.binding}", ""]
    rows = [[_name(found), f"{found.score:g}", _interval(found), _short_size(found), _standing(found, best)] for found in answer.kept]
    for found in answer.refused:
        because = "; ".join(ruled(said) for said in found.verdicts if said.effect == "forbid")
        rows.append([_name(found), "–", _interval(found), _short_size(found), f"refused: {because}"])
    lines += [*md_table(["candidate", "score", "latency (estimate, interval)", "size", "why"], rows), ""]
    if best:
        stages = [[stage.name, settings(stage).rstrip(": "), reason(best, stage)] for stage in best.stages]
        lines += ["**Compression plan**", "", *md_table(["stage", "settings", "because"], stages), ""]
        lines += [f"- heed: {ruled(said)}" for said in best.verdicts if said.effect == "warn"]
    lines += ["", "**What would change the answer**", "", *[f"- {in_words(flip)}" for flip in answer.flips[:SHOWN_FLIPS]], ""]
    lines += ["```sh", *next_commands(answer, plan), "```", ""] if next_commands(answer, plan) else []
    text = "\n".join(lines)
    return [
        *lines,
        *(f"- [{source.id}]: {source.title} ({source.year}), <{source.url}>" for source in answer.sources if f"[{source.id}]" in text),
    ]


def _standing(candidate: Candidate, best: Candidate | None) -> str:
    said = cite(candidate.because, candidate.source)
    if candidate is best:
        return f"the pick: {said}"
    return {"reference": f"reference only: {said}", "planned": f"not built here yet: {said}"}.get(candidate.status, said)
