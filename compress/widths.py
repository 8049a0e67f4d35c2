"""Choosing widths by the clock: narrow one layer at a time, time the exported file, keep the cut that pays best.

The first step times every layer's next narrower width, later steps only the most promising ones by what they saved when they were
last timed. Every choice is journalled before it is taken; a resumed search replays it without timing anything.
Source: Yang et al. 2018, "NetAdapt", arXiv:1804.03230, with importance instead of fine-tuning as the price of a cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

from compress import channels
from compress.channels import Group
from compress.context import Context
from compress.importance import lost, removed

WORTH = 0.003  # a saving below this share of the latency is noise
CHANCES = 2  # a layer may fail to save time once by bad luck
RECURRENT_ALIGN = 8  # LSTM latency is nearly smooth in the hidden size

Draft = Callable[[nn.Module, Path], Path]  # a candidate as the file that would be timed


@dataclass(frozen=True, slots=True)
class Search:
    """What a search needs: the module, its groups and their scores, where it may go, and how a candidate becomes a file."""

    model: nn.Module
    groups: Sequence[Group]
    scores: Mapping[str, np.ndarray]
    context: Context
    draft: Draft
    align: int
    least: int  # channels a layer keeps at least
    looks: int  # candidates timed at each step after the first
    steps: int

    def run(self, goal: float) -> tuple[dict[str, int], float]:
        """Widths, and the share of the latency they reach: `goal`, or as near as cuts that save time lead."""
        widths = {group.name: group.width for group in self.groups}
        savings: dict[str, float] = {}
        doubts: Counter[str] = Counter()
        ratio, progress = 1.0, self.context.progress
        progress.start("prune: searching widths", self.steps)
        with TemporaryDirectory() as folder:
            for step in range(self.steps):
                wanted = self._wanted(widths, savings, doubts)
                if not wanted or ratio <= goal:
                    break
                found = self._decide(step, widths, wanted, Path(folder))
                savings.update(found["savings"])
                doubts.update(name for name, saving in found["savings"].items() if saving <= WORTH)
                if found["take"] is not None:
                    widths[found["take"]], ratio = found["width"], found["ratio"]
                progress.step(step + 1, f"{100 * ratio:.0f} % of the latency")
        progress.finish(f"{100 * ratio:.0f} % of the latency")
        return widths, ratio

    def narrow(self, widths: Mapping[str, int]) -> nn.Module:
        """The module at these widths."""
        return channels.cut(self.model, self.groups, removed(self.groups, self.scores, widths))

    def _decide(self, step: int, widths: Mapping[str, int], wanted: Mapping[str, int], folder: Path) -> dict[str, Any]:
        return dict(self.context.decide(f"step-{step:02d}", lambda: self._look(widths, wanted, folder)))

    def _wanted(self, widths: Mapping[str, int], savings: Mapping[str, float], doubts: Mapping[str, int]) -> dict[str, int]:
        """The next narrower width of the layers worth a look: all before any was timed, then the most promising.

        A layer that saved nothing when it was timed comes last and gets one more chance; after that it stays as it is.
        """
        narrower: dict[str, int] = {}
        for group in self.groups:
            width = next_width(widths[group.name], group.width, align=RECURRENT_ALIGN if group.recurrent else self.align, least=self.least)
            if width is not None and doubts.get(group.name, 0) < CHANCES:
                narrower[group.name] = width
        if not savings:
            return narrower
        promise = {name: self._pay(name, max(0.0, savings[name]), widths[name], width) for name, width in narrower.items()}
        ranked = sorted(promise, key=lambda name: (doubts.get(name, 0), -promise[name], name))
        return {name: narrower[name] for name in ranked[: self.looks]}

    def _pay(self, name: str, saving: float, now: int, width: int) -> float:
        """Latency saved for the importance lost."""
        return saving / lost(self.scores[name], now, width)

    def _look(self, widths: Mapping[str, int], wanted: Mapping[str, int], folder: Path) -> dict[str, Any]:
        """Time every wanted cut beside the unpruned net and the present one: which to take, and what each saves."""
        trials = {"unpruned": {group.name: group.width for group in self.groups}, "present": dict(widths)}
        trials |= {f"cut {name}": {**widths, name: width} for name, width in wanted.items()}
        ratios = self._time({name: self._drafted(trial, folder) for name, trial in trials.items()})
        savings = {name: ratios["present"] - ratios[f"cut {name}"] for name in wanted}
        pays = {name: self._pay(name, savings[name], widths[name], wanted[name]) for name in sorted(wanted) if savings[name] > WORTH}
        take = max(pays, key=lambda name: pays[name]) if pays else None
        chosen = {"width": wanted[take], "ratio": ratios[f"cut {take}"]} if take else {"width": None, "ratio": None}
        return {"take": take, **chosen, "savings": savings, "timed": dict(wanted)}

    def _drafted(self, widths: Mapping[str, int], folder: Path) -> Path:
        """The file at these widths; made once, because the net a step starts from is a cut of the step before."""
        path = folder / ("-".join(str(widths[group.name]) for group in self.groups) + ".onnx")
        return path if path.exists() else self.draft(self.narrow(widths), path)

    def _time(self, files: Mapping[str, Path]) -> dict[str, float]:
        """Latency of each file over the unpruned one's, on the headline probe, in one interleaved run."""
        feeds = next(iter(self.context.data.probes().values()))
        times = self.context.latencies.paired(files, feeds, threads=self.context.target.threads)
        return {name: times[name] / times["unpruned"] for name in files}


def next_width(now: int, full: int, *, align: int, least: int) -> int | None:
    """The next narrower width worth timing: a multiple of `align`, of 8 where that is too coarse, never below `least`.

    Wide layers narrow by about an eighth of their full width at a time. None where there is none.
    """
    for grid in dict.fromkeys((align, min(align, 8))):
        step = grid * max(1, round(full / 8 / grid))
        width = now - now % grid if now % grid else now - step
        if width >= max(least, grid):
            return width
    return None
