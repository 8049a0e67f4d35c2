"""The runtime a bundle ships for: opening a graph on onnxruntime, and refusing one that cannot be trusted.

A session here never spins its threads: spinning workers burn the second core, which slows whatever runs beside them
and makes processor time meaningless as a measure of work. What it costs is a slower wake-up between operators.

A file from elsewhere is first opened in a child process with bounded memory and time (`check_graph`): a hundred bytes
of ONNX can ask for gigabytes. Our own exports are trusted and opened at once.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rules.examples import Feeds, Port, Signature
from rules.problems import Exit, Problem, bad_environment, bad_input

if TYPE_CHECKING:
    import onnxruntime as ort

    from compress.context import Predict

Level = Literal["all", "basic", "none"]

LOAD_BYTES = 4 * 2**30  # address space of the child that opens a foreign file, beside eight times the file's size
LOAD_SECONDS = 60  # its processor time; the wall limit is three times that
ISA = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve"),
)


def session(
    path: Path, *, threads: int = 1, level: Level = "all", provider: str = "CPUExecutionProvider", options: ort.SessionOptions | None = None
) -> ort.InferenceSession:
    """An open onnxruntime session. `options` carries further settings (a profiler, an output path) and is completed here.

    Raises Problem: exit 3 when the file is missing or no usable ONNX, exit 4 when the provider is not on this machine.
    """
    import onnxruntime as ort

    if provider not in ort.get_available_providers():
        have = ", ".join(ort.get_available_providers())
        raise Problem(f"onnxruntime has no {provider} here", remedy=f"it has {have}", code=Exit.UNJUDGED)
    if not path.is_file():
        raise bad_input(f"no model file {path}")
    options = _options(options or ort.SessionOptions(), threads, level)
    try:
        opened = ort.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # onnxruntime's exception classes share no root but this one
        raise bad_input(f"{path} cannot be opened by onnxruntime {ort.__version__}: {one_line(error)}") from error
    if opened.get_providers()[0] != provider:
        raise Problem(f"onnxruntime fell back from {provider} to {opened.get_providers()[0]}", code=Exit.UNJUDGED)
    return opened


def _options(options: ort.SessionOptions, threads: int, level: Level) -> ort.SessionOptions:
    import onnxruntime as ort

    levels = {
        "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
        "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }
    options.graph_optimization_level = levels[level]
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: what matters is raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def predictor(path: Path, *, threads: int = 1, level: Level = "all", provider: str = "CPUExecutionProvider") -> Predict:
    """A function from named arrays to named arrays. Arrays the graph does not ask for are left out.

    Raises Problem (exit 3) when an input is missing or does not fit.
    """
    opened = session(path, threads=threads, level=level, provider=provider)
    wanted = [port.name for port in opened.get_inputs()]
    names = [port.name for port in opened.get_outputs()]

    def predict(feeds: Feeds) -> dict[str, np.ndarray]:
        missing = [name for name in wanted if name not in feeds]
        if missing:
            raise bad_input(f"{path.name} needs input {missing[0]!r}, got {', '.join(feeds) or 'nothing'}")
        try:
            return dict(zip(names, opened.run(names, {name: feeds[name] for name in wanted}), strict=True))
        except Exception as error:
            shapes = ", ".join(f"{name} {feeds[name].dtype}{list(feeds[name].shape)}" for name in wanted)
            raise bad_input(f"{path.name} failed on {shapes}: {one_line(error)}") from error

    return predict


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error's message as one line, without onnxruntime's code prefix."""
    text = " ".join(str(error).split())
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(" : ", 3)[-1]
    return text if len(text) <= limit else text[: limit - 1] + "…"


def ports(opened: ort.InferenceSession) -> Signature:
    """Inputs and outputs as the session declares them. A nameless dynamic axis is called `axis<index>`."""

    def port(info: Any) -> Port:
        shape = tuple(size if isinstance(size, int) else size or f"axis{axis}" for axis, size in enumerate(info.shape))
        return Port(info.name, _DTYPES.get(info.type, info.type), shape)

    return Signature(tuple(map(port, opened.get_inputs())), tuple(map(port, opened.get_outputs())))


_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}


def check_graph(path: Path, *, trusted: bool = False) -> Signature:
    """Open `path`, refuse what is no ONNX, damaged, reaches outside its folder or asks for absurd memory; return its ports.

    `trusted` skips the child process, for files this run wrote. Raises Problem (exit 3) in one line.
    """
    if not path.is_file():
        raise bad_input(f"no model file {path}")
    if trusted:
        from compress.hostile import examine

        examine(path)
        return ports(session(path))
    size = path.stat().st_size
    command = [sys.executable, "-m", "compress.hostile", str(path.resolve()), str(LOAD_BYTES + 8 * size), str(LOAD_SECONDS)]
    room = str(Path(__file__).resolve().parent.parent)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [room, os.environ.get("PYTHONPATH")]))}
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=3 * LOAD_SECONDS, env=environ, check=False)
    except subprocess.TimeoutExpired:
        raise bad_input(f"{path} was still loading after {3 * LOAD_SECONDS} s and is refused") from None
    return _child_answer(path, child)


def _child_answer(path: Path, child: subprocess.CompletedProcess[str]) -> Signature:
    """What the child found: a signature, a refusal, or a death by its limits."""
    try:
        answer = json.loads(child.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"code {child.returncode}"
        raise bad_input(f"{path} brought its loader down ({how}: out of memory or time) and is refused") from None
    if "environment" in answer:
        raise bad_environment(answer["environment"])
    if "refused" in answer:
        raise bad_input(answer["refused"])
    sides = [tuple(Port(name, dtype, tuple(shape)) for name, dtype, shape in answer[side]) for side in ("inputs", "outputs")]
    return Signature(*sides)


def environment() -> dict[str, Any]:
    """What this machine and its versions are: the context any measurement needs. Imports no torch."""
    import onnxruntime as ort

    name, flags = _processor()
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in ("onnxruntime", "onnx", "numpy", "torch")},
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "isa": sorted(flags & set(ISA)),
        "machine": platform.machine(),
        "os": f"{platform.system()} {platform.release()}",
        "ram_bytes": _ram(),
        "providers": ort.get_available_providers(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> tuple[str, set[str]]:
    """The processor's name and feature flags, from /proc/cpuinfo; elsewhere what the platform module knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    pairs = [[side.strip() for side in line.split(":", 1)] for line in lines if ":" in line]
    table = dict(reversed([(key.lower(), value) for key, value in pairs]))  # the first core speaks
    name = table.get("model name") or table.get("hardware") or table.get("model") or platform.machine()
    return name, set((table.get("flags") or table.get("features") or "").split())


def _ram() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
