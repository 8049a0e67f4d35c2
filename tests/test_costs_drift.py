"""The recorded costs are those of the graphs that the builders export today; `make costs` writes them anew.

Three are counted again here; `make zoo` counts every variant (ADVISOR_ZOO names it).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.make_costs import KNOWLEDGE, built, count, shape_of, stand_in, text

CARDS = {card["name"]: card for card in built()}


def recorded(architecture: str) -> dict[str, Any]:
    return json.loads((KNOWLEDGE / "costs" / f"{architecture}.json").read_text(encoding="utf-8"))


AGAIN = [tuple(name.split("/")) for name in os.environ.get("ADVISOR_ZOO", "crnn/micro,svtr/tiny,cnn-ctc/small").split(",") if "/" in name]


@pytest.mark.parametrize(("architecture", "variant"), AGAIN)
def test_counting_again_gives_what_is_recorded(architecture: str, variant: str) -> None:
    counted = json.loads(text(architecture, count(CARDS[architecture], variant)))["costs"]
    kept = [cost for cost in recorded(architecture)["costs"] if cost["variant"] == variant]
    assert [{**cost, "size_bytes": 0} for cost in counted] == [{**cost, "size_bytes": 0} for cost in kept]
    for cost, before in zip(counted, kept, strict=True):
        # A zero point is stored as a varint: 127 takes one byte and 128 two, and which it is hangs on the last bit of a calibrated range.
        assert abs(cost["size_bytes"] - before["size_bytes"]) <= (len(cost["operators"]) if cost["precision"] == "int8" else 0)


@pytest.mark.parametrize("architecture", CARDS)
def test_every_built_variant_is_counted_in_both_precisions_and_no_other(architecture: str) -> None:
    found = [(cost["variant"], cost["precision"], cost["shape"]) for cost in recorded(architecture)["costs"]]
    precisions = ("fp32",) if CARDS[architecture]["traits"]["int8"] == "none" else ("fp32", "int8")
    wanted = []
    for size in CARDS[architecture]["variant"]:
        shapes = [shape_of(feeds) for feeds in stand_in(architecture, size)[1].probes().values()]
        wanted += [(size["name"], precision, shape) for precision in precisions for shape in shapes]
    assert found == wanted


@pytest.mark.parametrize("architecture", CARDS)
def test_a_card_says_what_was_counted(architecture: str) -> None:
    for size in CARDS[architecture]["variant"]:
        mine = [cost for cost in recorded(architecture)["costs"] if cost["variant"] == size["name"]]
        assert {cost["params"] for cost in mine} == {size["params"]}
        at_its_shape = [cost for cost in mine if cost["shape"] == size["shape"]]
        assert {sum(operator["macs"] for operator in cost["operators"]) for cost in at_its_shape} == {size["macs"]}


@pytest.mark.parametrize("architecture", [name for name in CARDS if name in ("crnn", "svtr", "cnn-ctc")])
def test_costs_grow_with_the_line_and_the_weights_do_not(architecture: str) -> None:
    costs = {(cost["variant"], cost["precision"], cost["shape"]): cost for cost in recorded(architecture)["costs"]}
    for (variant, precision, shape), narrow in costs.items():
        if shape == "1x1x32x128":
            wide = costs[variant, precision, "1x1x32x320"]
            assert sum(operator["macs"] for operator in wide["operators"]) >= 2.5 * sum(
                operator["macs"] for operator in narrow["operators"]
            )
            assert [operator["weight_bytes"] for operator in wide["operators"]] == [
                operator["weight_bytes"] for operator in narrow["operators"]
            ]
            assert wide["size_bytes"] == narrow["size_bytes"] > sum(operator["weight_bytes"] for operator in narrow["operators"]) * 0.9


def test_the_macs_of_a_hand_counted_net_are_exact() -> None:
    """crnn micro at 32 x 128, layer by layer: rows, columns, weights of a pixel."""
    rows = [(16, 64, 9 * 16), (16, 64, 9 * 16 * 16), (8, 32, 9 * 16 * 32), (4, 32, 9 * 32 * 32), (2, 32, 9 * 32 * 48), (1, 32, 2 * 48 * 48)]
    convolutions = sum(height * width * weights for height, width, weights in rows)
    recurrent = 32 * 2 * 4 * 32 * (48 + 32)
    head = 32 * 64 * 96
    cost = next(cost for cost in recorded("crnn")["costs"] if (cost["variant"], cost["shape"]) == ("micro", "1x1x32x128"))
    assert sum(operator["macs"] for operator in cost["operators"]) == convolutions + recurrent + head


def test_the_knowledge_folder_holds_no_costs_of_a_card_that_is_gone() -> None:
    assert {path.stem for path in Path(KNOWLEDGE / "costs").glob("*.json")} == set(CARDS)
