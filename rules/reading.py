"""From a strict table to a noun: one reader a file format of the knowledge. The formats are described in docs/knowledge.md."""

from __future__ import annotations

from typing import Any, get_args

from rules.bounds import CORES, RAM_BYTES, RATE
from rules.conditions import NAMESPACES, OPERATORS, REQUEST
from rules.device_file import kernels
from rules.facts import (
    STAGES,
    ArticlePick,
    Card,
    Cell,
    Condition,
    Cost,
    Device,
    Evidence,
    Kind,
    Operator,
    Published,
    Rate,
    Rule,
    Source,
    TaskRow,
    Then,
    Variant,
    When,
)
from rules.problems import Problem, unknown
from rules.tables import IDENTIFIER, Table, shown

KINDS: tuple[str, ...] = get_args(Kind)
SOURCE_KINDS = ("paper", "repository", "datasheet", "documentation", "measurement", "article")
DEVICE_KINDS = ("cpu", "gpu", "npu", "mcu")
RATES = {"fp32": "macs/s", "fp16": "macs/s", "int8": "macs/s", "memory": "bytes/s", "node": "s"}
COST_VERSION = 1


def sources(table: Table) -> list[Source]:
    """sources.toml"""
    found = [
        Source(
            id=item.identifier("id"),
            title=item.text("title"),
            url=item.text("url"),
            year=item.whole("year", low=1900, high=2100),
            kind=item.choice("kind", SOURCE_KINDS),
            note=item.text("note", ""),
        )
        for item in _finished(table.tables("source"))
    ]
    table.done()
    return found


def _finished(tables: list[Table]) -> Any:
    """Each table in turn; once its reader has taken what it knows, nothing may be left over."""
    for table in tables:
        yield table
        table.done()


def task(table: Table, name: str) -> TaskRow:
    """tasks/<name>.toml"""
    _named(table, name)
    row = TaskRow(
        name=name,
        title=table.text("title"),
        metric=table.text("metric"),
        better=table.choice("better", ("lower", "higher")),
        cells=tuple(map(_cell, table.tables("cell"))),
        article=_article(table.table("article")) if table.has("article") else None,
        rules=tuple(rules(table, origin=table.where)),
        aliases=table.texts("aliases", ()),
        defaults=_defaults(table.table("defaults")),
        status=table.choice("status", ("built", "reference")),
    )
    table.done()
    if not row.cells:
        raise Problem(f"{table.where}: a task needs at least one cell")
    taken: set[tuple[str, str]] = set()
    for cell in row.cells:
        if (cell.architecture, cell.variant) in taken:
            raise Problem(f"{table.where}: {cell.architecture!r} has two cells for variant {cell.variant!r}")
        taken.add((cell.architecture, cell.variant))
    return row


def _named(table: Table, name: str) -> None:
    found = table.identifier("name")
    if found != name:
        raise Problem(f"{table.where}: name is {shown(found)}, but the file is called {name!r}", remedy="they are the same")


def _cell(table: Table) -> Cell:
    found = Cell(
        architecture=table.identifier("architecture"),
        role=table.choice("role", ("pick", "alternative", "baseline", "reference")),
        fit=table.number("fit", low=0, high=100),
        because=table.text("because"),
        source=table.identifier("source"),
        variant=table.text("variant", ""),
        teacher=table.text("teacher", ""),
    )
    table.done()
    return found


def _article(table: Table) -> ArticlePick:
    found = ArticlePick(
        recommended=table.text("recommended"),
        alternative=table.text("alternative", "", empty=True),
        concern=table.text("concern", "", empty=True),
        verdict=table.text("verdict"),
        source=table.identifier("source"),
    )
    table.done()
    return found


def _defaults(table: Table) -> dict[str, Any]:
    for key in table.names():
        if key not in REQUEST or key in ("task", "device"):
            raise unknown(f"request fact in {table.where}:", key[:60], set(REQUEST) - {"task", "device"})
    return table.each(lambda each, key: each.value(key))


def rules(table: Table, *, origin: str) -> list[Rule]:
    """The [[rule]] tables of a file. Ids are unique within it."""
    found: dict[str, Rule] = {}
    for item in table.tables("rule"):
        rule = Rule(
            id=item.identifier("id"),
            when=_when(item.table("when")),
            then=_then(item.table("then", required=True)),
            because=item.text("because"),
            source=item.identifier("source"),
            origin=origin,
        )
        item.done()
        if rule.id in found:
            raise Problem(f"{origin}: rule {rule.id!r} is there twice", remedy="ids are unique over all files")
        found[rule.id] = rule
    return list(found.values())


def _when(table: Table) -> When:
    found = When(*(tuple(map(_condition, table.tables(part))) for part in ("all", "any", "none")))
    table.done()
    return found


