"""Checks plain JSON against a schema, without a library: the part of JSON Schema 2020-12 that our own schemas use.

Understood: type, const, enum, required, properties, additionalProperties, items, minItems, maxItems, minimum, maxLength, pattern,
and `$ref` into `$defs`. A keyword that is not understood is our bug and raises, so that no rule is ever silently skipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
MOST_BYTES = 16 * 2**20
SILENT = {"$schema", "$id", "$defs", "title", "description"}
KINDS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer())),
}


def parse(data: bytes) -> Any:
    """JSON as its standard has it: UTF-8, no NaN, no key twice, not endlessly deep or large. Raises ValueError."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES // 2**20} MB")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def faults(value: Any, schema: Schema) -> list[str]:
    """What is wrong with `value`, each fault with the place it is at; empty when it fits."""
    try:
        return list(_faults(value, schema, schema, "$"))
    except RecursionError:
        return ["$: it is nested too deeply"]


def _faults(value: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    for keyword, wanted in schema.items():
        if keyword in SILENT:
            continue
        if keyword == "$ref":
            yield from _faults(value, root["$defs"][wanted.removeprefix("#/$defs/")], root, at)
            continue
        yield from CHECKS[keyword](value, wanted, schema, root, at)


def _type(value: Any, wanted: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    names = [wanted] if isinstance(wanted, str) else wanted
    if not any(KINDS[name](value) for name in names):
        yield f"{at}: expected {' or '.join(names)}, got {_short(value)}"


def _const(value: Any, wanted: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    if value != wanted or isinstance(value, bool) != isinstance(wanted, bool):
        yield f"{at}: expected {wanted!r}, got {_short(value)}"


def _enum(value: Any, wanted: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    if value not in wanted:
        yield f"{at}: expected one of {', '.join(map(str, wanted))}, got {_short(value)}"


def _required(value: Any, wanted: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{at}: {key} is missing" for key in wanted if key not in value)


def _properties(value: Any, wanted: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in wanted.items():
            if key in value:
                yield from _faults(value[key], inner, root, f"{at}.{key}")


def _additional(value: Any, wanted: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    for key in value.keys() - schema.get("properties", {}).keys():
        if wanted is False:
            yield f"{at}: {_short(key)} is not allowed"
        else:
            yield from _faults(value[key], wanted, root, f"{at}.{_short(key)}")


def _items(value: Any, wanted: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _faults(item, wanted, root, f"{at}[{index}]")


def _at_least(value: Any, wanted: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    if KINDS["number"](value) and value < wanted:
        yield f"{at}: {_short(value)} is less than {wanted}"


def _shortest(value: Any, wanted: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    if isinstance(value, list) and len(value) < wanted:
        yield f"{at}: {len(value)} items, at least {wanted} are needed"


def _longest(value: Any, wanted: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    if isinstance(value, list) and len(value) > wanted:
        yield f"{at}: {len(value)} items, at most {wanted} are allowed"


def _length(value: Any, wanted: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    if isinstance(value, str) and len(value) > wanted:
        yield f"{at}: {len(value)} characters, at most {wanted} are allowed"


def _pattern(value: Any, wanted: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    strict = wanted[:-1] + r"\Z" if wanted.endswith("$") else wanted  # Python's $ also matches before a last newline
    if isinstance(value, str) and not re.search(strict, value):
        yield f"{at}: {_short(value)} does not have the form {wanted}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


CHECKS: dict[str, Callable[[Any, Any, Schema, Schema, str], Iterator[str]]] = {
    "type": _type,
    "const": _const,
    "enum": _enum,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "minimum": _at_least,
    "minItems": _shortest,
    "maxItems": _longest,
    "maxLength": _length,
    "pattern": _pattern,
}
