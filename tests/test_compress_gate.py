"""The gate: each limit judged on a stated basis; what is too noisy or has no basis is never called a pass or a failure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import bundle_for_tests as small
import numpy as np
import pytest

from compress import bundle
from compress.files import sha256
from compress.gate import GateResult, from_options, gate, render
from compress.limits import Limits, read_config, read_profile
from compress.rows import Row, judge
from rules.examples import Score
from rules.problems import Exit, Problem

SPEED = Limits(max_latency_ratio=1.05)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write(tmp_path_factory.mktemp("new") / "bundle", seed=0)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write(tmp_path_factory.mktemp("old") / "bundle", seed=1)


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs these tests made need no child process to be looked at; the test of a hostile baseline takes this back."""
    monkeypatch.setattr("compress.runtime.check_graph", lambda path: None)


def figures(ms: float) -> dict[str, Any]:
    return {"wall_ms": {"min": ms, "p10": ms, "p50": ms, "p90": ms, "p99": ms}, "cpu_ms": None, "low_ms": ms, "calls": 99}


def timed(
    path: Path, reference: Path, *, ratio: float = 1.0, spread: float = 0.01, noisy: bool = False, probes: Any = ("w64", "w128")
) -> dict[str, Any]:
    """A profile as `profile.profile` returns it, with the ratio given instead of measured."""
    probe = {
        "shapes": {},
        **figures(ratio),
        "reference": figures(1.0),
        "ratio": {"value": ratio, "low": ratio - spread, "high": ratio + spread, "rounds": 120},
        "noise": {"ratio": {}, "spread": 0.2 if noisy else 0.01, "bound": 0.05, "too_noisy": noisy},
    }
    return {
        "schema_version": 1,
        "file": {"sha256": sha256(path)},
        "reference": {"sha256": sha256(reference)},
        "device": {"fingerprint": "abc", "cpu": "a board"},
        "threads": 1,
        "provider": "CPUExecutionProvider",
        "probes": dict.fromkeys(probes, probe),
        "too_noisy": noisy,
    }


def row(result: GateResult, key: str) -> Row:
    return next(row for row in result.rows if row.key.startswith(key))


def measure(**settings: Any) -> Any:
    return lambda path, probes, *, reference, threads: timed(path, reference, probes=probes, **settings)


# -- latency ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "status", "code"),
    [
        ({"ratio": 1.0}, "pass", Exit.DONE),
        ({"ratio": 1.2}, "fail", Exit.FAILED),
        ({"ratio": 1.05}, "too noisy", Exit.UNJUDGED),
        ({"ratio": 0.5, "noisy": True}, "too noisy", Exit.UNJUDGED),
        ({"ratio": 2.0, "noisy": True}, "too noisy", Exit.UNJUDGED),
    ],
)
def test_a_latency_ratio_is_measured_now_and_judged_by_its_interval(new: Path, old: Path, settings: Any, status: str, code: int) -> None:
    result = gate(new, limits=SPEED, baseline=old, measure=measure(**settings))
    rows = [entry for entry in result.rows if entry.key.startswith("max_latency_ratio")]
    assert [(entry.status, entry.basis) for entry in rows] == [(status, "measured now")] * 2
    assert result.exit_code == code and {"low_ms", "baseline", "interval"} <= rows[0].samples.keys()


def test_the_baseline_may_be_a_plain_graph(new: Path, tmp_path: Path) -> None:
    graph = small.model(tmp_path / "model.onnx", seed=2)
    asked: list[Any] = []

    def note(path: Path, probes: Mapping[str, Any], *, reference: Path, threads: int) -> dict[str, Any]:
        asked.append((path, reference, threads, {name: feeds["image"].shape for name, feeds in probes.items()}))
        return timed(path, reference)

    assert gate(new, limits=SPEED, baseline=graph, measure=note).exit_code == Exit.DONE
    assert asked == [(new / "model.onnx", graph, 1, {"w64": (1, 1, 32, 64), "w128": (1, 1, 32, 128)})]


def test_without_a_baseline_a_ratio_is_not_judged(new: Path) -> None:
    result = gate(new, limits=SPEED, measure=measure())
    assert row(result, "max_latency_ratio").status == "not judged" and result.exit_code == Exit.UNJUDGED


def test_a_bundle_really_measured_against_itself_does_not_fail(new: Path) -> None:
    """A/A, on the clock: it may be too noisy on a busy machine, but two copies are never called different by half."""
    result = gate(new, limits=Limits(max_latency_ratio=1.5), baseline=new)
    assert row(result, "max_latency_ratio").status in ("pass", "too noisy")