def _condition(table: Table) -> Condition:
    fact = _fact(table.text("fact"), table.where)
    op = table.choice("op", OPERATORS)
    if op in ("known", "unknown"):
        table.done()
        return Condition(fact, op)
    value = table.value("value")
    table.done()
    expected = {"in": "a list of texts", "not-in": "a list of texts", "has": "a text"}.get(
        op, "a number" if op in ("<", "<=", ">", ">=") else "a flag, a number or a text"
    )
    right = {
        "a list of texts": isinstance(value, tuple),
        "a text": isinstance(value, str),
        "a number": isinstance(value, int | float) and not isinstance(value, bool),
    }.get(expected, not isinstance(value, tuple))
    if not right:
        raise Problem(f"{table.where}: value of {op!r} is {shown(value)}, expected {expected}")
    return Condition(fact, op, value)


def _fact(name: str, where: str) -> str:
    space, _, rest = name.partition(".")
    if space not in NAMESPACES or not IDENTIFIER.fullmatch(rest):
        raise unknown(f"fact in {where}:", name[:60], [f"{key}.…" for key in NAMESPACES])
    if NAMESPACES[space] and rest not in NAMESPACES[space]:
        raise unknown(f"fact in {where}:", name[:60], [f"{space}.{key}" for key in NAMESPACES[space]])
    return name


def _then(table: Table) -> Then:
    forbid = table.flag("forbid", False)
    prefer = table.number("prefer", 0.0, low=0, high=100) if table.has("prefer") else 0.0
    avoid = table.number("avoid", 0.0, low=0, high=100) if table.has("avoid") else 0.0
    found = Then(
        forbid=forbid,
        prefer=prefer - avoid,
        facts=_assertions(table.table("facts")),
        set=_settings(table.table("set")),
        stage=table.choice("stage", STAGES) if table.has("stage") else "",
        warn=table.text("warn") if table.has("warn") else "",
    )
    table.done()
    said = [name for name, holds in (("forbid", forbid), ("prefer", prefer), ("avoid", avoid), ("stage", found.stage)) if holds]
    if len(said) > 1:
        raise Problem(f"{table.where}: a rule cannot {said[0]} and {said[1]} at once", remedy="make it two rules")
    if not (said or found.facts or found.set or found.warn):
        raise Problem(f"{table.where}: the rule concludes nothing", remedy="forbid, prefer, avoid, facts, set, stage or warn")
    return found


def _assertions(table: Table) -> dict[str, Any]:
    for key in table.names():
        if not key.startswith("derived.") or not IDENTIFIER.fullmatch(key):
            raise Problem(f"{table.where}: {shown(key)} is no derived fact", remedy='quoted, and begun with "derived."')
    return table.each(lambda each, key: each.value(key))


def _settings(table: Table) -> dict[str, Any]:
    for key in table.names():
        stage, _, setting = key.partition(".")
        if stage not in STAGES or not setting.isidentifier():
            raise Problem(f"{table.where}: {shown(key)} is no setting", remedy='quoted, as in "prune.align"')
    return table.each(lambda each, key: each.value(key))


def card(table: Table, name: str) -> Card:
    """architectures/<name>.toml"""
    _named(table, name)
    status = table.choice("status", ("built", "planned", "reference"))
    found = Card(
        name=name,
        title=table.text("title"),
        family=table.text("family"),
        year=table.whole("year", low=1900, high=2100),
        status=status,
        reason=table.text("reason", "", empty=True),
        source=table.identifier("source"),
        licence_code=table.text("licence_code"),
        licence_weights=table.text("licence_weights"),
        builds=table.text("builds", "", empty=True),
        traits=_traits(table.table("traits")),
        variants=tuple(map(_variant, table.tables("variant"))),
        evidence=tuple(map(_evidence, table.tables("evidence"))),
        notes=table.texts("notes", ()),
        reduced=table.table("reduced").each(lambda each, key: each.plain(key)),
    )
    table.done()
    if status == "built" and not (found.variants and ":" in found.builds):
        raise Problem(f"{table.where}: a built architecture needs variants and builds", remedy='builds = "package.module:function"')
    if status == "planned" and found.builds:
        raise Problem(f"{table.where}: what is planned has no builder yet", remedy='with one it is status = "built"')
    if status == "reference" and (found.builds or not found.reason):
        raise Problem(f"{table.where}: a reference builds nothing and gives its reason")
    if len({variant.name for variant in found.variants}) < len(found.variants):
        raise Problem(f"{table.where}: two variants have one name")
    return found


def _traits(table: Table) -> dict[str, Any]:
    return table.each(lambda each, key: each.value(key))


def _variant(table: Table) -> Variant:
    settings, given, published = table.table("settings"), table.table("given"), table.table("published")
    found = Variant(
        name=table.text("name"),
        params=table.whole("params"),
        macs=table.whole("macs"),
        shape=table.text("shape"),
        settings=settings.each(lambda each, key: each.plain(key)),
        kind=table.choice("kind", KINDS, "published"),
        source=table.text("source", ""),
        given=given.each(lambda each, key: each.plain(key)),
        published=_published(published) if published else None,
        task=table.text("task", ""),
        weights=table.choice("weights", ("", "hub"), ""),
    )
    table.done()
    return found


