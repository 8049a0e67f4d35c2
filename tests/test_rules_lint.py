"""Lint finds what cannot be meant, names file and key, and leaves sound knowledge alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from rules.engine import compile_rules, judge
from rules.facts import Condition, When
from rules.finding import Finding, exit_code
from rules.knowledge import Knowledge, load
from rules.lint import lint
from rules.lint_rules import findings
from rules.overlap import alternatives, covers, makers_of, possible
from rules.overlay import disagreeing, settled
from rules.problems import Exit
from tests.rules_for_tests import PI, card, condition, fact_maps, row, rule, rule_lists, whens
from tests.test_rules_knowledge import CARD, DEVICE, FILES, SOURCES

CARDS = [card("a", causal=True, recurrent=False), card("b", causal=False, recurrent=False)]
CELLS = [settled("task", cell, card) for cell, card in zip(row("a", "b").cells, CARDS, strict=True)]
STATED = {"request.streaming": False, "request.explain": False}  # never unknown in a request
causal = condition("card.causal")


def said(rules, **more) -> list[str]:
    return [f"{finding.key}: {finding.what}" for finding in findings(rules, CELLS, **more)]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([rule("r", condition("derived.nowhere"), prefer=1.0)], "can never fire: no rule asserts derived.nowhere is true"),
        (
            [rule("r", condition("derived.x", value="b"), prefer=1.0), rule("s", facts={"derived.x": "a"})],
            "can never fire: no rule asserts derived.x is b",
        ),
        ([rule("r", condition("card.recurrent"), prefer=1.0)], "can never fire: no candidate has card.recurrent is true"),
        ([rule("r", condition("card.recurent"), prefer=1.0)], "can never fire: no candidate has card.recurent is true"),
        ([rule("r", condition("card.name", value="a"), condition("card.causal", value=False), prefer=1.0)], "no candidate has all of"),
        ([rule("r", condition("variant.params", ">", 10**9), prefer=1.0)], "no candidate has variant.params > 1000000000"),
        (
            [rule("r", Condition("request.examples", "<", 10), Condition("request.examples", ">", 20), prefer=1.0)],
            "can never fire: no value meets its conditions on request.examples",
        ),
        ([rule("r", Condition("request.examples", ">", 10), Condition("request.examples", "<", 11), prefer=1.0)], "on request.examples"),
        ([rule("r", Condition("request.latency_ms", "<", 0), prefer=1.0)], "on request.latency_ms"),
        ([rule("r", Condition("request.streaming", "is", "yes"), prefer=1.0)], "on request.streaming"),
        ([rule("r", Condition("request.streaming", "unknown"), prefer=1.0)], "on request.streaming"),
        ([rule("r", Condition("request.licence", "is", "permisive"), prefer=1.0)], "on request.licence"),
        ([rule("r", Condition("device.kind", "in", ("cpus", "gpus")), prefer=1.0)], "on device.kind"),
        (
            [rule("r", Condition("device.isa", "has", "neon"), none=(Condition("device.isa", "has", "neon"),), prefer=1.0)],
            "on device.isa",
        ),
        ([rule("r", Condition("request.task", "is", "x"), Condition("request.task", "in", ("y", "z")), prefer=1.0)], "on request.task"),
        ([rule("r", causal, none=(causal,), prefer=1.0)], "on card.causal"),
        (
            [
                rule("r", condition("derived.x"), Condition("request.examples", ">", 20), prefer=1.0),
                rule("s", Condition("request.examples", "<", 10), facts={"derived.x": True}),
            ],
            "r': it can never fire: no value meets its conditions on request.examples",
        ),
        ([rule("r", causal, prefer=1.0), rule("s", causal, prefer=-2.0)], "prefers what rule 's' avoids, under the same conditions"),
        ([rule("r", causal, prefer=1.0), rule("s", causal, prefer=1.0)], "it says the same as rule 's'"),
        (
            [rule("r", causal, forbid=True), rule("s", causal, condition("request.streaming"), prefer=1.0)],
            "s': it is overshadowed: whenever it fires, rule 'r' refuses",
        ),
        (
            [
                rule("r", Condition("request.examples", "<", 100), stage="qat"),
                rule("s", Condition("request.examples", "<", 10), stage="qat"),
            ],
            "s': it is shadowed: whenever it fires, rule 'r' says the same",
        ),
        (
            [
                rule("r", Condition("device.kind", "in", ("cpu", "gpu")), warn="hot"),
                rule("s", Condition("device.kind", "is", "gpu"), causal, warn="hot"),
            ],
            "s': it is shadowed",
        ),
        ([rule("r", none=(condition("derived.x"),), facts={"derived.x": True})], "r': it waits in a circle"),
        ([rule("r", Condition("request.latency_ms", ">", 5), forbid=True)], "refuses under a looser budget (request.latency_ms >)"),
        ([rule("r", none=(condition("derived.size_tight"),), forbid=True)], "refuses under a looser budget (derived.size_tight is)"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_found(rules, expected):
    assert any(expected in line for line in said(rules)), said(rules)


def test_sound_rules_are_left_alone():
    rules = [
        rule("r", causal, prefer=1.0),
        rule("s", Condition("request.examples", ">=", 10), Condition("request.examples", "<", 11), prefer=-1.0),
        rule("t", condition("derived.x"), forbid=True),
        rule("u", causal, condition("request.streaming"), facts={"derived.x": True}),
        rule("v", condition("derived.latency_tight"), stage="prune"),
        rule("w", Condition("request.latency_ms", "<", 5), causal, forbid=True),
        rule("y", Condition("request.latency_ms", "<", 4), stage="prune", set={"prune.align": 8}),
        rule("z", condition("card.status", value="planned"), warn="later"),
    ]
    assert said(rules) == []


def test_a_rule_for_a_device_that_is_not_here_is_a_note():
    waits = rule("r", Condition("device.runtimes", "has", "qnn"), prefer=1.0)
    [found] = findings([waits], CELLS, devices=[PI])
    assert found.severity == "note" and "no known device has device.runtimes has qnn" in found.what
    assert findings([waits], CELLS, devices=[replace(PI, runtimes=("qnn",))]) == []


def test_two_rules_that_can_meet_and_disagree_contradict_and_two_that_cannot_do_not():
    eight, sixteen = rule("r", causal, set={"prune.align": 8}), rule("s", condition("request.explain"), set={"prune.align": 16})
    assert [what for _, _, what in disagreeing([eight, sixteen], CELLS)] == ["prune.align"]
    apart = [
        rule("r", Condition("device.align", "is", 8), set={"prune.align": 8}),
        rule("s", Condition("device.align", "is", 16), set={"prune.align": 16}),
        rule("t", condition("card.name", value="a"), facts={"derived.x": 1}),
        rule("u", condition("card.name", value="b"), facts={"derived.x": True}),
        rule("v", condition("derived.latency_tight"), set={"prune.latency_ratio": 0.5}),
        rule("w", none=(condition("derived.latency_tight"),), set={"prune.latency_ratio": 0.75}),
    ]
    assert disagreeing(apart, CELLS) == []
    through = [
        rule("r", condition("derived.a"), set={"qat.epochs": 1}),
        rule("s", Condition("request.examples", ">", 10), set={"qat.epochs": 2}),
        rule("t", Condition("request.examples", "<", 5), facts={"derived.a": True}),
    ]
    assert disagreeing(through, CELLS) == [], "the derived fact is asserted only where the other rule is silent"


@given(rule_lists, fact_maps)
@settings(max_examples=150)
def test_what_fires_could_and_what_contradicts_in_the_engine_was_foreseen(rules, facts):
    """The engine is the judge: a rule that fires is never called impossible, and a clash it reports was found by lint."""
    facts = {**STATED, **facts}
    makers = makers_of(rules)
    found = judge(facts, compile_rules(rules))
    fired = {verdict.rule for verdict in found.verdicts if verdict.effect != "error"}
    for item in rules:
        if item.id in fired:
            assert any(possible(way) for way in alternatives(item, makers)), item
    clashes = [said for said in found.verdicts if said.effect == "error" and "neither holds" in said.because]
    cell = {name: value for name, value in facts.items() if name.startswith(("card.", "variant."))}
    foreseen = {pair for one, other, _ in disagreeing(rules, [cell]) for pair in (one.id, other.id)}
    for clash in clashes:
        assert clash.rule in foreseen, (clash, rules)


@given(whens, whens, fact_maps)
@settings(max_examples=300)
def test_a_rule_that_covers_another_fires_wherever_it_does(wide, narrow, facts):
    if covers(wide, narrow):
        facts = {**STATED, **facts}
        rules = [rule("narrow", warn="n"), rule("wide", warn="w")]
        whens_of = {"narrow": narrow, "wide": wide}
        without_derived = all(not c.fact.startswith("derived.") for w in (wide, narrow) for c in (*w.all, *w.any, *w.none))
        fired = {
            v.rule for v in judge(facts, compile_rules([replace(r, when=whens_of[r.id]) for r in rules])).verdicts if v.effect == "warn"
        }
        assert not without_derived or "narrow" not in fired or "wide" in fired


def test_a_rule_covers_itself_and_a_narrower_one_and_not_the_other_way_round():
    wide, narrow = When(all=(Condition("request.examples", "<", 100),)), When(all=(Condition("request.examples", "<", 10), causal))
    assert covers(wide, narrow) and not covers(narrow, wide) and covers(wide, wide)
    either = When(any=(causal, condition("card.recurrent")))
    assert covers(either, When(all=(causal,))) and not covers(When(all=(causal,)), either)


# -- facts ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("architectures/net.toml", "value = 3.5", "value = 350", "evidence 'error': value 350 % is outside 0 to 100"),
        ("architectures/net.toml", 'value = 3.5\nunit = "%"', 'value = 2\nunit = "of 1"', "value 2 of 1 is outside 0 to 1"),
        ("architectures/net.toml", 'value = 3.5\nunit = "%"', 'value = 1e-9\nunit = "ms"', "value 1e-09 ms is outside"),
        ("architectures/net.toml", 'licence_code = "MIT"', 'licence_code = "unknown"', "licence_code: 'unknown' is no licence"),
        (
            "architectures/net.toml",
            'licence_weights = "MIT"',
            'licence_weights = "CC-BY-NC-4.0"',
            "licence_weights: 'CC-BY-NC-4.0' is not for commercial use, and the card does not say so ([traits] noncommercial = true)",
        ),
        (
            "architectures/net.toml",
            'licence_code = "MIT"',
            'licence_code = "GPL-2.0"',
            "'GPL-2.0' is not known to be permissive, and no rule",
        ),
        ("architectures/net.toml", "params = 1000", "params = 900000000000000", "variant 'small': params 9e+14 is outside"),
        (
            "architectures/net.toml",
            "params = 1000",
            "published = {params = 1_030, source = 'paper'}\nparams = 1000",
            "variant 'small': params 1,000 is more than 2 % off the 1,030 of paper",
        ),
        ("devices/board.toml", "value = 1e9", "value = 1e15", "rates.fp32: 1e+15 macs/s, for a device of kind cpu, is outside"),
        ("devices/board.toml", "ram_bytes = 1_000_000", "ram_bytes = 4096", "ram_bytes: 4096, for a device of kind cpu, is outside"),
        (
            "tasks/task.toml",
            "value = 1000}",
            "value = 1000}, {fact = 'request.size_bytes', op = '<', value = 25}",
            "request.size_bytes < 25",
        ),
        ("tasks/task.toml", "examples = 500", "latency_ms = 1e-6", "defaults.latency_ms: 1e-06 is outside"),
        (
            "tasks/task.toml",
            '"request.examples", op = "<", value = 1000',
            '"request.task", op = "in", value = ["task", "tusk"]',
            "names 'tusk'",
        ),
        ("sources.toml", SOURCES, SOURCES + SOURCES.replace('"paper"', '"other"', 1), "source 'other': nothing cites it"),
    ],
)
def test_a_fact_that_cannot_be_meant_is_found_with_its_file_and_key(folder, name, old, new, expected):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    found = [finding for finding in lint(Knowledge([folder])) if expected in str(finding)]
    assert found and found[0].severity == "warning" and found[0].file.endswith(name)


def test_a_cell_without_a_figure_is_found(folder):
    bare = CARD[: CARD.index("[[variant]]")].replace('"built"', '"planned"').replace('builds = "package.module:build"\n', "")
    (folder / "architectures/net.toml").write_text(bare)
    assert any("cell net: there is no figure behind it" in str(finding) for finding in lint(Knowledge([folder])))


def test_a_broken_file_is_an_error_and_nothing_else_is_looked_at(folder):
    (folder / "devices/board.toml").write_text(DEVICE.replace("cores = 4", "cores = 0"))
    (folder / "architectures/net.toml").write_text(CARD.replace('licence_code = "MIT"', 'licence_code = "unknown"'))
    found = lint(Knowledge([folder]))
    assert [finding.severity for finding in found] == ["error"] and "cores is 0" in str(found[0])


def test_the_exit_code_is_that_of_the_worst():
    note, warning, error = (Finding("f", "k", "w", severity) for severity in ("note", "warning", "error"))
    assert [exit_code(group) for group in ([], [note], [note, warning], [warning, error])] == [
        Exit.DONE,
        Exit.DONE,
        Exit.FAILED,
        Exit.USAGE,
    ]


def test_lint_over_the_shipped_knowledge_looks_at_all_of_it_and_never_fails_itself():
    known = load()
    assert all(finding.file.startswith("rules/knowledge/") for finding in lint(known))
