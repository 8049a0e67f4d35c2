"""What the claims, the challenges and the words of the source article promise: sources, tests, commands and rules that exist."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path

import click
import pytest

import cli
from advisor.catalogue import all_rules
from advisor.explained import explain, find, normal, terms
from advisor.sections import CITED, pieces
from advisor.text import definitions
from rules.facts import STAGES, Challenge, Claim
from rules.knowledge import load
from rules.problems import Problem

ROOT = Path(__file__).parent.parent
KNOWN = load()
CLAIMS, CHALLENGES = list(KNOWN.claims.values()), list(KNOWN.challenges.values())


def name(item: Claim | Challenge) -> str:
    return item.id


def promises_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_a_command_that_does_not_exist_is_noticed() -> None:
    with pytest.raises((click.ClickException, KeyError)):
        parses("advisor expalin crnn")
    with pytest.raises(click.ClickException):
        parses("advisor recommend --task ocr --colour red")


def parses(command: str) -> None:
    """Refuses a command line that `advisor` would refuse."""
    program, verb, *rest = shlex.split(command)
    assert program == "advisor"
    stated = cli.advisor.commands[verb].make_context(verb, rest).params
    if stated.get("task"):
        assert KNOWN.task(stated["task"])
    if stated.get("term"):
        assert find(KNOWN, stated["term"], {})


@pytest.mark.parametrize("claim", CLAIMS, ids=name)
def test_every_claim_says_what_holds_and_from_where_and_how_to_see_it(claim: Claim) -> None:
    assert set(claim.sources) <= set(KNOWN.sources)
    assert claim.says and claim.fact.endswith(".")
    assert len(set(claim.terms)) == len(claim.terms) > 0
    for see in claim.see:
        file, _, test = see.partition("::")
        if file.startswith("tests/"):
            assert test in promises_of(file), see
        else:
            parses(see)


@pytest.mark.parametrize("claim", CLAIMS, ids=name)
def test_where_a_claim_lives_in_the_product_is_there(claim: Claim) -> None:
    known = {*KNOWN.tasks, *KNOWN.cards, *KNOWN.devices, *STAGES, *all_rules(KNOWN)}
    assert set(claim.lives) <= known, set(claim.lives) - known


@pytest.mark.parametrize("row", CHALLENGES, ids=name)
def test_every_remedy_names_rules_that_exist_a_source_and_its_state(row: Challenge) -> None:
    assert row.claim in KNOWN.claims
    rules = all_rules(KNOWN)
    for remedy in row.remedies:
        assert set(remedy.rules) <= set(rules), set(remedy.rules) - set(rules)
        assert remedy.rules, remedy.what
        assert remedy.source in KNOWN.sources
        assert ("not built yet" in remedy.how) or remedy.status != "planned"


def test_the_four_challenges_of_the_article_are_answered() -> None:
    assert [row.id for row in CHALLENGES] == ["hardware", "few-examples", "real-time", "explainability"]


def test_training_for_8_bits_comes_after_the_cheaper_steps() -> None:
    order = [rule for remedy in KNOWN.challenges["hardware"].remedies for rule in remedy.rules]
    cheaper = ("hardware.quantize-static", "hardware.equalize", "hardware.adaround", "hardware.distil")
    assert all(order.index(rule) < order.index("hardware.qat-when-needed") for rule in cheaper)


MEASURED = {
    "multi-head-cost": "test_the_number_of_heads_changes_neither_parameters_nor_multiplications",
    "recurrent-parameter-row": "test_recurrent_parameters_scale_one_three_four_eight",
    "bilstm-generates-best": "test_a_bidirectional_model_cannot_generate",
}


@pytest.mark.parametrize("claim", MEASURED)
def test_what_can_be_measured_is_shown_by_a_test_that_measures(claim: str) -> None:
    text = explain(KNOWN, claim)
    assert f"python -m pytest tests/test_rules_claims.py::{MEASURED[claim]}" in text
    assert "wrong" in text and "Sources" in text


def test_every_test_that_measures_belongs_to_a_claim() -> None:
    seen = {see.partition("::")[2] for claim in CLAIMS for see in claim.see}
    about_files = {test for test in promises_of("tests/test_rules_claims.py") if "claim" in test or "challenge" in test}
    assert promises_of("tests/test_rules_claims.py") - about_files <= seen


# -- explained ---------------------------------------------------------------------------------------------------------------

WORDS = """CNN; RNN; LSTM; Self-Attention; Transformer; input layer; convolution; ReLU; LeakyReLU; leaky ReLU; pooling; MaxPooling;
fully connected; softmax; channels; residual connection; He init; dilated convolution; grouped convolution; depthwise; Faster R-CNN;
RoI pooling; FPN; DeepLabv3+; ASPP; atrous; ArcFace; angular margin; vanilla RNN; vanishing gradient; forget gate; input gate; output gate;
cell state; GRU; BiLSTM; BLEU; beam search; teacher forcing; scheduled sampling; gradient clipping; bidirectional LSTM; attention;
scaling factor; multi-head; positional encoding; residual; layer norm; LayerNorm; batch norm; encoder-decoder; BERT; heat map; ResNet-50;
ViT; 3D CNN; TimeSformer; RNN attention; Conformer; Wide & Deep; TabNet; feature crossing; time series; text generation;
semantic understanding; knowledge graph; cross-modal; CRNN; CTC; Visual Transformer; Vision Transformer; sparse attention;
dynamic architectures; neuro-symbolic; hardware limits; distillation; QAT; few-shot; meta-learning; augmentation; real time; pruning;
explainability; attention visualisation; rule extraction; SE block; multimodal; hybrids; article; image classification; video;
machine translation; speech recognition; recommendation"""


@pytest.mark.parametrize("word", [word.strip() for word in WORDS.replace("\n", " ").split(";")])
def test_every_word_of_the_article_is_explained(word: str) -> None:
    assert len(explain(KNOWN, word)) > 100


def test_every_name_is_explained_in_every_form_and_cites_what_it_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for term in sorted({item.id for item in (*CLAIMS, *CHALLENGES)} | {"svtr", "qat", "bilstm", "timesformer", "raspberry-pi-4"}):
        text = explain(KNOWN, term)
        body, _, listed = text.partition("\nSources\n")
        assert {found for found in CITED.findall(body) if found in KNOWN.sources} == set(CITED.findall(listed))
        long = [line for line in text.splitlines() if len(line) > 100 and not any(mark in line for mark in ("://", "pytest", "  advisor "))]
        assert long == []
        assert explain(KNOWN, term, "md").startswith("## ")
        assert json.loads(explain(KNOWN, term, "json"))["schema_version"] == 1


def test_a_claim_is_found_by_its_words_and_told_beside_what_it_is_about() -> None:
    assert find(KNOWN, "heads", {}).claims[0].id == "multi-head-cost"
    assert "bilstm-generates-best" in explain(KNOWN, "crnn") and "remedy-hardware" in explain(KNOWN, "qat")
    assert "limited hardware" in explain(KNOWN, "hardware.qat-when-needed")


def test_a_claim_gives_plain_data_to_programs() -> None:
    found = json.loads(explain(KNOWN, "multi-head-cost", "json"))
    assert (found["kind"], found["claim"]["verdict"]) == ("claim", "wrong")
    assert found["see"][0].startswith("python -m pytest ") and {item["id"] for item in found["sources"]} >= {"vaswani-2017"}
    word = json.loads(explain(KNOWN, "attention", "json"))
    assert (word["kind"], word["term"]) == ("term", "attention") and len(word["claims"]) > 4


def test_an_unknown_term_gets_the_nearest_ones() -> None:
    with pytest.raises(Problem, match="did you mean 'attention'") as refused:
        explain(KNOWN, "atention")
    assert refused.value.code == 2
    with pytest.raises(Problem, match="unknown term 'zzzzqqq' ") as refused:
        explain(KNOWN, "zzzzqqq")
    assert len(str(refused.value)) < 300  # no list of everything
    assert {"multi-head-cost", "heads", "hardware", "ocr"} <= terms(KNOWN)


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("Wide & Deep", "wide-and-deep"),
        ("DeepLabv3+", "deeplabv3-plus"),
        (" Layer_Norm ", "layer-norm"),
        ("LSTM+attention", "lstm-attention"),
    ],
)
def test_a_term_is_found_as_people_write_it(written: str, known: str) -> None:
    assert normal(written) == known
    assert find(KNOWN, written, {}).name == known


def test_a_stage_wraps_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    card = "One sentence that\nis broken here and\nthere.\n\nHelps when it helps. Does not help\notherwise.\nSource: nobody."
    assert pieces(card) == [
        "One sentence that is broken here and there.",
        "Helps when it helps.",
        "Does not help otherwise.",
        "Source: nobody.",
    ]
    assert "  One sentence that is broken here and there." in explain(KNOWN, "qat", stages={"qat": card}).splitlines()


def test_long_labels_stand_above_their_texts() -> None:
    assert definitions([("a", "b")]) == ["  a  b"]
    assert definitions([("x" * 30, "b"), ("", "c")]) == ["  " + "x" * 30, "      b", "  c"]
