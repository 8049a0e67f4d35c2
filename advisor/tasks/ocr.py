"""Optical character recognition, line by line: images of one line of text in, characters out, CTC between them.

Idea: every line is scaled to 32 pixels high, its width kept; batches hold lines of one padded width, so that padding is part of
the input and a line reads the same alone and in company. Score: character error rate over greedy readings, exact lines beside it.
Source: the layout and metric of the deep-text-recognition benchmarks, Baek et al. 2019, arXiv:1904.01906; CER counted by jiwer.
Shape: image (b, 1, 32, w) float32 in [-1, 1] → logits (b, w / 4, classes), class 0 the blank, class i + 1 the label i.
Reads: a folder with TSV, CSV or JSONL lists, an LMDB, or, given nothing, the built-in handwritten digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.data import charset, digits, lmdb, manifest, rendered
from advisor.data.corpus import SPLITS, Corpus, spread
from advisor.data.textlines import CER, PROBES, LineData, signature
from advisor.stand_in import StandIn
from rules.examples import Explanation, Metric
from rules.problems import Problem, unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULTS: Mapping[str, Any] = dict.fromkeys(("charset", "train", "val", "test", "rendered", "fonts", "texts")) | {
    "case": "keep",
    "outside": "refuse",
}

OUTSIDE = ("refuse", "count")
WITHOUT: Mapping[str, str] = {**dict.fromkeys(SPLITS, "all there are"), "rendered": "real lines alone"}
EXPLAINED = 24  # test lines that the report's explanation is made from and measured on


@dataclass(frozen=True, slots=True)
class OcrTask:
    """The task. `alpha` shares distillation between the teacher's frames (alpha) and the labels (1 - alpha)."""

    name: str = "ocr"
    metric: Metric = CER
    alpha: float = 0.5
    blank_weight: float = 0.1  # of a frame the teacher is sure is blank
    sequence: float = 0.0  # weight of CTC towards the teacher's own reading

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted: 95 printable ASCII characters and the blank."""
        return {"classes": 96}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Random lines of two widths, as a net for `given` takes them."""
        return StandIn(signature(given["classes"]), {f"w{width}": {"width": width} for width in PROBES})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> LineData:
        """The data at `source` (a folder or an LMDB), or the built-in digits.

        `settings`: charset (the characters to know; else those of the training lines), outside (what to do with a text that has
        another one: "refuse" it or "count" it as read wrong), case ("keep", "upper", "lower"), train, val, test (how many lines of
        each split to use), and rendered (how many training lines to draw beside those of a folder), with fonts (a file or folder)
        of texts (a file). With a charset or such texts a folder may hold only lines to score. Images are decoded when first needed.
        Raises Problem: exit 2 for a wrong setting, 3 for refused data, 5 for a missing package.
        """
        chosen = _settings(settings or {})
        if source is None:
            if chosen["rendered"]:
                raise Problem(
                    "rendered lines stand beside those of a folder, and there is none", remedy="give --data, or leave rendered out"
                )
            counts = {split: chosen[split] or digits.COUNTS[split] for split in SPLITS}
            corpus, compose, limits = digits.corpus(counts, seed=seed), digits.anew(seed), None
        else:
            reader = lmdb if lmdb.holds(source) else manifest
            drawn = bool(chosen["rendered"] and chosen["texts"])
            corpus, compose = reader.corpus(source, seed=seed, training=chosen["charset"] is None and not drawn), None
            limits = {split: chosen[split] for split in SPLITS}
            if chosen["rendered"]:
                corpus, limits["train"] = _with_rendered(corpus, chosen, seed=seed), None
        strict = chosen["outside"] == "refuse"
        return LineData(corpus, case=chosen["case"], given=chosen["charset"], strict=strict, limits=limits, compose=compose)

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """CTC, nats a character: output (b, t, classes) logits, targets labels (b, n) and lengths (b,)."""
        from advisor.ctc_losses import ctc

        return ctc(output, targets["labels"], targets["lengths"])

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        """The teacher's frames at `temperature`, blanks counting little; with targets the labels too, with `sequence` its reading."""
        from advisor import ctc_losses

        loss = ctc_losses.frames(student, teacher, temperature=temperature, blank_weight=self.blank_weight)
        if targets is not None:
            loss = self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)
        return loss + self.sequence * ctc_losses.sequence(student, teacher) if self.sequence else loss

    def explain(self, model: nn.Module, data: LineData) -> list[Explanation]:
        """Where a net with attention looked for each character of some test lines; nothing for another. For the report."""
        from advisor.attention import of_lines

        with suppress(Problem):
            return [of_lines(model, data.samples("test", EXPLAINED), data.labels)]
        return []


TASK = OcrTask()


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the ocr task", key, DEFAULTS)
    chosen = {**DEFAULTS, **settings}
    for key, allowed in (("case", charset.CASES), ("outside", OUTSIDE)):
        if chosen[key] not in allowed:
            raise unknown(key, str(chosen[key]), allowed)
    for key in (*SPLITS, "rendered"):
        wanted = chosen[key]
        if wanted is not None and (isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1):
            raise Problem(f"{key} is {wanted!r}, allowed: a number of lines, 1 or more", remedy=f"leave it out for {WITHOUT[key]}")
    for key in ("fonts", "texts"):
        if chosen[key] is not None and not isinstance(chosen[key], str):
            raise Problem(f"{key} is {chosen[key]!r}, allowed: a path", remedy='e.g. fonts = "fonts/"')
        if chosen[key] is not None and chosen["rendered"] is None:
            raise Problem(f"{key} is given and nothing is to be rendered", remedy="set rendered to a number of lines")
    return chosen


def _with_rendered(corpus: Corpus, chosen: Mapping[str, Any], *, seed: int) -> Corpus:
    """The real training lines, as many of them as are asked for, and the drawn ones behind them."""
    real = corpus.splits["train"]
    kept = tuple(real[place] for place in spread(len(real), chosen["train"]))
    return rendered.beside(
        replace(corpus, splits={**corpus.splits, "train": kept}),
        count=chosen["rendered"],
        drawn_with=rendered.fonts(Path(chosen["fonts"]) if chosen["fonts"] else None),
        of=rendered.texts(Path(chosen["texts"])) if chosen["texts"] else None,
        seed=seed,
    )
