"""A JSON Schema for every kind of file of the knowledge, for editors that complete and check while one types.

    advisor lint --schemas DIR        writes them; the first line `#:schema DIR/device.schema.json` of a file asks Taplo for one

A schema says what the reader of that file accepts, and a test holds the two together. What a schema cannot say is left to the reader
and to lint: that a file is called like its name, that a source exists, that ids are given once. A schema takes 4.0 for a whole
number, which the reader does not. Source: JSON Schema, draft 2020-12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from rules.bounds import CORES, RAM_BYTES, RATE
from rules.claims import NEEDS_NO_SOURCE, VERDICTS
from rules.conditions import NAMESPACES, OPERATORS, REQUEST
from rules.device_file import HIGHEST_PRICE, MOST_FITS, MOST_PRICES, WIDEST
from rules.facts import STAGES
from rules.reading import COST_VERSION, COUNTS, DEVICE_KINDS, KINDS, RATES, SIZES, SOURCE_KINDS
from rules.tables import IDENTIFIER, LARGEST_NUMBER

Schema = dict[str, Any]
UNPRINTABLE = r"\u0000-\u001f\u007f-\u00a0\u00ad\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ue000-\uf8ff\ufeff"
END = r"$(?!\n)"  # the very end, in Python's dialect too
NAME = IDENTIFIER.pattern


def schemas() -> dict[str, Schema]:
    """Every schema by the kind of its file."""
    return {
        "task": _file("A row of the task-fit matrix: tasks/<task>.toml", _task()),
        "architecture": _file("An architecture card: architectures/<name>.toml", _card()),
        "device": _file("What a target can do: devices/<device>.toml", _device()),
        "sources": _file("Every citation, by id: sources.toml", _table({}, source=_list(_source()))),
        "rules": _file("Rules that hold for every task: remedies.toml, rules.toml", _table({}, rule=_list(_rule()))),
        "evidence": _file(
            "Figures for cards there are: evidence/<name>.toml",
            _table({"evidence": {**_list(_evidence(architecture=_name())), "minItems": 1}}),
        ),
        "claims": _file("What the source article claims, with today's verdicts: claims.toml", _table({}, claim=_list(_claim()))),
        "challenges": _file("What is done about the challenges it names: challenges.toml", _table({}, challenge=_list(_challenge()))),
        "costs": _file("The operators of exported graphs: costs/<architecture>.json, generated", _costs()),
    }


def _file(title: str, schema: Schema) -> Schema:
    definitions = {"plain": _plain()} if "#/$defs/plain" in repr(schema) else {}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema} | (
        {"$defs": definitions} if definitions else {}
    )


# -- what a value can be ----------------------------------------------------------------------------------------------------------


def _table(required: Mapping[str, Schema], /, **optional: Schema) -> Schema:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required), "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _text() -> Schema:
    """A text on one line that says something."""
    return {"type": "string", "pattern": rf"^(?=.*\S)[^{UNPRINTABLE}]*{END}"}


def _line() -> Schema:
    """A text on one line, perhaps empty."""
    return {"type": "string", "pattern": f"^[^{UNPRINTABLE}]*{END}"}


def _texts() -> Schema:
    return _list({"type": "string"})


def _name() -> Schema:
    return {"type": "string", "pattern": f"^{NAME}{END}"}


def _choice(allowed: Sequence[str]) -> Schema:
    return {"type": "string", "enum": list(allowed)}


def _number(low: float = -LARGEST_NUMBER, high: float = LARGEST_NUMBER) -> Schema:
    return {"type": "number", "minimum": low, "maximum": high}


def _whole(low: int = 0, high: int = LARGEST_NUMBER) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _flag() -> Schema:
    return {"type": "boolean"}


def _value() -> Schema:
    """A fact's value: a flag, a number, a text or a list of texts."""
    return {"anyOf": [_flag(), _number(), {"type": "string"}, _texts()]}


def _plain() -> Schema:
    inner: Schema = {"$ref": "#/$defs/plain"}
    return {"anyOf": [_flag(), _number(), {"type": "string"}, _list(inner), {"type": "object", "additionalProperties": inner}]}


# -- rules ------------------------------------------------------------------------------------------------------------------------


def _rule() -> Schema:
    parts = {part: _list(_condition()) for part in ("all", "any", "none")}
    return _table({"id": _name(), "then": _then(), "because": _text(), "source": _name()}, when=_table({}, **parts))


