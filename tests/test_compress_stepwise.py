"""A model that writes ships cut into steps too: they answer as the whole does, the bundle proves them, and what cannot be cut ships whole."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import _job
from compress.bundle import verify, write
from compress.context import Silent
from compress.pipeline import Run
from compress.reader.steps_cache import Remembering
from compress.reader.steps_writing import written
from compress.record import finish
from compress.recorded import Recorded, by_operators
from compress.stepwise import recorded
from rules.problems import Problem
from tests.bundle_for_tests import record as invented

PLAN = """
schema_version = 1
task = "{task}"
architecture = "{architecture}"
variant = "{variant}"
max_drop = {drop}

[settings]
{settings}

[[stage]]
name = "train"
steps = 3
evaluations = 0

[[stage]]
name = "export"

[[stage]]
name = "quantize"
"""
WRITERS = {
    "gpt": ("text-generation", "gpt-small", "4x128", "train = 20\nval = 4\ntest = 4\nlength = 16"),
    "gru": ("text-generation", "gru-lm", "2x256", "train = 20\nval = 4\ntest = 4\nlength = 16"),
    "translator": ("machine-translation", "marian-tiny-student", "micro", "train = 60\nval = 8\ntest = 8"),
}


def run_of(name: str, folder: Path, *, drop: float = 1e9) -> Run:
    task, architecture, variant, settings = WRITERS[name]
    (folder / "plan.toml").write_text(PLAN.format(task=task, architecture=architecture, variant=variant, settings=settings, drop=drop))
    options: Mapping[str, Any] = {"device": None, "teacher": None, "threads": 1, "train_on": "cpu", "overlay": None}
    job = _job(task, None, folder / "plan.toml", **options)
    run = Run(job, folder / "run", latencies=Recorded(by_operators), progress=Silent())
    run.through()
    return run


@pytest.fixture(scope="module", params=WRITERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Run]:
    """The bundle of a short run, its record, and the run."""
    run = run_of(request.param, tmp_path_factory.mktemp(request.param))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compress.record._profile", lambda *_: invented()["final"]["profile"])
        record = finish(run)
    graph, parts = run.folder / record["final"]["file"], recorded(run, record["stepwise"])
    return write(run.folder / "bundle", record=record, graph=graph, data=run.job.data, task=run.job.task, parts=parts), record, run


def test_the_bundle_holds_the_parts_and_proves_them(made) -> None:
    bundle, record, _ = made
    roles = [graph["role"] for graph in json.loads((bundle / "manifest.json").read_text())["graphs"]]
    assert roles == (["main", "encoder", "step"] if record["task"] == "machine-translation" else ["main", "step"])
    assert verify(bundle) == []
    assert set(json.loads((bundle / "golden" / "tolerances.json").read_text())["graphs"]) == {f"{role}.onnx" for role in roles[1:]}
    assert "Cut into steps in" in (bundle / "README.md").read_text()


def test_the_score_through_the_parts_is_the_score_of_the_whole(made) -> None:
    _, record, _ = made
    facts = record["stepwise"]
    assert facts["scores"][facts["format"]] == pytest.approx(facts["scores"]["whole"], rel=0.02, abs=0.02)


def test_the_reader_writes_through_the_parts_as_through_the_whole(made, tmp_path: Path) -> None:
    bundle, record, _ = made
    whole = shutil.copytree(bundle, tmp_path / "whole")
    (whole / "steps_cache.py").unlink()  # without it the reader asks the whole graph
    sums = [line for line in (whole / "SHA256SUMS").read_text().splitlines() if not line.endswith("steps_cache.py")]
    (whole / "SHA256SUMS").write_text("".join(f"{line}\n" for line in sums))
    ask = ["golden/raw/0.txt", *(["--write", "12"] if record["task"] == "text-generation" else ["--beam"])]
    said = [subprocess.run([sys.executable, "reader.py", *ask], cwd=place, capture_output=True, text=True) for place in (bundle, whole)]
    assert [one.returncode for one in said] == [0, 0], said
    shutil.rmtree(bundle / "__pycache__", ignore_errors=True)
    assert said[0].stdout == said[1].stdout or record["stepwise"]["format"] == "dynamic int8"  # whose products round by what stands beside


def test_a_part_that_answers_something_else_is_found(made, tmp_path: Path) -> None:
    from compress.bundle import sums
    from compress.files import sha256

    bundle, _, _ = made
    other = shutil.copytree(bundle, tmp_path / "other")
    vector = sorted((other / "golden").glob("step-*/output_0.pb"))[0]
    raw = bytearray(vector.read_bytes())
    raw[-2:] = b"\x7f\x43"  # the last number is 255
    vector.write_bytes(raw)
    manifest = json.loads((other / "manifest.json").read_text())
    for entry in manifest["files"]:
        entry["sha256"] = sha256(other / entry["path"])
    (other / "manifest.json").write_text(json.dumps(manifest))
    (other / "SHA256SUMS").write_text(sums(other))
    assert any("step-" in str(finding) and "differs by up to" in str(finding) for finding in verify(other))


def test_scores_are_taken_once(made, monkeypatch: pytest.MonkeyPatch) -> None:
    _, record, run = made
    monkeypatch.setattr(type(run.job.data), "score", lambda *_, **__: pytest.fail("scored again"))
    assert finish(run)["stepwise"] == record["stepwise"]


def test_parts_that_lose_more_than_is_allowed_stay_float(tmp_path: Path) -> None:
    run = run_of("gpt", tmp_path, drop=-1e9)  # nothing is good enough
    from compress import stepwise

    facts = stepwise.made(run, run.state.best or run.folder / "stages" / "02-quantize" / "model.onnx")
    assert facts is not None and facts["format"] == "float32"


def test_a_net_that_cannot_be_cut_ships_whole_and_says_why(made, monkeypatch: pytest.MonkeyPatch) -> None:
    from compress import stepwise

    def refused(*_: Any, **__: Any) -> Path:
        raise Problem("no exporter takes this step")

    _, _, run = made
    monkeypatch.setattr(stepwise, "export", refused)
    assert stepwise.made(run, run.folder / "none.onnx") == {"parts": [], "reason": "no exporter takes this step"}
    assert recorded(run, {"parts": [], "reason": "x"}) == []


def test_a_task_that_does_not_write_has_no_parts() -> None:
    from compress import stepwise

    run: Any = SimpleNamespace(job=SimpleNamespace(task=object(), graph=None), state=SimpleNamespace(module=object))
    assert stepwise.made(run, Path("model.onnx")) is None and recorded(run, None) == []


# -- what is kept, against a net that is a sum ---------------------------------------------------------------------------------


def whole(feeds: Mapping[str, Any]) -> np.ndarray:
    """At each place the sum of all words so far, and of the source: (b, t, 1)."""
    words = feeds["ids"] if "ids" in feeds else feeds["target"]
    before = feeds["source"].sum(1)[:, None] if "source" in feeds else 0
    return (words.cumsum(1) + before)[..., None].astype(np.float32)


def step(feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
    start = feeds["past"][0, 0, :, 0]
    told = feeds["ids"].cumsum(1) + start[:, None]
    if "memory" in feeds:
        assert feeds["place"].shape == (1,) and len(feeds["source"]) == len(feeds["ids"])
    said = told + (feeds["memory"][0, 0] if "memory" in feeds else 0)
    return {"logits": said[..., None].astype(np.float32), "present": told[:, -1][None, None, :, None].astype(np.float32)}


def encoder(feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {"memory": feeds["source"].sum(1)[None, None, :, None].astype(np.float32)}


PAST, MEMORY = (1, 1, "batch", 1), (1, 1, "batch", "source")
asked = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=4)


@given(st.lists(st.tuples(asked, st.integers(0, 3)), max_size=6), st.booleans())
def test_whatever_is_asked_in_whatever_order_the_last_place_is_that_of_the_whole(calls, translates) -> None:
    """Rows that grow, swap places, double, vanish, or were never seen."""
    ask = Remembering(step, PAST, encoder if translates else None, MEMORY)
    for rows, source in calls:
        length = min(map(len, rows))
        words = np.array([row[:length] for row in rows], dtype=np.int64)
        feeds = {"target": words, "source": np.full((len(rows), 2), source, dtype=np.int64)} if translates else {"ids": words}
        np.testing.assert_array_equal(ask(feeds)["logits"][:, -1], whole(feeds)[:, -1])


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 20))
def test_writing_past_the_longest_text_that_is_read_lets_the_older_half_go_and_reads_each_window_once(length, steps, before) -> None:
    read: list[int] = []

    def counting(feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        read.append(feeds["ids"].shape[1])
        return {**step(feeds), "logits": np.eye(5, dtype=np.float32)[(feeds["ids"] + 1) % 5]}

    ask = Remembering(counting, PAST)
    ids = np.arange(before + 1, dtype=np.int64)[None] % 5
    text, _ = written(lambda ids: ask({"ids": ids})["logits"], ids, list("abcde"), steps, 0.0, 0, length, never=0)
    assert text == "".join("abcde"[(before + 1 + place) % 5] for place in range(steps))
    assert max(read) <= length and len(read) == steps
    assert sum(count > 1 for count in read) <= 2 + steps // max(1, length // 2)
