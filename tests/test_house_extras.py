"""Whoever is told to install an extra can: every one that a message or a page names is declared, and the doctor knows what it brings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from advisor.doctor import EXTRAS

ROOT = Path(__file__).resolve().parent.parent
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
TOLD = [
    ROOT / "cli.py",
    *ROOT.glob("README.md"),
    *(path for room in ("advisor", "compress", "rules", "docs") for path in sorted((ROOT / room).rglob("*.[pm][yd]"))),
]


def test_every_extra_that_somebody_is_told_to_install_is_declared() -> None:
    named = {(path.name, extra) for path in TOLD for extra in re.findall(r"edge-advisor\[(\w+)\]", path.read_text(encoding="utf-8"))}
    assert len(named) > 10
    assert {(name, extra) for name, extra in named if extra not in DECLARED} == set()


def test_the_doctor_looks_for_every_extra_and_all_holds_them() -> None:
    assert set(EXTRAS) == set(DECLARED) - {"dev", "all"}
    assert DECLARED["all"] == [f"edge-advisor[{','.join([*EXTRAS, 'dev'])}]"]
    for extra, brings in EXTRAS.items():
        said = {re.split(r"[\[>=<]", line)[0] for line in DECLARED[extra]}
        assert set(brings) <= said, extra
