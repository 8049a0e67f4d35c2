"""Series, opened to be watched: windows that a detector learns the normal from, and labelled ones that say how well it tells.

A window is an anomaly where any of its steps is labelled one. Training windows with a labelled step are left out: what is learned is
the normal. Every window lies in its split wholly. Each series is scaled by its own training steps.
Score: the area under the ROC curve of the windows' scores (scikit-learn), the chance that an anomalous window scores above a normal
one. No point adjustment: a hit counts where it is, not for all of its interval (Kim et al. 2021, arXiv:2109.05257).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.corpus import SPLITS, Split
from advisor.data.curves import picture
from advisor.data.forecasts import as_csv, digest, facts_of
from advisor.data.series import Series
from advisor.data.windows import Place, Scale, WindowBatches, borders, drawn, places, scale_of
from rules.examples import Answers, Batch, Feeds, Metric, Port, Sample, Score, Signature
from rules.problems import bad_environment, bad_input

AUC = Metric("auc", "higher", "")
BATCH = 256  # windows a batch when scoring
ALARMS = 0.05  # share of normal windows that may raise a false alarm, in the figure beside the score
RULE = "by time: a window lies in its split wholly; training windows with a labelled step are left out; scaled by the training steps"

Array = NDArray[Any]
Predict = Callable[[Feeds], Mapping[str, Array]]


class AnomalyData:
    """The data of the anomaly-detection task: windows of `length` steps, every `stride` steps. All `series` carry labels."""

    answers: Answers = "figures"
    labels: Sequence[str] = ("normal", "anomaly")
    postprocess: Sequence[Mapping[str, Any]] = ({"op": "score", "output": "score"},)

    def __init__(
        self,
        series: Sequence[Series],
        facts: Mapping[str, Any],
        *,
        length: int,
        stride: int,
        shares: Sequence[int | float],
        scales: Mapping[str, Scale] | None = None,
    ) -> None:
        self._series, self._facts, self._shares = list(series), facts, tuple(shares)
        self._length, self._stride = length, stride
        self._marks = [one.marks if one.marks is not None else np.zeros(len(one.values), np.bool_) for one in series]
        self._places = places(series, shares, past=0, asked=length, stride=stride)
        whole = len(self._places["train"])
        self._places["train"] = [at for at in self._places["train"] if not self._anomalous(at)]
        self._left_out = whole - len(self._places["train"])
        for split in SPLITS:
            self._check(split)
        self.scales = dict(scales) if scales else {one.name: scale_of([_normal(one, shares)]) for one in series}
        self._scaled = [self._scale(one).apply(one.values) for one in series]

    def _check(self, split: Split) -> None:
        """Raises Problem (exit 3) for a split that nothing can be learned from or told by."""
        marked = sum(map(self._anomalous, self._places[split]))
        if not self._places[split]:
            raise bad_input(f"every training window of {self._length} steps has a labelled step", remedy="nothing is left to learn from")
        if split != "train" and marked in (0, len(self._places[split])):
            what = f"of {len(self._places[split]):,} {split} windows {'none' if not marked else 'every one'} has a labelled step"
            raise bad_input(
                f"{self._series[0].where}: {what}", remedy="label anomalies there, or move the borders: split = […] in [settings]"
            )

    def _scale(self, one: Series) -> Scale:
        if one.name not in self.scales:
            raise bad_input(f"{one.where}: there is no scale for the series {one.name!r}", remedy="train on it, or leave it out")
        return self.scales[one.name]

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        return {"columns": len(self._series[0].columns), "length": self._length}

    @cached_property
    def signature(self) -> Signature:
        return signature(**self.given)

    @property
    def preprocess(self) -> Sequence[Mapping[str, Any]]:
        step = {"op": "window", "length": self._length, "columns": list(self._series[0].columns)}
        return ({**step, **(plain(self.scales[self._series[0].name]) if self._alone else {"scales": self._plain_scales()})},)

    @property
    def _alone(self) -> bool:
        return len(self._series) == 1

    def _plain_scales(self) -> dict[str, dict[str, list[float]]]:
        return {name: plain(scale) for name, scale in self.scales.items()}

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
        """The targets are the windows themselves: (b, length, columns)."""
        cut = np.stack([self._scaled[at.series][at.start : at.start + self._length] for at in windows])
        return Batch({"window": cut}, {"window": cut}, tuple(map(self._name, windows)))

    def _name(self, at: Place) -> str:
        one = self._series[at.series]
        return f"{one.name or 'series'} {at.start:06d} {one.times[at.start]}"

    def _anomalous(self, at: Place) -> bool:
        return bool(self._marks[at.series][at.start : at.start + self._length].any())

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """The scores, a text an example; where the alarm begins is the user's to say."""
        return [f"{float(value):.4g}" for value in outputs["score"]]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """The area under the ROC curve. An example's error is, of an anomaly, the share of normal windows that score below it."""
        held = self._places[split]
        chosen = [held[index] for index in drawn(len(held), limit=limit, shuffle=False, seed=0, epoch=0)]
        found = [predict(batch.inputs)["score"] for batch in self.batches(split, batch_size=BATCH, limit=limit)]
        scores = np.concatenate(found).astype(np.float64) if found else np.zeros(0)
        truth = np.array([self._anomalous(at) for at in chosen], dtype=np.bool_)
        whose = np.array([at.series for at in chosen])

        def over(rows: Array) -> float:
            return auc(truth[rows], scores[rows])

        return Score(AUC, auc(truth, scores), above(truth, scores), truth.astype(np.float64), beside(truth, scores, whose=whose), over=over)

    def probes(self) -> dict[str, Feeds]:
        """The first validation window: there is one size."""
        return {"window": dict(self._batch(self._places["val"][:1]).inputs)}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Windows spread over the split, every other one an anomaly as far as there are any, as CSV files."""
        parts = [[at for at in self._places[split] if self._anomalous(at) is wanted] for wanted in (True, False)]
        few = min(len(parts[0]), count // 2)
        shares = (few, min(len(parts[1]), count - few))
        chosen = [
            part[k] for part, few in zip(parts, shares, strict=True) for k in drawn(len(part), limit=few, shuffle=False, seed=0, epoch=0)
        ]
        return [self._sample(at) for at in sorted(chosen, key=lambda at: (at.series, at.start))]

    def _sample(self, at: Place) -> Sample:
        one, end = self._series[at.series], at.start + self._length
        marks = self._marks[at.series][at.start : end]
        truth = f"anomaly ({int(marks.sum())} of {self._length} steps)" if marks.any() else "normal"
        inputs = dict(self._batch([at]).inputs)
        raw = as_csv(one, at.start, end, name=None if self._alone else one.name)
        return Sample(self._name(at), raw, inputs, truth, suffix="csv", picture=picture(self._scaled[at.series][at.start : end], marks))

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split and scaled; plain JSON."""
        sizes = {"length": self._length, "stride": self._stride, "split": list(self._shares)}
        counts = {split: self.count(split) for split in SPLITS}
        return {
            "task": "anomaly-detection",
            **self._facts,
            **sizes,
            "rule": RULE,
            "splits": counts,
            "anomalous": {split: sum(map(self._anomalous, self._places[split])) for split in SPLITS},
            "left_out": self._left_out,
            "series": facts_of(self._series, self._shares),
            "sha256": digest(self._series),
            "reopen": {**sizes, "scales": self._plain_scales()},  # settings that read other data alike
        }


