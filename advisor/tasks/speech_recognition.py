"""Speech recognition: an utterance in, its text out, letter by letter, CTC between them.

Idea: the net makes its own spectrogram, so that what ships takes the waveform; batches hold utterances of one padded length, so that
padding is part of the input and an utterance reads the same alone and in company. Score: word error rate over greedy readings,
character error rate and exact utterances beside it.
Source: CTC, Graves et al. 2006 (ICML, pages 369-376); errors counted by jiwer.
Shape: waveform (b, samples) float32 in [-1, 1] → logits (b, time, classes), class 0 the blank, class i + 1 the label i.
Reads: TSV, CSV or JSONL lists of recordings and texts; wav by the standard library, flac and others by soundfile; or, given nothing,
generated utterances of twenty words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.data import charset, recordings, spoken_sentences
from advisor.data.corpus import SPLITS
from advisor.data.utterances import PROBES, WER, SpeechData, signature
from advisor.sound_augment import Vary, checked
from advisor.stand_in import StandIn
from advisor.tasks.keyword_spotting import check_rate
from rules.examples import Metric
from rules.problems import Problem, unknown

if TYPE_CHECKING:
    from torch import Tensor

VARIES = tuple(field.name for field in fields(Vary) if field.name != "shift")
DEFAULTS: Mapping[str, Any] = {
    "rate": None,
    "charset": None,
    "case": "lower",
    "outside": "refuse",
    **dict.fromkeys(SPLITS),
    **dict.fromkeys(VARIES),
}
OUTSIDE = ("refuse", "count")
USUAL = Vary(shift=0.0, time_masks=2, time_mask=0.08, band_masks=1)


@dataclass(frozen=True, slots=True)
class SpeechRecognitionTask:
    """The task. `alpha` shares distillation between the teacher's steps (alpha) and the labels (1 - alpha)."""

    name: str = "speech-recognition"
    metric: Metric = WER
    alpha: float = 0.5
    blank_weight: float = 0.1  # of a step the teacher is sure is blank

    @property
    def counted(self) -> Mapping[str, Any]:
        """What the data would give a builder where cards are counted: 26 letters, space, apostrophe and the blank, at 16 kHz."""
        return {"classes": 29, "rate": 16000}

    def stand_in(self, given: Mapping[str, Any]) -> StandIn:
        """Seconds of noise, as a net for `given` takes them."""
        return StandIn(signature(**given), {f"{seconds}s": {"samples": seconds * given["rate"]} for seconds in PROBES})

    def open(self, source: Path | None, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> SpeechData:
        """The data at `source` (a folder with lists), or the generated utterances.

        `settings`: rate (samples a second a model hears; else the recordings' own up to 16 kHz), charset (the characters to know; else
        those of the training texts), outside (what to do with a text that has another one: "refuse" it or "count" it as read wrong),
        case ("keep", "upper", "lower"), train, val, test (how many of each split to use), and how training recordings vary: speed, gain,
        noise, time_masks, time_mask, band_masks, band_mask (`sound_augment.Vary`).
        Raises Problem: exit 2 for a wrong setting, 3 for refused data, 5 for a missing package.
        """
        chosen = _settings(settings or {})
        how = {"rate": chosen["rate"], "case": chosen["case"], "given": chosen["charset"], "vary": checked(chosen, USUAL)}
        strict = chosen["outside"] == "refuse"
        if source is None:
            counts = {split: chosen[split] or spoken_sentences.COUNTS[split] for split in SPLITS}
            return SpeechData(spoken_sentences.corpus(counts, seed=seed), strict=strict, **how)
        corpus = recordings.corpus(source, seed=seed, training=chosen["charset"] is None, labelled=False)
        return SpeechData(corpus, strict=strict, limits={split: chosen[split] for split in SPLITS}, **how)

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """CTC, nats a character: output (b, t, classes) logits, targets labels (b, n) and lengths (b,)."""
        from advisor.ctc_losses import ctc

        return ctc(output, targets["labels"], targets["lengths"])

    def distil_loss(self, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor] | None, *, temperature: float) -> Tensor:
        """The teacher's steps at `temperature`, blanks counting little; with targets the labels too."""
        from advisor import ctc_losses

        loss = ctc_losses.frames(student, teacher, temperature=temperature, blank_weight=self.blank_weight)
        return loss if targets is None else self.alpha * loss + (1 - self.alpha) * self.loss(student, targets)


TASK = SpeechRecognitionTask()


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults. Raises Problem (exit 2) for an unknown one and for a value that is not allowed."""
    for key in settings:
        if key not in DEFAULTS:
            raise unknown("setting of the speech-recognition task", key, DEFAULTS)
    chosen = {**DEFAULTS, **settings}
    check_rate(chosen["rate"])
    for key, allowed in (("case", charset.CASES), ("outside", OUTSIDE)):
        if chosen[key] not in allowed:
            raise unknown(key, str(chosen[key]), allowed)
    for split in SPLITS:
        wanted = chosen[split]
        if wanted is not None and (isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1):
            raise Problem(f"{split} is {wanted!r}, allowed: a number of utterances, 1 or more", remedy="leave it out for all there are")
    return chosen
