"""`python -m bench` lists the benches; `python -m bench NAME ...` runs one. What they print goes to docs/benchmarks.md."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules


def names() -> list[str]:
    """Every bench there is."""
    return sorted(
        module.name for module in iter_modules([str(Path(__file__).parent)]) if not module.ispkg and not module.name.startswith("__")
    )


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in names():
        for name in names():
            doc = (import_module(f"bench.{name}").__doc__ or "").strip().splitlines()
            print(f"{name:<16} {doc[0] if doc else ''}")
        return 0 if not arguments else 2
    return int(import_module(f"bench.{arguments[0]}").main(arguments[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
