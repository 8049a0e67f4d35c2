"""What every entry of the knowledge must keep: each task, card, device, rule and source, as files are added."""

from __future__ import annotations

from pathlib import Path

import pytest

from rules.engine import compile_rules
from rules.facts import STAGES
from rules.knowledge import load
from rules.lint import lint
from rules.lint_facts import dead_sources

ROOT = Path(__file__).parent.parent.parent
KNOWN = load()
RULES = {rule.id: rule for rule in (*KNOWN.rules, *(rule for row in KNOWN.tasks.values() for rule in row.rules))}


def test_every_file_is_sound_and_every_source_resolves():
    assert [str(problem) for problem in KNOWN.everything()] == []


def test_no_rule_contradicts_another_or_can_never_fire():
    assert [str(finding) for finding in lint(KNOWN) if finding.severity != "note"] == []


def test_the_matrix_has_the_article_rows_and_five_devices():
    assert {
        "ocr",
        "image-classification",
        "video-action-recognition",
        "machine-translation",
        "speech-recognition",
        "recommendation",
    } <= set(KNOWN.tasks)
    assert {"x86-avx2", "raspberry-pi-4", "raspberry-pi-5"} <= set(KNOWN.devices) and len(KNOWN.devices) >= 4
    assert {"cpu", "gpu", "npu", "mcu"} <= {device.kind for device in KNOWN.devices.values()}


@pytest.mark.parametrize("name", KNOWN.tasks)
def test_a_task_has_candidates_and_its_aliases_are_its_own(name):
    row = KNOWN.tasks[name]
    assert sum(cell.role == "pick" for cell in row.cells) >= 1
    for alias in row.aliases:
        assert KNOWN.task(alias) is row
        assert alias not in KNOWN.tasks
        assert sum(alias in other.aliases for other in KNOWN.tasks.values()) == 1
    if row.status == "built":
        assert any(KNOWN.cards[cell.architecture].status == "built" for cell in row.cells)
        assert (ROOT / "advisor/tasks" / f"{name.replace('-', '_')}.py").is_file()


@pytest.mark.parametrize("name", KNOWN.tasks)
def test_the_rules_of_a_task_can_be_run_together(name):
    assert compile_rules(KNOWN.rules_for(KNOWN.tasks[name])).circular == ()


@pytest.mark.parametrize("name", KNOWN.cards)
def test_a_card_says_where_its_numbers_come_from(name):
    card = KNOWN.cards[name]
    assert card.licence_code and card.licence_weights and card.source in KNOWN.sources
    assert card.traits.get("int8") in ("static", "hybrid", "dynamic", "mixed", "poor", "none")
    for variant in card.variants:
        assert variant.source and variant.kind in ("measured", "published", "estimate")
    for item in card.evidence:
        assert item.kind in ("measured", "published", "estimate") and item.unit and item.on
        measured = KNOWN.sources[item.source].kind == "measurement"
        assert measured == (item.kind == "measured") or item.kind == "estimate", f"{item.what} is {item.kind} by {item.source}"


@pytest.mark.parametrize("name", [name for name, card in KNOWN.cards.items() if card.status == "built"])
def test_a_built_card_has_a_builder_and_a_counted_graph_for_each_variant(name):
    card = KNOWN.cards[name]
    module, _, function = card.builds.partition(":")
    path = ROOT / (module.replace(".", "/") + ".py")
    assert path.is_file() and f"def {function}(" in path.read_text(encoding="utf-8")
    counted = {cost.variant: cost for cost in KNOWN.costs[name] if cost.precision == "fp32"}
    for variant in card.variants:
        assert variant.params > 0 and variant.macs > 0
        assert counted[variant.name].params == variant.params


@pytest.mark.parametrize("name", KNOWN.cards)
def test_a_card_is_on_the_matrix(name):
    assert any(cell.architecture == name for row in KNOWN.tasks.values() for cell in row.cells)


@pytest.mark.parametrize("name", KNOWN.devices)
def test_a_device_has_rates_for_what_it_ships(name):
    device = KNOWN.devices[name]
    assert "fp32" in device.precisions or device.kind == "npu"  # an accelerator may know integers only
    assert device.precisions and device.source in KNOWN.sources
    assert {"memory", "node"} <= set(device.rates)
    assert all(precision in device.rates for precision in device.precisions)
    for rate in device.rates.values():
        assert rate.kind != "measured" or KNOWN.sources[rate.source].kind == "measurement"


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_why_by_whom_and_what(name):
    rule = RULES[name]
    assert rule.because and rule.source in KNOWN.sources and rule.origin.startswith("rules/knowledge/")
    assert name.partition(".")[2], "a rule's id is area.what"
    assert not rule.then.stage or rule.then.stage in STAGES


def test_every_setting_that_a_rule_sets_is_one_its_stage_has():
    from compress.plan import parse

    for rule in RULES.values():
        for key, value in rule.then.set.items():
            stage, _, setting = key.partition(".")
            parse({"schema_version": 1, "task": "ocr", "stage": [{"name": stage, setting: value}]}, rule.id)


DEAD = {finding.key for finding in dead_sources(KNOWN)}


@pytest.mark.parametrize("name", KNOWN.sources)
def test_a_source_can_be_found_and_is_used(name):
    source = KNOWN.sources[name]
    assert source.url.startswith(("https://", "docs/"))
    if source.url.startswith("docs/"):
        assert (ROOT / source.url.partition("#")[0]).is_file()
    assert f"source {name!r}" not in DEAD
