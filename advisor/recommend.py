"""A request becomes a recommendation: the task's contest on the device, held under the request's facts. Torch-free.

The contest is prepared once for a task and a device and kept with the knowledge; a request then costs well under a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from advisor.asking import as_asked, check
from advisor.home import STORE, home
from rules.computed import with_computed
from rules.facts import Candidate, Device, Facts, Recommendation, Request, Source, TaskRow, Value
from rules.knowledge import Knowledge
from rules.problems import Exit, Problem
from rules.ranking import Contest, contest, hold, name_of, nearest_miss, pick
from rules.whatif import Flips, flips

HERE = "this-machine"
SCHEMA_VERSION = 1
FORMAT = "quantize"  # the stage whose loss a plan allows


def recommend(request: Request, knowledge: Knowledge) -> Recommendation:
    """Judge every candidate of the task. "Nothing fits" is an answer.

    Raises Problem (exit 2) for an unknown task or device, and for a request that contradicts itself.

    `flips` is worked out when first looked at.
    """
    row = knowledge.task(request.task)
    target = device(knowledge, request.device)
    check(request, target)
    prepared = contest_for(row, target, knowledge, request)
    facts = facts_of(request, row)
    outcome = hold(prepared, facts)
    best = pick(outcome.kept)
    miss, binding = nearest_miss(outcome)
    everyone = (*outcome.kept, *outcome.refused)
    return Recommendation(
        request=request,
        device=target,
        kept=outcome.kept,
        refused=outcome.refused,
        flips=Flips(partial(flips, prepared, facts)),
        nearest_miss=miss,
        binding=binding,
        warnings=(*_stale(target), *_warnings(best)),
        errors=tuple(
            sorted(
                {f"rule {said.rule} is skipped: {said.because}" for found in everyone for said in found.verdicts if said.effect == "error"}
            )
        ),
        article=row.article,
        sources=tuple(_sources(row, target, everyone, knowledge)),
        row=row,
    )


def device(knowledge: Knowledge, name: str) -> Device:
    """A device by name; "this-machine" is detected or calibrated unless a file describes it. Raises Problem (exit 2) with the nearest name."""
    if name == HERE and name not in knowledge.devices:
        from advisor.this_machine import here

        return here()
    return knowledge.device(name)


def contest_for(row: TaskRow, target: Device, knowledge: Knowledge, request: Request | None = None) -> Contest:
    """The prepared contest of a task on a device, kept with the knowledge; on as much of the device as the request uses."""
    asked = request or Request(row.name)
    key = ("contest", row.name, target.name, asked.runtime, asked.precision)
    state = _measured(target, knowledge)
    known: tuple[Device, tuple[int, ...], Contest] | None = knowledge.prepared.get(key)
    if known is None or known[0] is not target or known[1] != state:
        rules, measured = knowledge.rules_for(row), None
        if state:
            from advisor.measured import predictions

            measured = predictions(row, knowledge.cards)
        held = contest(row, as_asked(target, asked), cards=knowledge.cards, costs=knowledge.costs, rules=rules, measured=measured)
        known = target, state, held
        knowledge.prepared[key] = known
    return known[2]


def _measured(target: Device, knowledge: Knowledge) -> tuple[int, ...]:
    """Which state the evidence store of this machine is in; empty where there is none, or the target is not this machine."""
    if target.name != HERE or HERE in knowledge.devices or not (home() / STORE).exists():
        return ()
    from advisor.evidence_store import stamp

    return stamp()


def facts_of(request: Request, row: TaskRow) -> Facts:
    """The request as facts, the task's defaults where the user is silent (a switch that is off counts as silence)."""
    stated: dict[str, Value | None] = {
        "task": row.name,
        "device": request.device,
        "latency_ms": request.latency_ms,
        "size_bytes": request.size_bytes,
        "ram_bytes": request.ram_bytes,
        "streaming": request.streaming,
        "examples": _examples(request),
        "charset_size": len(set(request.charset)) if request.charset else None,
        "pretrained": request.pretrained,
        "explain": request.explain,
        "licence": request.licence,
        "percentile": request.percentile,
        "flash_bytes": request.flash_bytes,
        "energy": request.energy,
        "per_class": request.per_class,
        "classes": request.classes,
        "length": request.length,
        "resolution": request.resolution,
        "generate": request.generate,
        "runtime": request.runtime,
        "precision": request.precision,
        "per_pixel": True if "iou" in row.metric.lower() else None,  # that metric compares the classes of pixels
    }
    for name, value in row.defaults.items():
        if stated[name] is None or stated[name] is False:
            stated[name] = value
    return with_computed({f"request.{name}": value for name, value in stated.items()})


