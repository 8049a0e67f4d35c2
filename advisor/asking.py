"""A request in words: as flags of the command line, as a sentence, and checked for what cannot be meant.

What a rule can refuse, a rule refuses (`rules/knowledge/rules.toml`); here is what contradicts itself before any candidate is looked at.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any

from rules.facts import Device, Request
from rules.problems import Problem, unknown

MEGABYTE = 1_000_000
BYTES = {"size_mb": "size_bytes", "ram_mb": "ram_bytes", "flash_mb": "flash_bytes"}
LEAST = {"examples": 0, "per_class": 0, "classes": 1, "length": 1, "resolution": 1}
CHOICES = {
    "percentile": ("p50", "p90", "p99"),
    "energy": ("milliwatt", "watt", "mains"),
    "precision": ("fp32", "fp16", "int16", "int8"),
    "licence": ("any", "permissive"),
}
OWN_PROCESSOR = "onnxruntime-cpu"  # the runtime of a board's processor, whatever accelerator sits beside it


def request(task: str, device: str, *, permissive: bool = False, **stated: Any) -> Request:
    """What the flags say as a request; megabytes become bytes of 10^6."""
    for flag, name in BYTES.items():
        megabytes = stated.pop(flag, None)
        stated[name] = None if megabytes is None else _bytes(flag, megabytes)
    return Request(task=task, device=device, licence="permissive" if permissive else "any", **stated)


def _bytes(flag: str, megabytes: float) -> int:
    if not isfinite(megabytes):
        raise Problem(f"--{flag.replace('_', '-')} {megabytes} is no number of megabytes")
    return round(megabytes * MEGABYTE)


def flags(asked: Request) -> list[str]:
    """The request as the command line takes it, without the task."""
    found: list[str] = [] if asked.device == "this-machine" else ["--device", asked.device]
    numbers = {
        "--latency-ms": asked.latency_ms,
        **{f"--{flag.replace('_', '-')}": value and value / MEGABYTE for flag, name in BYTES.items() for value in [getattr(asked, name)]},
        **{f"--{name.replace('_', '-')}": getattr(asked, name) for name in LEAST},
    }
    for flag, value in numbers.items():
        found += [] if value is None else [flag, f"{value:.12g}"]
    texts = {
        "--percentile": asked.percentile if asked.percentile != "p50" else None,
        "--charset": asked.charset,
        "--energy": asked.energy,
        "--runtime": asked.runtime,
        "--precision": asked.precision,
    }
    for flag, text in texts.items():
        found += [flag, text] if text else []
    switches = {
        "--streaming": asked.streaming,
        "--generate": asked.generate,
        "--pretrained": asked.pretrained is True,
        "--no-pretrained": asked.pretrained is False,
        "--explain": asked.explain,
        "--permissive": asked.licence == "permissive",
    }
    return found + [flag for flag, on in switches.items() if on]


def in_words(asked: Request) -> str:
    """The request as a sentence: "asked: at most 5 ms a call, streaming"."""
    most = "" if asked.percentile == "p50" else f" in {asked.percentile.removeprefix('p')} of 100 calls"
    fed = {"milliwatt": "fed by milliwatts", "watt": "fed by a few watts", "mains": "fed from the wall"}
    said = [
        f"at most {asked.latency_ms:g} ms a call{most}" if asked.latency_ms else "",
        f"a file of at most {asked.size_bytes / MEGABYTE:g} MB" if asked.size_bytes else "",
        f"at most {asked.ram_bytes / MEGABYTE:g} MB of memory" if asked.ram_bytes else "",
        f"at most {asked.flash_bytes / MEGABYTE:g} MB of flash" if asked.flash_bytes else "",
        fed.get(asked.energy or "", ""),
        "streaming" if asked.streaming else "",
        "writing from left to right what it reads itself" if asked.generate else "",
        f"{asked.examples:,} labelled examples" if asked.examples is not None else "",
        f"{asked.per_class:,} labelled examples of each class" if asked.per_class is not None else "",
        f"{asked.classes:,} classes" if asked.classes is not None else "",
        f"inputs of {asked.length:,} steps" if asked.length is not None else "",
        f"images of {asked.resolution:,} pixels" if asked.resolution is not None else "",
        f"{len(set(asked.charset))} different characters" if asked.charset else "",
        {True: "pretrained weights at hand", False: "no pretrained weights", None: ""}[asked.pretrained],
        "decisions that people can follow" if asked.explain else "",
        "permissive licences only" if asked.licence == "permissive" else "",
        f"run by {asked.runtime}" if asked.runtime else "",
        f"shipped in {asked.precision}" if asked.precision else "",
    ]
    return f"asked: {', '.join(filter(None, said)) or 'no limits'}"


def check(asked: Request, target: Device) -> None:
    """Refuse what cannot be meant. Raises Problem (exit 2), one line."""
    limits = {"latency_ms": "ms", **dict.fromkeys(BYTES.values(), "bytes")}
    for name, unit in limits.items():
        value = getattr(asked, name)
        if value is not None and not (isfinite(value) and value > 0):
            raise Problem(f"{name} is {value}: a budget is a number of {unit} above zero")
    for name, least in LEAST.items():
        value = getattr(asked, name)
        if value is not None and not (isfinite(value) and value >= least):
            raise Problem(f"{name} is {value}: it is at least {least}")
    for name, allowed in CHOICES.items():
        value = getattr(asked, name)
        if value is not None and value not in allowed:
            raise unknown(name, str(value), allowed)
    if asked.percentile != "p50" and asked.latency_ms is None:
        raise Problem(f"{asked.percentile} of which latency budget? None is stated", remedy="add --latency-ms")
    _check_counts(asked)
    if asked.runtime and asked.runtime not in target.runtimes:
        raise unknown(f"runtime of {target.name}", asked.runtime, target.runtimes, remedy="advisor devices lists each device's")


def _check_counts(asked: Request) -> None:
    if asked.examples is None or asked.per_class is None:
        return
    least = asked.per_class * (asked.classes or 1)
    if asked.examples < least:
        of = f" of each of {asked.classes:,} classes" if asked.classes else " of each class"
        raise Problem(f"{asked.per_class:,} examples{of} are at least {least:,}, and {asked.examples:,} examples are stated")


def as_asked(target: Device, asked: Request) -> Device:
    """The device as far as the request lets it be used: the one runtime, the one precision. What it does not have is left to the rules."""
    if asked.runtime == OWN_PROCESSOR and target.kind != "cpu":
        target = replace(target, kind="cpu", rates={}, kernels=None, precisions=("fp32", "int8"), integer_format="u8s8")
    if asked.runtime:
        target = replace(target, runtimes=(asked.runtime,))
    if asked.precision in target.precisions:
        target = replace(target, precisions=(asked.precision,))
    return target
