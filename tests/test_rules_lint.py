"""Lint finds the rules that cannot be meant."""

from __future__ import annotations

import pytest

from rules.facts import Condition
from rules.lint import findings
from tests.rules_for_tests import card, condition, rule

CARDS = [card("a", causal=True, recurrent=False), card("b", causal=False, recurrent=False)]
causal = condition("card.causal")


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([rule("r", condition("derived.nowhere"), prefer=1.0)], "can never fire: no rule asserts derived.nowhere"),
        ([rule("r", condition("card.recurrent"), prefer=1.0)], "can never fire: no candidate has card.recurrent is True"),
        ([rule("r", condition("card.recurent"), prefer=1.0)], "can never fire: no candidate has card.recurent is True"),
        (
            [rule("r", Condition("request.examples", "<", 10), Condition("request.examples", ">", 20), prefer=1.0)],
            "can never fire: its conditions on request.examples exclude each other",
        ),
        ([rule("r", Condition("request.task", "is", "x"), Condition("request.task", "in", ("y", "z")), prefer=1.0)], "exclude each other"),
        ([rule("r", causal, none=(causal,), prefer=1.0)], "it wants card.causal and bars it"),
        ([rule("r", causal, prefer=1.0), rule("s", causal, prefer=-2.0)], "r prefers what s avoids, under the same conditions"),
        ([rule("r", causal, prefer=1.0), rule("s", causal, prefer=1.0)], "r and s say the same"),
        (
            [rule("r", causal, forbid=True), rule("s", causal, condition("request.streaming"), prefer=1.0)],
            "s is overshadowed: whenever it fires, r refuses",
        ),
        ([rule("r", none=(condition("derived.x"),), facts={"derived.x": True})], "r waits in a circle"),
        ([rule("r", Condition("request.latency_ms", ">", 5), forbid=True)], "r refuses under a looser budget (request.latency_ms >)"),
        ([rule("r", none=(condition("derived.size_tight"),), forbid=True)], "r refuses under a looser budget (derived.size_tight is)"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_found(rules, said):
    assert any(said in finding for finding in findings(rules, CARDS)), findings(rules, CARDS)


def test_sound_rules_are_left_alone():
    rules = [
        rule("r", causal, prefer=1.0),
        rule("s", Condition("request.examples", ">=", 10), Condition("request.examples", "<", 11), prefer=-1.0),
        rule("t", condition("derived.x"), forbid=True),
        rule("u", causal, condition("request.streaming"), facts={"derived.x": True}),
        rule("v", condition("derived.latency_tight"), stage="prune"),
        rule("w", Condition("request.latency_ms", "<", 5), causal, forbid=True),
    ]
    assert findings(rules, CARDS) == []
