"""The tasks: one module each, found by its name. Each holds a TASK."""

from __future__ import annotations

from pkgutil import iter_modules


def names() -> list[str]:
    """Every built-in task."""
    return sorted(module.name for module in iter_modules(__path__))
