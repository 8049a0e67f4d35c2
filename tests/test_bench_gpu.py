"""The GPU bench: it says what is absent, it compares what there is, and training needs nothing but torch and onnxruntime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import gpu
from rules.problems import Exit

ROOT = Path(__file__).parent.parent
NEVER = ("torch_pruning", "neural_compressor", "jiwer", "pycocotools", "soundfile", "lmdb", "torchvision", "timm", "transformers")


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main([]) == Exit.UNJUDGED
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1 and "no CUDA device" in shown.err


def test_losses_are_compared_step_by_step() -> None:
    assert gpu.apart([2.0, 1.1], [2.0, 1.0]) == [0.0, pytest.approx(0.1)]


def test_the_rate_leaves_out_the_first_steps() -> None:
    watch = gpu.Watch()
    watch.at = [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 50.5, 51.0]
    assert watch.rate == pytest.approx((8 - 1 - 4) / (51 - 40))


def test_the_whole_bench_runs_with_only_torch_and_onnxruntime() -> None:
    """On the CPU against itself, with the packages refused that a GPU machine may lack: the losses are the same bits."""
    script = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {NEVER!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
from bench import gpu
sys.exit(gpu.main(["--device", "cpu", "--steps", "3", "--batch-size", "8", "--variant", "micro"]))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line for line in done.stdout.splitlines() if "fp32" in line and line.startswith(("CPU", "cpu,"))]
    losses = {tuple(row[22:].split()[:4]) for row in rows}
    assert len(rows) == 3 and len(losses) == 1 and "0.0e+00" in losses.pop()
    assert "absent: onnxruntime has no CUDAExecutionProvider" in done.stdout or "fp16 on CUDA" in done.stdout
