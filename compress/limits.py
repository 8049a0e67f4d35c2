"""What a gate is given: limits from gate.toml and from flags, and profiles made on a target. Strict: what is not known is refused.

[gate]
max_drop.cer = 0.005          # a fraction: half a point
max_latency_ratio = 1.05      # bundle over baseline, on every probe
max_size_mb = 0.4             # of model.onnx

[gate.levels]
max_latency_ratio = "warn"    # "error" is what a limit is without this
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from compress.schema import faults, parse
from rules.problems import Problem, bad_input, unknown

Level = Literal["error", "warn"]
KEYS = ("max_drop", "max_latency_ratio", "max_size_mb", "levels")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a bundle must hold. `levels` names a limit ("max_drop.cer", "max_latency_ratio", …) that only warns."""

    max_drop: Mapping[str, float] = field(default_factory=dict)  # metric -> largest loss, a fraction
    max_latency_ratio: float | None = None  # bundle over baseline, every probe
    max_size_bytes: int | None = None  # of model.onnx
    levels: Mapping[str, Level] = field(default_factory=dict)


def flag(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), _share(float(value), f"--max-drop {name}")
    except ValueError:
        raise Problem(f"--max-drop {text!r} is not METRIC=X", remedy="--max-drop cer=0.005") from None


def _share(value: float, where: str) -> float:
    if not 0 <= value <= 1:
        raise Problem(f"{where} is {value:g}, expected a fraction from 0 to 1", remedy="half a point of CER is 0.005")
    return value


def read_config(path: Path) -> Limits:
    """Read gate.toml. Raises Problem (exit 2) naming the key that is unknown or wrong."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise Problem(f"cannot read {path}: {error}") from error
    for key in table.keys() - {"gate"}:
        raise unknown(f"key in {path}:", key, ["gate"])
    values = table.get("gate", {})
    for key in values.keys() - set(KEYS) if isinstance(values, dict) else {"gate"}:
        raise unknown(f"key in {path}: [gate]", key, KEYS)
    drops = {
        name: _share(_number(value, f"{path}: max_drop.{name}"), f"{path}: max_drop.{name}")
        for name, value in _table(values, "max_drop", path).items()
    }
    ratio, megabytes = (
        None if key not in values else _number(values[key], f"{path}: {key}") for key in ("max_latency_ratio", "max_size_mb")
    )
    return Limits(drops, ratio, None if megabytes is None else round(megabytes * 1e6), _levels(_table(values, "levels", path), drops, path))


def _table(values: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    found = values.get(key, {})
    if not isinstance(found, dict):
        raise Problem(
            f"{path}: {key} is {found!r}, expected a table",
            remedy="max_drop.cer = 0.005" if key == "max_drop" else '[gate.levels] max_latency_ratio = "warn"',
        )
    return found


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise Problem(f"{where} is {value!r}, expected a number from 0")
    return float(value)


def _levels(values: Mapping[str, Any], drops: Mapping[str, float], path: Path) -> dict[str, Level]:
    flat = {f"{key}.{name}": level for key, inner in values.items() if isinstance(inner, dict) for name, level in inner.items()}
    flat |= {key: level for key, level in values.items() if not isinstance(level, dict)}
    known = [*(f"max_drop.{name}" for name in drops), "max_latency_ratio", "max_size_mb"]
    for key, level in flat.items():
        if key not in known:
            raise unknown(f"limit in {path}: [gate.levels]", key, known)
        if level not in ("error", "warn"):
            raise Problem(f"{path}: level of {key} is {level!r}, allowed: 'error', 'warn'")
    return flat


PROFILE = {
    "type": "object",
    "required": ["schema_version", "file", "device", "threads", "provider", "probes", "too_noisy"],
    "properties": {
        "schema_version": {"const": 1},
        "file": {"$ref": "#/$defs/file"},
        "reference": {"type": ["object", "null"], "required": ["sha256"]},
        "device": {
            "type": "object",
            "required": ["fingerprint", "cpu"],
            "properties": {"fingerprint": {"type": "string"}, "cpu": {"type": "string"}},
        },
        "threads": {"type": "integer", "minimum": 1},
        "provider": {"type": "string"},
        "too_noisy": {"type": "boolean"},
        "probes": {"type": "object", "additionalProperties": {"$ref": "#/$defs/probe"}},
    },
    "$defs": {
        "file": {"type": "object", "required": ["sha256"], "properties": {"sha256": {"type": "string"}}},
        "times": {
            "type": ["object", "null"],
            "required": ["low_ms", "wall_ms"],
            "properties": {"low_ms": {"type": "number"}, "wall_ms": {"type": "object"}},
        },
        "ratio": {
            "type": ["object", "null"],
            "required": ["value", "low", "high", "rounds"],
            "properties": {key: {"type": "number"} for key in ("value", "low", "high", "rounds")},
        },
        "probe": {
            "type": "object",
            "required": ["low_ms", "wall_ms", "reference", "ratio", "noise"],
            "properties": {
                "low_ms": {"type": "number"},
                "wall_ms": {"type": "object"},
                "reference": {"$ref": "#/$defs/times"},
                "ratio": {"$ref": "#/$defs/ratio"},
                "noise": {
                    "type": "object",
                    "required": ["spread", "too_noisy"],
                    "properties": {"spread": {"type": "number"}, "too_noisy": {"type": "boolean"}},
                },
            },
        },
    },
}  # the part of a profile that the gate reads: what reader.py writes on a board, and what `advisor profile -o` writes


def read_profile(path: Path) -> dict[str, Any]:
    """A profile made on a target by `reader.py --profile` or `advisor profile -o`. Raises Problem (exit 3)."""
    try:
        value = parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise bad_input(f"cannot read profile {path}: {error}", remedy="reader.py --profile out.json writes one") from error
    if found := faults(value, PROFILE):
        raise bad_input(f"{path} is no profile: {found[0]}", remedy="reader.py --profile out.json writes one")
    if value.get("reference") and not all(probe["ratio"] and probe["reference"] for probe in value["probes"].values()):
        raise bad_input(f"{path} is no whole profile: it names a reference and lacks a ratio")
    return dict(value)
