"""From a card to a module, and the refusals on the way."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from advisor.instantiate import builder, module, settings_for, spec_settings
from rules.facts import Card, Cell, TaskRow, Variant
from rules.problems import Exit, Problem

SMALL = {"channels": [8, 8, 8, 8, 8], "hidden": 4}


def card(name: str, **changes: object) -> Card:
    fields = {
        "builds": "advisor.architectures.crnn:build",
        "status": "built",
        "reason": "",
        "variants": (Variant("small", 1, 1, "", SMALL),),
    }
    fields |= changes
    return Card(name, name, "cnn", 2015, source="s", licence_code="", licence_weights="", **fields)  # type: ignore[arg-type]


def cell(architecture: str, fit: float) -> Cell:
    return Cell(architecture, "alternative", fit, "because", "s")


@dataclass(frozen=True)
class Known:
    cards: dict[str, Card] = field(default_factory=dict)
    tasks: dict[str, TaskRow] = field(default_factory=dict)


TROCR = card("trocr", status="reference", builds="", reason="too big for the edge")
ROW = TaskRow("ocr", "OCR", "CER", "lower", (cell("trocr", 90), cell("crnn", 80), cell("svtr", 85), cell("vitstr", 87)))
OTHER = TaskRow("speech", "ASR", "WER", "lower", (cell("conformer", 99),))
CARDS = {name: card(name) for name in ("crnn", "svtr", "conformer")} | {"trocr": TROCR}
KNOWN = Known(CARDS, {"ocr": ROW, "speech": OTHER})


def test_a_variant_is_its_settings_and_the_classes_of_the_data() -> None:
    assert settings_for(CARDS["crnn"], "small", classes=11) == {"classes": 11, **SMALL}
    assert spec_settings(KNOWN, "crnn", "small", classes=11) == ("advisor.architectures.crnn:build", {"classes": 11, **SMALL})


def test_a_module_is_built_from_them() -> None:
    assert module(CARDS["crnn"], "small", classes=11).head.out_features == 11  # type: ignore[union-attr]


def test_a_misspelt_architecture_or_variant_gets_the_nearest_name() -> None:
    with pytest.raises(Problem, match="unknown architecture 'crn'; did you mean 'crnn'") as wrong:
        spec_settings(KNOWN, "crn", "small", classes=11)
    assert wrong.value.code == Exit.USAGE
    with pytest.raises(Problem, match="unknown variant of crnn 'smal'; did you mean 'small'"):
        settings_for(CARDS["crnn"], "smal", classes=11)


def test_a_reference_is_refused_with_the_best_built_architecture_of_its_task() -> None:
    with pytest.raises(Problem) as wrong:
        spec_settings(KNOWN, "trocr", "small", classes=11)
    assert str(wrong.value) == "trocr is a reference and is not built: too big for the edge (advisor builds svtr)"
    assert wrong.value.code == Exit.USAGE
    with pytest.raises(Problem, match="trocr is a reference"):
        module(TROCR, "small", classes=11)


def test_settings_need_no_torch_and_a_module_without_it_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import advisor.instantiate as place\n"
        "from rules.problems import Problem\n"
        "try:\n    place.builder('advisor.architectures.crnn:build')\n"
        "except Problem as problem:\n    print(int(problem.code), problem)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("5 ")
    assert "pip install 'edge-advisor[train]'" in done.stdout


def test_our_own_missing_module_is_not_blamed_on_torch() -> None:
    with pytest.raises(ModuleNotFoundError):
        builder("advisor.architectures.nowhere:build")
