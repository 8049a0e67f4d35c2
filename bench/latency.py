"""Predicted against measured latency on nets that calibration never sees (`python -m bench latency`).

First this machine is calibrated, then 54 nets (`latency_nets.py`) are exported, quantized, opened and timed, float and int8, in one
interleaved run on the thread's own processor time. Each is predicted from its operators and the calibration alone. Beside it stand
two baselines that are told the times of all other nets: operations in proportion, and operations + bytes + nodes.

    python -m bench latency                         all of it, about three minutes; what is there already is not measured again
    python -m bench latency --device FILE           judge a device file that exists
    python -m bench latency --seconds 30 --seed 1   calibrate for so long, on other random nets

The folder --out (runs/latency) keeps device.toml, measured.json and result.json. The table goes to docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np

from compress.calibration_data import Row, opened, timed
from compress.context import Target
from compress.files import write_json, write_text
from rules.facts import Cost, Device, Operator, Variant
from rules.latency import predict

WITHIN = 0.15
FAMILIES = ("cnn", "depthwise", "recurrent", "attention", "mlp")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench latency")
    parser.add_argument("--out", type=Path, default=Path("runs/latency"))
    parser.add_argument("--device", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds-seconds", type=float, default=40.0)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    device = _device(options)
    rows = _rows(options.out / "measured.json", options.rounds_seconds)
    found = judged(rows, device)
    write_json(options.out / "result.json", {"device": device.title, "notes": list(device.notes), "nets": found, "summary": summary(found)})
    print("\n".join(table(found, device)))
    return 0


def _device(options: argparse.Namespace) -> Device:
    """The device file that is asked for, or that is there, or a new calibration."""
    from advisor.this_machine import NAME, detect
    from compress.calibrate import calibrate
    from compress.progress import choose
    from compress.target import target_for
    from rules.device_file import text
    from rules.reading import device
    from rules.tables import read_toml

    path = options.device or options.out / "device.toml"
    if options.device is None and not path.exists():
        here = detect()
        write_text(path, text(calibrate(here, target=target_for(here), seconds=options.seconds, seed=options.seed, progress=choose())))
    return device(read_toml(path), NAME if options.device is None else path.stem)


def _rows(path: Path, seconds: float) -> list[Row]:
    """Every net's operators and time: read where they are there, else measured, all nets in one interleaved run."""
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        return [Row(**{**row, "operators": tuple(Operator(**operator) for operator in row["operators"])}) for row in found]
    import torch

    from bench.latency_nets import NETS

    torch.set_num_threads(1)
    waiting = []
    for name, build in NETS.items():
        torch.manual_seed(0)
        waiting.extend(opened(build(), name, name, Target()))
        print(f"made {name}", file=sys.stderr)
    rows = timed(waiting, seconds=seconds, seed=0, slowest=1.0)
    write_json(path, [asdict(row) for row in rows])
    return rows


def judged(rows: Sequence[Row], device: Device) -> list[dict[str, Any]]:
    """Each net with its prediction and those of the baselines, milliseconds."""
    found = []
    for row, flops, affine in zip(rows, _left_out(rows, proportional=True), _left_out(rows, proportional=False), strict=True):
        precision: Any = row.precision
        cost = Cost(row.name, "bench", precision, row.name.partition(" ")[2], 0, 0, row.operators)
        told = predict(Variant("bench", 0, 0, cost.shape), cost, device, row.precision)
        assert told is not None  # the operators are counted and the device has rates
        found.append(
            {
                "net": row.name,
                "family": row.family,
                "precision": row.precision,
                "measured_ms": 1e3 * row.seconds,
                "low_ms": told.low_ms,
                "predicted_ms": told.mid_ms,
                "high_ms": told.high_ms,
                "kind": told.kind,
                "flops_ms": 1e3 * flops,
                "affine_ms": 1e3 * affine,
            }
        )
    return found


