"""The command line's promises: one clear line, the documented exit code, nothing lost, stdout for results only."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import cli

ROOT = Path(__file__).parent.parent


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The command in process: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["advisor", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


@pytest.fixture
def advisor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    return lambda *arguments: run(*arguments, monkeypatch=monkeypatch, capsys=capsys)


class Payload:
    def __reduce__(self):
        return (Path("/tmp/edge-advisor-was-here").write_text, ("code ran",))


def prepare(kind: str, folder: Path) -> list[str]:
    """A bad input of this kind in `folder`, and the command that meets it."""
    data = folder / "data"
    command = ["run", "--task", "ocr", "--data", str(data), "--plan", str(ROOT / "plans" / "demo.toml"), "--out", str(folder / "out"), "-q"]
    if kind == "missing data folder":
        return command
    data.mkdir()
    if kind == "empty data folder":
        return command
    if kind == "broken image":
        (data / "labels.tsv").write_text("".join(f"{i}.png\tabc\n" for i in range(60)))
        for i in range(60):
            (data / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
        return command
    if kind == "missing image":
        (data / "labels.tsv").write_text("nowhere.png\tabc\n")
        return command
    if kind == "character outside the charset":
        from PIL import Image

        for i in range(60):
            Image.new("L", (64, 32), 255).save(data / f"{i}.png")
        (data / "labels.tsv").write_text("".join(f"{i}.png\tab\u00e9\n" for i in range(60)))
        plan = folder / "plan.toml"
        text = (ROOT / "plans" / "demo.toml").read_text()
        plan.write_text(text.replace("[[stage]]", '[settings]\ncharset = "abc"\n\n[[stage]]', 1))
        command[command.index("--plan") + 1] = str(plan)
        return command
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind", ["missing data folder", "empty data folder", "broken image", "missing image", "character outside the charset"]
)
def test_bad_data_is_one_line_and_exit_3(kind: str, tmp_path: Path, advisor) -> None:
    code, out, err = advisor(*prepare(kind, tmp_path))
    assert code == 3, err
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("advisor: ")
    named = {"broken image": ".png", "missing image": "nowhere.png", "character outside the charset": "\u00e9"}.get(kind, "data")
    assert named in err


USAGE = {
    "an unknown task": (["recommend", "--task", "orc"], "did you mean 'ocr'"),
    "an unknown device": (["recommend", "--task", "ocr", "--device", "rasberry-pi-5"], "did you mean 'raspberry-pi-5'"),
    "an unknown task to run": (["run", "--task", "orc"], "did you mean 'ocr'"),
    "a task object that is not there": (["run", "--task", "nowhere.at.all:TASK"], "nowhere.at.all:TASK"),
    "an unknown term": (["explain", "crn"], "did you mean"),
    "a missing plan": (["run", "--task", "ocr", "--plan", "none.toml"], "cannot read plan"),
    "a negative budget": (["recommend", "--task", "ocr", "--latency-ms", "-1"], "latency-ms"),
}


@pytest.mark.parametrize("mistake", USAGE)
def test_a_mistake_in_use_is_exit_2_and_names_the_nearest(mistake: str, advisor) -> None:
    arguments, said = USAGE[mistake]
    code, out, err = advisor(*arguments)
    assert code == 2, err
    assert out == ""
    assert said in err


def test_an_onnx_that_is_none_is_refused_with_exit_3(tmp_path: Path, advisor) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"this is no graph")
    code, _, err = advisor("profile", str(path))
    assert code == 3
    assert len(err.strip().splitlines()) == 1
    assert str(path) in err


def test_weights_that_want_to_run_code_are_refused_and_do_not_run(tmp_path: Path, advisor) -> None:
    marker = Path("/tmp/edge-advisor-was-here")
    marker.unlink(missing_ok=True)
    weights = tmp_path / "weights.pt"
    weights.write_bytes(pickle.dumps(Payload()))
    code, _, err = advisor(
        "compress",
        "tests.tasks_for_tests:tiny_module",
        "--weights",
        str(weights),
        "--task",
        "tests.tasks_for_tests:TASK",
        "--out",
        str(tmp_path / "out"),
    )
    assert code == 3, err
    assert len(err.strip().splitlines()) == 1
    assert not marker.exists()


def test_nothing_fits_is_an_answer_but_writes_no_plan(tmp_path: Path, advisor) -> None:
    impossible = ["recommend", "--task", "ocr", "--device", "raspberry-pi-4", "--latency-ms", "0.0001"]
    code, out, err = advisor(*impossible)
    assert code == 0
    assert "nearest" in out.lower()
    plan = tmp_path / "plan.toml"
    code, _, err = advisor(*impossible, "-o", str(plan))
    assert code == 1
    assert not plan.exists()
    assert "there is no plan" in err


def test_json_is_the_only_thing_on_stdout(advisor) -> None:
    code, out, _ = advisor("recommend", "--task", "ocr", "--device", "raspberry-pi-5", "--format", "json")
    assert code == 0
    assert json.loads(out)["schema_version"] == 1


def test_the_recommended_plan_can_be_read_back(tmp_path: Path, advisor) -> None:
    from compress.plan import read

    path = tmp_path / "plan.toml"
    code, _, err = advisor("recommend", "--task", "ocr", "--device", "raspberry-pi-5", "-o", str(path))
    assert code == 0, err
    plan = read(path)
    assert plan.task == "ocr"
    assert [step.name for step in plan.steps][-1] != "export"


def test_a_bug_keeps_its_traceback_is_saved_and_exits_70(monkeypatch: pytest.MonkeyPatch, advisor) -> None:
    import rules.knowledge

    monkeypatch.setattr(rules.knowledge, "load", lambda *_: 1 / 0)
    code, _, err = advisor("matrix")
    assert code == 70
    assert "ZeroDivisionError" in err
    report = Path(err.rsplit("the report is in ", 1)[1].strip())
    assert "ZeroDivisionError" in report.read_text()
    report.unlink()


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} cli.py matrix | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.stdout


def test_sigterm_says_that_the_same_command_continues(tmp_path: Path) -> None:
    script = "import cli, os, signal, sys, threading\nimport rules.knowledge\nrules.knowledge.load = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\nsys.argv = ['advisor', 'matrix']\ncli.main()"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 143
    assert "continues" in done.stderr
