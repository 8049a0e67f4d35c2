"""How the engine's cost grows: generated knowledge up to 10,000 rules and 1,000 cards, and recommendations a second over the real one.

`python -m bench engine_scale [SECONDS]`. Two sweeps, each doubling one side and keeping the other: rules with 20 cards, cards with 200
rules. Timed is what a first answer costs (compiling, preparing, holding the contest) and what each further one does; processor time,
the fastest of three. The exponent is the slope of log(time) over log(size): 1 is linear. Then every task of the shipped knowledge, with what-if and without.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rules.facts import Card, Cell, Condition, Device, Facts, Rate, Rule, TaskRow, Then, Variant, When
from rules.ranking import Contest, contest, hold

RULES = (625, 1250, 2500, 5000, 10_000)
CARDS = (62, 125, 250, 500, 1000)
REQUEST: Facts = {"request.latency_ms": 20.0, "request.streaming": True, "request.examples": 5000, "request.licence": "any"}
TRAITS = ("causal", "streaming", "recurrent", "attention", "depthwise", "pretrained")


def main(arguments: list[str]) -> int:
    """Print both sweeps with their exponents, and the rate over the shipped knowledge."""
    seconds = float(arguments[0]) if arguments else 2.0
    _sweep("rules", RULES, lambda size: _contest(rules=size, cards=20))
    _sweep("cards", CARDS, lambda size: _contest(rules=200, cards=size))
    chains = [(size, _fastest(lambda size=size: _chained(size))) for size in RULES]
    print("rules in one chain, each waiting for the one before: seconds " + ", ".join(f"{size:,}: {took:.3f}" for size, took in chains))
    print(f"  exponent {exponent(chains):.2f}")
    _rates(seconds)
    return 0


def _sweep(name: str, sizes: Sequence[int], prepare: Callable[[int], Contest]) -> None:
    firsts, furthers = [], []
    for size in sizes:
        firsts.append((size, _fastest(lambda size=size: hold(prepare(size), REQUEST))))
        ready = prepare(size)
        furthers.append((size, _fastest(lambda ready=ready: hold(ready, REQUEST))))
    print(f"{name:>8}  {'first answer':>12}  {'each further':>12}")
    for (size, first), (_, further) in zip(firsts, furthers, strict=True):
        print(f"{size:>8,}  {1000 * first:>9.1f} ms  {1000 * further:>9.2f} ms")
    print(f"exponent  {exponent(firsts):>12.2f}  {exponent(furthers):>12.2f}")


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The slope of log(time) over log(size), by least squares."""
    xs, ys = ([math.log(point[place]) for point in points] for place in (0, 1))
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def _fastest(work: Callable[[], Any], rounds: int = 3) -> float:
    found = []
    for _ in range(rounds):
        gc.collect()
        since = time.process_time()
        work()
        found.append(time.process_time() - since)
    return min(found)


# -- generated knowledge ---------------------------------------------------------------------------------------------------

BOARD = Device(
    name="board",
    title="a board",
    kind="cpu",
    isa=("aarch64",),
    cores=4,
    ram_bytes=10**10,
    runtimes=("onnxruntime-cpu",),
    precisions=("fp32", "int8"),
    source="made",
    rates={name: Rate(10e9, "macs/s", "made", "estimate") for name in ("fp32", "int8", "memory")},
)


def _contest(*, rules: int, cards: int) -> Contest:
    chance = random.Random(0)
    made = [_card(number, chance) for number in range(cards)]
    cells = tuple(Cell(card.name, "alternative", chance.randint(30, 90), "made", "made") for card in made)
    row = TaskRow("task", "a task", "error", "lower", cells)
    return contest(row, BOARD, cards={card.name: card for card in made}, costs={}, rules=list(_rules(rules, cards, chance)))


def _card(number: int, chance: random.Random) -> Card:
    macs = int(10 ** chance.uniform(5, 9))
    return Card(
        name=f"net-{number}",
        title="a net",
        family=chance.choice(("cnn", "recurrent", "attention")),
        year=chance.randint(2012, 2026),
        status="built",
        reason="",
        source="made",
        licence_code="MIT",
        licence_weights="MIT",
        traits={"int8": "static", **{trait: chance.random() < 0.5 for trait in TRAITS}},
        variants=(Variant("small", macs // 100, macs, "1x3x32x32"),),
    )


def _rules(count: int, cards: int, chance: random.Random) -> Iterator[Rule]:
    """Rules as people write them: most about one net or a trait, some about the request, one in ten by way of a derived fact."""
    for number in range(count):
        about = [Condition(f"card.{chance.choice(TRAITS)}", "is", chance.random() < 0.5)]
        if chance.random() < 0.7:
            about.append(Condition("card.name", "is", f"net-{chance.randrange(max(cards, 20))}"))
        if chance.random() < 0.5:
            about.append(Condition("request.examples", chance.choice(("<", ">=")), chance.randint(0, 10_000)))
        derived = f"derived.{number // 20}"
        kind = number % 20
        then = Then(facts={derived: True}) if kind == 0 else Then(prefer=chance.randint(1, 5)) if kind % 2 else Then(warn="made")
        none = (Condition(derived, "is", True),) if kind == 1 else ()
        all_of = (*about, Condition(derived, "is", True)) if kind == 2 else tuple(about)
        yield Rule(f"made.{number}", When(all=all_of, none=none), then, "made", "made")


def _chained(size: int) -> object:
    """Rules of which each needs what the one before derives: the most rounds that there can be."""
    from rules.engine import compile_rules, judge

    links = [
        Rule(
            f"link.{number}", When(all=(Condition(f"derived.{number}", "is", True),)), Then(facts={f"derived.{number + 1}": True}), "m", "m"
        )
        for number in range(size)
    ]
    first = Rule("first", When(), Then(facts={"derived.0": True}), "m", "m")
    return judge({}, compile_rules([first, *links]))


# -- the shipped knowledge -------------------------------------------------------------------------------------------------


def _rates(seconds: float) -> None:
    from advisor.recommend import recommend
    from rules.facts import Request
    from rules.knowledge import load

    known = load()
    tasks = list(known.tasks)
    rules = len(known.rules) + sum(len(known.task(name).rules) for name in tasks)
    for title, look in (("without what-if", False), ("with what-if", True)):
        requests = [Request(task, device="raspberry-pi-5", latency_ms=2.0 + number) for number in range(50) for task in tasks]
        for request in requests[: len(tasks)]:
            recommend(request, known)  # each task is prepared once
        count, since = 0, time.perf_counter()
        while time.perf_counter() - since < seconds:
            answer = recommend(requests[count % len(requests)], known)
            _ = len(answer.flips) if look else 0
            count += 1
        rate = count / (time.perf_counter() - since)
        print(f"{len(tasks)} tasks, {len(known.cards)} cards, {rules} rules, {title}: {rate:,.0f} recommendations a second")
