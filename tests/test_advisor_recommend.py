"""A request, its recommendation, its plan, and how both are printed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from shutil import copytree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.answer import as_json, next_commands, recommendation, why_not
from advisor.catalogue import devices
from advisor.explained import explain
from advisor.flips import in_words, rounded
from advisor.matrix import matrix
from advisor.recommend import contest_for, device, facts_of, plan_toml, recommend
from advisor.text import columns, md_table, paragraph, three
from rules.facts import STAGES, Flip, Request
from rules.knowledge import Knowledge, load
from rules.problems import Problem
from rules.ranking import hold, name_of, pick
from tests.rules_for_tests import crossed

BOARD = "raspberry-pi-5"
SHIPPED = Path(__file__).parents[1] / "rules" / "knowledge"
DEVICES = [*load().devices, "this-machine"]
requests = st.builds(
    Request,
    task=st.sampled_from(sorted(load().tasks)),
    device=st.sampled_from(DEVICES),
    latency_ms=st.none() | st.floats(0.01, 1000),
    size_bytes=st.none() | st.integers(1_000, 10**9),
    ram_bytes=st.none() | st.integers(1_000, 10**9),
    streaming=st.booleans(),
    examples=st.none() | st.integers(0, 10**6),
    charset=st.none() | st.text(max_size=5),
    pretrained=st.none() | st.booleans(),
    explain=st.booleans(),
    licence=st.sampled_from(("any", "permissive")),
)


def ocr(**asked):
    return recommend(Request("ocr", **{"device": BOARD, **asked}), load())


def picked(answer):
    best = pick(answer.kept)
    return name_of(best.architecture, best.variant) if best else ""


# -- what is recommended -------------------------------------------------------------------------------------------------


def test_ocr_on_a_small_cpu_gets_a_crnn_with_a_plan_and_a_teacher():
    best = pick(ocr().kept)
    assert best.architecture == "crnn" and best.teacher
    names = [stage.name for stage in best.stages]
    assert names[:2] == ["train", "distil"] and {"export", "quantize", "qat"} <= set(names)
    assert names == sorted(names, key=STAGES.index)


def test_a_time_limit_brings_pruning():
    assert "prune" not in [stage.name for stage in pick(ocr().kept).stages]
    assert "prune" in [stage.name for stage in pick(ocr(latency_ms=20).kept).stages]


def test_streaming_refuses_the_bidirectional_reader_and_says_why():
    answer = ocr(streaming=True)
    refused = next(found for found in answer.refused if found.architecture == "crnn")
    assert "ocr.streaming-forbids-bidirectional" in {said.rule for said in refused.verdicts if said.effect == "forbid"}
    assert any("request.streaming is true" in said.facts for said in refused.verdicts)
    assert pick(answer.kept) and pick(answer.kept).architecture != "crnn"


def test_a_gpu_ships_fp16_and_no_int8_stage():
    names = {stage.name for stage in pick(ocr(device="jetson-orin-nano").kept).stages}
    assert "fp16" in names and not names & {"quantize", "qat"}


def test_an_alias_is_the_task_itself():
    assert picked(recommend(Request("htr", device=BOARD), load())) == picked(ocr())


def test_nothing_fits_is_an_answer_with_the_nearest_miss_and_what_binds_it():
    answer = ocr(latency_ms=0.001)
    assert answer.kept == () and answer.nearest_miss and "budget.latency" in answer.binding
    assert any(flip.pick and flip.direction == "at least" for flip in answer.flips)
    with pytest.raises(Problem, match="nothing fits, so there is no plan") as found:
        plan_toml(answer)
    assert found.value.code == 1 and answer.nearest_miss in str(found.value)


def test_a_misspelt_task_or_device_gets_the_nearest_name():
    with pytest.raises(Problem, match=r"unknown task 'orc'; did you mean 'ocr'"):
        recommend(Request("orc"), load())
    with pytest.raises(Problem, match=r"unknown device 'rasberry-pi-5'; did you mean 'raspberry-pi-5'\? \(advisor devices lists all\)"):
        ocr(device="rasberry-pi-5")


def test_a_tasks_defaults_stand_where_the_user_is_silent():
    row = replace(load().task("ocr"), defaults={"charset_size": 95, "streaming": True, "examples": 7})
    facts = facts_of(Request("ocr"), row)
    assert (facts["request.charset_size"], facts["request.streaming"], facts["request.examples"]) == (95, True, 7)
    facts = facts_of(Request("ocr", charset="aab", examples=0), row)
    assert (facts["request.charset_size"], facts["request.examples"]) == (2, 0)


@given(requests)
@settings(max_examples=60)
def test_every_request_is_answered_with_reasons_and_sources(request):
    answer = recommend(request, load())
    known = {source.id for source in answer.sources}
    assert answer.errors == ()
    assert answer.kept or answer.nearest_miss
    for found in (*answer.kept, *answer.refused):
        assert found.source in known
        assert all(said.source in known for said in found.verdicts if said.source)
        assert all(said.source for said in found.verdicts if not said.rule.startswith(("budget.", "plan.")))
        assert found.prediction is None or (found.prediction.kind == "estimate" and set(found.prediction.sources) <= known)


@given(requests, st.sampled_from(("latency_ms", "size_bytes", "ram_bytes")), st.floats(0.01, 1))
@settings(max_examples=60)
def test_a_tighter_budget_never_admits_a_newcomer_to_any_task(request, budget, part):
    looser = getattr(request, budget) or 10**9
    looser, tighter = (recommend(replace(request, **{budget: value}), load()) for value in (looser, looser * part))
    assert {(found.architecture, found.variant) for found in tighter.kept} <= {(found.architecture, found.variant) for found in looser.kept}


@given(requests)
@settings(max_examples=15)
def test_every_flip_of_every_task_is_true_when_crossed(request):
    known = load()
    row = known.task(request.task)
    prepared, facts = contest_for(row, device(known, request.device), known), facts_of(request, row)
    built = any(entrant.card.status != "reference" for entrant in prepared.contenders)
    for flip in recommend(request, known).flips:
        kept = hold(prepared, crossed(facts, flip)[0]).kept
        best = pick(kept) if built else next(iter(kept), None)
        assert (name_of(best.architecture, best.variant) if best else "") == flip.pick


# -- the plan ------------------------------------------------------------------------------------------------------------


def test_the_plan_is_toml_with_the_pick_its_teacher_and_a_reason_for_each_stage():
    answer = ocr(latency_ms=20)
    best, plan = pick(answer.kept), tomllib.loads(plan_toml(answer))
    assert (plan["schema_version"], plan["task"], plan["device"]) == (1, "ocr", BOARD)
    assert (plan["architecture"], plan["variant"], plan["teacher"]) == (best.architecture, best.variant, best.teacher)
    assert [stage["name"] for stage in plan["stage"]] == [stage.name for stage in best.stages]
    assert all(stage["because"] for stage in plan["stage"])
    prune = next(stage for stage in plan["stage"] if stage["name"] == "prune")
    assert prune["align"] == device(load(), BOARD).align


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("asked", [{}, {"latency_ms": 20.0, "size_bytes": 300_000}], ids=["no limits", "limits"])
def test_the_plan_is_one_that_the_pipeline_reads(name, asked):
    from compress.plan import parse

    answer = ocr(device=name, **asked)
    plan = parse(tomllib.loads(plan_toml(answer)), "the plan")
    assert [step.name for step in plan.steps] == [stage.name for stage in pick(answer.kept).stages]


def test_both_rooms_agree_on_the_order_of_stages():
    from compress.plan import ORDER

    assert ORDER == STAGES


# -- how it is printed -----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def hundred_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")


def test_the_text_has_every_part_of_the_answer_within_the_width():
    answer = ocr(latency_ms=20, examples=500)
    text = recommendation(answer)
    for part in (
        "→ crnn/small",
        "because",
        "latency",
        "an estimate",
        "size",
        "Runners-up",
        "Refused",
        "Compression plan",
        "What would change the answer",
        "The source article",
        "Next",
        "Sources",
    ):
        assert part in text, part
    assert [line for line in text.splitlines() if len(line) > 100 and "://" not in line] == []
    assert (
        "(ocr.autoregressive-misses-tight-budgets) [aihub-trocr]" in text.replace("\n", " ").replace("  ", "")
        or "ocr.autoregressive" in text
    )


def test_every_source_in_brackets_is_listed_and_every_listed_one_is_cited():
    for answer in (ocr(), ocr(latency_ms=5), recommend(Request("asr", device=BOARD, streaming=True), load())):
        text = recommendation(answer)
        body, _, listed = text.partition("\nSources\n")
        cited = set(re.findall(r"\[([a-z0-9][a-z0-9._-]*)\]", body))
        assert cited == set(re.findall(r"^  \[([a-z0-9._-]+)\]", listed, re.M)) and cited


def test_each_number_says_whether_it_is_measured_or_an_estimate():
    text = " ".join(recommendation(ocr()).split())
    assert re.search(r"latency [\d.]+ ms \([\d.]+ to [\d.]+\), an estimate:", text)
    assert re.search(r"size [\d.]+ MB, (measured|an estimate)", text)
    assert re.search(r"evidence .*? (published|measured|estimate):", text)


def test_the_printed_flip_typed_in_flips_the_answer():
    answer = ocr(latency_ms=100)
    tried = 0
    for flip in answer.flips:
        found = re.match(r"(latency|size|memory) budget (below|at most) ([\d.]+) (ms|MB) → (\S+)", in_words(flip))
        if found and found[5] != "the":
            value = float(found[3]) * (0.999 if found[2] == "below" else 1)
            asked = {"latency": {"latency_ms": value}, "size": {"size_bytes": int(value * 1e6)}, "memory": {"ram_bytes": int(value * 1e6)}}[
                found[1]
            ]
            assert picked(ocr(**{"latency_ms": 100, **asked})) == ("" if found[5] == "nothing" else found[5])
            tried += 1
    assert tried >= 3


@given(st.floats(1e-6, 1e12))
def test_a_rounded_threshold_stays_on_its_side(value):
    assert rounded(value, up=False) <= value * (1 + 1e-12) and rounded(value, up=True) >= value * (1 - 1e-12)
    assert abs(rounded(value, up=True) / value - 1) < 0.0101


def test_a_flip_is_a_sentence():
    assert (
        in_words(Flip("request.latency_ms", None, 1.6164, "below", "crnn/tiny", "budget.latency"))
        == "latency budget below 1.61 ms → crnn/tiny (budget.latency)"
    )
    assert in_words(Flip("request.examples", 5000, 999, "at most", "", "few")) == "labelled examples at most 999 → nothing fits (few)"
    assert in_words(Flip("request.streaming", False, True, "becomes", "b/small", "s")) == "streaming → b/small (s)"
    assert (
        in_words(Flip("request.latency_ms", None, "stated", "becomes", "a", "h", adds=("prune",)))
        == "any latency budget → the same pick, the plan adds prune (h)"
    )


def test_the_next_command_asks_the_same_again_and_runs_the_plan():
    answer = ocr(latency_ms=5.5, size_bytes=1_250_000, streaming=True, examples=10, charset="a b'", licence="permissive")
    write, run = next_commands(answer)
    words = shlex.split(write)
    assert words[:4] == ["advisor", "recommend", "--task", "ocr"] and words[-2:] == ["-o", "plan.toml"]
    for flag, value in (("--device", BOARD), ("--latency-ms", "5.5"), ("--size-mb", "1.25"), ("--examples", "10"), ("--charset", "a b'")):
        assert words[words.index(flag) + 1] == value
    assert {"--streaming", "--permissive"} <= set(words)
    assert run == "advisor run --task ocr --plan plan.toml"
    assert next_commands(answer, "my plan.toml") == ["advisor run --task ocr --plan 'my plan.toml'"]
    assert next_commands(ocr(latency_ms=0.001)) == []


def test_a_pick_that_is_not_built_yet_gets_no_command_and_says_so(tmp_path):
    copytree(SHIPPED, tmp_path / "knowledge")
    for name in ("marian-tiny-student", "transformer-base", "rnn-attention"):
        card = tmp_path / "knowledge" / "architectures" / f"{name}.toml"
        text = re.sub(r"^builds = .*\n", "", card.read_text(encoding="utf-8"), flags=re.M)
        card.write_text(text.replace('status = "built"', 'status = "planned"'), encoding="utf-8")
    answer = recommend(Request("machine-translation", device=BOARD), Knowledge([tmp_path / "knowledge"]))
    text = recommendation(answer)
    assert next_commands(answer) == [] and "not built here yet" in text
    assert "advisor run" not in text.split("Next")[1].split("Sources")[0]


def test_the_json_has_a_version_and_every_field_of_the_answer():
    answer = ocr(latency_ms=20)
    found = json.loads(recommendation(answer, "json"))
    assert found["schema_version"] == 1 and next(iter(found)) == "schema_version"
    assert found == json.loads(json.dumps(as_json(answer)))
    assert {item.name for item in fields(answer)} - {"row"} <= set(found)
    assert found["pick"] == picked(answer) and found["task"]["name"] == "ocr"
    assert found["kept"][0]["prediction"]["low_ms"] < found["kept"][0]["prediction"]["high_ms"]
    assert found["flips"] and all(flip["says"] for flip in found["flips"])
    assert json.loads(recommendation(ocr(latency_ms=0.001), "json"))["pick"] is None


def test_a_baseline_that_outranks_every_net_is_named_before_them():
    answer = recommend(Request("recommendation", device="x86-avx512-vnni"), load())
    for form in ("table", "md"):
        text = recommendation(answer, form)
        assert text.index("First, before any net: ") < text.index("gradient-boosting") < text.index("dcn-v2/default")
    assert as_json(answer)["baseline"] == "gradient-boosting"


def test_no_baseline_is_named_first_where_a_net_outranks_them_all():
    assert "before any net" not in recommendation(ocr(latency_ms=20)) and as_json(ocr(latency_ms=20))["baseline"] is None


def test_the_markdown_has_sound_tables_and_the_commands():
    for answer in (ocr(latency_ms=20), ocr(latency_ms=0.001)):
        lines = recommendation(answer, "md").splitlines()
        tables = [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", "\n".join(lines), re.M)]
        assert len(tables) == (2 if pick(answer.kept) else 1)
        for table in tables:
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1 and all(line.endswith("|") for line in table)


def test_why_not_is_printed_as_a_list():
    assert "refused by ocr.autoregressive-misses-tight-budgets" in " ".join(why_not(ocr(latency_ms=5), "trocr").split())
    assert json.loads(why_not(ocr(), "svtr", "json"))["reasons"]


@pytest.mark.parametrize("form", ["table", "md", "json"])
def test_matrix_and_devices_list_everything(form):
    known = load()
    text = matrix(known, form)
    assert all(name in text for name in known.tasks) and all(
        cell.architecture in text for row in known.tasks.values() for cell in row.cells
    )
    text = devices(known, form)
    assert all(name in text for name in DEVICES)
    if form == "json":
        assert json.loads(text)["schema_version"] == 1
    if form == "table":
        assert not [line for line in matrix(known).splitlines() if len(line) > 100]


TERMS = [
    "ocr",
    "htr",
    "crnn",
    "trocr",
    BOARD,
    "this-machine",
    "ocr.streaming-forbids-bidirectional",
    "budget.latency",
    "hinton-2015",
    "qat",
    "export",
]


@pytest.mark.parametrize("form", ["table", "md", "json"])
@pytest.mark.parametrize("term", TERMS)
def test_every_kind_of_term_is_explained(term, form):
    text = explain(load(), term, form, stages={"qat": "Trains the graph that ships."})
    assert len(text) > 40
    if form == "json":
        assert json.loads(text)["schema_version"] == 1
    if term == "qat":
        assert "Trains the graph that ships." in text


def test_a_misspelt_term_gets_the_nearest():
    with pytest.raises(Problem, match="unknown term 'crn'; did you mean 'crnn'"):
        explain(load(), "crn")


@given(st.text(max_size=300), st.integers(0, 20))
def test_a_paragraph_keeps_its_words_and_hangs_its_indent(text, indent):
    lines = paragraph(text, indent=indent, first="- ")
    assert " ".join(lines).split()[1:] == text.split() or not text.split()
    assert all(line.startswith(" " * indent) for line in lines)


def test_columns_are_aligned_and_pipes_are_escaped():
    assert columns([("a", "bb", "c"), ("aaa", "b", "c")], right=(0,)) == ["  a  bb  c", "aaa  b   c"]
    assert md_table(["x"], [["a|b"]]) == ["| x |", "| --- |", "| a\\|b |"]
    assert [three(value) for value in (0, 0.04567, 1.616, 24600, 0.368)] == ["0", "0.0457", "1.62", "24,600", "0.368"]


def test_a_recommendation_needs_neither_torch_nor_numpy_nor_rich():
    script = (
        "import sys\nfrom advisor.recommend import recommend\nfrom advisor.answer import recommendation\nfrom rules.facts import Request\nfrom rules.knowledge import load\n"
        "recommendation(recommend(Request('ocr'), load()))\nheavy = {'torch', 'numpy', 'rich', 'onnx', 'onnxruntime', 'jinja2', 'advisor.catalogue'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_the_format_may_cost_is_what_the_whole_plan_may():
    plan = tomllib.loads(plan_toml(recommend(Request("object-detection"), load())))
    assert plan["max_drop"] == 0.02 and all("max_drop" not in stage for stage in plan["stage"] if stage["name"] == "quantize")
    assert "max_drop" not in tomllib.loads(plan_toml(recommend(Request("ocr"), load())))
