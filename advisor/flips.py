"""A flip as a sentence. Numbers are rounded away from the answer that stands, so that what is printed, typed in, does flip it."""

from __future__ import annotations

from math import ceil, floor, log10

from rules.facts import Flip

NAMES = {
    "request.latency_ms": "latency budget",
    "request.size_bytes": "size budget",
    "request.ram_bytes": "memory budget",
    "request.examples": "labelled examples",
    "request.charset_size": "different characters",
}
SWITCHES = {
    ("request.streaming", True): "streaming",
    ("request.streaming", False): "no streaming",
    ("request.explain", True): "decisions that people can follow",
    ("request.explain", False): "no need for explanations",
    ("request.pretrained", True): "pretrained weights at hand",
    ("request.pretrained", False): "no pretrained weights",
    ("request.licence", "permissive"): "permissive licences only",
    ("request.licence", "any"): "any licence",
}


def in_words(flip: Flip) -> str:
    """`latency budget below 1.61 ms → crnn/tiny (budget.latency)`"""
    rule = f" ({flip.rule})" if flip.rule else ""
    return f"{_change(flip)} → {_result(flip)}{rule}"


def _change(flip: Flip) -> str:
    if flip.threshold == "stated":
        return f"any {NAMES[flip.fact]}" if flip.fact.endswith(("_ms", "_bytes")) else f"a known number of {NAMES[flip.fact]}"
    if flip.threshold == "not stated":
        return f"no {NAMES[flip.fact]}" if flip.fact.endswith(("_ms", "_bytes")) else f"an unknown number of {NAMES[flip.fact]}"
    if flip.direction == "becomes":
        return SWITCHES.get((flip.fact, flip.threshold), f"{flip.fact} {flip.threshold}")
    return f"{NAMES[flip.fact]} {flip.direction} {shown(flip)}"


def shown(flip: Flip) -> str:
    """The threshold with its unit, three digits, rounded to the side where the answer is the new one."""
    assert isinstance(flip.threshold, int | float)
    value, up = float(flip.threshold), flip.direction in ("at least", "above")
    if flip.fact == "request.latency_ms":
        return f"{rounded(value, up=up):.12g} ms"
    if flip.fact in ("request.size_bytes", "request.ram_bytes"):
        return f"{rounded(value, up=up) / 1e6:.12g} MB"
    return f"{value:,.0f}"


def rounded(value: float, *, up: bool) -> float:
    """Three significant digits, up or down."""
    if value <= 0:
        return value
    step = 10.0 ** (floor(log10(value)) - 2)
    return (ceil if up else floor)(value / step) * step


def _result(flip: Flip) -> str:
    if not flip.pick:
        return "nothing fits"
    if not flip.adds and not flip.drops:
        return flip.pick
    changes = [f"adds {', '.join(flip.adds)}"] * bool(flip.adds) + [f"drops {', '.join(flip.drops)}"] * bool(flip.drops)
    return f"the same pick, the plan {' and '.join(changes)}"
