"""How long a recommendation takes: cold beside `python -c "import click"`, and in process.

Whole processes, alternating, minima of N runs: `python -m bench cold_start [N]`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

BASELINE = [sys.executable, "-c", "import click"]
COMMAND = [str(Path(sys.executable).with_name("advisor")), "recommend", "--task", "ocr"]


def main(arguments: list[str]) -> int:
    """Print both figures with the command that made them."""
    rounds = int(arguments[0]) if arguments else 20
    with TemporaryDirectory() as folder:
        _cold(rounds, _installed(folder))
    print(f"in process: {_per_second():.0f} recommendations per second (bar 1000)")
    return 0


def _installed(folder: str) -> dict[str, str]:
    """An environment in which Python keeps compiled modules, as an installed package has them; nothing of this user is read or written."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": folder, "ADVISOR_HOME": folder}


def _cold(rounds: int, environment: dict[str, str]) -> None:
    fastest = {"import click": float("inf"), "recommend --task ocr": float("inf")}
    for command in (BASELINE, COMMAND):
        _seconds(command, environment)  # compiles what is not compiled yet
    for _ in range(rounds):
        for name, command in zip(fastest, (BASELINE, COMMAND), strict=True):
            fastest[name] = min(fastest[name], _seconds(command, environment))
    base, ours = fastest.values()
    print(
        f"cold, minima of {rounds} alternating runs: import click {1000 * base:.0f} ms, recommend {1000 * ours:.0f} ms = {ours / base:.2f}x (bar 4x)"
    )


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    since = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - since


def _per_second(seconds: float = 2.0) -> float:
    from advisor.recommend import recommend
    from rules.facts import Request
    from rules.knowledge import load

    knowledge, count, since = load(), 0, time.perf_counter()
    while time.perf_counter() - since < seconds:
        recommend(Request("ocr", device="raspberry-pi-5", latency_ms=2.0 + count % 50), knowledge)
        count += 1
    return count / (time.perf_counter() - since)