def test_a_profile_from_the_target_is_taken_when_it_was_paired_with_this_baseline(new: Path, old: Path) -> None:
    profile = timed(new / "model.onnx", old / "model.onnx", ratio=1.3)
    found = row(gate(new, limits=SPEED, baseline=old, measured=profile), "max_latency_ratio")
    assert (found.status, found.basis, found.samples["device"]) == ("fail", "recorded", "a board")


def with_profile(folder: Path, profile: dict[str, Any]) -> Path:
    value = json.loads((folder / "manifest.json").read_text())
    value["latency"]["profile"] = profile
    (folder / "manifest.json").write_text(json.dumps(value))
    (folder / "SHA256SUMS").write_text(bundle.sums(folder))
    return folder


@pytest.mark.parametrize(("device", "status"), [("abc", "fail"), ("another", "not judged")])
def test_a_profile_from_the_target_compares_with_one_of_the_same_device_only(new: Path, tmp_path: Path, device: str, status: str) -> None:
    before = small.write(tmp_path / "before", seed=1)
    recorded = {
        **timed(before / "model.onnx", before / "model.onnx", ratio=0.5),
        "device": {"fingerprint": device, "cpu": "some board"},
        "reference": None,
    }
    profile = {**timed(new / "model.onnx", new / "model.onnx"), "reference": None}
    found = row(gate(new, limits=SPEED, baseline=with_profile(before, recorded), measured=profile), "max_latency_ratio")
    assert found.status == status and (found.found == 2.0 if status == "fail" else "different devices" in found.why)


def test_a_profile_of_another_model_is_refused(new: Path, old: Path) -> None:
    with pytest.raises(Problem, match="another model") as caught:
        gate(new, limits=SPEED, baseline=old, measured=timed(old / "model.onnx", old / "model.onnx"))
    assert caught.value.code == Exit.INPUT


# -- metrics ---------------------------------------------------------------------------------------------------------------------


class Graded(small.Digits):
    """Data whose scores are given by the model file: `worse` more errors in a hundred for the file that is not `best`."""

    def __init__(self, best: Path, worse: float, examples: int = 1200) -> None:
        super().__init__()
        object.__setattr__(self, "_best", self._outputs(best))
        object.__setattr__(self, "_worse", worse)
        object.__setattr__(self, "_examples", examples)

    def _outputs(self, graph: Path) -> np.ndarray:
        from compress.runtime import predictor

        return predictor(graph)(self.probes_once())["logits"]

    def probes_once(self) -> dict[str, np.ndarray]:
        return {"image": np.ones((1, 1, 32, 64), np.float32)}

    def score(self, predict: Any, split: Any, *, limit: int | None = None) -> Score:
        best = np.array_equal(predict(self.probes_once())["logits"], self._best)  # type: ignore[attr-defined]
        generator = np.random.default_rng(0)
        errors = generator.poisson(0.2, self._examples).astype(float)  # type: ignore[attr-defined]
        extra = generator.random(len(errors)) < (0 if best else 10 * self._worse)  # type: ignore[attr-defined]
        weights = np.full(len(errors), 10.0)
        errors = errors + extra
        return Score(small.METRIC, float(errors.sum() / weights.sum()), errors, weights, {"exact": float(np.mean(errors == 0))})


@pytest.mark.parametrize(("worse", "status"), [(0.0, "pass"), (0.001, "pass"), (0.005, "too noisy"), (0.02, "fail")])
def test_a_metric_is_scored_anew_and_judged_by_its_paired_interval(new: Path, old: Path, worse: float, status: str) -> None:
    result = gate(new, limits=Limits({"cer": 0.005}), baseline=old, data=Graded(old / "model.onnx", worse))
    found = row(result, "max_drop")
    assert (found.status, found.basis) == (status, "measured now") and found.samples["examples"] == 1200
    assert found.found == pytest.approx(worse, abs=0.003) and found.samples["interval"][0] <= found.found <= found.samples["interval"][1]


def test_a_further_figure_is_judged_without_an_interval_and_says_so(new: Path, old: Path) -> None:
    found = row(gate(new, limits=Limits({"exact": 0.01}), baseline=old, data=Graded(old / "model.onnx", 0.02)), "max_drop")
    assert found.status == "fail" and "no interval" in found.why and found.found is not None and found.found > 0.1


def test_a_metric_nobody_knows_gets_the_nearest_name(new: Path, old: Path) -> None:
    for data in (None, Graded(old / "model.onnx", 0.0)):
        with pytest.raises(Problem, match="did you mean"):
            gate(new, limits=Limits({"exect": 0.01}), baseline=old, data=data)


def test_data_with_other_labels_is_refused(new: Path, old: Path) -> None:
    with pytest.raises(Problem, match="other labels"):
        gate(new, limits=Limits({"cer": 0.01}), baseline=old, data=small.Digits(labels=tuple("abcdefghij")))


