"""A condition `{fact, op, value}` as a test over facts: a fixed list of operators, nothing evaluated.

A fact that is not known meets no condition but `unknown`. A comparison between different kinds of value is a `Mismatch`,
which the engine reports; it is never quietly false.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rules.facts import Condition, Facts, Value

Test = Callable[[Facts], bool]

REQUEST = (
    "task",
    "device",
    "latency_ms",
    "size_bytes",
    "ram_bytes",
    "streaming",
    "examples",
    "charset_size",
    "pretrained",
    "explain",
    "licence",
    "percentile",
    "flash_bytes",
    "energy",
    "per_class",
    "classes",
    "length",
    "resolution",
    "generate",
    "runtime",
    "precision",
    "per_pixel",  # a task's, as is the next: worked out, never stated
    "output_values",
)
DEVICE = ("name", "kind", "isa", "cores", "ram_bytes", "runtimes", "precisions", "integer_format", "align", "opset", "ir_version")
CARD = ("name", "family", "year", "status", "licence_code", "licence_weights")  # and every trait
VARIANT = ("name", "params", "macs")
CELL = ("role", "fit")
CANDIDATE = ("latency_ms_low", "latency_ms_mid", "latency_ms_high", "size_bytes", "ram_bytes", "precision")
NAMESPACES: dict[str, tuple[str, ...]] = {  # card and derived are open: traits come from the cards, derived facts from the rules
    "request": REQUEST,
    "device": DEVICE,
    "card": (),
    "variant": VARIANT,
    "cell": CELL,
    "candidate": CANDIDATE,
    "derived": (),
}
OPERATORS = ("is", "is-not", "<", "<=", ">", ">=", "in", "not-in", "has", "known", "unknown")
SAID = {"is": "is", "is-not": "is not", "<": "<", "<=": "≤", ">": ">", ">=": "≥", "in": "is one of", "not-in": "is none of", "has": "has"}


class Mismatch(Exception):
    """A condition that cannot be decided: kinds differ, or there is no such operator."""


def kind_of(value: object) -> str:
    """ "flag", "number", "text" or "list": what may be compared with what."""
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        return "number"
    return "list" if isinstance(value, tuple | list) else "text"


def negative(condition: Condition, *, in_none: bool) -> bool:
    """Whether the condition is met by the absence of its fact, so that the fact must be settled first."""
    return in_none is not (condition.op == "unknown")


def as_test(condition: Condition) -> Test:
    """The condition as a function of the facts. Errs (Mismatch) when called, never here, so that a bad rule stays one rule."""
    fact, op, wanted = condition.fact, condition.op, condition.value
    if op == "known":
        return lambda facts: facts.get(fact) is not None
    if op == "unknown":
        return lambda facts: facts.get(fact) is None
    if op not in OPERATORS or wanted is None:
        return _fails(f"there is no operator {op!r}" if op not in OPERATORS else f"{fact} {op} needs a value")
    if op in ("<", "<=", ">", ">="):
        return _ordering(fact, op, wanted)
    if op in ("in", "not-in"):
        return _membership(fact, op, wanted)
    if op == "has":
        return _having(fact, wanted)
    return _equality(fact, op, wanted)


def _fails(message: str) -> Test:
    def test(facts: Facts) -> bool:
        raise Mismatch(message)

    return test


def _clash(fact: str, found: object, op: str, wanted: object) -> Mismatch:
    return Mismatch(f"{fact} is {found!r}, a {kind_of(found)}, and cannot be compared by {op!r} with {wanted!r}, a {kind_of(wanted)}")


def _ordering(fact: str, op: str, wanted: Value) -> Test:
    if kind_of(wanted) != "number":
        return _fails(f"{op!r} needs a number, not {wanted!r}")
    compare: Callable[[Any, Any], bool] = {"<": _below, "<=": _at_most, ">": _above, ">=": _at_least}[op]

    def test(facts: Facts) -> bool:
        found = facts.get(fact)
        if found is None:
            return False
        if type(found) is not int and type(found) is not float:
            raise _clash(fact, found, op, wanted)
        return compare(found, wanted)

    return test


def _below(found: Any, wanted: Any) -> bool:
    return bool(found < wanted)


def _at_most(found: Any, wanted: Any) -> bool:
    return bool(found <= wanted)


def _above(found: Any, wanted: Any) -> bool:
    return bool(found > wanted)


def _at_least(found: Any, wanted: Any) -> bool:
    return bool(found >= wanted)


def _membership(fact: str, op: str, wanted: Value) -> Test:
    if not isinstance(wanted, tuple):
        return _fails(f"{op!r} needs a list, not {wanted!r}")

    def test(facts: Facts) -> bool:
        found = facts.get(fact)
        if found is None:
            return False
        if type(found) is not str:
            raise _clash(fact, found, op, wanted)
        return (found in wanted) is (op == "in")

    return test


def _having(fact: str, wanted: Value) -> Test:
    def test(facts: Facts) -> bool:
        found = facts.get(fact)
        if found is None:
            return False
        if not isinstance(found, tuple):
            raise _clash(fact, found, "has", wanted)
        return wanted in found

    return test


def _equality(fact: str, op: str, wanted: Value) -> Test:
    kind = kind_of(wanted)

    def test(facts: Facts) -> bool:
        found = facts.get(fact)
        if found is None:
            return False
        if kind_of(found) != kind:
            raise _clash(fact, found, op, wanted)
        return (found == wanted) is (op == "is")

    return test


def in_words(condition: Condition, facts: Facts) -> str:
    """A met condition as a sentence with what was found: `request.examples < 10000 (it is 500)`."""
    fact, op = condition.fact, condition.op
    found = facts.get(fact)
    if op == "unknown":
        return f"{fact} is not stated"
    if op == "known":
        return f"{fact} is stated ({plainly(found)})"
    said = f"{fact} {SAID.get(op, op)} {plainly(condition.value)}"
    return said if op in ("is", "has") else f"{said} (it is {plainly(found)})"


def plainly(value: object) -> str:
    """A value as people write it: true, 10000, u8s8, a, b."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.0f}"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
