"""Facts of a request that are worked out from others: what a condition cannot multiply for itself.

`request.output_values`: class scores written for one input where each pixel gets its own (`request.per_pixel`), classes × resolution².
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rules.facts import Facts

COMPUTED = ("output_values",)


def with_computed(request: Facts) -> Facts:
    """The same facts, and those that follow from them."""
    classes, resolution = request.get("request.classes"), request.get("request.resolution")
    if request.get("request.per_pixel") is True and isinstance(classes, int | float) and isinstance(resolution, int | float):
        return {**request, "request.output_values": classes * resolution * resolution}
    return {**request, "request.output_values": None} if "request.output_values" in request else request


def through(name: str, request: Facts, compared: Mapping[str, Sequence[float]]) -> Iterator[float]:
    """The values of a stated fact at which a computed one reaches what rules compare it with."""
    classes, resolution = request.get("request.classes"), request.get("request.resolution")
    for value in compared.get("output_values", ()):
        if name == "classes" and isinstance(resolution, int | float) and resolution > 0:
            yield value / (resolution * resolution)
        if name == "resolution" and isinstance(classes, int | float) and classes > 0:
            yield float((value / classes) ** 0.5)
