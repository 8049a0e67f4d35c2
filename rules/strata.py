"""Which rules have to wait for which: strata, in time linear in the rules and what they look at.

A rule comes after every rule whose conclusion it needs to be absent (stratified Datalog: Apt, Blair and Walker 1988). Rules and derived
facts are the nodes of a graph, an edge is heavy where absence is asked for; strongly connected parts are found in one pass (Tarjan 1972).
A part with a heavy edge inside can never be settled, nor can what depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rules.conditions import negative
from rules.facts import Rule

Edges = Sequence[Sequence[tuple[int, int]]]  # of each node: (node that follows from it, 1 where its absence is asked for)


def levels(rules: Sequence[Rule]) -> tuple[dict[int, int], list[int]]:
    """The stratum of each rule by its place, and the places of the rules that can never be settled."""
    edges = _edges(rules)
    level = [0] * len(edges)
    lost = [False] * len(edges)
    for part in reversed(list(parts(edges))):  # what comes first, first
        inside = set(part) if len(part) > 1 else {part[0]}
        highest = max([level[node] for node in part])
        broken = any(lost[node] for node in part) or any(step and end in inside for node in part for end, step in edges[node])
        for node in part:
            level[node], lost[node] = highest, broken
            for end, step in edges[node]:
                if end not in inside:
                    level[end] = max(level[end], highest + step)
                    lost[end] = lost[end] or broken
    settled = {number: level[number] for number in range(len(rules)) if not lost[number]}
    return settled, [number for number in range(len(rules)) if lost[number]]


def _edges(rules: Sequence[Rule]) -> list[list[tuple[int, int]]]:
    """Rules by their place, then the derived facts that some rule asserts."""
    facts = {fact: len(rules) + place for place, fact in enumerate(dict.fromkeys(fact for rule in rules for fact in rule.then.facts))}
    edges: list[list[tuple[int, int]]] = [[] for _ in range(len(rules) + len(facts))]
    for number, rule in enumerate(rules):
        edges[number] += [(facts[fact], 0) for fact in rule.then.facts]
        for conditions, barring in (((*rule.when.all, *rule.when.any), False), (rule.when.none, True)):
            for condition in conditions:
                if condition.fact in facts:
                    edges[facts[condition.fact]].append((number, int(negative(condition, in_none=barring))))
    return edges


def parts(edges: Edges) -> Iterator[list[int]]:
    """The strongly connected parts, each after all that follow from it. Without recursion: a chain may be as long as there are rules."""
    index: dict[int, int] = {}
    lowest: dict[int, int] = {}
    stack: list[int] = []
    waiting: set[int] = set()
    for root in range(len(edges)):
        if root in index:
            continue
        path = [(root, iter(edges[root]))]
        index[root] = lowest[root] = len(index)
        stack.append(root)
        waiting.add(root)
        while path:
            node, following = path[-1]
            for end, _ in following:
                if end not in index:
                    index[end] = lowest[end] = len(index)
                    stack.append(end)
                    waiting.add(end)
                    path.append((end, iter(edges[end])))
                    break
                if end in waiting:
                    lowest[node] = min(lowest[node], index[end])
            else:
                path.pop()
                if path:
                    lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[node])
                if lowest[node] == index[node]:
                    yield _popped(stack, waiting, node)


def _popped(stack: list[int], waiting: set[int], root: int) -> list[int]:
    part: list[int] = []
    while not part or part[-1] != root:
        part.append(stack.pop())
        waiting.discard(part[-1])
    return part
