"""Every task's pick on its built-in data: `advisor run --task TASK`, and what it ships. Rows of docs/benchmarks.md.

    python -m bench picks [TASK ...] [--out FOLDER] [--threads N]

One training thread unless told otherwise; each task's run is timed as a whole process, and its bundle verified by the command that its receivers use. A task
whose row stands in FOLDER/picks.jsonl is not run again; delete the row, or the folder, to do so. Prints the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from advisor.tasks import names  # noqa: E402

LIMIT = 10.0  # minutes that a pick may take
HEAD = "| task | net | minutes | ships | of its own float's time | test split | float |\n|---|---|---|---|---|---|---|"


def main(arguments: list[str]) -> int:
    """Run what is missing, print every row; 1 where a run failed, took longer than it may, or its bundle does not verify."""
    parser = argparse.ArgumentParser(prog="python -m bench picks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", nargs="*", default=names())
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "picks")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args(arguments)
    kept = chosen.out / "picks.jsonl"
    chosen.out.mkdir(parents=True, exist_ok=True)
    rows = {row["task"]: row for row in map(json.loads, kept.read_text().splitlines() if kept.exists() else ())}
    for name in chosen.task:
        if name not in rows:
            rows[name] = measured(name, chosen.out / name, threads=chosen.threads)
            with kept.open("a") as file:
                file.write(json.dumps(rows[name]) + "\n")
            print(line(rows[name]), file=sys.stderr, flush=True)
    print(HEAD, *(line(rows[name]) for name in chosen.task), sep="\n")
    return int(any(rows[name]["failed"] or rows[name]["minutes"] > LIMIT for name in chosen.task))


def measured(task: str, folder: Path, *, threads: int) -> dict[str, Any]:
    """One run and the check of its bundle. `failed` names the command that did not end in 0."""
    advisor = [sys.executable, str(ROOT / "cli.py")]
    begun = time.monotonic()
    ran = ["run", "--task", task, "--threads", str(threads), "--out", str(folder), "--quiet"]
    run = subprocess.run([*advisor, *ran], capture_output=True, text=True)
    found: dict[str, Any] = {"task": task, "minutes": round((time.monotonic() - begun) / 60, 1), "failed": ""}
    if run.returncode:
        return {**found, "failed": f"run: {run.stderr.strip().splitlines()[-1:]}"}
    checked = subprocess.run([*advisor, "bundle", "verify", str(folder / "bundle")], capture_output=True, text=True)
    if checked.returncode:
        found["failed"] = f"verify: {checked.stdout.strip().splitlines()[-1:]}"
    return {**found, **shipped(json.loads((folder / "record.json").read_text()))}


def shipped(record: dict[str, Any]) -> dict[str, Any]:
    """What the record of a run says of the file that it ships."""
    final = record["final"]
    own = final["latency_ratio"].get("own fp32")
    return {
        "net": record["model"]["builds"].rpartition(".")[2].partition(":")[0],
        "params": record["model"]["params"],
        "stage": final["stage"],
        "ratio": own["ratio"] if own else None,
        "metric": record["metric"],
        "test": final["test"]["metric"],
        "samples": final["test"]["samples"],
        "float": final["float_test"]["metric"],
    }


def line(row: dict[str, Any]) -> str:
    """The row as the page shows it."""
    if row["failed"]:
        return f"| {row['task']} | | {row['minutes']} | failed: {row['failed']} | | | |"
    share = row["metric"]["unit"] == "%"
    test, before = (f"{100 * row[key]:.1f} %" if share else f"{row[key]:.4g}" for key in ("test", "float"))
    ratio = "" if row["ratio"] is None else f"× {row['ratio']:.2f}"
    net, scored = f"{row['net']}, {row['params']:,}", f"{row['metric']['name']} {test} of {row['samples']}"
    return f"| {row['task']} | {net} | {row['minutes']} | {row['stage']} | {ratio} | {scored} | {before} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