def _condition() -> Schema:
    spaces = [rf"{space}\.(?:{'|'.join(names) if names else NAME})" for space, names in NAMESPACES.items()]
    fact = {"type": "string", "pattern": f"^(?:{'|'.join(spaces)}){END}"}
    kinds = {
        ("in", "not-in"): _texts(),
        ("has",): {"type": "string"},
        ("<", "<=", ">", ">="): _number(),
        ("is", "is-not"): {"anyOf": [_flag(), _number(), {"type": "string"}]},
    }
    cases: list[Schema] = [
        _case({"op": {"enum": list(ops)}}, {"required": ["value"], "properties": {"value": kind}}) for ops, kind in kinds.items()
    ]
    cases.append(_case({"op": {"enum": ["known", "unknown"]}}, {"properties": {"value": False}}))
    return _table({"fact": fact, "op": _choice(OPERATORS)}, value=_value()) | {"allOf": cases}


def _case(when: Mapping[str, Schema], then: Schema) -> Schema:
    return {"if": {"properties": dict(when), "required": list(when)}, "then": then}


def _then() -> Schema:
    setting = rf"^(?:{'|'.join(STAGES)})\.[A-Za-z_][A-Za-z0-9_]*{END}"
    fact = rf"^derived\.[a-z0-9._-]*{END}"
    holds = {
        "forbid": {"properties": {"forbid": {"const": True}}, "required": ["forbid"]},
        **{key: {"properties": {key: {"exclusiveMinimum": 0}}, "required": [key]} for key in ("prefer", "avoid")},
        "stage": {"required": ["stage"]},
    }
    filled = [{"properties": {key: {"minProperties": 1}}, "required": [key]} for key in ("facts", "set")]
    return _table(
        {},
        forbid=_flag(),
        prefer=_number(0, 100),
        avoid=_number(0, 100),
        facts=_keyed(fact, _value()),
        set=_keyed(setting, _value()),
        stage=_choice(STAGES),
        warn=_text(),
    ) | {
        "anyOf": [*holds.values(), *filled, {"required": ["warn"]}],
        "allOf": [{"not": {"allOf": [holds[one], holds[other]]}} for one, other in combinations(holds, 2)],
    }


def _keyed(pattern: str, value: Schema) -> Schema:
    return {"type": "object", "patternProperties": {pattern: value}, "additionalProperties": False}


# -- files ------------------------------------------------------------------------------------------------------------------------


def _source() -> Schema:
    return _table(
        {"id": _name(), "title": _text(), "url": _text(), "year": _whole(1900, 2100), "kind": _choice(SOURCE_KINDS)},
        note=_line(),
    )


def _claim() -> Schema:
    required = {"id": _name(), "part": _text(), "says": _text(), "verdict": _choice(VERDICTS), "fact": _text()}
    sourced = {"required": ["sources"], "properties": {"sources": {"minItems": 1}}}
    needs = {"if": {"not": {"properties": {"verdict": {"enum": list(NEEDS_NO_SOURCE)}}}}, "then": sourced}
    return _table(required, sources=_texts(), terms=_list(_name()), see=_texts(), lives=_texts()) | needs


def _challenge() -> Schema:
    required = {"what": _text(), "status": _choice(("built", "advice", "planned")), "how": _text(), "source": _name()}
    remedies = {**_list(_table(required, rules=_texts())), "minItems": 1}
    return _table({"id": _name(), "title": _text(), "claim": _name(), "remedy": remedies}, terms=_list(_name()))


def _task() -> Schema:
    cell = _table(
        {
            "architecture": _name(),
            "role": _choice(("pick", "alternative", "baseline", "reference")),
            "fit": _number(0, 100),
            "because": _text(),
            "source": _name(),
        },
        variant=_line(),
        teacher=_line(),
    )
    article = _table({"recommended": _text(), "verdict": _text(), "source": _name()}, alternative=_line(), concern=_line())
    return _table(
        {
            "name": _name(),
            "title": _text(),
            "metric": _text(),
            "better": _choice(("lower", "higher")),
            "status": _choice(("built", "reference")),
            "cell": {**_list(cell), "minItems": 1},
        },
        article=article,
        rule=_list(_rule()),
        aliases=_texts(),
        defaults=_table({}, **{name: _value() for name in REQUEST if name not in ("task", "device")}),
    )


