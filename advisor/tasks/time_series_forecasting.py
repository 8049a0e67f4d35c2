"""Time-series forecasting: the last steps of a few columns in, their next steps out, all at once.

Idea: windows are cut by time, scaled by mean and deviation of the training part; the net answers in those units, and its error is the
mean squared error there, so that 1 is what forecasting the mean would cost. A forecast is no class: no output decides anything.
Source: data layout and metric as in Zhou et al. 2021 (Informer, arXiv:2012.07436) and Zeng et al. 2022 (arXiv:2205.13504).
Shape: history (b, length, columns) float32 → forecast (b, horizon, columns).
Reads: wide or long CSV, TSV or Parquet, a file or a folder; given nothing, three built-in hourly columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.data import generated_series, series
from advisor.data.forecasts import MSE, ForecastData, signature
from advisor.data.windows import Scale, check_scale, check_shares, choose, whole
from advisor.stand_in import StandIn
from rules.examples import Metric

if TYPE_CHECKING:
    from torch import Tensor

DEFAULTS: Mapping[str, Any] = {
    "length": 336,
    "horizon": 96,
    "stride": 1,
    "split": (0.7, 0.1, 0.2),
    "irregular": "refuse",
    "time": None,
    "mean": None,
    "std": None,
}


@dataclass(frozen=True, slots=True)
class ForecastTask:
    """The task. `alpha` shares distillation between the teacher's forecast (alpha) and what came (1 - alpha)."""

    name: str = "time-series-forecasting"
    metric: Metric = MSE
    alpha: float = 0.5

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted: the seven columns, two weeks and four days of ETTh1."""
        return {"columns": 7, "length": 336, "horizon": 96}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Random windows, as a net for `given` takes them."""
        return StandIn(signature(**given), {"window": {}})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> ForecastData:
        """The series at `source` (a file or a folder), or the built-in ones.

        `settings`: length and horizon (steps), stride (between windows), split (three fractions, or three numbers of steps), irregular
        ("refuse" uneven times, or "keep" the rows as they come), time (the name of the time column), mean and std (a scale to use
        instead of the training part's, a number a column).
        Raises Problem: exit 2 for a wrong setting, 3 for refused data, 5 for a missing package.
        """
        chosen = choose(settings or {}, DEFAULTS, task=self.name)
        sizes = {key: whole(chosen, key) for key in ("length", "horizon", "stride")}
        shares = check_shares(chosen["split"])
        if source is None:
            found, facts = [generated_series.demand(seed)], generated_series.facts("built-in hourly series, made by a rule", seed)
        else:
            found = series.read(source, beat=chosen["irregular"], time=chosen["time"])
            facts = {"source": source.resolve().name, "licence": "not stated"}
        scale: Scale | None = check_scale(chosen, columns=found[0].columns)
        return ForecastData(found, facts, shares=shares, scale=scale, **sizes)

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Mean squared error of the forecast, (b, horizon, columns) against the target future."""
        return (output - targets["future"]).square().mean()

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        """Mean squared distance to the teacher's forecast, with targets to what came too. Numbers have no temperature."""
        loss = (student - teacher).square().mean()
        return loss if targets is None else self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)


TASK = ForecastTask()
