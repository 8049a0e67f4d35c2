"""The schemas say what the readers say: every shipped file fits, and a damaged table is taken or refused by both."""

from __future__ import annotations

import copy
import json
import random
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from rules.claims import challenges, claims
from rules.knowledge import HERE
from rules.problems import Problem
from rules.reading import card, costs, device, evidence, rules, sources, task
from rules.schema import schemas
from rules.tables import Table
from tests.test_cli import advisor as advisor
from tests.test_rules_knowledge import CARD, COSTS, DEVICE, SOURCES, TASK

SCHEMAS = schemas()
VALIDATORS = {kind: jsonschema.Draft202012Validator(schema) for kind, schema in SCHEMAS.items()}
PLACES = {
    "tasks": "task",
    "architectures": "architecture",
    "devices": "device",
    "evidence": "evidence",
    "costs": "costs",
    "remedies.toml": "rules",
    "rules.toml": "rules",
    "sources.toml": "sources",
    "claims.toml": "claims",
    "challenges.toml": "challenges",
}
RULES = """
[[rule]]
id = "a.one"
when.all = [{fact = "request.examples", op = "<", value = 10}, {fact = "card.int8", op = "in", value = ["static", "poor"]}]
when.any = [{fact = "device.isa", op = "has", value = "neon"}, {fact = "request.latency_ms", op = "known"}]
when.none = [{fact = "request.streaming", op = "is", value = true}, {fact = "derived.x", op = "unknown"}]
then.stage = "prune"
then.set = {"prune.align" = 8}
then.facts = {"derived.y" = "on"}
because = "so it is"
source = "paper"

[[rule]]
id = "a.two"
then.prefer = 3
then.warn = "careful"
because = "so it is"
source = "paper"
"""
EVIDENCE = """
[[evidence]]
architecture = "net"
what = "latency"
value = 3.5
unit = "ms"
on = "my board"
source = "paper"
kind = "measured"
note = ""
"""
CLAIMS = """
[[claim]]
id = "head-count"
part = "attention"
says = "more heads cost more"
verdict = "VERDICT"
fact = "they do not"
sources = ["paper"]
terms = ["heads"]
see = ["tests"]
lives = ["card"]
"""
CHALLENGES = """
[[challenge]]
id = "few"
title = "Few examples"
claim = "head-count"
terms = ["few"]

[[challenge.remedy]]
what = "augment"
status = "built"
how = "advisor run"
rules = ["a.one"]
source = "paper"
"""
KERNELS = """
[kernels]
cpu = "a processor"
runtime = "1.32.0"
date = "2026-01-31"
graphs = 700
caches = "1048576 33554432"
floor = 0.05

[kernels.spread]
fp32 = [-1.5, 1.6]

[kernels.prices]
"conv.macs" = [1.5e-11, 1.6e-11]
"""
MORE = 'notes = ["a"]\nalign = 8\nopset = 17\nir_version = 8\ninteger_format = "u8s8"\n'


def samples() -> dict[str, dict[str, Any]]:
    verdict = SCHEMAS["claims"]["properties"]["claim"]["items"]["properties"]["verdict"]["enum"][0]
    texts = {
        "task": TASK.replace('"task"', '"net"'),
        "architecture": CARD,
        "device": DEVICE.replace('"board"', '"net"').replace("cores = 4\n", "cores = 4\n" + MORE) + KERNELS,
        "sources": SOURCES + 'note = "n"\n',
        "rules": RULES,
        "evidence": EVIDENCE,
        "claims": CLAIMS.replace("VERDICT", verdict),
        "challenges": CHALLENGES,
    }
    return {**{kind: tomllib.loads(text) for kind, text in texts.items()}, "costs": copy.deepcopy(COSTS)}


def named(read: Callable[[Table, str], object]) -> Callable[[Table], object]:
    return lambda table: read(table, "net")


READERS: dict[str, Callable[[Table], object]] = {
    "task": named(task),
    "architecture": named(card),
    "device": named(device),
    "sources": sources,
    "rules": lambda table: (rules(table, origin="x"), table.done()),
    "evidence": named(evidence),
    "claims": claims,
    "challenges": challenges,
    "costs": named(costs),
}


def files() -> list[Path]:
    return sorted(path for path in HERE.rglob("*") if path.suffix in (".toml", ".json"))


def test_every_shipped_file_is_of_a_kind_that_has_a_schema_and_fits_it() -> None:
    for path in files():
        inside = path.relative_to(HERE).parts[0]
        assert inside in PLACES, f"{path}: a new kind of file needs a schema in rules/schema.py"
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        faults = [f"{error.json_path}: {error.message}" for error in VALIDATORS[PLACES[inside]].iter_errors(values)]
        assert not faults, f"{path}: {faults[0]}"


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_is_one_and_its_sample_is_taken_by_both(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[kind])
    sample = samples()[kind]
    assert VALIDATORS[kind].is_valid(sample)
    READERS[kind](Table(copy.deepcopy(sample), "x.toml"))


