"""The tasks: one module each, found by its name. Each holds a TASK."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any


def names() -> list[str]:
    """Every built-in task, as the matrix names it."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__))


def task(name: str) -> Any:
    """The TASK of one of `names()`."""
    return import_module(f"advisor.tasks.{name.replace('-', '_')}").TASK