def _card() -> Schema:
    variant = _table(
        {"name": _text(), "params": _whole(), "macs": _whole(), "shape": _text()},
        settings={"type": "object", "additionalProperties": {"$ref": "#/$defs/plain"}},
        given={"type": "object", "additionalProperties": {"$ref": "#/$defs/plain"}},
        kind=_choice(KINDS),
        source=_line(),
        published=_table({"source": _name()}, params=_whole(), macs=_whole()),
        task=_line(),
        weights=_choice(("hub",)),
    )
    card = _table(
        {
            "name": _name(),
            "title": _text(),
            "family": _text(),
            "year": _whole(1900, 2100),
            "status": _choice(("built", "planned", "reference")),
            "source": _name(),
            "licence_code": _text(),
            "licence_weights": _text(),
        },
        reason=_line(),
        builds=_line(),
        traits={"type": "object", "additionalProperties": _value()},
        variant=_list(variant),
        evidence=_list(_evidence()),
        notes=_texts(),
        reduced={"type": "object", "additionalProperties": {"$ref": "#/$defs/plain"}},
    )
    nothing: Schema = {"builds": {"const": ""}}
    built: Schema = {"required": ["variant", "builds"], "properties": {"variant": {"minItems": 1}, "builds": {"pattern": ":"}}}
    reference: Schema = {"required": ["reason"], "properties": {**nothing, "reason": {"minLength": 1}}}
    cases: dict[str, Schema] = {"built": built, "planned": {"properties": nothing}, "reference": reference}
    return card | {"allOf": [_case({"status": {"const": status}}, then) for status, then in cases.items()]}


def _evidence(**more: Schema) -> Schema:
    required = {**more, "what": _text(), "value": _number(), "unit": _text(), "on": _text(), "source": _name()}
    return _table(required, kind=_choice(KINDS), note=_line())


def _device() -> Schema:
    rates = {
        name: _table({"value": _number(*RATE[name]), "unit": {"const": unit}, "source": _name(), "kind": _choice(KINDS)})
        for name, unit in RATES.items()
    }
    return _table(
        {
            "name": _name(),
            "title": _text(),
            "kind": _choice(DEVICE_KINDS),
            "isa": _texts(),
            "cores": _whole(*CORES),
            "ram_bytes": _whole(*RAM_BYTES),
            "runtimes": _texts(),
            "precisions": _texts(),
            "source": _name(),
        },
        integer_format=_choice(("u8s8", "u8u8", "u8s8-reduced", "s8s8")),
        align=_whole(1, 1024),
        opset=_whole(7, 100),
        ir_version=_whole(3, 100),
        rates=_table({}, **rates),
        notes=_texts(),
        kernels=_kernels(),
    )


def _kernels() -> Schema:
    """What `advisor calibrate` measured; written by it, not by people."""
    ends = [_number(-WIDEST, WIDEST) | {"exclusiveMaximum": 0}, _number(-WIDEST, WIDEST) | {"exclusiveMinimum": 0}]
    pair = {"type": "array", "prefixItems": ends, "minItems": 2, "maxItems": 2}
    price = {**_list(_number(0, HIGHEST_PRICE)), "minItems": 1, "maxItems": MOST_FITS}
    return _table(
        {
            "cpu": _text(),
            "runtime": _text(),
            "date": _text(),
            "graphs": _whole(1, 10**7),
            "floor": _number(1e-4, 10.0),
            "spread": {"type": "object", "additionalProperties": pair, "required": ["fp32"]},
            "prices": {"type": "object", "additionalProperties": price, "minProperties": 1, "maxProperties": MOST_PRICES},
        },
        caches=_line(),
    )


def _costs() -> Schema:
    counts = {name: _whole() for name in COUNTS}
    optional = {"name": _line(), "dtype": _line(), "blocked": _flag(), **{name: _whole() for name in SIZES}}
    cost = _table(
        {
            "variant": _text(),
            "precision": _choice(("fp32", "int8")),
            "shape": _text(),
            "size_bytes": _whole(),
            "params": _whole(),
        },
        operators=_list(_table({"op": _text(), **counts}, **optional)),
    )
    return _table({"schema_version": {"const": COST_VERSION}, "architecture": _name()}, costs=_list(cost))