def test_without_data_or_baseline_the_run_s_own_figures_are_judged_as_recorded(new: Path) -> None:
    """The fixture records a loss of 0.38 points against the teacher, interval 0.11 to 0.66."""
    for limit, status in ((0.01, "pass"), (0.005, "too noisy"), (0.001, "fail")):
        found = row(gate(new, limits=Limits({"CER": limit})), "max_drop")
        assert (found.status, found.basis, found.found) == (status, "recorded", 0.0038) and "teacher" in found.what


def test_two_recorded_figures_compare_when_they_are_of_the_same_examples(new: Path, old: Path, tmp_path: Path) -> None:
    found = row(gate(new, limits=Limits({"cer": 0.0}), baseline=old), "max_drop")
    assert (found.status, found.basis, found.found) == ("pass", "recorded", 0.0)
    other = small.write(tmp_path / "other")
    value = json.loads((other / "manifest.json").read_text())
    value["data"]["source"] = "something else"
    (other / "manifest.json").write_text(json.dumps(value))
    (other / "SHA256SUMS").write_text(bundle.sums(other))
    assert row(gate(new, limits=Limits({"cer": 0.0}), baseline=other), "max_drop").status == "not judged"


def test_a_plain_graph_has_no_recorded_score(new: Path, old: Path) -> None:
    assert row(gate(new, limits=Limits({"cer": 0.01}), baseline=old / "model.onnx"), "max_drop").status == "not judged"


# -- size, soundness, exit codes -------------------------------------------------------------------------------------------------


def test_size_is_that_of_the_model_file(new: Path) -> None:
    size = (new / "model.onnx").stat().st_size
    assert gate(new, limits=Limits(max_size_bytes=size)).exit_code == Exit.DONE
    assert gate(new, limits=Limits(max_size_bytes=size - 1)).exit_code == Exit.FAILED


def test_a_bundle_that_is_not_sound_fails_whatever_its_numbers(tmp_path: Path) -> None:
    broken = small.write(tmp_path / "broken")
    (broken / "labels.txt").write_text("")
    result = gate(broken, limits=Limits(max_size_bytes=10**9))
    assert result.exit_code == Exit.FAILED and [entry.key for entry in result.rows] == ["sound"]


def test_a_failure_outweighs_noise_and_a_warning_weighs_nothing(new: Path, old: Path) -> None:
    noisy = measure(ratio=1.05)
    limits = Limits(max_latency_ratio=1.05, max_size_bytes=1)
    assert gate(new, limits=limits, baseline=old, measure=noisy).exit_code == Exit.FAILED
    warned = Limits(max_latency_ratio=1.05, max_size_bytes=1, levels={"max_size_mb": "warn"})
    assert gate(new, limits=warned, baseline=old, measure=noisy).exit_code == Exit.UNJUDGED
    quiet = Limits(max_latency_ratio=1.05, max_size_bytes=1, levels={"max_size_mb": "warn", "max_latency_ratio": "warn"})
    assert gate(new, limits=quiet, baseline=old, measure=noisy).exit_code == Exit.DONE


