"""Kill a short run at random moments, resume it, and compare with an unbroken one: `python -m bench kills [COUNT] [SEED]`.

Each round starts the run in a fresh folder, sends SIGKILL after a random share of the unbroken run's time, looks at every
published file, resumes until it is done, and compares the hash of the model that ships. Latencies come from a recorded
table, so that noise decides nothing.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKER = [sys.executable, "-m", "bench.short_run"]


def main(arguments: list[str]) -> int:
    """Print a line a kill and the verdict; exit 1 when anything was corrupt or differed."""
    count, seed = (int(value) for value in (arguments + ["50", "0"][len(arguments) :]))
    work = Path(tempfile.mkdtemp(prefix="kills-"))
    since = time.monotonic()
    expected = _finish(work / "unbroken")
    whole = time.monotonic() - since
    print(f"unbroken: {whole:.1f} s, model {expected[:16]}")
    generator, bad = random.Random(seed), 0
    for number in range(1, count + 1):
        folder = work / f"run-{number}"
        kills = _broken(folder, generator, whole)
        found = _finish(folder)
        corrupt = _corrupt(folder)
        bad += found != expected or bool(corrupt)
        print(
            f"{number:>3}: killed {kills}x, {'same model' if found == expected else 'OTHER MODEL ' + found[:16]}{', corrupt: ' + ', '.join(corrupt) if corrupt else ''}",
            flush=True,
        )
        shutil.rmtree(folder)
    shutil.rmtree(work)
    print(f"{count} broken runs: {count - bad} resumed to the same model, {bad} did not")
    return int(bad > 0)


def _broken(folder: Path, generator: random.Random, whole: float) -> int:
    """Start, kill at a random moment; sometimes again on the way. Returns how many kills landed."""
    kills = 0
    for _ in range(generator.choice([1, 1, 2])):
        with subprocess.Popen([*WORKER, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(timeout=generator.uniform(0.05, 1.0) * whole)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
    return kills


def _finish(folder: Path) -> str:
    done = subprocess.run([*WORKER, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a run did not resume (exit {done.returncode}):\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def _corrupt(folder: Path) -> list[str]:
    """Published files that do not read: torn JSON, leftovers, a model whose hash is not the recorded one."""
    found = [str(path.relative_to(folder)) for path in folder.rglob("*.part")]
    for path in folder.rglob("*.json"):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found.append(str(path.relative_to(folder)))
    return found
