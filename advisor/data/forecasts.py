"""Series, opened to be forecast: windows of a past and the future that came, in deviations from the training part's mean.

Score: the mean squared error of the scaled values, as the forecasting literature reports it, the mean absolute error beside it.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data import drawings
from advisor.data.corpus import SPLITS, Split
from advisor.data.curves import picture
from advisor.data.series import Series
from advisor.data.windows import Place, Scale, WindowBatches, borders, drawn, places, scale_of
from rules.examples import Answers, Batch, Feeds, Metric, Port, Sample, Score, Signature

MSE = Metric("mse", "lower", "")
BATCH = 256  # windows a batch when scoring
RULE = "by time: a future lies in its split wholly, its past may reach back into the one before; mean and deviation from the training steps"

Array = NDArray[Any]
Predict = Callable[[Feeds], Mapping[str, Array]]


class ForecastData:
    """The data of the time-series-forecasting task: `length` steps of past, `horizon` steps of future, every `stride` steps."""

    answers: Answers = "figures"
    legend = drawings.CURVES

    def __init__(
        self,
        series: Sequence[Series],
        facts: Mapping[str, Any],
        *,
        length: int,
        horizon: int,
        stride: int,
        shares: Sequence[int | float],
        scale: Scale | None = None,
    ) -> None:
        self._series, self._facts, self._shares = list(series), facts, tuple(shares)
        self._length, self._horizon, self._stride = length, horizon, stride
        self._places = places(series, shares, past=length, asked=horizon, stride=stride)
        spans = [borders(len(one.values), shares)["train"] for one in series]
        self.scale = scale or scale_of([one.values[low:high] for one, (low, high) in zip(series, spans, strict=True)])
        self._scaled = [self.scale.apply(one.values) for one in series]
        self.labels = list(series[0].columns)

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        return {"columns": len(self.labels), "length": self._length, "horizon": self._horizon}

    def _sizes(self) -> dict[str, int]:
        return {"length": self._length, "horizon": self._horizon, "stride": self._stride}

    @cached_property
    def signature(self) -> Signature:
        return signature(**self.given)

    @property
    def preprocess(self) -> Sequence[Mapping[str, Any]]:
        return ({"op": "window", "length": self._length, "columns": list(self.labels), **self._in_units()},)

    @property
    def postprocess(self) -> Sequence[Mapping[str, Any]]:
        return ({"op": "forecast", "output": "forecast", **self._in_units()},)

    def _in_units(self) -> dict[str, list[float]]:
        return {"mean": list(self.scale.mean), "std": list(self.scale.std)}

    def count(self, split: Split) -> int:
        return len(self._places[split])

    def batches(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        augment: bool = False,
        shuffle: bool = False,
        limit: int | None = None,
    ) -> WindowBatches:
        """Batches of windows in the order of time, or shuffled by (seed, epoch). `augment` changes nothing: a series is as it is."""
        held = self._places[split]
        chosen = drawn(len(held), limit=limit, shuffle=shuffle, seed=seed, epoch=epoch)
        return WindowBatches(chosen, batch_size, lambda members: self._batch([held[member] for member in members]))

    def _batch(self, windows: Sequence[Place]) -> Batch:
        cut = np.stack([self._scaled[at.series][at.start : at.start + self._length + self._horizon] for at in windows])
        history, future = np.ascontiguousarray(cut[:, : self._length]), np.ascontiguousarray(cut[:, self._length :])
        return Batch({"history": history}, {"future": future}, tuple(map(self._name, windows)))

    def _name(self, at: Place) -> str:
        """A window by its series and the first time that is forecast."""
        one = self._series[at.series]
        return f"{one.name or 'series'} {at.start + self._length:06d} {one.times[at.start + self._length]}"

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """Forecasts in the columns' own units, one text an example."""
        return [self._spelled(values) for values in outputs["forecast"]]

    def _spelled(self, scaled: Array) -> str:
        values = self.scale.undo(scaled)
        return "; ".join(f"{name}: {' '.join(f'{value:.4g}' for value in values[:, at])}" for at, name in enumerate(self.labels))

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """MSE of scaled values, an error a window; `also` holds the mean absolute error. In the split's order."""
        squared: list[Array] = []
        absolute: list[Array] = []
        for batch in self.batches(split, batch_size=BATCH, limit=limit):
            apart = np.asarray(predict(batch.inputs)["forecast"], np.float64) - batch.targets["future"]
            squared.append(np.square(apart).mean((1, 2)))
            absolute.append(np.abs(apart).mean((1, 2)))
        errors = np.concatenate(squared) if squared else np.zeros(0)
        mae = float(np.concatenate(absolute).mean()) if absolute else 0.0
        return Score(MSE, float(errors.mean()) if len(errors) else 0.0, errors, np.ones_like(errors), {"mae": mae})

    def probes(self) -> dict[str, Feeds]:
        """The first validation window: there is one size."""
        return {"window": dict(self._batch(self._places["val"][:1]).inputs)}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Windows spread over the split, as CSV files of their past."""
        held = self._places[split]
        return [self._sample(held[index]) for index in drawn(len(held), limit=count, shuffle=False, seed=0, epoch=0)]

    def _sample(self, at: Place) -> Sample:
        one, middle, end = self._series[at.series], at.start + self._length, at.start + self._length + self._horizon
        scaled = self._scaled[at.series][at.start : end]
        past, future = scaled[: self._length], scaled[self._length :]
        drawing = picture(scaled, np.arange(len(scaled)) >= self._length)
        inputs = dict(self._batch([at]).inputs)

        def draw(outputs: Mapping[str, Feeds]) -> bytes:
            return drawings.curves(past, future, {name: each["forecast"][0] for name, each in outputs.items()}, self.labels)

        return Sample(self._name(at), as_csv(one, at.start, middle), inputs, self._spelled(future), "csv", drawing, draw)

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split and scaled; plain JSON."""
        return {
            "task": "time-series-forecasting",
            **self._facts,
            "split": RULE,
            "shares": list(self._shares),
            **self._sizes(),
            **self._in_units(),
            "splits": {split: self.count(split) for split in SPLITS},
            "series": facts_of(self._series, self._shares),
            "sha256": digest(self._series),
            "reopen": {**self._sizes(), "split": list(self._shares), **self._in_units()},  # settings that read other data alike
        }


