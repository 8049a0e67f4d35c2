"""The emulation bench: what it compares, and what it says where there is no emulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bench import avx2_emulation
from bench.avx2_emulation import compare


def test_identical_outputs_have_no_noise_and_no_flips() -> None:
    outputs = [np.array([[1.0, 2.0]]), np.array([[4.0, 3.0]])]
    assert compare(outputs, outputs) == {
        "sqnr_db": None,
        "max_abs": 0.0,
        "output_std": pytest.approx(1.118, abs=1e-3),
        "decisions": 2,
        "flips": 0,
        "examples": 2,
    }


def test_noise_is_told_in_decibels_and_flips_are_counted() -> None:
    found = compare([np.array([[1.0, 0.9]]), np.array([[0.0, 1.0]])], [np.array([[1.0, 1.0]]), np.array([[1.0, 0.0]])])
    assert found["sqnr_db"] == pytest.approx(10 * np.log10(3 / 2.01)) and found["flips"] == 1 and found["max_abs"] == 1.0


def test_without_an_emulator_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(avx2_emulation.shutil, "which", lambda name: None)
    assert avx2_emulation.main(["model.onnx", "inputs.npz"]) == 4
    assert "qemu-user" in capsys.readouterr().err


def test_the_native_half_runs_examples_one_by_one_in_a_process_of_its_own(tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(tmp_path / "m.onnx"))
    np.savez(tmp_path / "in.npz", x=np.arange(8, dtype=np.float32).reshape(4, 2))
    options = avx2_emulation._parser().parse_args([str(tmp_path / "m.onnx"), str(tmp_path / "in.npz"), "--limit", "3"])
    outputs, features = avx2_emulation._run([], options.model, options, tmp_path / "out.npz")
    np.testing.assert_array_equal(np.concatenate(outputs), -np.arange(6, dtype=np.float32).reshape(3, 2))
    assert isinstance(features, list)
