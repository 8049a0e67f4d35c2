"""Anomaly detection in series: a window of a few columns in, how far it is from normal out.

Idea: the net is trained on normal windows alone, to give them back or to forecast their end; what it cannot give back is no longer
normal. The score is an output of the graph, so that a bundle needs no arithmetic outside, and a threshold on it belongs to the file
that ships.
Source: the anomaly benchmark of MLPerf Tiny, Banbury et al. 2021, arXiv:2106.07597; the layout of labels is also that of the Numenta
Anomaly Benchmark, Lavin & Ahmad 2015, arXiv:1510.03336.
Shape: window (b, length, columns) float32 → rebuilt (b, length, columns) and score (b,).
Reads: what forecasting reads, with a column of labels (label, anomaly, is_anomaly: 0 or 1) or a file of intervals beside it
(labels.json, or labels/combined_windows.json); given nothing, a built-in machine with faults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.data import generated_series, series
from advisor.data.anomalies import AUC, AnomalyData, signature
from advisor.data.series import Series, marked_by
from advisor.data.windows import Scale, check_scale, check_shares, choose, whole
from advisor.stand_in import StandIn
from rules.examples import Metric
from rules.problems import Problem, bad_input

if TYPE_CHECKING:
    from torch import Tensor

DEFAULTS: Mapping[str, Any] = {"length": 64, "stride": 8, "split": (0.5, 0.2, 0.3), "irregular": "refuse", "time": None, "scales": None}
LABELS = ("labels.json", "labels/combined_windows.json")
MOST_LABELS = 2**24  # bytes


@dataclass(frozen=True, slots=True)
class AnomalyTask:
    """The task. Forecasters that serve it as detectors are counted with the forecasting task."""

    name: str = "anomaly-detection"
    metric: Metric = AUC
    counted_elsewhere: tuple[str, ...] = ("dlinear", "tcn")

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted: five frames of 128 mel bands, as in MLPerf Tiny."""
        return {"columns": 128, "length": 5}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Random windows, as a net for `given` takes them."""
        return StandIn(signature(**given), {"window": {}})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> AnomalyData:
        """The labelled series at `source` (a file or a folder), or the built-in machine.

        `settings`: length (steps of a window), stride (between windows), split (three fractions, or three numbers of steps), irregular
        ("refuse" uneven times, or "keep" the rows as they come), time (the name of the time column), scales (mean and std by series, to
        use instead of the training part's).
        Raises Problem: exit 2 for a wrong setting, 3 for refused data, 5 for a missing package.
        """
        chosen = choose(settings or {}, DEFAULTS, task=self.name)
        sizes = {key: whole(chosen, key) for key in ("length", "stride")}
        shares = check_shares(chosen["split"])
        if source is None:
            found, facts = [generated_series.machine(seed)], generated_series.facts("built-in machine with faults, made by a rule", seed)
        else:
            found = labelled(source, series.read(source, marked=True, beat=chosen["irregular"], time=chosen["time"]))
            facts = {"source": source.resolve().name, "licence": "not stated"}
        return AnomalyData(found, facts, shares=shares, scales=_scales(chosen["scales"], found), **sizes)

    def loss(self, output: Sequence[Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Mean squared error of what is given back: output (rebuilt, score), rebuilt (b, length, columns) against the window."""
        return (output[0] - targets["window"]).square().mean()

    def distil_loss(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], targets: Mapping[str, Tensor] | None, *, temperature: float
    ) -> Tensor:
        """Mean squared distance to what the teacher gives back, with targets to the window too. Numbers have no temperature."""
        loss = (student[0] - teacher[0]).square().mean()
        return loss if targets is None else 0.5 * loss + 0.5 * self.loss(student, targets)


TASK = AnomalyTask()


def labelled(source: Path, found: Sequence[Series]) -> list[Series]:
    """The series with labels: those of a column, else those of the file of intervals. Raises Problem (exit 3) without any."""
    if all(one.marks is not None for one in found):
        return list(found)
    folder = source if source.is_dir() else source.parent
    place = next((folder / name for name in LABELS if (folder / name).is_file()), None)
    if place is None:
        what = f"{found[0].where} has no column of labels, and there is no {' or '.join(LABELS)} beside it"
        raise bad_input(what, remedy="add a column 'label' of 0 and 1: a detector is scored by them")
    shown = place.relative_to(folder).as_posix()
    intervals = _intervals(place, shown)
    if source.is_file():
        wanted = next((name for name in intervals if name == source.stem or name.endswith(f"/{source.stem}")), None)
        intervals = {found[0].name: intervals[wanted]} if wanted is not None else {}
    known = {one.name for one in found}
    within = {name: next((one for one in sorted(known) if one == name or one.endswith(f"/{name}")), name) for name in intervals}
    return marked_by(found, {within[name]: value for name, value in intervals.items()}, shown)


def _intervals(place: Path, shown: str) -> dict[str, list[tuple[str, str]]]:
    """{series: [(first time, last time)]} of a JSON file. Raises Problem (exit 3) where it is anything else."""
    try:
        if place.stat().st_size > MOST_LABELS:
            raise bad_input(f"{shown} is larger than {MOST_LABELS >> 20} MB", remedy="is this the file of labels?")
        held = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise bad_input(f"{shown} is not JSON that can be read: {error}", remedy=SHAPE) from None
    if not isinstance(held, dict):
        raise bad_input(f"{shown} holds no object", remedy=SHAPE)
    found: dict[str, list[tuple[str, str]]] = {}
    for name, pairs in held.items():
        if not isinstance(pairs, list) or not all(_pair(pair) for pair in pairs):
            raise bad_input(f"{shown}: {name[:80]!r} is no list of pairs of times", remedy=SHAPE)
        found[name.removesuffix(".csv").removesuffix(".tsv").removesuffix(".parquet")] = [(pair[0], pair[1]) for pair in pairs]
    return found


SHAPE = 'write {"file.csv": [["first time", "last time"], …], …}'


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(time, str) for time in value)


def _scales(value: Any, found: Sequence[Series]) -> dict[str, Scale] | None:
    """The setting `scales`. Raises Problem (exit 2) where it is none."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(scale, Mapping) and {"mean", "std"} == set(scale) for scale in value.values()):
        raise Problem("scales is no table of mean and std by series", remedy="leave it out: it is made from the training part")
    return {str(name): scale for name, given in value.items() if (scale := check_scale(given, columns=found[0].columns)) is not None}
