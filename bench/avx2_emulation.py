"""Does an integer file say the same on a processor without VNNI? The file runs here and under an emulated AVX2 processor.

    python bench/avx2_emulation.py MODEL.onnx INPUTS.npz [--reference FLOAT.onnx] [--cpu Haswell] [--limit 50]

INPUTS.npz holds one array per graph input, examples along the first axis; they are run one by one. The same Python and the same
onnxruntime run both times, the second time under `qemu-x86_64 -cpu Haswell` (package qemu-user). Emulation shows numbers, never speed.
Without VNNI, pairs of u8·s8 products are added in 16 saturating bits: what this bench is there to see.
Exit code 0: decisions agree; 1: some changed; 4: no emulator here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

EMULATORS = ("qemu-x86_64", "qemu-x86_64-static")


def main(arguments: list[str] | None = None) -> int:
    """Run both, compare, print."""
    options = _parser().parse_args(arguments)
    if options.worker:
        return _work(options.model, options.inputs, options.worker, options.limit)
    emulator = next((path for name in EMULATORS if (path := shutil.which(name))), None)
    if emulator is None:
        print("no qemu-x86_64 on this machine: install the package qemu-user (or qemu-user-static), then run again", file=sys.stderr)
        return 4
    with TemporaryDirectory() as folder:
        native, features = _run([], options.model, options, Path(folder) / "native.npz")
        emulated, theirs = _run([emulator, "-cpu", options.cpu], options.model, options, Path(folder) / "emulated.npz")
        reference = _run([], options.reference, options, Path(folder) / "reference.npz")[0] if options.reference else None
    report = {
        "model": options.model.name,
        "emulated": options.cpu,
        "native_features": features,
        "emulated_features": theirs,
        "emulated_against_native": compare(emulated, native),
    }
    if reference is not None:
        report["native_against_float"], report["emulated_against_float"] = compare(native, reference), compare(emulated, reference)
    print(json.dumps(report, indent=2) if options.json else render(report))
    return int(report["emulated_against_native"]["flips"] > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("--reference", type=Path, help="the float file, to say what the difference is beside quantization itself")
    parser.add_argument("--cpu", default="Haswell", help="an AVX2 processor that qemu knows")
    parser.add_argument("--limit", type=int, default=50, help="examples to run")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return parser


def _run(prefix: list[str], model: Path, options: argparse.Namespace, out: Path) -> tuple[list[np.ndarray], list[str]]:
    """The outputs of every example and the instruction sets the process saw, from a process of its own."""
    command = [*prefix, sys.executable, __file__, str(model), str(options.inputs), "--limit", str(options.limit), "--worker", str(out)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode != 0 or not out.exists():
        said = (child.stderr.strip().splitlines() or [f"code {child.returncode}"])[-1]
        raise SystemExit(f"{model} did not run{' under ' + prefix[0] if prefix else ''}: {said}")
    with np.load(out, allow_pickle=False) as stored:
        outputs = [stored[f"output{number}"] for number in range(len(stored.files))]
    return outputs, json.loads(child.stdout.splitlines()[-1])


def _work(model: Path, inputs: Path, out: Path, limit: int) -> int:
    """The child: every example by itself, one thread, all optimisations, all outputs in one flat list of arrays."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 3
    session = ort.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    with np.load(inputs, allow_pickle=False) as stored:
        arrays = {port.name: stored[port.name][:limit] for port in session.get_inputs()}
    outputs = []
    for number in range(min(len(array) for array in arrays.values())):
        outputs += session.run(None, {name: array[number : number + 1] for name, array in arrays.items()})
    np.savez(out, **{f"output{number}": array for number, array in enumerate(outputs)})
    print(json.dumps(_features()))
    return 0


def _features() -> list[str]:
    """The instruction sets the processor shows to this process; /proc/cpuinfo would show the real one even under emulation."""
    from numpy._core._multiarray_umath import __cpu_features__ as found

    return sorted(name for name, here in found.items() if here and name.startswith(("AVX", "FMA", "VNNI")))


def compare(got: list[np.ndarray], wanted: list[np.ndarray]) -> dict[str, Any]:
    """Signal to noise in decibels (None: identical), the largest difference, and decisions along the last axis that changed."""
    a, b = (np.concatenate([array.ravel() for array in side]).astype(np.float64) for side in (got, wanted))
    noise = float(np.square(a - b).sum())
    decisions = [(x.argmax(-1), y.argmax(-1)) for x, y in zip(got, wanted, strict=True) if y.ndim > 1]
    return {
        "sqnr_db": 10 * float(np.log10(np.square(b).sum() / noise)) if noise else None,
        "max_abs": float(np.abs(a - b).max()),
        "output_std": float(b.std()),
        "decisions": int(sum(y.size for _, y in decisions)),
        "flips": int(sum((x != y).sum() for x, y in decisions)),
        "examples": len(wanted),
    }


def render(report: dict[str, Any]) -> str:
    """The report as plain lines."""
    lines = [
        f"{report['model']}: here ({' '.join(report['native_features'])})",
        f"{'':>{len(report['model'])}}  emulated {report['emulated']} ({' '.join(report['emulated_features'])})",
    ]
    for name in ("emulated_against_native", "native_against_float", "emulated_against_float"):
        if name in report:
            row = report[name]
            decibels = "identical" if row["sqnr_db"] is None else f"SQNR {row['sqnr_db']:.1f} dB"
            lines.append(
                f"{name.replace('_', ' ')}: {decibels}, largest difference {row['max_abs']:.3g} (outputs spread {row['output_std']:.3g}), "
                f"{row['flips']} of {row['decisions']} decisions changed, {row['examples']} outputs"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
