"""`recommend --measure` and `advisor evidence`: what is built is timed, what was measured here is preferred, and only where it is the same thing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from advisor.asking import request
from advisor.evidence_store import Fact, add, file, read
from advisor.measured import SOURCE, built, machine
from advisor.measuring import Report, facts, nets, rest, rows
from advisor.recommend import device, recommend
from rules.facts import Prediction, Request
from rules.knowledge import Knowledge, load
from rules.lint import lint
from rules.ranking import contest, name_of, pick
from tests.test_cli import advisor  # noqa: F401  the command in process

ROOT = Path(__file__).parent.parent
HERE = Request("ocr")
SHAPE = "1x1x32x128"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")


def fact(architecture: str = "crnn", variant: str = "small", value: float = 7.0, **other: object) -> Fact:
    """A latency of this machine, far from whatever is predicted."""
    card = load().cards[architecture]
    size = next(item for item in card.variants if item.name == variant)
    plain = Fact(
        what="latency",
        architecture=architecture,
        variant=variant,
        precision="int8",
        shape=SHAPE,
        threads=1,
        **machine(),
        at="2026-05-01T10:00:00+00:00",
        command="advisor recommend --task ocr --measure",
        value=value,
        low=0.9 * value,
        high=1.2 * value,
        unit="ms",
        built=built(card, size),
        details={"calls": 360},
    )
    return replace(plain, **other)  # type: ignore[arg-type]


def latency(name: str = "crnn/small", asked: Request = HERE) -> tuple[float, float, float]:
    answer = recommend(asked, load())
    found = next(item for item in (*answer.kept, *answer.refused) if name_of(item.architecture, item.variant) == name)
    assert found.prediction is not None
    return (found.prediction.low_ms, found.prediction.mid_ms, found.prediction.high_ms)


# -- preferred -----------------------------------------------------------------------------------------------------------


def test_what_was_measured_here_takes_the_place_of_the_prediction_and_says_so():
    before = latency()
    add([fact()])
    assert latency() == pytest.approx((6.3, 7.0, 8.4)) != before
    answer = recommend(HERE, load())
    found = next(item for item in answer.kept if item.variant == "small" and item.architecture == "crnn").prediction
    assert found is not None and found.kind == "measured" and found.sources == (SOURCE.id,) and SOURCE in answer.sources
    assert all(said in found.basis for said in ("on this machine", "2026-05-01", "360 calls", SHAPE, machine()["runtime"]))


def test_the_newest_counts_and_what_is_forgotten_no_longer_does(advisor):  # noqa: F811
    predicted = latency()
    add([fact(value=7.0), fact(value=8.0)])
    assert latency()[1] == 8.0
    assert advisor("evidence", "forget", "2", "--yes")[:2] == (0, "forgot 1 of 1 fact\n")
    assert latency()[1] == 7.0
    assert advisor("evidence", "forget", "--all", "--yes")[:2] == (0, "forgot 1 of 1 fact\n")
    assert latency() == predicted


@pytest.mark.parametrize(
    "other",
    [
        {"cpu": "Another processor"},
        {"isa": "x86-64"},
        {"runtime": "1.19.0"},
        {"variant": "base"},
        {"precision": "fp32"},
        {"shape": "1x1x32x320"},
        {"threads": 2},
        {"what": "accuracy"},
        {"unit": "s"},
        {"built": "0" * 16},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_fact_of_anything_else_changes_no_prediction(other: dict[str, object]):
    before = latency()
    add([fact(**other)])
    assert latency() == before


def test_the_shape_that_counts_is_the_one_that_would_be_predicted():
    known, row = load(), load().task("ocr")
    crnn = known.cards["crnn"]
    cards = {
        **{name: known.cards[name] for name in known.cards},
        "crnn": replace(crnn, variants=tuple(replace(v, shape="1x1x9x9") for v in crnn.variants)),
    }
    told = Prediction(1.0, 2.0, 3.0, "int8", "measured", "")
    for shape, seen in ((SHAPE, True), ("1x1x9x9", False)):  # the card's own counts are for another shape than its exported graph's
        held = contest(
            row, device(known, "this-machine"), cards=cards, costs=known.costs, rules=(), measured={("crnn", "small", "int8", shape): told}
        )
        (mine,) = [found for found in held.contenders if found.card.name == "crnn" and found.variant.name == "small"]
        assert (mine.prediction is told) == seen


def test_a_measurement_is_of_this_machine_and_not_of_another_device():
    board = replace(HERE, device="raspberry-pi-5")
    before = latency(asked=board)
    add([fact()])
    assert latency(asked=board) == before


def test_a_budget_is_held_against_what_was_measured():
    asked = replace(HERE, latency_ms=5.0)
    assert pick(recommend(asked, load()).kept).variant == "small"
    add([fact()])
    answer = recommend(asked, load())
    assert pick(answer.kept).variant != "small"
    refused = next(item for item in answer.refused if item.architecture == "crnn" and item.variant == "small")
    assert "budget.latency" in {said.rule for said in refused.verdicts if said.effect == "forbid"}


def test_a_broken_store_is_one_line_and_stays(advisor):  # noqa: F811
    file().parent.mkdir(parents=True)
    file().write_text("no store\n" * 300)
    for command in (
        ["recommend", "--task", "ocr"],
        ["evidence", "list"],
        ["evidence", "forget", "--all", "--yes"],
        ["evidence", "export", "x"],
    ):
        code, out, err = advisor(*command)
        assert (code, out) == (2, "") and err.startswith(f"advisor: the evidence store {file()} is broken") and err.count("\n") == 1
    assert advisor("recommend", "--task", "ocr", "--device", "raspberry-pi-5")[0] == 0  # whose answer rests on nothing measured here
    assert file().read_text() == "no store\n" * 300


def modules(home: Path) -> set[str]:
    script = "import sys; sys.argv = ['advisor', 'recommend', '--task', 'ocr']\nimport cli\ntry:\n    cli.main()\nexcept SystemExit:\n    pass\nprint(' '.join(sys.modules), file=sys.stderr)"
    environment = {"PATH": "/usr/bin:/bin", "ADVISOR_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_without_a_store_nothing_of_it_is_imported_and_with_one_neither_torch_nor_numpy(tmp_path: Path):
    assert not {"sqlite3", "advisor.evidence_store", "advisor.measured"} & modules(tmp_path / "nowhere")
    add([fact()])
    with_store = modules(file().parent)
    assert {"sqlite3", "advisor.measured"} <= with_store and not {"torch", "numpy", "onnxruntime"} & with_store


# -- measured ------------------------------------------------------------------------------------------------------------


def timed(name: str, precision: str, took: float) -> SimpleNamespace:
    return SimpleNamespace(
        name=name, precision=precision, size_bytes=1, undisturbed_ms=took, p50_ms=1.1 * took, p90_ms=1.2 * took, p99_ms=1.5 * took, calls=90
    )


def test_the_first_that_can_be_built_are_chosen_and_every_other_says_why_not():
    answer = recommend(HERE, load())
    chosen = nets(answer, load(), top=2)
    assert [net.name for net in chosen] == [name_of(item.architecture, item.variant) for item in answer.kept if item.status == "built"][:2]
    left = dict(rest(answer, chosen, {}))
    everyone = {name_of(item.architecture, item.variant) for item in (*answer.kept, *answer.refused)}
    assert set(left) == everyone - {net.name for net in chosen} and all(left.values())
    assert "reference" in left["trocr/small"] and "--top" in left["cnn-ctc/small"]
    assert dict(rest(answer, chosen, {chosen[0].name: "no such operator"}))[chosen[0].name] == "no such operator"


def test_a_candidate_that_only_its_prediction_refuses_is_timed_all_the_same():
    answer = recommend(replace(HERE, latency_ms=1e-6), load())
    assert pick(answer.kept) is None
    chosen = nets(answer, load(), top=3)
    assert len(chosen) == 3 and all(net.predicted["int8"] for net in chosen)


def test_a_planned_candidate_is_said_to_be_not_built_here_yet():
    known = load()
    for task in known.tasks:
        answer = recommend(Request(task), known)
        planned = [item for item in (*answer.kept, *answer.refused) if item.status == "planned"]
        if planned:
            left = dict(rest(answer, nets(answer, known, top=3), {}))
            assert {left[name_of(item.architecture, item.variant)] for item in planned} == {"not built here yet"}


def test_an_undisturbed_call_is_compared_with_the_prediction_and_stored_with_the_noise_added():
    answer = recommend(HERE, load())
    (net,) = nets(answer, load(), top=1)
    told = net.predicted["int8"]
    assert told is not None
    times = [timed(net.name, "int8", told.high_ms), timed(net.name, "fp32", 1.01 * net.predicted["fp32"].high_ms)]
    assert [row.inside for row in rows([net], times)] == [True, False]
    stored = facts(answer, [net], times, spread=0.1, runtime="9", at="2026-05-01T10:00:00+00:00")[0]
    assert (stored.low, stored.value, stored.high) == pytest.approx((told.high_ms / 1.1, 1.1 * told.high_ms, 1.65 * told.high_ms))
    assert stored.details["predicted"]["mid_ms"] == told.mid_ms and stored.command == "advisor recommend --task ocr --measure"
    add([stored])
    assert latency(net.name)[1] == pytest.approx(1.1 * told.high_ms)


def test_a_command_that_does_not_print_is_stored_so_that_it_can_be_read_again():
    answer = recommend(request("ocr", "this-machine", charset="a\nb\x1b" + "z" * 5000), load())
    (net,) = nets(answer, load(), top=1)
    add(facts(answer, [net], [timed(net.name, "int8", 1.0)], spread=0.0, runtime="9", at="2026-05-01T10:00:00+00:00"))
    assert read()[0].command.isprintable()


def test_the_command_builds_times_stores_and_answers_by_what_it_found(advisor):  # noqa: F811
    code, out, err = advisor("recommend", "--task", "ocr", "--latency-ms", "500", "--measure", "--top", "1", "--format", "json")
    assert code == 0, err
    found = json.loads(out)
    best = found["kept"][0]
    files = found["measured"]["files"]
    assert [(row["candidate"], row["precision"]) for row in files] == [(found["pick"], "fp32"), (found["pick"], "int8")]
    assert all(0 < row["undisturbed_ms"] <= row["p50_ms"] <= row["p99_ms"] and row["predicted"]["mid_ms"] > 0 for row in files)
    assert all(row["inside"] == (row["predicted"]["low_ms"] <= row["undisturbed_ms"] <= row["predicted"]["high_ms"]) for row in files)
    assert best["prediction"]["sources"] == [SOURCE.id] and best["prediction"]["mid_ms"] == files[1]["p50_ms"]
    assert [(item.precision, item.details["predicted"]["mid_ms"]) for item in read()] == [
        (row["precision"], row["predicted"]["mid_ms"]) for row in files
    ]
    assert {item["candidate"] for item in found["measured"]["not_measured"]} > {"trocr/small"}
    assert "build and export" in err and "interleaved" in err


def test_the_report_stands_under_the_answer_in_text_and_in_markdown():
    answer = recommend(HERE, load())
    chosen = nets(answer, load(), top=1)
    report = Report(rows(chosen, [timed(chosen[0].name, "int8", 0.4)]), rest(answer, chosen, {}), spread=0.2, noisy=True)
    for form in ("table", "md"):
        text = report.beside(answer, form)
        assert (
            "Measured here" in text
            and "0.400 ms" in text
            and "20.0 %: noisy" in text
            and "trocr/small" in text.partition("Measured here")[2]
        )


def test_another_device_cannot_be_measured_here(advisor):  # noqa: F811
    code, out, err = advisor("recommend", "--task", "ocr", "--device", "raspberry-pi-5", "--measure")
    assert (code, out) == (2, "") and "the device is raspberry-pi-5" in err and err.count("\n") == 1


def test_without_torch_measuring_is_one_line_of_the_environment(advisor, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "torch", None)
    code, out, err = advisor("recommend", "--task", "ocr", "--measure", "-q")
    assert (code, out) == (5, "") and err == "advisor: measuring needs torch, which is not installed (pip install 'edge-advisor[train]')\n"
    assert not file().exists()


# -- kept and handed on --------------------------------------------------------------------------------------------------


def test_the_list_shows_what_was_measured_where(advisor):  # noqa: F811
    assert advisor("evidence", "list")[:2] == (0, "nothing was measured yet: advisor recommend --task ... --measure\n")
    add([fact(), fact(cpu="Another processor")])
    _, out, _ = advisor("evidence", "list")
    assert "this machine" in out.splitlines()[1] and "Another processor" in out.splitlines()[2] and "7.00 ms (6.30 to 8.40)" in out
    shown = json.loads(advisor("evidence", "list", "--format", "json")[1])
    assert [(item["id"], item["here"], item["value"]) for item in shown["facts"]] == [(1, True, 7.0), (2, False, 7.0)]
    assert shown["schema_version"] == 1 and shown["store"] == str(file())


def test_what_is_exported_is_read_as_a_folder_of_knowledge(advisor, tmp_path: Path):  # noqa: F811
    add([fact(value=1.0), fact(value=2.0), fact("svtr", "tiny"), fact(cpu='A "quoted" \\ processor', value=3.0), fact(architecture="crnn")])
    add([replace(fact(), architecture="their-net")])
    folder = tmp_path / "ours"
    folder.mkdir()
    mine = '[[source]]\nid = "our-lab"\ntitle = "Ours"\nurl = "https://example.org"\nyear = 2026\nkind = "measurement"\n'
    (folder / "sources.toml").write_text(mine)
    for _ in range(2):  # the second time nothing is there twice
        code, _, err = advisor("evidence", "export", str(folder))
        assert code == 0 and "left out: their-net" in err
    assert (folder / "sources.toml").read_text().startswith(mine)
    known: Knowledge = load(folder)
    added = known.cards["crnn"].evidence[len(load().cards["crnn"].evidence) :]
    assert sorted(item.value for item in added) == [3.0, 7.0]  # the newest of each
    assert all(item.kind == "measured" and item.unit == "ms" and known.sources[item.source].kind == "measurement" for item in added)
    assert {finding.key for finding in lint(known)} <= {"source 'our-lab'"}
    assert (known.cards["svtr"].evidence[-1].value, known.cards["svtr"].evidence[-1].what) == (7.0, "latency")
    assert sum(advisor("explain", name, "--knowledge", str(folder))[1].count("1x1x32x128, 1 thread") for name in ("crnn", "svtr")) >= 3


def test_a_folder_whose_sources_are_broken_is_refused_and_left_alone(advisor, tmp_path: Path):  # noqa: F811
    add([fact()])
    (tmp_path / "sources.toml").write_text("[[source]\n")
    code, out, err = advisor("evidence", "export", str(tmp_path))
    assert (code, out) == (2, "") and "sources.toml" in err and err.count("\n") == 1
    assert (tmp_path / "sources.toml").read_text() == "[[source]\n" and not (tmp_path / "evidence").exists()


@pytest.mark.parametrize(
    "command", [["forget"], ["forget", "1", "--all"], ["forget", "9", "--yes"], ["forget", "--architecture", "crn", "--yes"]]
)
def test_what_to_forget_is_said_exactly(advisor, command):  # noqa: F811
    add([fact()])
    code, out, err = advisor("evidence", *command)
    assert (code, out) == (2, "") and err and len(read()) == 1


def test_forgetting_asks_and_where_nobody_can_answer_it_does_not_happen(advisor, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    add([fact(), fact("svtr", "tiny")])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    code, _, err = advisor("evidence", "forget", "--all")
    assert code == 2 and "nobody to ask (--yes)" in err and len(read()) == 2
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for answer, left in ((False, 2), (True, 1)):
        monkeypatch.setattr("click.confirm", lambda *_, answer=answer, **__: answer)
        assert advisor("evidence", "forget", "--architecture", "svtr")[0] == 0 and len(read()) == left
