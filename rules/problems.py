"""A problem is something the user can mend: what, got, allowed, what to do.

Raised anywhere, printed once by `cli.py` as one line. Anything that is not a `Problem` is our bug.
This module imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the `advisor` command."""

    DONE = 0
    FAILED = 1  # a gate failed, or there are findings
    USAGE = 2  # usage or configuration
    INPUT = 3  # a model or data was refused
    UNJUDGED = 4  # the device is missing, or the measurement is too noisy to judge
    ENVIRONMENT = 5  # a missing extra, a full disk, no memory
    BUG = 70


class Problem(Exception):
    """What is wrong, in one line the user can act on.

    >>> str(Problem("unknown device 'rpi'", remedy="advisor devices lists all"))
    "unknown device 'rpi' (advisor devices lists all)"
    """

    def __init__(self, what: str, *, remedy: str | None = None, code: Exit = Exit.USAGE) -> None:
        super().__init__(what if remedy is None else f"{what} ({remedy})")
        self.what = what
        self.remedy = remedy
        self.code = code


def bad_input(what: str, *, remedy: str | None = None) -> Problem:
    """A model or a data file that is refused: exit 3."""
    return Problem(what, remedy=remedy, code=Exit.INPUT)


def bad_environment(what: str, *, remedy: str | None = None) -> Problem:
    """A missing extra, a full disk, no memory: exit 5."""
    return Problem(what, remedy=remedy, code=Exit.ENVIRONMENT)


def unknown(kind: str, name: str, known: Iterable[str], *, remedy: str | None = None) -> Problem:
    """`unknown device 'rasberry-pi-5'; did you mean 'raspberry-pi-5'? (advisor devices lists all)`."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}" if names else ""
    return Problem(f"unknown {kind} {name!r}{hint}", remedy=remedy)
