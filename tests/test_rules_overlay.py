"""A user's own folder of knowledge: it adds, it takes the place of ours, it is refused whole, and nothing in it is executed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from advisor.instantiate import module, spec_settings
from rules.knowledge import HERE, Knowledge, load, over
from rules.lint import lint
from rules.overlay import refusals
from rules.problems import Exit, Problem
from tests.test_cli import advisor as advisor

SOURCE = """
[[source]]
id = "our-lab"
title = "Measured in our lab"
url = "https://example.org/lab"
year = 2026
kind = "measurement"
"""
BOARD = """
name = "our-board"
title = "The board we ship"
kind = "cpu"
isa = ["aarch64", "neon"]
cores = 2
ram_bytes = 1_000_000_000
runtimes = ["onnxruntime-cpu"]
precisions = ["fp32", "int8"]
source = "our-lab"

[rates.fp32]
value = 5e9
unit = "macs/s"
source = "our-lab"
kind = "measured"

[rates.int8]
value = 9e9
unit = "macs/s"
source = "our-lab"
kind = "measured"
"""
HOUSE = """
[[rule]]
id = "house.no-svtr"
when.all = [{fact = "card.name", op = "is", value = "svtr"}]
then.forbid = true
because = "we do not maintain it"
source = "our-lab"
"""
EVIDENCE = """
[[evidence]]
architecture = "crnn"
what = "latency"
value = 7.25
unit = "ms"
on = "variant small, int8, our board, 1 thread"
source = "our-lab"
kind = "measured"
"""
CARD = (HERE / "architectures/crnn.toml").read_text(encoding="utf-8").replace('name = "crnn"', 'name = "ours"')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    theirs = tmp_path / "ours"
    write(theirs, {"sources.toml": SOURCE, "devices/our-board.toml": BOARD, "rules.toml": HOUSE, "evidence/lab.toml": EVIDENCE})
    return theirs


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_devices_rules_and_evidence_of_a_folder_join_ours(folder: Path) -> None:
    known, ours = load(folder), load()
    assert known.device("our-board").cores == 2 and "our-board" not in ours.devices
    assert {rule.id for rule in known.rules} - {rule.id for rule in ours.rules} == {"house.no-svtr"}
    assert known.card("crnn").evidence[:-1] == ours.card("crnn").evidence
    assert known.card("crnn").evidence[-1].value == 7.25 and known.card("svtr").evidence == ours.card("svtr").evidence


def test_a_sound_folder_has_nothing_for_lint_to_say(folder: Path) -> None:
    assert [str(finding) for finding in lint(over(folder))] == []


def test_every_verb_of_advice_takes_the_folder(folder: Path, advisor: Any) -> None:
    given = ("--knowledge", str(folder))
    code, out, _ = advisor("recommend", "--task", "ocr", "--device", "our-board", "--format", "json", *given)
    answer = json.loads(out)
    assert code == 0 and "house.no-svtr" in out and "Measured in our lab" in out
    assert all("svtr" not in json.dumps(kept.get("architecture")) for kept in answer["kept"])
    assert "our-board" in advisor("devices", *given)[1]
    assert "we do not maintain it" in advisor("explain", "house.no-svtr", *given)[1]
    assert "7.25 ms" in advisor("explain", "crnn", *given)[1]
    assert advisor("matrix", *given)[0] == 0
    assert advisor("lint", *given) == advisor("lint", str(folder)) == (0, "clean: nothing was found\n", "")
    code, out, err = advisor("run", "--task", "ocr", "--device", "our-board", "--dry-run", *given)
    assert code == 0, err


def test_the_environment_names_the_folder_too(folder: Path, advisor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "our-board" not in advisor("devices")[1]
    monkeypatch.setenv("ADVISOR_KNOWLEDGE", str(folder))
    assert "our-board" in advisor("devices")[1]
    monkeypatch.setenv("ADVISOR_KNOWLEDGE", "")
    assert "our-board" not in advisor("devices")[1]


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, advisor: Any) -> None:
    code, out, err = advisor("recommend", "--task", "ocr", "--knowledge", str(tmp_path / "nowhere"))
    assert (code, out) == (2, "") and err.startswith(f"advisor: no folder of knowledge at {tmp_path / 'nowhere'}")


# -- refused whole -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"devices/our-board.toml": BOARD.replace("cores = 2", "cores = -2")},
            "{folder}/devices/our-board.toml: cores is -2, expected a whole number from 1 to 100000",
        ),
        (
            {"devices/our-board.toml": BOARD.replace("value = 5e9", "value = 5e99")},
            "{folder}/devices/our-board.toml: rates: fp32: value is 5e+99, expected a number from 1000 to 1e+16",
        ),
        (
            {"devices/our-board.toml": BOARD.replace("value = 5e9", "value = -inf")},
            "{folder}/devices/our-board.toml: rates: fp32: value is -inf, expected a number from 1000 to 1e+16",
        ),
        (
            {"devices/our-board.toml": BOARD.replace("ram_bytes = 1_000_000_000", "ram_bytes = 1")},
            "{folder}/devices/our-board.toml: ram_bytes is 1, expected a whole number from 256 to 1e+15",
        ),
        (
            {"devices/our-board.toml": BOARD.replace('source = "our-lab"', 'source = "our-labs"', 1)},
            "unknown source in {folder}/devices/our-board.toml: 'our-labs'; did you mean 'our-lab'? (sources.toml lists every citation once)",
        ),
        (
            {"evidence/lab.toml": EVIDENCE.replace('"our-lab"', '"our-lap"')},
            "unknown source in {folder}/evidence/lab.toml: evidence 'latency': 'our-lap'; did you mean 'our-lab'? (sources.toml lists every citation once)",
        ),
        (
            {"evidence/lab.toml": EVIDENCE.replace('"crnn"', '"crn"')},
            "unknown architecture in {folder}/evidence/lab.toml: evidence: 'crn'; did you mean 'crnn'?",
        ),
        (
            {"evidence/lab.toml": EVIDENCE.replace("unit =", "units =")},
            "{folder}/evidence/lab.toml: evidence 'crnn': unit is missing (there is 'units')",
        ),
        (
            {"rules.toml": HOUSE.replace("house.no-svtr", "licence.code")},
            "{folder}/rules.toml: rule 'licence.code' is there twice (ids are unique over all files)",
        ),
        (
            {"rules.toml": HOUSE.replace("house.no-svtr", "ocr.autoregressive-cost")},
            "{folder}/rules.toml: rule 'ocr.autoregressive-cost' is there twice (ids are unique over all files)",
        ),
        (
            {"rules.toml": HOUSE.replace("then.forbid = true", 'then.set = {"prune.align" = 4}').replace('"svtr"', '"crnn"')},
            "{folder}/rules.toml: rule 'house.no-svtr': prune.align is 4 here and 16 by rule 'realtime.align-16' (rules/knowledge/remedies.toml), and both can fire; and 1 more (advisor lint {folder} lists all)",
        ),
        (
            {"rules.toml": HOUSE.replace("then.forbid = true", 'then.facts = {"derived.weights" = "int4"}').replace('"svtr"', '"crnn"')},
            "{folder}/rules.toml: rule 'house.no-svtr': derived.weights is 'int4' here and ",
        ),
        (
            {"device/board.toml": BOARD},
            "{folder}/device/board.toml: nothing reads a file of this place and name; did you mean devices/*.toml?",
        ),
        (
            {"remedy.toml": HOUSE},
            "{folder}/remedy.toml: nothing reads a file of this place and name; did you mean remedies.toml?",
        ),
        ({"sources.toml": SOURCE + SOURCE}, "{folder}/sources.toml: source 'our-lab' is there twice (ids are unique over all files)"),
    ],
)
def test_what_is_wrong_in_a_folder_is_one_line_with_file_and_key(folder: Path, advisor: Any, files: dict[str, str], said: str) -> None:
    write(folder, files)
    code, out, err = advisor("recommend", "--task", "ocr", "--knowledge", str(folder))
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1 and err.startswith("advisor: ")
    lines = refusals(over(folder))
    expected = said.format(folder=folder)
    assert err.removeprefix("advisor: ").startswith(expected), err
    code, out, err = advisor("lint", str(folder))
    assert code == 2 and err == "" and lines[0].split(" (")[0] in out.replace("\n", " ")


def test_two_things_that_are_wrong_are_two_lines_of_lint_and_one_of_recommend(folder: Path, advisor: Any) -> None:
    broken = {"devices/our-board.toml": BOARD.replace("cores = 2", "cores = 0"), "evidence/lab.toml": EVIDENCE.replace("7.25", "nan")}
    write(folder, broken)
    with pytest.raises(Problem, match=rf"value is nan, .*; and 1 more \(advisor lint {folder} lists all\)") as wrong:
        load(folder)
    assert wrong.value.code == Exit.USAGE
    code, out, _ = advisor("lint", str(folder))
    assert code == 2 and "cores is 0" in out and "value is nan" in out and out.splitlines()[-1] == "2 errors"


def test_nothing_of_a_broken_folder_is_believed_and_ours_stays_as_it_was(folder: Path) -> None:
    write(folder, {"sources.toml": SOURCE.replace("2026", '"today"')})
    with pytest.raises(Problem):
        load(folder)
    assert "our-board" not in load().devices and "our-lab" not in load().sources
    with pytest.raises(Problem):  # a refusal is not remembered as an answer
        load(folder)
    write(folder, {"sources.toml": SOURCE})
    assert load(folder).device("our-board").cores == 2


def test_a_file_of_theirs_takes_the_place_of_ours_by_name(folder: Path) -> None:
    write(folder, {"devices/raspberry-pi-5.toml": BOARD.replace("our-board", "raspberry-pi-5")})
    assert load(folder).device("raspberry-pi-5").title == "The board we ship"
    (folder / "architectures").mkdir()
    (folder / "architectures/crnn.toml").write_text(
        CARD.replace('name = "ours"', 'name = "crnn"').replace('name = "small"', 'name = "smaller"')
    )
    assert any("unknown variant in rules/knowledge/tasks/ocr.toml: cell crnn: 'small'" in line for line in refusals(over(folder)))


# -- lint of a folder --------------------------------------------------------------------------------------------------------


def test_lint_of_a_folder_says_what_concerns_it_and_exits_1(folder: Path, advisor: Any) -> None:
    write(
        folder,
        {
            "rules.toml": HOUSE
            + HOUSE.replace("house.no-svtr", "house.no-svtr-again").replace('op = "is"', 'op = "in"').replace('"svtr"}', '["svtr"]}'),
            "devices/our-board.toml": BOARD.replace("value = 5e9", "value = 5e15"),
            "sources.toml": SOURCE + SOURCE.replace("our-lab", "unused"),
        },
    )
    code, out, _ = advisor("lint", str(folder), "--format", "json")
    found = json.loads(out)
    assert code == found["exit_code"] == 1 and found["counts"]["error"] == 0
    assert {Path(item["file"]).name for item in found["findings"]} == {"rules.toml", "our-board.toml", "sources.toml"}
    said = " ".join(item["what"] for item in found["findings"])
    assert "nothing cites it" in said and "5e+15 macs/s" in said and "it says the same as rule" in said
    assert "| warning |" in advisor("lint", str(folder), "--format", "md")[1]


def test_a_rule_of_theirs_that_ours_makes_pointless_is_found(folder: Path) -> None:
    pointless = HOUSE.replace("then.forbid = true", "then.prefer = 5").replace(
        'when.all = [{fact = "card.name", op = "is", value = "svtr"}]',
        'when.all = [{fact = "card.bidirectional", op = "is", value = true}, {fact = "request.streaming", op = "is", value = true}, {fact = "request.task", op = "is", value = "ocr"}]',
    )
    write(folder, {"rules.toml": pointless})
    assert any(
        "overshadowed: whenever it fires, rule 'ocr.streaming-forbids-bidirectional' refuses" in finding.what
        for finding in lint(over(folder))
    )


# -- nothing is executed --------------------------------------------------------------------------------------------------------


def test_a_builder_named_in_a_folder_is_imported_by_no_verb(
    folder: Path, advisor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\ndef build(**_): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    task = (HERE / "tasks/ocr.toml").read_text(encoding="utf-8").replace('architecture = "crnn"', 'architecture = "ours"')
    trap = CARD.replace("advisor.architectures.crnn:build", "trap:build")
    write(folder, {"architectures/ours.toml": trap, "tasks/ocr.toml": task})
    given = ("--knowledge", str(folder))
    for arguments in (["recommend", "--task", "ocr"], ["explain", "ours"], ["matrix"], ["lint"]):
        assert advisor(*arguments, *given)[0] in (0, 1), arguments
    (tmp_path / "plan.toml").write_text('schema_version = 1\ntask = "ocr"\narchitecture = "ours"\nvariant = "small"\n')
    code, _, err = advisor("run", "--task", "ocr", "--plan", "plan.toml", "--out", "out", *given)
    assert code == 2 and "ours builds 'trap:build', which is none of the builders shipped here" in err, err
    with pytest.raises(Problem, match="none of the builders shipped here"):
        module(load(folder).card("ours"), "small", classes=11)
    assert "trap" not in sys.modules and not (tmp_path / "sprung").exists()
    assert any("advisor run refuses it" in finding.what and finding.severity == "note" for finding in lint(over(folder)))


def test_a_size_of_ours_with_a_shipped_builder_can_be_run(folder: Path) -> None:
    write(folder, {"architectures/ours.toml": CARD})
    builds, settings = spec_settings(load(folder), "ours", "small", classes=11)
    assert builds == "advisor.architectures.crnn:build" and settings["classes"] == 11


def test_an_answer_from_a_folder_needs_no_checker_of_schemas(folder: Path, advisor: Any) -> None:
    for name in ("jsonschema", "rules.schema", "rules.lint"):
        sys.modules.pop(name, None)
    assert advisor("recommend", "--task", "ocr")[0] == 0
    assert not {"jsonschema", "rules.schema", "rules.lint", "rules.overlay"} & (set(sys.modules) - BEFORE)
    assert isinstance(Knowledge([HERE, folder]), Knowledge)


BEFORE = {"rules.overlay"}  # imported by this file itself