def test_a_baseline_that_is_no_model_is_refused_before_it_is_run(new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(Problem) as caught:
        gate(new, limits=SPEED, baseline=tmp_path / "model.onnx", measure=lambda *_, **__: pytest.fail("it was run"))
    assert caught.value.code == Exit.INPUT


def test_no_limit_is_a_usage_error(new: Path) -> None:
    with pytest.raises(Problem, match="nothing to judge") as caught:
        gate(new, limits=Limits())
    assert caught.value.code == Exit.USAGE


@pytest.mark.parametrize(("low", "high", "status"), [(0, 1, "pass"), (1, 2, "too noisy"), (1.1, 2, "fail"), (0, 1.0001, "too noisy")])
def test_an_interval_passes_fails_or_settles_nothing(low: float, high: float, status: str) -> None:
    assert judge(low, high, 1.0) == status


# -- what it is told and what it says --------------------------------------------------------------------------------------------


def test_flags_override_the_file(new: Path, tmp_path: Path) -> None:
    config = tmp_path / "gate.toml"
    config.write_text('[gate]\nmax_drop.cer = 0.001\nmax_size_mb = 0.000001\n[gate.levels]\nmax_drop.cer = "warn"\n')
    found = from_options(new, open_task=lambda name: pytest.fail("no data was given"), config=config, drops=("cer=0.01",), max_size_mb=10)
    assert found.exit_code == Exit.DONE and [(entry.limit, entry.level) for entry in found.rows] == [
        (0, "error"),
        (0.01, "warn"),
        (10_000_000, "error"),
    ]


def test_data_is_opened_as_the_bundle_says(tmp_path: Path) -> None:
    folder, asked = small.write(tmp_path / "bundle"), []

    class Task:
        def open(self, source: Path, *, seed: int, settings: Mapping[str, Any]) -> small.Digits:
            asked.append((source, seed, settings))
            return small.Digits()

    value = json.loads((folder / "manifest.json").read_text())
    value["plan"]["settings"], value["data"]["reopen"], value["seeds"] = {"case": "keep", "train": 9}, {"case": "upper"}, {"run": 5}
    (folder / "manifest.json").write_text(json.dumps(value))
    (folder / "SHA256SUMS").write_text(bundle.sums(folder))
    task: Any = {"ocr": Task()}
    result = from_options(folder, open_task=lambda name: task[name], baseline=folder, data=tmp_path, drops=("cer=0",))
    assert asked == [(tmp_path, 5, {"case": "upper", "train": 9})] and result.exit_code == Exit.DONE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_drop.cer = 1", "unknown key"),
        ("[gate]\nmax_dorp.cer = 0.1", "did you mean 'max_drop'"),
        ("[gate]\nmax_drop = 0.1", "expected a table"),
        ("[gate]\nmax_drop.cer = 'low'", "expected a number"),
        ("[gate]\nmax_drop.cer = 5", "a fraction"),
        ("[gate]\nmax_latency_ratio = true", "expected a number"),
        ("[gate]\nmax_size_mb = nan", "expected a number"),
        ("[gate]\nmax_size_mb = 1\n[gate.levels]\nmax_size = 'warn'", "did you mean 'max_size_mb'"),
        ("[gate]\nmax_size_mb = 1\n[gate.levels]\nmax_size_mb = 'info'", "allowed: 'error', 'warn'"),
        ("gate = 3", "unknown key"),
        ("[gate", "cannot read"),
    ],
)
def test_a_wrong_gate_file_is_told_the_key_and_the_way_out(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(text)
    with pytest.raises(Problem, match=said) as caught:
        read_config(path)
    assert caught.value.code == Exit.USAGE


@pytest.mark.parametrize("flag", ["cer", "cer=", "cer=x", "cer=7", "cer=nan"])
def test_a_wrong_flag_is_a_usage_error(new: Path, flag: str) -> None:
    with pytest.raises(Problem) as caught:
        from_options(new, open_task=lambda name: pytest.fail(name), drops=(flag,))
    assert caught.value.code == Exit.USAGE


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 1}', "[" * 9999, '{"schema_version": NaN}'])
def test_a_profile_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content)
    with pytest.raises(Problem) as caught:
        read_profile(path)
    assert caught.value.code == Exit.INPUT


@pytest.fixture(scope="module")
def mixed(new: Path, old: Path) -> GateResult:
    limits = Limits({"cer": 0.01}, max_latency_ratio=1.05, max_size_bytes=1, levels={"max_size_mb": "warn"})
    return gate(new, limits=limits, baseline=old, measure=measure(ratio=1.3))


def test_junit_counts_failures_and_never_passes_what_was_not_judged(mixed: GateResult, new: Path) -> None:
    suite = xml.fromstring(render(mixed, "junit").split("\n", 1)[1])
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "2", "1")
    unjudged = xml.fromstring(render(gate(new, limits=SPEED), "junit").split("\n", 1)[1])
    assert (unjudged.get("failures"), unjudged.get("skipped")) == ("0", "1")


def test_json_carries_every_row_with_every_sample(mixed: GateResult) -> None:
    value = json.loads(render(mixed, "json"))
    assert value["schema_version"] == 1 and value["exit_code"] == 1
    assert [entry["status"] for entry in value["rows"]] == ["pass", "pass", "fail", "fail", "fail"]
    assert value["rows"][2]["samples"]["baseline"]["low_ms"] == 1.0


def test_the_table_and_the_comment_say_the_basis_of_each_row(mixed: GateResult) -> None:
    table, comment = render(mixed, "table"), render(mixed, "md")
    assert "measured now" in table and "recorded" in table and table.splitlines()[-1] == "gate failed"
    assert comment.startswith("**Gate failed**") and comment.count("\n| ") == 6


def test_hostile_names_stay_names(mixed: GateResult) -> None:
    hostile = Row("x", "a|b\n<script>\x00", 1.0, 2.0, "fail", "measured now", "`|<b>&]]>")
    result = GateResult("a`b", "", (hostile,))
    assert len(render(result, "md").splitlines()) == 7 and "<script>" not in render(result, "md")
    assert xml.fromstring(render(result, "junit").split("\n", 1)[1]).get("failures") == "1"
    assert math.isclose(json.loads(render(result, "json"))["rows"][0]["found"], 1.0)
