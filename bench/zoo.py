"""Every variant of every built card at full size through its contracts, resumable; writes docs/zoo.md.

    python -m bench zoo [NAME ...] [--stale]

NAME is an architecture or "architecture/variant"; without one, every row that is missing, failed, or older than what it tests is run.
`--stale` only lists those. Each row has processes of its own, so a variant that takes too much memory costs its own row and no other.
A row's mark is a digest of what it was measured on: the card's builder, traits and variant, and the source of the modules it builds
from. `tests/test_docs_zoo.py` holds every row to the mark of today.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

from bench.make_costs import built

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "zoo.md"
CONTRACTS = "tests/contracts/test_architecture_contract.py"
COSTS = "tests/test_costs_drift.py"
LIMIT = 1800  # seconds a row may take
HEAD = """# The zoo

Every variant of every built architecture, at full size, through every contract: parameters as its card says, a gradient for every
parameter, any batch and size, an answer that does not depend on what shares its batch, masked padding that changes nothing, the exported file
checked and compared with the module, weights through a file and back, the same seed the same net; and its graphs counted again, fp32 and int8, against
the recorded costs. `make zoo` writes this page, row by row, and goes on where it stopped. A row's mark is a digest of its card and modules; tests
refuse a row whose mark is not today's.

| architecture | variant | parameters | multiply-accumulates | result | seconds | date | mark |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One variant's last run. `result` is "passed" or what failed."""

    architecture: str
    variant: str
    params: int
    macs: int
    result: str
    seconds: int
    date: str
    mark: str

    def __str__(self) -> str:
        cells = (self.architecture, self.variant, f"{self.params:,}", f"{self.macs:,}", self.result, self.seconds, self.date, self.mark)
        return f"| {' | '.join(map(str, cells))} |"


def main(arguments: list[str]) -> int:
    """Exit code 0 when every wanted row has passed."""
    rows, names = read(), [name for name in arguments if not name.startswith("-")]
    wanted = list(due(rows, names))
    if "--stale" in arguments:
        print("\n".join(f"{card['name']}/{size['name']}" for card, size in wanted))
        return 0
    for number, (card, size) in enumerate(wanted, 1):
        print(f"{number}/{len(wanted)}  {card['name']}/{size['name']}", end="  ", flush=True)
        row = run(card, size)
        print(f"{row.result}, {row.seconds} s", flush=True)
        rows = {**read(), (row.architecture, row.variant): row}
        write(rows)
    return 0 if all(rows[card["name"], size["name"]].result == "passed" for card, size in wanted) else 1


def due(rows: Mapping[tuple[str, str], Row], names: list[str]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Named variants, or all that are missing, failed, or older than their card and modules."""
    for card in built():
        for size in card["variant"]:
            row = rows.get((card["name"], size["name"]))
            stale = row is None or row.result != "passed" or row.mark != mark(card, size)
            if {card["name"], f"{card['name']}/{size['name']}"} & set(names) or (stale and not names):
                yield card, size


def run(card: Mapping[str, Any], size: Mapping[str, Any]) -> Row:
    """The contracts over one variant, and its graphs counted again."""
    name, began = f"{card['name']}/{size['name']}", time.monotonic()
    result = _passes(name, CONTRACTS, "test") or _passes(name, COSTS, "counting_again") or "passed"
    seconds, date = round(time.monotonic() - began), datetime.now(UTC).date().isoformat()
    return Row(card["name"], size["name"], size["params"], size["macs"], result, seconds, date, mark(card, size))


def _passes(name: str, tests: str, which: str) -> str:
    """Nothing where these tests pass over the variant, in a process of their own; else what failed. Nothing run is no pass."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        how = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}", f"--basetemp={folder}/tmp", "-k", which]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *how, tests],
                cwd=ROOT,
                env={**os.environ, "ADVISOR_ZOO": name},
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"failed: not done in {LIMIT} s"
        if not report.exists():
            return f"failed: no report, exit code {done.returncode}"
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = [case.get("name", "?").split("[")[0] for case in cases if case.find("failure") is not None or case.find("error") is not None]
    if not any(case.find("skipped") is None for case in cases):
        failed.append(f"nothing ran of {which}")
    return "failed: " + ", ".join(failed) if failed else ""


def mark(card: Mapping[str, Any], size: Mapping[str, Any]) -> str:
    """Twelve digits of what the row rests on: builder, traits, the variant, and the sources of the modules it is built from."""
    meant = {"builds": card["builds"], "traits": card["traits"], "variant": {key: size[key] for key in size if key != "published"}}
    digest = hashlib.sha256(json.dumps(meant, sort_keys=True).encode())
    for path in sorted(modules(card["builds"].split(":")[0])):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def modules(name: str) -> set[Path]:
    """The file of a module and those under advisor/architectures that it imports, all the way down."""
    found: set[Path] = set()
    waiting = [name]
    while waiting:
        path = ROOT / Path(*waiting.pop().split(".")).with_suffix(".py")
        if path in found or not path.exists():
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("advisor.architectures"):
                waiting += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def read(page: Path = PAGE) -> dict[tuple[str, str], Row]:
    """The rows of the page, by architecture and variant."""
    rows: dict[tuple[str, str], Row] = {}
    lines = page.read_text(encoding="utf-8").splitlines() if page.exists() else []
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 8 and cells[2].replace(",", "").isdigit():
            counts = (int(cells[2].replace(",", "")), int(cells[3].replace(",", "")))
            rows[cells[0], cells[1]] = Row(cells[0], cells[1], *counts, cells[4], int(cells[5]), cells[6], cells[7])
    return rows


def write(rows: Mapping[tuple[str, str], Row], page: Path = PAGE) -> None:
    """The page, in the order of the cards; rows of variants that are no more are dropped."""
    order = [(card["name"], size["name"]) for card in built() for size in card["variant"]]
    text = HEAD + "".join(f"{rows[key]}\n" for key in order if key in rows)
    draft = page.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(page)