def signature(columns: int, length: int) -> Signature:
    """window (batch, length, columns) → rebuilt (the same shape) and score (batch,): how far the window is from normal."""
    window = Port("window", "float32", ("batch", length, columns), {"batch": (1, 256, 1)})
    rebuilt = Port("rebuilt", "float32", ("batch", length, columns), decides=False)
    return Signature((window,), (rebuilt, Port("score", "float32", ("batch",), decides=False)))


def plain(scale: Scale) -> dict[str, list[float]]:
    return {"mean": list(scale.mean), "std": list(scale.std)}


def _normal(one: Series, shares: Sequence[int | float]) -> Array:
    """The training steps of a series without the labelled ones; all of them where nothing else is left."""
    low, high = borders(len(one.values), shares)["train"]
    part: Array = one.values[low:high]
    free = part if one.marks is None else part[~one.marks[low:high]]
    return free if len(free) else part


# -- the score -----------------------------------------------------------------------------------------------------------


def auc(truth: Array, scores: Array) -> float:
    """The area under the ROC curve; one half where there is nothing to tell apart. Raises Problem (exit 5) without scikit-learn."""
    if not len(truth) or truth.all() or not truth.any():
        return 0.5
    return float(_metrics().roc_auc_score(truth, scores))


def above(truth: Array, scores: Array) -> Array:
    """For every anomaly the share of normal windows that score below it (ties count half), for the others 0, (n,)."""
    normal = np.sort(scores[~truth])
    below = (np.searchsorted(normal, scores, "left") + np.searchsorted(normal, scores, "right")) / max(1, 2 * len(normal))
    return np.where(truth, below, 0.0)


def beside(truth: Array, scores: Array, *, whose: Array) -> dict[str, float]:
    """Average precision, the share of anomalies found at 5 % false alarms, and of several series the mean and the lowest area."""
    if not truth.any() or truth.all():
        return {}
    level = np.quantile(scores[~truth], 1 - ALARMS)
    found = {
        "average precision": float(_metrics().average_precision_score(truth, scores)),
        "found at 5 % false alarms": float((scores[truth] > level).mean()),
    }
    each = [auc(truth[whose == k], scores[whose == k]) for k in np.unique(whose) if 0 < truth[whose == k].sum() < (whose == k).sum()]
    return found | ({"mean over series": float(np.mean(each)), "lowest series": min(each)} if len(each) > 1 else {})


def _metrics() -> Any:
    try:
        from sklearn import metrics
    except ImportError:
        raise bad_environment(
            "scoring anomalies needs scikit-learn, which is not installed", remedy="pip install 'edge-advisor[train]'"
        ) from None
    return metrics