def signature(columns: int, length: int, horizon: int) -> Signature:
    """history (batch, length, columns) → forecast (batch, horizon, columns), both in deviations from the training part's mean."""
    history = Port("history", "float32", ("batch", length, columns), {"batch": (1, 256, 1)})
    return Signature((history,), (Port("forecast", "float32", ("batch", horizon, columns), decides=False),))


def as_csv(series: Series, start: int, end: int, *, name: str | None = None) -> bytes:
    """Steps `start` to `end` as a CSV file whose values read back to the bit; with `name` in a column of series ids."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["time", *(["series"] if name is not None else []), *series.columns])
    for time, values in zip(series.times[start:end], series.values[start:end].tolist(), strict=True):
        writer.writerow([time, *([name] if name is not None else []), *map(repr, values)])
    return file.getvalue().encode()


def facts_of(series: Sequence[Series], shares: Sequence[int | float]) -> list[dict[str, Any]]:
    """What each series is: its steps, its first and last time, its steps a split. The first hundred of them."""
    return [
        {
            "name": one.name,
            "steps": len(one.values),
            "from": one.times[0],
            "to": one.times[-1],
            "borders": [high for _, high in borders(len(one.values), shares).values()],
        }
        for one in series[:100]
    ]


def digest(series: Sequence[Series]) -> str:
    """SHA-256 of every time, value and label."""
    found = hashlib.sha256()
    for one in series:
        found.update("\n".join([one.name, *one.columns, *one.times]).encode())
        found.update(np.ascontiguousarray(one.values).tobytes())
        found.update(b"" if one.marks is None else one.marks.tobytes())
    return found.hexdigest()