def asked(kind: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The keys that a reader asks for while it reads its sample."""
    found: set[str] = set()
    take, has = Table._take, Table.has
    monkeypatch.setattr(Table, "_take", lambda self, key, default: (found.add(key), take(self, key, default))[1])
    monkeypatch.setattr(Table, "has", lambda self, key: (found.add(key), has(self, key))[1])
    READERS[kind](Table(samples()[kind], "x.toml"))
    return found


def properties(schema: Any) -> set[str]:
    """All keys that a schema names, however deep."""
    if isinstance(schema, list):
        return {name for item in schema for name in properties(item)}
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("properties", {})) if isinstance(schema.get("properties"), dict) else set()
    return own | {name for item in schema.values() for name in properties(item)}


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_names_every_key_that_its_reader_asks_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"fp32", "conv.macs", "causal", "int8", "channels", "prune.align", "derived.y"}  # keys of the sample that no schema fixes
    assert asked(kind, monkeypatch) - free <= properties(SCHEMAS[kind]), "add the key to rules/schema.py"


# -- damaged alike -----------------------------------------------------------------------------------------------------------------

JUNK: list[Any] = [
    *(True, False, -1, 0, 1, 8, 16, 101, 1899, 2020, 10**19, -0.5, 0.5, 1e19, "", " ", "net", "built", "planned", "reference", "static"),
    *(
        "a\nb",
        "a\x1b[0m",
        "Upper",
        "request.examples",
        "request.exampels",
        "card.anything",
        "card.",
        "x.y",
        "is",
        "<",
        "in",
        "has",
        "known",
    ),
    *("derived.z", "prune", "lower", "published", "u8s8", "ms", "paper", "cpu", "npu", "package.module:build", "fp32", "u8u8", "gpus"),
    *([], ["a"], [1], ["a", 2], {}, {"a": 1}, {"a": {"b": [True]}}, [{}], [[]], {"derived.z": 1}, {"prune.x": 1}, {"": 1}),
    *({"forbid": True}, {"prefer": 2}, {"prefer": 0}, {"forbid": False}, {"stage": "qat", "avoid": 1}),
]
KEYS = [
    "x",
    "note",
    "kind",
    "value",
    "forbid",
    "prefer",
    "avoid",
    "stage",
    "warn",
    "builds",
    "reason",
    "status",
    "all",
    "fp16",
    "variant",
    "op",
    "set",
]


def places(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [*([path] if path else []), *(place for key, item in inner for place in places(item, (*path, key)))]


def damaged(values: Any, chance: random.Random) -> Any:
    """The table with one to three values replaced, taken out or put in."""
    values = copy.deepcopy(values)
    for _ in range(chance.choice((1, 1, 2, 3))):
        everywhere = places(values)
        if not everywhere:
            break
        *way, last = chance.choice(everywhere)
        inside = values
        for key in way:
            inside = inside[key]
        act = chance.random()
        if act < 0.2:
            del inside[last]
        elif act < 0.35 and isinstance(inside, dict):
            inside[chance.choice(KEYS)] = chance.choice(JUNK)
        else:
            inside[last] = copy.deepcopy(chance.choice(JUNK))
    return values


def taken(kind: str, values: Any) -> str:
    """Why the reader refuses it; empty when it takes it."""
    try:
        READERS[kind](Table(copy.deepcopy(values), "x.toml"))
    except Problem as problem:
        return str(problem)
    return ""


BESIDE = (
    "there twice",
    "have one name",
    "two cells",
    "the file is called",
    "is there once",
    "as many figures",
    "caches is",
)  # what a schema cannot say


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_damaged_table_is_taken_or_refused_by_reader_and_schema_alike(kind: str) -> None:
    chance, refused = random.Random(f"schema {kind}"), 0
    for _ in range(500):
        values = damaged(samples()[kind], chance)
        said = taken(kind, values)
        faults = [f"{error.json_path}: {error.message}" for error in VALIDATORS[kind].iter_errors(values)]
        if any(words in said for words in BESIDE) and not faults:
            continue
        assert bool(said) == bool(faults), (said, faults, values)
        refused += bool(said)
    assert 100 < refused < 500


# -- for editors -------------------------------------------------------------------------------------------------------------------


def test_lint_writes_the_schemas_for_editors(tmp_path: Path, advisor: Any) -> None:
    code, out, _ = advisor("lint", "--schemas", str(tmp_path / "schemas"))
    assert code == 0
    written = {Path(line).name: json.loads(Path(line).read_text()) for line in out.split()}
    assert {f"{kind}.schema.json" for kind in SCHEMAS} <= set(written)
    assert written["device.schema.json"] == json.loads(json.dumps(SCHEMAS["device"]))
    for schema in written.values():
        jsonschema.Draft202012Validator.check_schema(schema)