def _left_out(rows: Sequence[Row], *, proportional: bool) -> list[float]:
    """What a baseline says of each net after it was fitted to all others of its precision, in relative error."""
    answers = []
    for row in rows:
        others = [other for other in rows if other.precision == row.precision and other.kind != row.kind]
        known = np.array([_features(other, proportional) for other in others])
        seconds = np.array([other.seconds for other in others])
        if proportional:
            answers.append(float(np.median(seconds / known[:, 0]) * _features(row, True)[0]))
            continue
        from scipy.optimize import nnls

        scale = known.max(axis=0)
        price, _ = nnls(known / scale / seconds[:, None], np.ones(len(others)))
        answers.append(float(max(np.array(_features(row, False)) / scale @ price, 1e-7)))
    return answers


def _features(row: Row, proportional: bool) -> list[float]:
    macs = float(sum(op.macs for op in row.operators))
    if proportional:
        return [macs]
    moved = float(sum(op.weight_bytes + op.in_bytes + op.out_bytes for op in row.operators))
    return [macs, moved, float(len(row.operators)), 1.0]


def summary(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a precision and family, and one for everything."""
    groups: list[tuple[str, str, list[dict[str, Any]]]] = []
    for precision in ("fp32", "int8"):
        mine = [row for row in found if row["precision"] == precision]
        groups.append((precision, "all", mine))
        groups += [(precision, family, [row for row in mine if row["family"] == family]) for family in FAMILIES]
    groups.append(("both", "all", list(found)))
    return [{"precision": precision, "family": family, **figures(rows)} for precision, family, rows in groups if rows]


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Errors of the prediction and of the baselines, the share inside the interval, rank correlations."""
    measured = [row["measured_ms"] for row in rows]
    found: dict[str, Any] = {"nets": len(rows)}
    for name in ("predicted", "flops", "affine"):
        errors = [abs(row[f"{name}_ms"] / row["measured_ms"] - 1) for row in rows]
        found[name] = {
            "median": float(np.median(errors)),
            "within": float(np.mean([error <= WITHIN for error in errors])),
            "rank": rank([row[f"{name}_ms"] for row in rows], measured),
        }
    found["covered"] = float(np.mean([row["low_ms"] <= row["measured_ms"] <= row["high_ms"] for row in rows]))
    found["width"] = float(np.median([exp(log(row["high_ms"] / row["low_ms"]) / 2) for row in rows]))
    found["bias"] = float(np.median([row["predicted_ms"] / row["measured_ms"] for row in rows]))
    return found


def rank(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rank correlation."""
    if len(one) < 3:
        return float("nan")
    places = [np.argsort(np.argsort(values)) for values in (one, other)]
    return float(np.corrcoef(places[0], places[1])[0, 1])


def table(found: Sequence[dict[str, Any]], device: Device) -> list[str]:
    """Markdown: figures by family, then the nets that were missed by most."""
    lines = [f"{device.title}. {' '.join(device.notes)}", ""]
    lines += [
        "| precision | family | nets | median error | within 15 % | rank | in the 90 % interval | interval | by operations | operations + bytes + nodes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in summary(found):
        mine, flops, affine = row["predicted"], row["flops"], row["affine"]
        lines.append(
            f"| {row['precision']} | {row['family']} | {row['nets']} | {_percent(mine['median'])} | {_percent(mine['within'])} | {mine['rank']:.3f} "
            f"| {_percent(row['covered'])} | ×/÷ {row['width']:.2f} | {_percent(flops['median'])} ({_percent(flops['within'])}) "
            f"| {_percent(affine['median'])} ({_percent(affine['within'])}) |"
        )
    lines += ["", "| missed by most | precision | measured ms | predicted ms | 90 % interval |", "|---|---|---|---|---|"]
    for row in sorted(found, key=lambda row: -abs(log(row["predicted_ms"] / row["measured_ms"])))[:10]:
        interval = f"{row['low_ms']:.3f} to {row['high_ms']:.3f}"
        lines.append(f"| {row['net']} | {row['precision']} | {row['measured_ms']:.3f} | {row['predicted_ms']:.3f} | {interval} |")
    return lines


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if value < 0.1 else f"{100 * value:.0f} %"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
