"""Recordings with one word each, opened: what a net that listens for keywords is trained on, scored on and timed on.

A recording is decoded when it is first needed, brought to the one sampling rate by the declared step, and held as long as there is
room. Every clip is of one length: the middle of what is longer, silence on both sides of what is shorter.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor import sound_augment
from advisor.data import audio, classes
from advisor.data.batching import Batches, alike
from advisor.data.corpus import SPLITS, Corpus, Line, Split, spread
from advisor.data.holding import Decoded, Holder
from advisor.sound_augment import Vary
from rules.examples import Answers, Batch, Feeds, Port, Sample, Score, Signature

BATCH = 64  # clips a batch when scoring
GRID = 50  # a clip is a whole number of these parts of a second: nets take hops of 10 and 20 ms
SHORTEST, LONGEST = 0.2, 10.0  # seconds of a clip
ONE_WORD = "a net needs another word to tell it from: silence, say"
RATE = 16000  # samples a second where the recordings' own is higher, or does not divide into hops

Predict = Callable[[Feeds], Mapping[str, NDArray[Any]]]
Wave = NDArray[np.float32]
log = logging.getLogger("advisor.keyword_spotting")


class KeywordData:
    """The data of the keyword-spotting task.

    `rate` (samples a second) and `seconds` are what a model hears; `labels` the words to know, else those of the training recordings.
    """

    answers: Answers = "class"
    postprocess: Sequence[Mapping[str, Any]] = ({"op": "argmax", "output": "logits"},)

    def __init__(
        self,
        corpus: Corpus,
        *,
        rate: int | None = None,
        seconds: float = 1.0,
        vary: Vary | None = None,
        labels: Sequence[str] | None = None,
        limits: Mapping[Split, int | None] | None = None,
    ) -> None:
        self._corpus, self._vary = corpus, vary or Vary()
        chosen = {split: spread(len(corpus.splits[split]), (limits or {}).get(split)) for split in SPLITS}
        self._lines = {split: [corpus.splits[split][place] for place in chosen[split]] for split in SPLITS}
        self.labels = list(labels) if labels else sorted({line.text for line in self._lines["train"]})
        self._index = {label: place for place, label in enumerate(self.labels)}
        classes.check(self._lines, self._index, given=bool(labels), noun="recording", remedy=ONE_WORD)
        self._truth = {split: np.array([self._index[line.text] for line in self._lines[split]], dtype=np.int64) for split in SPLITS}
        self.rate = rate or self._own_rate()
        self.seconds = seconds
        self.samples_a_clip = round(seconds * GRID) * (self.rate // GRID)
        self.preprocess = audio.steps(self.rate, self.samples_a_clip)
        self._read: Holder[Wave] = Holder(self._lines, self._decoded)
        self._rates: dict[tuple[Split, int], int] = {}

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        return {"classes": len(self.labels), "rate": self.rate}

    @cached_property
    def signature(self) -> Signature:
        return signature(**self.given)

    def count(self, split: Split) -> int:
        return len(self._lines[split])

    # -- recordings ------------------------------------------------------------------------------------------------------

    def _own_rate(self) -> int:
        """The rate of the first recording, where a model can use it; else 16 kHz."""
        split = next(split for split in SPLITS if self._lines[split])
        line = self._lines[split][0]
        own = audio.decode(self._corpus.read(line), name=line.named)[1]
        return own if audio.SLOWEST <= own <= RATE and own % (2 * GRID) == 0 else RATE

    def _decoded(self, split: Split, index: int) -> Decoded[Wave]:
        """One recording at the data's rate, (n,)."""
        line = self._lines[split][index]
        raw = self._corpus.read(line)
        sound = audio.decode(raw, name=line.named)
        self._rates[split, index] = sound[1]
        samples: Wave = audio.resample(sound, self.rate)[0]
        return Decoded(samples, raw, samples.nbytes)

    def _clip(self, split: Split, index: int) -> Wave:
        return audio.clip(self._read(split, index), self.samples_a_clip)

    def _varied(self, index: int, seed: int, epoch: int) -> Wave:
        """A training clip as it sounds in one epoch."""
        rng = sound_augment.generator(seed, epoch, index)
        samples = sound_augment.paced(self._read("train", index), self._vary, rng)
        samples = sound_augment.placed(samples, self.samples_a_clip, self._vary, rng, rate=self.rate)
        clip: Wave = sound_augment.coloured(samples, self._vary, rng, rate=self.rate)
        return clip

    # -- batches ---------------------------------------------------------------------------------------------------------

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
    ) -> Batches:
        """Batches of clips; `limit` takes some spread over the split, or with `shuffle` at random. Augmented, training clips vary."""
        vary = augment and split == "train"

        def make(members: list[int]) -> Batch:
            clips = [self._varied(index, seed, epoch) if vary else self._clip(split, index) for index in members]
            targets = {"label": self._truth[split][members]}
            return Batch({"waveform": np.stack(clips)}, targets, tuple(self._lines[split][index].id for index in members))

        return alike(self.count(split), make, batch_size=batch_size, seed=seed, epoch=epoch, shuffle=shuffle, limit=limit)

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """The best word of logits (b, classes)."""
        return [self.labels[place] for place in outputs["logits"].argmax(-1).tolist()]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """The share of clips whose best word is theirs (`classes.score`), in the split's order."""
        truth = self._truth[split][spread(self.count(split), limit)]
        return classes.score(classes.asked(predict, self.batches(split, batch_size=BATCH, limit=limit), len(self.labels)), truth)

    def probes(self) -> dict[str, Feeds]:
        """One clip that was not trained on, where there is one."""
        split = next(split for split in ("val", "test", "train") if self._lines[split])
        return {f"{self.seconds:g}s": {"waveform": self._clip(split, 0)[None]}}  # type: ignore[arg-type]

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Clips spread over the split, as wav files."""
        return [self._sample(self._lines[split][place]) for place in spread(self.count(split), count)]

    def _sample(self, line: Line) -> Sample:
        raw = audio.as_plain(self._corpus.read(line), name=line.named)
        waveform = audio.apply(self.preprocess, raw, name=line.id)
        return Sample(line.id, raw, {"waveform": waveform}, line.text, suffix="wav", picture=audio.picture(waveform[0]))

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split, what is doubtful; plain JSON. Decodes every recording, so a damaged one is found now."""
        found: dict[str, Any] = {"task": "keyword-spotting", **self._corpus.facts}
        found.update(classes=len(self.labels), rate=self.rate, seconds=self.seconds)
        found["splits"] = {split: self._facts(split) for split in SPLITS}
        found["rates"] = {str(rate): count for rate, count in sorted(Counter(self._rates.values()).items())}
        found["reopen"] = {"labels": list(self.labels), "rate": self.rate, "seconds": self.seconds}
        found["warnings"] = list(self._warnings())
        for warning in found["warnings"]:
            log.warning(warning)
        return found

    def _facts(self, split: Split) -> dict[str, Any]:
        lengths = [len(self._read(split, index)) for index in range(self.count(split))]
        return {
            "recordings": self.count(split),
            **classes.sizes(self._lines[split], self.labels),
            "longer_than_a_clip": sum(length > self.samples_a_clip for length in lengths),
            "median_seconds": round(float(np.median(lengths)) / self.rate, 3) if lengths else 0.0,
            "sha256": self._read.seal(split),
        }

    def _warnings(self) -> Iterator[str]:
        for same, one, other in self._read.doubles():
            yield f"{same} recordings are the same, byte for byte, in {one} and {other}: the score says less than it seems to"
        cut = sum(len(self._read(split, index)) > self.samples_a_clip for split in SPLITS for index in range(self.count(split)))
        if cut:
            yield f"{cut} recordings are longer than {self.seconds:g} s and lose their ends: set seconds"
        if others := {rate: count for rate, count in Counter(self._rates.values()).items() if rate != self.rate}:
            yield f"{sum(others.values())} recordings of {', '.join(map(str, sorted(others)))} Hz were brought to {self.rate} Hz"


def signature(classes: int, rate: int) -> Signature:
    """waveform (batch, samples) → logits (batch, classes)."""
    hop = rate // GRID
    ranges = {"batch": (1, 256, 1), "samples": (round(SHORTEST * GRID) * hop, round(LONGEST * GRID) * hop, hop)}
    return Signature((Port("waveform", "float32", ("batch", "samples"), ranges),), (Port("logits", "float32", ("batch", classes)),))
