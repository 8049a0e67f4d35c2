"""docs/zoo.md holds a passed row for every built variant, measured on the card and modules of today; `make zoo` writes what is wanting."""

from __future__ import annotations

import pytest

from bench.make_costs import built
from bench.zoo import Row, due, mark, modules, read, write

ROWS = read()
EVERY = [(card, size) for card in built() for size in card["variant"]]


@pytest.mark.parametrize(("card", "size"), EVERY, ids=[f"{card['name']}-{size['name']}" for card, size in EVERY])
def test_the_row_is_no_older_than_its_card_and_modules(card, size):
    row = ROWS.get((card["name"], size["name"]))
    assert row is not None, "run `make zoo`"
    assert row.result == "passed"
    assert row.mark == mark(card, size), "its card or module changed since: run `make zoo`"
    assert (row.params, row.macs) == (size["params"], size["macs"])


def test_a_row_goes_through_the_page_and_back_and_one_of_no_variant_is_dropped(tmp_path):
    card, size = EVERY[0]
    mine = Row(card["name"], size["name"], 12_345, 0, "failed: a, b", 7, "2026-11-26", "0123456789ab")
    gone = Row("no-such-net", "default", 1, 1, "passed", 1, "2026-11-26", "0123456789ab")
    write({(row.architecture, row.variant): row for row in (mine, gone)}, tmp_path / "zoo.md")
    assert read(tmp_path / "zoo.md") == {(mine.architecture, mine.variant): mine}


def test_what_is_missing_failed_or_older_is_due_and_what_passed_is_not():
    card, size = EVERY[0]
    key = (card["name"], size["name"])
    sound = Row(*key, 1, 1, "passed", 1, "2026-11-26", mark(card, size))
    assert key not in {(a["name"], b["name"]) for a, b in due({key: sound}, [])}
    for row in ({}, {key: Row(*key, 1, 1, "failed: x", 1, "", sound.mark)}, {key: Row(*key, 1, 1, "passed", 1, "", "older")}):
        assert key in {(a["name"], b["name"]) for a, b in due(row, [])}
    assert [(a["name"], b["name"]) for a, b in due({key: sound}, ["/".join(key)])] == [key], "what is named is run again"


def test_a_mark_changes_with_the_variant_and_with_every_module_it_is_built_from():
    card, size = EVERY[0]
    assert mark(card, size) != mark(card, {**size, "params": size["params"] + 1})
    assert mark(card, size) == mark(card, {**size, "published": {"params": 1, "source": "x"}})
    found = {path.name for path in modules("advisor.architectures.mobilefacenet")}
    assert {"mobilefacenet.py", "embedding.py"} <= found