def _published(table: Table) -> Published:
    found = Published(params=table.whole("params", 0), macs=table.whole("macs", 0), source=table.identifier("source"))
    table.done()
    return found


def _evidence(table: Table) -> Evidence:
    found = Evidence(
        what=table.text("what"),
        value=table.number("value"),
        unit=table.text("unit"),
        on=table.text("on"),
        source=table.identifier("source"),
        kind=table.choice("kind", KINDS, "published"),
        note=table.text("note", "", empty=True),
    )
    table.done()
    return found


def evidence(table: Table, name: str) -> dict[str, list[Evidence]]:
    """evidence/<name>.toml: figures that join the cards they name, by architecture."""
    found: dict[str, list[Evidence]] = {}
    for item in table.tables("evidence"):
        found.setdefault(item.identifier("architecture"), []).append(_evidence(item))
    table.done()
    if not found:
        raise Problem(f"{table.where}: evidence is missing", remedy="[[evidence]] with architecture, what, value, unit, on, source, kind")
    return found


def device(table: Table, name: str) -> Device:
    """devices/<name>.toml"""
    _named(table, name)
    found = Device(
        name=name,
        title=table.text("title"),
        kind=table.choice("kind", DEVICE_KINDS),
        isa=table.texts("isa"),
        cores=table.whole("cores", low=CORES[0], high=CORES[1]),
        ram_bytes=table.whole("ram_bytes", low=RAM_BYTES[0], high=RAM_BYTES[1]),
        runtimes=table.texts("runtimes"),
        precisions=table.texts("precisions"),
        source=table.identifier("source"),
        integer_format=table.choice("integer_format", ("u8s8", "u8u8", "u8s8-reduced", "s8s8"), "u8s8"),
        align=table.whole("align", 8, low=1, high=1024),
        opset=table.whole("opset", 17, low=7, high=100),
        ir_version=table.whole("ir_version", 8, low=3, high=100),
        rates=_rates(table.table("rates")),
        notes=table.texts("notes", ()),
        kernels=kernels(table.table("kernels")) if table.has("kernels") else None,
    )
    table.done()
    return found


def _rates(table: Table) -> dict[str, Rate]:
    found: dict[str, Rate] = {}
    for key in table.names():
        if key not in RATES:
            raise unknown(f"rate in {table.where}:", key[:60], RATES)
        rate = table.table(key)
        found[key] = Rate(
            value=rate.number("value", low=RATE[key][0], high=RATE[key][1]),
            unit=rate.choice("unit", (RATES[key],)),
            source=rate.identifier("source"),
            kind=rate.choice("kind", KINDS),
        )
        rate.done()
    return found


def costs(table: Table, name: str) -> tuple[Cost, ...]:
    """costs/<name>.json, generated from the exported graphs."""
    if table.whole("schema_version") != COST_VERSION:
        raise Problem(f"{table.where}: this advisor reads schema_version {COST_VERSION}")
    if table.identifier("architecture") != name:
        raise Problem(f"{table.where}: its architecture is not {name!r}, as the file is called")
    found = tuple(_cost(item, name) for item in table.tables("costs"))
    table.done()
    return found


def _cost(table: Table, architecture: str) -> Cost:
    found = Cost(
        architecture=architecture,
        variant=table.text("variant"),
        precision=table.choice("precision", ("fp32", "int8")),
        shape=table.text("shape"),
        size_bytes=table.whole("size_bytes"),
        params=table.whole("params"),
        operators=_operators(table),
    )
    table.done()
    return found


def _operator(table: Table) -> Operator:
    found = Operator(
        op=table.text("op"),
        macs=table.whole("macs"),
        weight_bytes=table.whole("weight_bytes"),
        in_bytes=table.whole("in_bytes"),
        out_bytes=table.whole("out_bytes"),
        name=table.text("name", "", empty=True),
        dtype=table.text("dtype", "", empty=True),
        **{key: table.whole(key, default) for key, default in SIZES.items()},
        blocked=table.flag("blocked", False),
    )
    table.done()
    return found


COUNTS = ("macs", "weight_bytes", "in_bytes", "out_bytes")
SIZES = {"rows": 0, "inputs": 0, "outputs": 0, "groups": 1, "window": 1, "steps": 0, "width": 0, "relaid_bytes": 0}
_KINDS = {"op": str, "name": str, "dtype": str, "blocked": bool, **dict.fromkeys((*COUNTS, *SIZES), int)}


def _operators(table: Table) -> tuple[Operator, ...]:
    """Thousands of small tables: sound ones are taken as they are, and any other goes through `_operator` for its message."""
    rows = table.rows("operators", _KINDS)
    if rows is None:
        return tuple(map(_operator, table.tables("operators")))
    if not all(row["op"].strip() for row in rows):
        raise Problem(f"{table.where}: operators: an op is empty, expected a text on one line")
    return tuple([Operator(**row) for row in rows])