def _examples(request: Request) -> int | None:
    """As many as are stated, or as follow from so many of each class."""
    if request.examples is None and request.per_class is not None and request.classes is not None:
        return request.per_class * request.classes
    return request.examples


def _stale(target: Device) -> tuple[str, ...]:
    """Why this machine's calibration is not used, where it is not."""
    if target.name != HERE:
        return ()
    from advisor.this_machine import stale

    return (stale(),) if stale() else ()


def _warnings(best: Candidate | None) -> tuple[str, ...]:
    return tuple([said.because for said in best.verdicts if said.effect == "warn"]) if best else ()


def _sources(row: TaskRow, target: Device, everyone: Iterable[Candidate], knowledge: Knowledge) -> list[Source]:
    """Every citation the answer leans on, by id."""
    cited = {target.source} | ({row.article.source} if row.article else set())
    for found in everyone:
        cited.add(found.source)
        cited.update([said.source for said in found.verdicts])
        cited.update(found.prediction.sources if found.prediction else ())
        cited.update([item.source for item in found.evidence])
    return [_source(name, knowledge) for name in sorted(cited) if name]


def _source(name: str, knowledge: Knowledge) -> Source:
    if name == HERE:
        from advisor.this_machine import SOURCE

        return SOURCE
    if name == "measured-here":
        from advisor.measured import SOURCE as MEASURED

        return MEASURED
    return knowledge.sources[name]


def plan_toml(recommendation: Recommendation) -> str:
    """The pick's compression plan as the text of a plan file. Raises Problem (exit 1) when there is no pick."""
    best = pick(recommendation.kept)
    if best is None:
        near = f"nearest miss: {recommendation.nearest_miss}" if recommendation.nearest_miss else None
        raise Problem(f"nothing fits, so there is no plan: {recommendation.binding}", remedy=near, code=Exit.FAILED)
    if best.status != "built":
        raise Problem(f"the pick {best.architecture} is not built here yet, so its plan could not be run", code=Exit.FAILED)
    header: dict[str, Value] = {
        "schema_version": SCHEMA_VERSION,
        "task": recommendation.row.name if recommendation.row else recommendation.request.task,
    }
    header |= {"architecture": best.architecture, "variant": best.variant, "teacher": best.teacher}
    header |= {"weights": best.weights if recommendation.request.pretrained else "", "device": recommendation.request.device}
    allowed = next((stage.settings["max_drop"] for stage in best.stages if "max_drop" in stage.settings and stage.name == FORMAT), None)
    header |= {} if allowed is None else {"max_drop": allowed}  # what the format may cost is what the whole plan may
    title = recommendation.row.title if recommendation.row else recommendation.request.task
    lines = [
        f"# {title} on {recommendation.device.title}: {name_of(best.architecture, best.variant)}.",
        "# Written by advisor recommend; edit freely.",
    ]
    lines += [f"{key} = {literal(value)}" for key, value in header.items() if value != ""]
    for stage in best.stages:
        settings = {key: value for key, value in stage.settings.items() if (stage.name, key) != (FORMAT, "max_drop")}
        table = {"name": stage.name, "because": stage.because, **settings}
        lines += ["", "[[stage]]", *(f"{key} = {literal(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def literal(value: Value) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'
    return repr(value)
