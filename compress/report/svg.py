"""Small SVG: elements, scales, ticks and number formats. Every attribute and text is escaped here, so a hostile name stays a name.

Colours and type come from the page's style sheet through classes, which keeps the charts right in the dark and on paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element. `class_` becomes `class`, other underscores become hyphens; an attribute that is None is left out."""
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    head = "".join(f' {key}="{escape(short(value) if isinstance(value, float) else value)}"' for key, value in pairs)
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{name}{head}>{inner}</{name}>" if inner else f"<{name}{head}/>")


def group(children: Iterable[object], **attributes: object) -> Markup:
    """A `g` of many children."""
    return tag("g", *children, **attributes)


def picture(width: int, height: int, *children: object, title: str, id: str, kind: str = "chart") -> Markup:
    """An `svg` that scales to its column and says to a screen reader what it shows."""
    return tag(
        "svg",
        tag("title", title, id=f"{id}-title"),
        *children,
        viewBox=f"0 0 {width} {height}",
        role="img",
        class_=kind,
        aria_labelledby=f"{id}-title",
    )


def short(value: float) -> str:
    """A coordinate with at most two decimals, the same on every machine."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels, straight or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(part) for part in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values inside the scale."""
        return decades(self.low, self.high) if self.log else round_steps(self.low, self.high, count)


def round_steps(low: float, high: float, count: int = 5) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten between `low` and `high`."""
    if high <= low:
        return [low]
    rough = (high - low) / max(1, count)
    base = 10.0 ** math.floor(math.log10(rough))
    step = next(base * factor for factor in (1, 2, 2.5, 5, 10) if base * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten; only the powers where the range spans many."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(exponents) <= 3 else (1,)
    return [value for exponent in exponents for factor in factors if low * 0.999 <= (value := factor * 10.0**exponent) <= high * 1.001]


def number(value: float, digits: int = 3) -> str:
    """A plain number with so many significant digits: `0.402`, `5312`, `1.3e-05`."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4:
        return f"{value:.{digits - 1}g}"
    text = f"{value:.{max(0, digits - 1 - magnitude)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def size(count: float) -> str:
    """`263 kB`, `5.31 MB`."""
    for unit, limit in (("MB", 1e6), ("kB", 1e3)):
        if count >= limit:
            return f"{number(count / limit, 3)} {unit}"
    return f"{count:.0f} B"


def polyline(points: Sequence[tuple[float, float]], **attributes: object) -> Markup:
    """A line through points in pixels."""
    return tag("polyline", points=" ".join(f"{short(x)},{short(y)}" for x, y in points), **attributes)
