"""Keyword spotting: a second of sound in, which of a few words it was out.

Idea: a clip of one length at one sampling rate goes into a net that makes its own spectrogram, so that what ships takes the waveform.
Score: the share that is right; beside it the mean over the words, which a rare one counts in as a full one.
Source: the task as in Speech Commands, Warden 2018, arXiv:1804.03209; distillation, Hinton et al. 2015, arXiv:1503.02531.
Shape: waveform (b, samples) float32 in [-1, 1] → logits (b, classes), raw.
Reads: a folder a word, with or without train, val and test, or with the lists of Speech Commands; TSV, CSV or JSONL lists; wav by the
standard library, flac and others by soundfile; or, given nothing, generated words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor import class_losses
from advisor.data import audio, recordings, spoken_words
from advisor.data.classes import ACCURACY
from advisor.data.clips import GRID, LONGEST, SHORTEST, KeywordData, signature
from advisor.data.corpus import SPLITS
from advisor.sound_augment import Vary, checked
from advisor.stand_in import StandIn
from rules.examples import Metric
from rules.problems import Problem, unknown

if TYPE_CHECKING:
    from torch import Tensor

VARIES = tuple(field.name for field in fields(Vary))
DEFAULTS: Mapping[str, Any] = {"rate": None, "seconds": 1.0, "labels": None, **dict.fromkeys(SPLITS), **dict.fromkeys(VARIES)}


@dataclass(frozen=True, slots=True)
class KeywordSpottingTask:
    """The task. `alpha` shares distillation between the teacher's answers (alpha) and the labels (1 - alpha)."""

    name: str = "keyword-spotting"
    metric: Metric = ACCURACY
    alpha: float = 0.5

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted: the twelve words and the 16 kHz of Speech Commands."""
        return {"classes": 12, "rate": 16000}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """A second of noise, as a net for `given` takes it."""
        return StandIn(signature(**given), {"1s": {"samples": given["rate"]}})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> KeywordData:
        """The data at `source` (a folder), or the generated words.

        `settings`: rate (samples a second a model hears; else the recordings' own up to 16 kHz), seconds (of a clip), labels (the words
        to know, in their order), train, val, test (how many recordings of each split to use), and how training recordings vary: speed,
        shift, gain, noise, time_masks, time_mask, band_masks, band_mask (`sound_augment.Vary`). With labels a folder may hold only
        recordings to score. Raises Problem: exit 2 for a wrong setting, 3 for refused data, 5 for a missing package.
        """
        chosen = _settings(settings or {})
        vary = checked(chosen, Vary())
        how = {"rate": chosen["rate"], "seconds": float(chosen["seconds"]), "labels": chosen["labels"], "vary": vary}
        if source is None:
            counts = {split: chosen[split] or spoken_words.COUNTS[split] for split in SPLITS}
            return KeywordData(spoken_words.corpus(counts, seed=seed), **how)
        corpus = recordings.corpus(source, seed=seed, training=chosen["labels"] is None)
        return KeywordData(corpus, limits={split: chosen[split] for split in SPLITS}, **how)

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy, nats a clip: output (b, classes) logits, target label (b,)."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(output.float(), targets["label"])

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        """The teacher's shares at `temperature`; with targets the labels too."""
        loss = class_losses.softened(student, teacher, temperature=temperature)
        return loss if targets is None else self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)


TASK = KeywordSpottingTask()


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the keyword-spotting task", key, DEFAULTS)
    chosen = {**DEFAULTS, **settings}
    check_rate(chosen["rate"])
    seconds = chosen["seconds"]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not SHORTEST <= seconds <= LONGEST:
        raise Problem(f"seconds is {seconds!r}, allowed: {SHORTEST:g} to {LONGEST:g}")
    for split in SPLITS:
        wanted = chosen[split]
        if wanted is not None and (isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1):
            raise Problem(f"{split} is {wanted!r}, allowed: a number of recordings, 1 or more", remedy="leave it out for all there are")
    labels = chosen["labels"]
    named = isinstance(labels, list | tuple) and labels and all(isinstance(label, str) and label.strip() for label in labels)
    if labels is not None and not (named and len(set(labels)) == len(labels)):
        raise Problem("labels are a list of different words", remedy='labels = ["yes", "no"]')
    return chosen


def check_rate(rate: Any) -> None:
    """Raises Problem (exit 2) for a sampling rate that a model cannot hear at."""
    if rate is None:
        return
    if isinstance(rate, bool) or not isinstance(rate, int) or not audio.SLOWEST <= rate <= audio.FASTEST or rate % (2 * GRID):
        what = f"rate is {rate!r}, allowed: {audio.SLOWEST} to {audio.FASTEST} samples a second, a multiple of {2 * GRID}"
        raise Problem(what, remedy="rate = 16000; recordings of another rate are converted")
