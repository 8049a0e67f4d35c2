"""A plan: which model, which teacher, which stages with which settings. Saved as TOML, chosen by rules, edited by people.

    schema_version = 1
    task = "ocr"
    architecture = "crnn"
    variant = "small"
    teacher = "base"

    [[stage]]
    name = "quantize"
    method = "minmax"

A stage is a module in `compress/stages`; its settings are the fields of its frozen dataclass, and nothing else is accepted.
"""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from rules.problems import Problem, unknown

SCHEMA_VERSION = 1
MODULE_STAGES = ("train", "distil", "prune")
FROM_FLOAT = ("quantize", "four_bit", "fp16")  # graph stages that start from the float file
ORDER = ("train", "distil", "prune", "export", "quantize", "equalize", "adaround", "qat", "four_bit", "fp16")
HEADER_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("architecture", "variant", "teacher", "weights", "device"), (str,)),
    "seed": (int,),
    "max_drop": (int, float),
    "settings": (dict,),
}
HEADER = {"schema_version", "task", "architecture", "variant", "teacher", "weights", "device", "seed", "max_drop", "settings", "stage"}


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a plan: its name, its settings object, why it is there, and what it alone may cost of the metric."""

    name: str
    settings: Any
    because: str = ""
    max_drop: float | None = None  # a fraction; None: the plan's


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does. `max_drop` is how much of the metric (a fraction) compression may cost in all."""

    task: str
    architecture: str = ""
    variant: str = ""
    teacher: str = ""
    weights: str = ""  # what the module that `train` trains starts from: "hub", published ones, or a file; "": from nothing
    device: str = "this-machine"
    seed: int = 0
    max_drop: float = 0.005
    settings: Mapping[str, Any] = field(default_factory=dict)  # for the task's `open`
    steps: tuple[Step, ...] = ()

    def has(self, name: str) -> bool:
        """Whether the plan has a stage of this name."""
        return any(step.name == name for step in self.steps)


def stage_names() -> list[str]:
    """Every stage there is: the modules of `compress/stages`, and the door between the two kinds."""
    import compress.stages

    return sorted({"export", *(module.name for module in iter_modules(compress.stages.__path__))})


def settings_class(name: str) -> type:
    """The settings dataclass of a stage. Raises Problem (exit 2) for an unknown stage, with the nearest name."""
    if name == "export":
        return Export
    if name not in stage_names():
        raise unknown("stage", name, stage_names())
    module = import_module(f"compress.stages.{name}")
    for attribute, value in vars(module).items():
        if attribute.lower() == name.replace("_", "") and isinstance(value, type):
            return value
    raise TypeError(f"compress/stages/{name}.py has no settings class")


@dataclass(frozen=True, slots=True)
class Export:
    """The door: a module becomes an ONNX file, checked against the module it came from."""

    tolerance: float = 1e-4  # largest difference, relative to the largest output


