"""What stands before a logarithm at the start of a graph: a spectrogram that a net makes for itself, which no integer can hold.

Powers of a quiet and of a loud sound are 10⁸ apart and 8 bits tell 256 steps apart, so everything up to the logarithm stays float:
its matrices are constants of a transform, never learned. Told by content: a `Log` with up to three products before it and at least one
behind it (a Fourier transform in two steps and its mel bands; a logarithm at the end of a net, or deep inside it, is none). No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from compress.graph.reading import PRODUCTS, Graph, Node

MOST = 3  # products before the logarithm


def front(graph: Graph) -> tuple[Node, ...]:
    """The nodes up to and with such a logarithm, in the order of the file; empty where there is none."""
    makers, readers = graph.makers(), graph.readers()
    found: set[int] = set()
    for node in graph.nodes:
        if node.op != "Log":
            continue
        before = _reach([node], lambda item: [makers[name] for name in item.inputs if name in makers])
        after = _reach([node], lambda item: [reader for name in item.outputs for reader in readers.get(name, ())])
        if 0 < _products(before) <= MOST and _products(after):
            found |= set(before)
    return tuple(node for node in graph.nodes if id(node) in found)


def _reach(start: Sequence[Node], step: Callable[[Node], list[Node]]) -> Mapping[int, Node]:
    """Every node that is reached by steps from `start`, by identity."""
    seen: dict[int, Node] = {}
    waiting = list(start)
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen[id(node)] = node
            waiting += step(node)
    return seen


def _products(nodes: Mapping[int, Node]) -> int:
    return sum(node.op in PRODUCTS for node in nodes.values())
