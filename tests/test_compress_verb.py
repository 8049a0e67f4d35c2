"""`advisor compress` from a file or a module to a sound bundle, the way it is called."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cli
import compress.profile
from compress.bundle import verify
from rules.problems import Problem
from tests.tasks_for_tests import BySize, tiny_module

ROOT = Path(__file__).resolve().parent.parent
Answer = tuple[int, str, str]

GRAPH_PLAN = """
schema_version = 1
task = "unlabelled"
max_drop = 1.0

[[stage]]
name = "quantize"
samples = 16

[[stage]]
name = "equalize"
samples = 16

[[stage]]
name = "adaround"
samples = 16
iterations = 5

[[stage]]
name = "qat"
when = "always"
steps = 2
evaluations = 1
"""

MODULE_PLAN = """
schema_version = 1
task = "stripes"
device = "raspberry-pi-5"
max_drop = 1.0

[settings]
train = 24
val = 8
test = 6

[[stage]]
name = "export"

[[stage]]
name = "quantize"
samples = 8
"""


@pytest.fixture
def advisor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The command in process, latency taken from the size of the file: noise decides nothing."""
    monkeypatch.setattr(compress.profile, "Measured", BySize)

    def call(*arguments: Any) -> Answer:
        monkeypatch.setattr(sys, "argv", ["advisor", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return call


def graph(path: Path, *, seed: int = 0) -> Path:
    """image (batch, 3, 16, 16) → logits (batch, 5): two convolutions, a mean, a product."""
    generator = np.random.default_rng(seed)
    shapes = {"w1": (32, 3, 3, 3), "w2": (32, 32, 3, 3), "w3": (32, 5)}
    weights = [numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32) / 8, name) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], name="conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="pool"),
        helper.make_node("Flatten", ["e"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "w3"], ["logits"], name="head"),
    ]
    ports = [
        [helper.make_tensor_value_info(*port)]
        for port in (("image", TensorProto.FLOAT, ["batch", 3, 16, 16]), ("logits", TensorProto.FLOAT, ["batch", 5]))
    ]
    made = helper.make_graph(nodes, "small", *ports, weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    generator = np.random.default_rng(1)
    for index in range(24):
        np.save(folder / f"{index:02d}.npy", generator.standard_normal((3, 16, 16)).astype(np.float32))
    return folder


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(GRAPH_PLAN)
    return path


def test_a_file_and_unlabelled_inputs_become_a_sound_bundle(
    tmp_path: Path, inputs: Path, plan: Path, advisor: Callable[..., Answer]
) -> None:
    command = ["compress", graph(tmp_path / "m.onnx"), "--inputs", inputs, "--plan", plan, "--out", tmp_path / "out", "--threads", 1, "-q"]
    code, out, err = advisor(*command)
    assert code == 0, err
    bundle = tmp_path / "out" / "bundle"
    assert out.strip() == str(bundle) and verify(bundle) == []
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert [stage["name"] for stage in record["stages"]] == ["quantize", "equalize", "adaround", "qat"]
    assert all(stage["status"] in ("kept", "rolled back") for stage in record["stages"]), record["stages"]
    assert record["final"]["stage"] in ("quantize", "equalize", "adaround", "qat")
    assert record["final"]["test"]["metric"] < 0.2 and record["final"]["test"]["samples"] == 4
    shipped = (bundle / "model.onnx").read_bytes()
    assert advisor(*command)[0] == 0
    assert (bundle / "model.onnx").read_bytes() == shipped


def test_a_folder_is_not_continued_with_another_file_or_other_inputs(tmp_path: Path, inputs: Path) -> None:
    from compress.pipeline import Run

    nothing: dict[str, Any] = dict.fromkeys(("task", "data", "plan_file", "device", "weights"))

    def claim() -> None:
        Run(cli._file_job(str(tmp_path / "m.onnx"), inputs=inputs, threads=1, **nothing), tmp_path / "out", latencies=BySize())

    graph(tmp_path / "m.onnx")
    claim()
    claim()
    graph(tmp_path / "m.onnx", seed=1)
    with pytest.raises(Problem, match="holds a run with another"):
        claim()
    graph(tmp_path / "m.onnx")
    claim()
    np.save(inputs / "00.npy", np.ones((3, 16, 16), np.float32))
    with pytest.raises(Problem, match="holds a run with another data"):
        claim()


def test_a_file_without_inputs_or_task_is_told_what_it_needs(tmp_path: Path, advisor: Callable[..., Answer]) -> None:
    code, out, err = advisor("compress", graph(tmp_path / "m.onnx"), "--out", tmp_path / "out")
    assert (code, out) == (2, "") and "--inputs FOLDER" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_module_with_its_weights_and_a_task_becomes_a_sound_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, advisor: Callable[..., Answer]
) -> None:
    from safetensors.torch import save_file

    save_file(tiny_module(3).state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "plan.toml").write_text(MODULE_PLAN)
    monkeypatch.chdir(ROOT)
    command = ["compress", "tests.tasks_for_tests:tiny_module", "--weights", tmp_path / "weights.safetensors"]
    rest = ["--task", "tests.tasks_for_tests:TASK", "--plan", tmp_path / "plan.toml", "--out", tmp_path / "out", "--threads", 1, "-q"]
    code, out, err = advisor(*command, *rest)
    assert code == 0, err
    bundle = tmp_path / "out" / "bundle"
    assert out.strip() == str(bundle) and verify(bundle) == []
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["plan"]["task"] == "tests.tasks_for_tests:TASK"  # what opens its data again
    assert manifest["target"]["name"] == "raspberry-pi-5"  # the plan's device
    assert manifest["metrics"]["test"]["samples"] == 6  # the plan's settings


def test_weights_of_another_module_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, advisor: Callable[..., Answer]
) -> None:
    from safetensors.torch import save_file

    state = tiny_module().state_dict()
    state["other.weight"] = state.pop("conv1.weight")
    save_file(state, tmp_path / "weights.safetensors")
    monkeypatch.chdir(ROOT)
    command = ["compress", "tests.tasks_for_tests:tiny_module", "--weights", tmp_path / "weights.safetensors"]
    code, out, err = advisor(*command, "--task", "tests.tasks_for_tests:TASK", "--out", tmp_path / "out")
    assert (code, out) == (3, "") and "conv1.weight" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("TASK = 1", "has no name, metric, open, loss, distil_loss"),
        ("x = (", "SyntaxError"),
        ("import nowhere_at_all", "cannot load task"),
        ("raise ValueError('not today')", "not today (broken_task.py:1)"),
    ],
)
def test_a_task_that_cannot_be_used_is_one_line_and_no_bug_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, advisor: Callable[..., Answer], source: str, said: str
) -> None:
    (tmp_path / "broken_task.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "broken_task", raising=False)
    code, out, err = advisor("compress", graph(tmp_path / "m.onnx"), "--task", "broken_task:TASK", "--out", tmp_path / "out")
    assert (code, out) == (2, "") and said in err and len(err.splitlines()) == 1