def read(path: Path) -> Plan:
    """Read a plan file. Raises Problem (exit 2) naming the file and the key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"cannot read plan {path}: {error}", remedy="advisor recommend --task ocr -o plan.toml writes one") from error
    try:
        return parse(tomllib.loads(text), str(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Problem(f"{path} is not TOML: {error}") from error


def parse(table: Mapping[str, Any], where: str) -> Plan:
    """A plan from its plain table. `where` names the file in messages."""
    _refuse_unknown(table, HEADER, where)
    if table.get("schema_version") != SCHEMA_VERSION:
        raise Problem(f"{where}: schema_version is {table.get('schema_version')!r}, this advisor reads {SCHEMA_VERSION}")
    if not isinstance(table.get("task"), str):
        raise Problem(f"{where}: task is missing", remedy='task = "ocr"')
    stages = table.get("stage", [])
    if not isinstance(stages, list) or not all(isinstance(item, Mapping) for item in stages):
        raise Problem(f"{where}: stage must be a list of tables", remedy='[[stage]] name = "train"')
    steps = tuple(_step(item, f"{where}, stage {number}") for number, item in enumerate(stages, 1))
    header = {key: table[key] for key in HEADER & table.keys() if key not in ("schema_version", "stage")}
    for key, value in header.items():
        if key in HEADER_TYPES and (isinstance(value, bool) or not isinstance(value, HEADER_TYPES[key])):
            raise Problem(f"{where}: {key} is {value!r}, expected {' or '.join(kind.__name__ for kind in HEADER_TYPES[key])}")
    plan = Plan(**header, steps=steps)
    _check_order(plan, where)
    return plan


def _step(item: Mapping[str, Any], where: str) -> Step:
    name = item.get("name")
    if not isinstance(name, str):
        raise Problem(f"{where}: a stage has no name", remedy=f"one of {', '.join(stage_names())}")
    values = {key: value for key, value in item.items() if key not in ("name", "because", "max_drop")}
    allowed = item.get("max_drop")
    if allowed is not None and (isinstance(allowed, bool) or not isinstance(allowed, int | float) or allowed < 0):
        raise Problem(f"{where} ({name}): max_drop is {allowed!r}, expected a fraction from 0")
    return Step(name, make_settings(name, values, where=f"{where} ({name})"), str(item.get("because", "")), allowed)


def make_settings(name: str, values: Mapping[str, Any], *, where: str) -> Any:
    """The settings object of a stage from plain values; unknown keys and wrong types are refused by name."""
    kind = settings_class(name)
    hints = typing.get_type_hints(kind)
    allowed = {item.name: item for item in fields(kind)}
    _refuse_unknown(values, set(allowed), where)
    checked = {key: _checked(value, hints[key], f"{where}: {key}") for key, value in values.items()}
    missing = [key for key, item in allowed.items() if item.default is MISSING and item.default_factory is MISSING and key not in checked]
    if missing:
        raise Problem(f"{where}: {missing[0]} is missing")
    try:
        return kind(**checked)
    except ValueError as error:
        raise Problem(f"{where}: {error}") from error


def _checked(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) is typing.Literal:
        if value not in typing.get_args(hint):
            raise Problem(f"{where} is {value!r}, allowed: {', '.join(map(repr, typing.get_args(hint)))}")
        return value
    kinds = [kind for kind in (typing.get_args(hint) or (hint,)) if isinstance(kind, type)]
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if tuple in kinds or typing.get_origin(hint) is tuple:
        return tuple(value) if isinstance(value, list) else value
    if kinds and not any(type(value) is kind for kind in kinds):
        raise Problem(f"{where} is {value!r}, expected {' or '.join(kind.__name__ for kind in kinds)}")
    return value


def _refuse_unknown(values: Mapping[str, Any], allowed: set[str], where: str) -> None:
    for key in values:
        if key not in allowed:
            raise unknown(f"key in {where}:", key, allowed)


def _check_order(plan: Plan, where: str) -> None:
    places = [ORDER.index(step.name) if step.name in ORDER else len(ORDER) for step in plan.steps]
    if places != sorted(places):
        names = " → ".join(step.name for step in plan.steps)
        raise Problem(f"{where}: stages are out of order: {names}", remedy=f"the order is {' → '.join(ORDER)}")


def as_table(plan: Plan) -> dict[str, Any]:
    """The plan as plain data, every setting spelled out."""
    table: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "task": plan.task}
    for key in ("architecture", "variant", "teacher", "weights", "device", "seed", "max_drop"):
        if getattr(plan, key) != "":
            table[key] = getattr(plan, key)
    if plan.settings:
        table["settings"] = dict(plan.settings)
    table["stage"] = [{**_head(step), **_plain(asdict(step.settings))} for step in plan.steps]
    return table


def _head(step: Step) -> dict[str, Any]:
    return _plain({"name": step.name, "because": step.because or None, "max_drop": step.max_drop})


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items() if value is not None}


def as_toml(plan: Plan) -> str:
    """The plan as a file that `read` gives back unchanged."""
    table = as_table(plan)
    stages = table.pop("stage")
    extra = table.pop("settings", None)
    lines = [f"{key} = {_literal(value)}" for key, value in table.items()]
    if extra:
        lines += ["", "[settings]", *(f"{key} = {_literal(value)}" for key, value in extra.items())]
    for stage in stages:
        lines += ["", "[[stage]]", *(f"{key} = {_literal(value)}" for key, value in stage.items())]
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'
    return repr(value)


def default(task: str, *, graph_only: bool) -> Plan:
    """The plan of `advisor compress` without a plan file: everything that applies, each step kept only if it pays."""
    names = ("quantize", "equalize", "adaround", "qat") if graph_only else ("prune", "export", "quantize", "equalize", "adaround", "qat")
    return Plan(
        task=task, max_drop=0.01, steps=tuple(Step(name, make_settings(name, {}, where=f"the default plan ({name})")) for name in names)
    )
