"""Rules, cards and devices small enough to read, and hypothesis strategies that make more of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from rules.facts import Card, Cell, Condition, Cost, Device, Flip, Operator, Rate, Rule, TaskRow, Then, Variant, When
from rules.ranking import Contest, contest
from rules.whatif import WHOLE

settings.register_profile("untimed", deadline=None)  # a shared machine is slow now and then, and that is no failure
settings.load_profile("untimed")

PI = Device(
    name="board",
    title="a board",
    kind="cpu",
    isa=("aarch64", "neon"),
    cores=4,
    ram_bytes=1_000_000_000,
    runtimes=("onnxruntime-cpu",),
    precisions=("fp32", "int8"),
    source="sheet",
    rates={
        "fp32": Rate(10e9, "macs/s", "sheet", "published"),
        "int8": Rate(20e9, "macs/s", "sheet", "published"),
        "memory": Rate(5e9, "bytes/s", "sheet", "published"),
        "node": Rate(1e-6, "s", "sheet", "estimate"),
    },
)


def card(name: str, *, params: int = 100_000, macs: int = 10_000_000, status: Any = "built", **traits: Any) -> Card:
    """A card with one variant, "small"."""
    return Card(
        name=name,
        title=name.upper(),
        family="cnn",
        year=2020,
        status=status,
        reason="" if status == "built" else "not built",
        source="paper",
        licence_code="MIT",
        licence_weights="MIT",
        builds="package.module:build" if status == "built" else "",
        traits={"int8": "static", **traits},
        variants=(Variant("small", params, macs, "1x1x32x128"),),
    )


def rule(name: str, *conditions: Condition, any_of: tuple[Condition, ...] = (), none: tuple[Condition, ...] = (), **then: Any) -> Rule:
    """A rule that fires when all the conditions hold."""
    return Rule(name, When(conditions, any_of, none), Then(**then), f"because of {name}", "paper")


def condition(fact: str, op: Any = "is", value: Any = True) -> Condition:
    """A condition; "is true" when nothing else is said."""
    return Condition(fact, op, value)


def row(*names: str, fits: Mapping[str, float] | None = None, rules: tuple[Rule, ...] = (), **more: Any) -> TaskRow:
    """A task whose candidates are these, fit 50 unless said otherwise."""
    cells = tuple(Cell(name, "alternative", (fits or {}).get(name, 50.0), f"{name} is known", "paper") for name in names)
    return TaskRow(name="task", title="A task", metric="error", better="lower", cells=cells, rules=rules, status="built", **more)


def held(cards: list[Card], rules: list[Rule], *, device: Device = PI, fits: Mapping[str, float] | None = None, **more: Any) -> Contest:
    """A contest over these cards and rules."""
    return contest(
        row(*(item.name for item in cards), fits=fits, **more), device, cards={item.name: item for item in cards}, costs={}, rules=rules
    )


def cost(name: str, *operators: Operator, precision: Any = "fp32", size: int = 400_000) -> Cost:
    """A cost table of the card's one variant."""
    return Cost(name, "small", precision, "1x1x32x128", size, 100_000, operators)


def crossed(facts: Mapping[str, Any], flip: Flip, largest: int = 10**12) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The request with the flip's fact crossed, and, where that is a number, with the fact just short of it."""
    at, whole = flip.threshold, flip.fact.partition(".")[2] in WHOLE
    if flip.direction == "becomes":
        return {**facts, flip.fact: {"stated": largest, "not stated": None}.get(at, at) if isinstance(at, str) else at}, None
    assert isinstance(at, int | float)
    up = flip.direction in ("at least", "above")
    beside = at + (1 if up else -1) if whole else math.nextafter(at, math.inf if up else 0)
    before = at + (-1 if up else 1) if whole else math.nextafter(at, 0 if up else math.inf)
    if flip.direction in ("above", "below"):
        return {**facts, flip.fact: beside}, {**facts, flip.fact: at}
    return {**facts, flip.fact: at}, {**facts, flip.fact: before}


# -- strategies ----------------------------------------------------------------------------------------------------------

FLAGS = ("request.streaming", "request.explain", "card.causal", "card.recurrent", "derived.a", "derived.b", "derived.c")
NUMBERS = ("request.examples", "variant.params")

flag_conditions = st.builds(condition, st.sampled_from(FLAGS), st.sampled_from(("is", "is-not")), st.booleans())
known_conditions = st.builds(lambda fact, op: Condition(fact, op), st.sampled_from(FLAGS), st.sampled_from(("known", "unknown")))
number_conditions = st.builds(condition, st.sampled_from(NUMBERS), st.sampled_from(("<", "<=", ">", ">=")), st.integers(0, 200_000))
conditions = st.one_of(flag_conditions, known_conditions, number_conditions)
some_conditions = st.lists(conditions, max_size=2).map(tuple)
whens = st.builds(When, some_conditions, some_conditions, some_conditions)
thens = st.one_of(
    st.just(Then(forbid=True)),
    st.integers(-20, 20).filter(bool).map(lambda weight: Then(prefer=float(weight))),
    st.tuples(st.sampled_from(("derived.a", "derived.b", "derived.c")), st.booleans()).map(lambda pair: Then(facts={pair[0]: pair[1]})),
    st.tuples(st.sampled_from(("prune.align", "qat.epochs")), st.integers(1, 3)).map(lambda pair: Then(set={pair[0]: pair[1]})),
    st.sampled_from(("prune", "qat", "quantize")).map(lambda name: Then(stage=name)),
    st.just(Then(warn="careful")),
)
rule_lists = st.lists(st.tuples(whens, thens), max_size=8).map(
    lambda pairs: [Rule(f"rule.{number}", when, then, f"because {number}", "paper") for number, (when, then) in enumerate(pairs)]
)
fact_maps = st.fixed_dictionaries(
    {},
    optional={
        **{fact: st.booleans() for fact in FLAGS if not fact.startswith("derived.")},
        **{fact: st.integers(0, 200_000) for fact in NUMBERS},
    },
)
card_lists = st.lists(
    st.builds(
        lambda params, macs, status, causal, recurrent: card(
            "x", params=params, macs=macs, status=status, causal=causal, recurrent=recurrent
        ),
        st.integers(1_000, 10_000_000),
        st.integers(0, 10**9),
        st.sampled_from(("built", "built", "reference")),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
).map(lambda cards: [replace(item, name=f"net-{number}") for number, item in enumerate(cards)])
requests = st.fixed_dictionaries(
    {"request.streaming": st.booleans(), "request.explain": st.booleans()},
    optional={
        "request.latency_ms": st.floats(0.01, 1000),
        "request.size_bytes": st.integers(100, 50_000_000),
        "request.ram_bytes": st.integers(100, 50_000_000),
        "request.examples": st.integers(0, 200_000),
    },
)
