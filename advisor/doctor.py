"""What is installed, what this machine can do, and what is missing for which verb. Looks only; imports nothing heavy."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

CORE = ("click", "numpy", "onnx", "onnxruntime", "pillow", "rich", "jinja2", "jiwer")
TRAIN = ("torch", "onnxscript", "torch-pruning", "neural-compressor", "safetensors", "scikit-learn", "lmdb")
EXTRAS = {  # what an extra brings, by its name; sizes in docs/benchmarks.md
    "train": TRAIN,
    "vision": ("torchvision", "timm", "segmentation-models-pytorch", "pycocotools"),
    "text": ("tokenizers", "transformers", "sacrebleu"),
    "audio": ("soundfile",),
    "tabular": ("pyarrow",),
    "video": ("av",),
}
INSTALL = "pip install 'edge-advisor[train]'"


def report() -> str:
    """The report as text: machine, packages, verbs."""
    extras = [line for name, brings in EXTRAS.items() for line in _packages(f"[{name}]", brings, f"pip install 'edge-advisor[{name}]'")]
    return "\n".join([*_machine(), "", *_packages("core", CORE, "pip install edge-advisor"), "", *extras, "", *_verbs()])


def _machine() -> list[str]:
    from advisor.this_machine import detect

    device = detect()
    free = shutil.disk_usage(".").free / 1e9
    return [
        f"python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores, {device.ram_bytes / 1e9:.0f} GB memory, {free:.0f} GB free here",
        f"instruction sets: {', '.join(device.isa)}; integer format {device.integer_format}",
    ]


def _packages(title: str, names: tuple[str, ...], install: str) -> list[str]:
    found = {name: _version(name) for name in names}
    lines = [f"{title}: " + ", ".join(f"{name} {number}" for name, number in found.items() if number)]
    missing = [name for name, number in found.items() if not number]
    return [*lines, f"  missing: {', '.join(missing)} ({install})"] if missing else lines


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _verbs() -> list[str]:
    trains = find_spec("torch") is not None
    return [
        "ready: recommend, matrix, devices, explain, profile, gate, bundle verify",
        "ready: run, compress" if trains else f"not ready: run, compress need torch ({INSTALL})",
    ]
