"""Calibration: what every kernel costs on this machine, found from random small nets in a minute.

Each net's time is a sum of what its operators have to do, each thing at a price (`rules/kernels.py`). The prices are those, none
below zero, that make the relative errors small over all nets at once; outlying nets count less. How wide the 90 % interval must be
is learnt on nets that a fit has not seen: whole kinds of nets are left out in turn, because the nets one asks about later are of
other kinds as well. Needs torch (the nets), onnxruntime and scipy; reading the result needs neither.
Sources: Lawson and Hanson 1974 (non-negative least squares); Lei et al. 2018, arXiv:1604.04173 (split conformal prediction).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from compress.context import Progress, Silent, Target
from compress.runtime import environment
from rules import kernels as terms
from rules.facts import Device, Kernels, Operator, Rate
from rules.problems import Exit, Problem, bad_environment

if TYPE_CHECKING:
    from compress.calibration_data import Row

MAKING = 0.66  # of the seconds: making nets; the rest times them and fits
TIMING = 0.24
FEWEST = 60  # graphs; fewer do not tell the kernels apart
FOLDS = 5
RIDGE = 0.1  # of a net's time that a price may not explain, so that prices nobody can tell apart share what they explain
ROUNDS = 4  # of weighing outlying nets less
OUTLYING = 0.1  # log error from which a net counts less
FLOOR = 0.1  # log: no net of a new kind was predicted more surely than this
DIGITS = 4


@dataclass(frozen=True, slots=True)
class Sheet:
    """The rows as numbers: amounts (n, m) by name, seconds (n), the group of nets each belongs to (n)."""

    names: list[str]
    amounts: np.ndarray
    seconds: np.ndarray
    groups: np.ndarray

    def without(self, *groups: int) -> np.ndarray:
        """Which rows are in none of the groups."""
        return ~np.isin(self.groups, groups)


def calibrate(device: Device, *, target: Target, seconds: float = 60.0, seed: int = 0, progress: Progress | None = None) -> Device:
    """The device with what was measured here: rates and kernel prices. Takes about `seconds`.

    Raises Problem: exit 5 where scipy or torch is missing, exit 4 where too few nets could be timed.
    """
    try:
        import scipy.optimize  # noqa: F401
        import torch
    except ImportError as error:
        raise bad_environment(f"calibrating needs {error.name}", remedy="pip install 'edge-advisor[train]'") from error
    from compress.calibration_data import make, timed

    progress, threads = progress or Silent(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        waiting = make(seconds=seconds * MAKING, seed=seed, target=target, progress=progress)
        rows = timed(waiting, seconds=seconds * TIMING, seed=seed, progress=progress)
    finally:
        torch.set_num_threads(threads)
    if len(rows) < FEWEST:
        raise Problem(f"only {len(rows)} graphs could be timed, {FEWEST} are needed", remedy="give it more --seconds", code=Exit.UNJUDGED)
    progress.start("fitting", FOLDS)
    found = fit(rows, caches=cache_sizes())
    progress.finish(f"{len(found.prices)} prices")
    return replace(device, rates=rates(found, device), kernels=found, notes=(said(found),))


def said(found: Kernels) -> str:
    """The note of a calibrated device."""
    return f"Measured by advisor calibrate on {found.date}: {found.graphs} graphs, onnxruntime {found.runtime}, one thread, {found.cpu}."


# -- fitting ---------------------------------------------------------------------------------------------------------


def fit(rows: Sequence[Row], *, caches: tuple[int, ...]) -> Kernels:
    """Prices with their fits per group left out, and the spread of what those fits had not seen."""
    sheet = sheet_of(rows, caches)
    everyone = _prices(sheet, sheet.without())
    lacking = [_prices(sheet, sheet.without(group)) for group in range(FOLDS)]
    known = environment()
    spread = _spread(sheet, lacking, [row.precision for row in rows])
    columns = np.array([everyone, *lacking]).T  # (names, fits)
    prices = {name: tuple(float(f"{value:.{DIGITS}g}") for value in row) for name, row in zip(sheet.names, columns, strict=True)}
    return Kernels(
        cpu=str(known["cpu"]),
        runtime=str(known["onnxruntime"]),
        date=date.today().isoformat(),
        graphs=len(rows),
        caches=caches,
        floor=FLOOR,
        spread=spread,
        prices=prices | _any(sheet.names, columns),
    )


def sheet_of(rows: Sequence[Row], caches: tuple[int, ...]) -> Sheet:
    """All amounts in one table. Kinds of nets are dealt to the groups by name, so that a group is the same in every run."""
    found = [terms.amounts(row.operators, caches) for row in rows]
    names = sorted({name for amount in found for name in amount})
    place = {name: index for index, name in enumerate(names)}
    amounts = np.zeros((len(rows), len(names)))
    for index, amount in enumerate(found):
        for name, value in amount.items():
            amounts[index, place[name]] = value
    kinds = sorted({row.kind for row in rows})
    groups = np.array([kinds.index(row.kind) % FOLDS for row in rows])
    return Sheet(names, amounts, np.array([row.seconds for row in rows]), groups)


def _prices(sheet: Sheet, chosen: np.ndarray) -> np.ndarray:
    """Prices (m), none negative, from the chosen rows: relative errors, a slight pull to zero, outlying nets weighed down."""
    from scipy.optimize import nnls

    relative = sheet.amounts[chosen] / sheet.seconds[chosen, None]
    unit = np.maximum(np.sqrt(np.square(relative).mean(axis=0)), 1e-30)
    relative = relative / unit
    count, width = relative.shape
    pull, weight = RIDGE * np.sqrt(count) * np.eye(width), np.ones(count)
    for _ in range(ROUNDS):
        shares, _ = nnls(np.vstack([relative * weight[:, None], pull]), np.concatenate([weight, np.zeros(width)]), maxiter=100 * width)
        reached = np.maximum(relative @ shares, 0.1)
        weight = 1 / np.sqrt((1 + np.square(np.log(reached) / OUTLYING)) * np.maximum(reached, 0.3))
    return np.where(unit > 1e-29, shares / unit, 0.0)


def _spread(sheet: Sheet, lacking: Sequence[np.ndarray], precisions: Sequence[str]) -> dict[str, tuple[float, float]]:
    """For each precision the multiples of the standard between which 90 % of the unseen nets lay.

    A net of a left-out group is predicted by the fit without that group, and its standard comes from the fits that lack another
    group too: just what a new net meets, against the full fit.
    """
    error, standard = np.zeros(len(sheet.seconds)), np.zeros(len(sheet.seconds))
    pairs = {(a, b): _prices(sheet, sheet.without(a, b)) for a in range(FOLDS) for b in range(a)}
    for group in range(FOLDS):
        mine = sheet.groups == group
        base = _logs(sheet.amounts[mine], lacking[group])
        others = [
            _logs(sheet.amounts[mine], pairs[max(group, other), min(group, other)]) - base for other in range(FOLDS) if other != group
        ]
        error[mine] = np.log(sheet.seconds[mine]) - base
        standard[mine] = [terms.scale(list(row), FLOOR) for row in np.array(others).T]
    found = {}
    for precision in sorted(set(precisions)):
        mine = np.array([name == precision for name in precisions])
        low, high = np.quantile(error[mine] / standard[mine], [0.05, 0.95])
        found[precision] = (min(float(f"{low:.4g}"), -0.1), max(float(f"{high:.4g}"), 0.1))
    return {"fp32": (-1.0, 1.0)} | found


def _logs(amounts: np.ndarray, prices: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(amounts @ prices, terms.SHORTEST)))


def _any(names: Sequence[str], columns: np.ndarray) -> dict[str, tuple[float, ...]]:
    """The price of an operator that was never met: the median of those that move values, for being there and for a value out."""
    node = columns[names.index("node")]
    there, out = [], []
    for name, price in zip(names, columns, strict=True):
        kernel, _, what = name.partition(".")
        if kernel[:1].isupper() and kernel not in terms.RECURRENT:
            if what == "":
                there.append(price + node)
            elif what == "out":
                out.append(price)
    middle = {"any": np.median(there, axis=0) if there else node, "any.out": np.median(out, axis=0) if out else node * 0}
    return {name: tuple(float(f"{value:.{DIGITS}g}") for value in price) for name, price in middle.items()}


# -- what a device file says besides ---------------------------------------------------------------------------------


def rates(found: Kernels, device: Device) -> dict[str, Rate]:
    """The rates of ordinary layers at these prices: a 3x3 convolution of 64 channels at 16x16, a small sum; the memory's as it was."""
    convolution = Operator("Conv", 9_437_184, 147_456, 65_536, 65_536, "", "float", 256, 64, 64, 1, 9, 0, 16, True)
    integer = replace(convolution, op="QLinearConv", dtype="uint8", weight_bytes=36_864, in_bytes=16_384, out_bytes=16_384)
    add = Operator("Add", 0, 0, 128, 64, "", "float", 1)
    source = device.source

    def seconds(op: Operator, precision: str) -> float:
        only = terms.forecast([op], found, precision).mid
        return max(only - found.prices.get("run", (0.0,))[0], 1e-9)

    measured = {
        "fp32": Rate(_three(convolution.macs / seconds(convolution, "fp32")), "macs/s", source, "measured"),
        "int8": Rate(_three(integer.macs / seconds(integer, "int8")), "macs/s", source, "measured"),
        "node": Rate(_three(seconds(add, "fp32")), "s", source, "measured"),
    }
    return {name: measured.get(name, rate) for name, rate in device.rates.items()} | measured


def _three(value: float) -> float:
    return float(f"{value:.3g}")


def cache_sizes() -> tuple[int, ...]:
    """Bytes of the second and third level, as Linux reports them; none where it does not."""
    from pathlib import Path

    found: dict[int, int] = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size"))
        except (OSError, UnicodeDecodeError):
            continue
        if kind != "Instruction" and level.isdigit() and size[:-1].isdigit() and size[-1:] in ("K", "M"):
            found[int(level)] = int(size[:-1]) * (1024 if size[-1] == "K" else 1024**2)
    return tuple(found[level] for level in sorted(found) if level >= 2)
