"""A flip as a sentence. Numbers are rounded away from the answer that stands, so that what is printed, typed in, does flip it."""

from __future__ import annotations

from math import ceil, floor, log10

from rules.facts import Flip

NAMES = {
    "request.latency_ms": "latency budget",
    "request.size_bytes": "size budget",
    "request.ram_bytes": "memory budget",
    "request.flash_bytes": "flash budget",
    "request.examples": "labelled examples",
    "request.per_class": "labelled examples of each class",
    "request.classes": "classes",
    "request.length": "steps of an input",
    "request.resolution": "pixels of resolution",
    "request.charset_size": "different characters",
}
SWITCHES = {
    ("request.percentile", "p50"): "half of the calls within the latency budget",
    ("request.percentile", "p90"): "90 of 100 calls within the latency budget",
    ("request.percentile", "p99"): "99 of 100 calls within the latency budget",
    ("request.streaming", True): "streaming",
    ("request.streaming", False): "no streaming",
    ("request.generate", True): "generation from left to right",
    ("request.generate", False): "no generation from left to right",
    ("request.explain", True): "decisions that people can follow",
    ("request.explain", False): "no need for explanations",
    ("request.pretrained", True): "pretrained weights at hand",
    ("request.pretrained", False): "no pretrained weights",
    ("request.licence", "permissive"): "permissive licences only",
    ("request.licence", "any"): "any licence",
    ("request.energy", "milliwatt"): "milliwatts to feed it",
    ("request.energy", "watt"): "a few watts to feed it",
    ("request.energy", "mains"): "power from the wall",
}
_SAID_ALONE = {*(fact for fact, _ in SWITCHES), "request.precision", "request.runtime"}
CHOICES = {"request.device": "on", "request.runtime": "run by", "request.precision": "shipped in"}


def in_words(flip: Flip) -> str:
    """`latency budget below 1.61 ms → crnn/tiny (budget.latency)`"""
    rule = f" ({flip.rule})" if flip.rule else ""
    return f"{change(flip)} → {result(flip)}{rule}"


def as_sentence(flip: Flip) -> str:
    """`with a latency budget of at least 8 ms instead of 5 ms the pick is crnn/small (budget.latency)`"""
    instead = f" instead of {stands(flip)}" if flip.direction != "becomes" or flip.fact not in _SAID_ALONE else ""
    rule = f" ({flip.rule})" if flip.rule else ""
    then = result(flip)
    if flip.pick:
        then = (
            f"the pick is {then}"
            if not flip.adds and not flip.drops
            else then.replace("the same pick, the plan", "the pick stays and its plan")
        )
    return f"{_with(flip)}{instead} {then}{rule}"


def _with(flip: Flip) -> str:
    """The change as a sentence begins with it: `with a latency budget of at least 8 ms`."""
    if flip.fact in CHOICES:
        return f"{CHOICES[flip.fact]} {flip.threshold}"
    if flip.direction == "becomes":
        return f"with {change(flip)}"
    if not _is_budget(flip.fact):
        return f"with {flip.direction} {shown(flip)} {NAMES[flip.fact]}"
    of = "of " if flip.direction.startswith("at ") else ""
    return f"with a {NAMES[flip.fact]} {of}{flip.direction} {shown(flip)}"


def stands(flip: Flip) -> str:
    """What is stated now, in the fact's unit: `5 ms`, `no limit`."""
    if isinstance(flip.now, bool) or flip.now is None:
        return {True: "yes", False: "no"}.get(flip.now, "") if flip.now is not None else _silent(flip.fact)
    return _amount(flip.fact, float(flip.now)) if isinstance(flip.now, int | float) else str(flip.now)


def _silent(fact: str) -> str:
    if fact not in NAMES:
        return "not stated"
    return "no limit" if _is_budget(fact) else "an unknown number"


def _is_budget(fact: str) -> bool:
    return fact.endswith(("_ms", "_bytes"))


def change(flip: Flip) -> str:
    """What of the request is another: `latency budget below 1.61 ms`."""
    if flip.threshold == "stated":
        return f"any {NAMES[flip.fact]}" if _is_budget(flip.fact) else f"a known number of {NAMES[flip.fact]}"
    if flip.threshold == "not stated":
        return f"no {NAMES[flip.fact]}" if _is_budget(flip.fact) else f"an unknown number of {NAMES[flip.fact]}"
    if flip.direction == "becomes":
        return SWITCHES.get((flip.fact, flip.threshold), f"{CHOICES.get(flip.fact, flip.fact)} {flip.threshold}")
    return f"{NAMES[flip.fact]} {flip.direction} {shown(flip)}"


def shown(flip: Flip) -> str:
    """The threshold with its unit, three digits, rounded to the side where the answer is the new one."""
    assert isinstance(flip.threshold, int | float)
    value, up = float(flip.threshold), flip.direction in ("at least", "above")
    return _amount(flip.fact, rounded(value, up=up) if _is_budget(flip.fact) else value)


def _amount(fact: str, value: float) -> str:
    if fact.endswith("_ms"):
        return f"{value:.12g} ms"
    return f"{value / 1e6:.12g} MB" if fact.endswith("_bytes") else f"{value:,.0f}"


def rounded(value: float, *, up: bool) -> float:
    """Three significant digits, up or down."""
    if value <= 0:
        return value
    step = 10.0 ** (floor(log10(value)) - 2)
    return (ceil if up else floor)(value / step) * step


def result(flip: Flip) -> str:
    """What the answer is then: a pick, the same pick with another plan, or none."""
    if not flip.pick:
        return "nothing fits"
    if not flip.adds and not flip.drops:
        return flip.pick
    changes = [f"adds {', '.join(flip.adds)}"] * bool(flip.adds) + [f"drops {', '.join(flip.drops)}"] * bool(flip.drops)
    return f"the same pick, the plan {' and '.join(changes)}"
