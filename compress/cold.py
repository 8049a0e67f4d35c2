"""What a model costs a process that has never seen it: time to import the runtime, to load, to answer first; and memory.

Run as a program (`python -m compress.cold FILE INPUTS.npz THREADS PROVIDER`) it prints one JSON line and ends. The file is
in the disk cache by then, as it is on a device that has run it since it was switched on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rules.examples import Feeds
from rules.problems import bad_input

TIMES = ("import_ms", "load_ms", "first_ms")


def starts(path: Path, feeds: Feeds, *, threads: int = 1, provider: str = "CPUExecutionProvider", count: int = 3) -> dict[str, Any]:
    """Start `count` processes in turn, one at a time; median and all values of every figure."""
    with TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"
        np.savez(inputs, allow_pickle=False, **{name: np.asarray(array) for name, array in feeds.items()})
        found = [_start(path, inputs, threads, provider) for _ in range(count)]
    return {key: {"median": median(entry[key] for entry in found), "all": [entry[key] for entry in found]} for key in found[0]}


def _start(path: Path, inputs: Path, threads: int, provider: str) -> dict[str, float]:
    room = str(Path(__file__).resolve().parent.parent)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [room, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-m", "compress.cold", str(path), str(inputs), str(threads), provider]
    child = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environ, check=False)
    if child.returncode != 0:
        said = (child.stderr.strip().splitlines() or [f"it ended with code {child.returncode}"])[-1]
        raise bad_input(f"{path} did not run in a fresh process: {said}")
    return dict(json.loads(child.stdout.splitlines()[-1]))


def main(arguments: list[str]) -> int:
    """The child's whole life. The inputs are read first, so that what grows afterwards is the runtime's and the model's."""
    path, threads, provider = Path(arguments[0]), int(arguments[2]), arguments[3]
    with np.load(arguments[1], allow_pickle=False) as stored:
        feeds = {name: stored[name] for name in stored.files}
    started = time.perf_counter()
    import onnxruntime  # noqa: F401  # timed: this is what an application pays

    imported = time.perf_counter()
    from compress.runtime import session

    before, ready = _resident(), time.perf_counter()
    opened = session(path, threads=threads, provider=provider)
    loaded, held = time.perf_counter(), _resident()
    wanted = {port.name: feeds[port.name] for port in opened.get_inputs()}
    asked = time.perf_counter()
    opened.run(None, wanted)
    answered = time.perf_counter()
    for _ in range(3):
        opened.run(None, wanted)
    print(json.dumps(_figures((imported - started, loaded - ready, answered - asked), before, held)))
    return 0


def _figures(seconds: tuple[float, float, float], before: int | None, held: int | None) -> Mapping[str, float]:
    figures: dict[str, float] = {name: 1e3 * value for name, value in zip(TIMES, seconds, strict=True)}
    if before is not None and held is not None:
        figures |= {"model_bytes": held - before, "running_bytes": (_resident() or 0) - before}
    return {**figures, "peak_bytes": _peak()}


def _resident() -> int | None:
    """Resident bytes of this process now; None where /proc does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None


def _peak() -> int:
    """The most this process ever held. Linux counts in kilobytes, macOS in bytes."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
