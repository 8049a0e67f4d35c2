"""Recordings with a text each, opened: what a speech recogniser is trained on, scored on and timed on.

A recording is decoded when it is first needed, brought to the one sampling rate by the declared step, and held as long as there is
room. In order, a batch holds utterances of exactly one padded length (a tenth of a second is the grid), so that each is padded as it
would be alone; shuffled, those of about one length stand together and the shorter are padded further. Padding is silence.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor import ctc, sound_augment
from advisor.cer import edits
from advisor.data import audio, charset
from advisor.data.batching import Batches
from advisor.data.corpus import SPLITS, Corpus, Line, Split, spread
from advisor.data.holding import Decoded, Holder
from advisor.sound_augment import Vary
from advisor.wer import word_edits
from rules.examples import Batch, Feeds, Metric, Port, Sample, Score, Signature
from rules.problems import bad_input

WER = Metric("wer", "lower", "%")
BATCH = 16  # utterances a batch when scoring
GRID = 10  # utterances are padded to tenths of a second
SHORTEST, LONGEST = 0.5, 30.0  # seconds of a padded utterance
PROBES = (2, 5)  # seconds that latency is measured at; the first is the headline
STEP = 0.04  # seconds: the coarsest step of the nets here
RATE = 16000

Predict = Callable[[Feeds], Mapping[str, NDArray[Any]]]
Wave = NDArray[np.float32]
log = logging.getLogger("advisor.speech_recognition")


class SpeechData:
    """The data of the speech-recognition task.

    `rate` (samples a second) is what a model hears; `given` the characters to know, else those of the training texts. While `strict`, a
    text with another one is refused.
    """

    postprocess: Sequence[Mapping[str, Any]] = ({"op": "ctc", "output": "logits", "blank": 0},)

    def __init__(
        self,
        corpus: Corpus,
        *,
        rate: int | None = None,
        case: str = "lower",
        given: str | Sequence[str] | None = None,
        strict: bool = True,
        vary: Vary | None = None,
        limits: Mapping[Split, int | None] | None = None,
    ) -> None:
        self._corpus, self._case, self._given, self._vary = corpus, case, given is not None, vary or Vary()
        lines = {split: charset.normalised(corpus.splits[split], case) for split in SPLITS}
        self._lines = {split: [lines[split][place] for place in spread(len(lines[split]), (limits or {}).get(split))] for split in SPLITS}
        self.labels = charset.learned(self._lines["train"]) if given is None else charset.given(given, case)
        for split in SPLITS if self._given and strict else ():
            charset.check(self._lines[split], self.labels)
        self._index = {label: place + 1 for place, label in enumerate(self.labels)}
        self.rate = rate or self._own_rate()
        sizes = {"minimum": round(SHORTEST * self.rate), "longest": round(LONGEST * self.rate)}
        self.preprocess = audio.speech_steps(self.rate, multiple=self.rate // GRID, **sizes)
        self._read: Holder[Wave] = Holder(self._lines, self._decoded)
        self._lengths: dict[tuple[Split, int], int] = {}
        self._rates: dict[tuple[Split, int], int] = {}

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given: a class a character, and the blank."""
        return {"classes": len(self.labels) + 1, "rate": self.rate}

    @cached_property
    def signature(self) -> Signature:
        return signature(**self.given)

    def count(self, split: Split) -> int:
        return len(self._lines[split])

    def encode(self, text: str) -> list[int]:
        """Class indices of a text; a character that is not a label is left out."""
        return [self._index[character] for character in text if character in self._index]

    # -- recordings ------------------------------------------------------------------------------------------------------

    def _own_rate(self) -> int:
        """The rate of the first recording, where a model can use it; else 16 kHz."""
        line = self._lines[next(split for split in SPLITS if self._lines[split])][0]
        own = audio.decode(self._corpus.read(line), name=line.named)[1]
        return own if audio.SLOWEST <= own <= RATE and own % 100 == 0 else RATE

    def _decoded(self, split: Split, index: int) -> Decoded[Wave]:
        """One recording at the data's rate, (n,). Raises Problem where it is too long."""
        line = self._lines[split][index]
        raw = self._corpus.read(line)
        sound = audio.decode(raw, name=line.named)
        samples: Wave = audio.resample(sound, self.rate)[0]
        if len(samples) > LONGEST * self.rate:
            what = f"{line.named} lasts {len(samples) / self.rate:.1f} s, an utterance may last {LONGEST:g}"
            raise bad_input(what, remedy="cut it where the speaker pauses, or leave it out")
        self._lengths[split, index], self._rates[split, index] = len(samples), sound[1]
        return Decoded(samples, raw, samples.nbytes)

    def _length(self, split: Split, index: int) -> int:
        """Samples of a recording."""
        if (split, index) not in self._lengths:
            self._read(split, index)
        return self._lengths[split, index]

    def _padded(self, samples: int) -> int:
        return audio.padded(samples, multiple=self.rate // GRID, minimum=round(SHORTEST * self.rate))

    def _varied(self, index: int, seed: int, epoch: int) -> Wave:
        """A training utterance as it sounds in one epoch."""
        rng = sound_augment.generator(seed, epoch, index)
        samples = sound_augment.paced(self._read("train", index), self._vary, rng)[: round(LONGEST * self.rate)]
        found: Wave = sound_augment.coloured(samples, self._vary, rng, rate=self.rate)
        return found

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
        """Batches of one padded length each; `limit` takes utterances spread over the split, or with `shuffle` at random.

        Targets: labels (b, n) padded with 0, lengths (b,).
        """
        count = self.count(split) if limit is None else min(limit, self.count(split))
        vary = augment and split == "train"

        def plan() -> Iterator[tuple[list[int], int]]:
            if shuffle:
                yield from self._mixed(split, batch_size, count, seed=seed, epoch=epoch)
                return
            groups: dict[int, list[int]] = defaultdict(list)
            for index in spread(self.count(split), limit):
                groups[self._padded(self._length(split, index))].append(index)
            for _, members in sorted(groups.items()):
                yield from ((members[first : first + batch_size], 0) for first in range(0, len(members), batch_size))

        def make(members: list[int], _: int) -> Batch:
            sounds = [self._varied(index, seed, epoch) if vary else self._read(split, index) for index in members]
            return self._batch(split, members, sounds)

        return Batches(plan, make, -(-count // batch_size) if shuffle else None)

    def _mixed(self, split: Split, batch_size: int, count: int, *, seed: int, epoch: int) -> Iterator[tuple[list[int], int]]:
        """Full batches of utterances of about one length, in random order."""
        rng = np.random.default_rng([seed, epoch, 0])
        chosen = rng.permutation(self.count(split))[:count].tolist()
        chosen.sort(key=lambda index: self._padded(self._length(split, index)))
        for start in rng.permutation(np.arange(0, count, batch_size)).tolist():
            yield chosen[start : start + batch_size], 0

    def _batch(self, split: Split, members: list[int], sounds: list[Wave]) -> Batch:
        waveform = np.zeros((len(members), self._padded(max(map(len, sounds)))), np.float32)
        for row, sound in zip(waveform, sounds, strict=True):
            row[: len(sound)] = sound
        codes = [self.encode(self._lines[split][index].text) for index in members]
        lengths = np.array([len(code) for code in codes], dtype=np.int64)
        labels = np.zeros((len(codes), max(1, int(lengths.max()))), dtype=np.int64)
        for place, code in enumerate(codes):
            labels[place, : len(code)] = code
        return Batch(
            {"waveform": waveform}, {"labels": labels, "lengths": lengths}, tuple(self._lines[split][index].id for index in members)
        )

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """Greedy readings of logits (b, t, classes)."""
        return [ctc.spell(ids, self.labels) for ids in ctc.greedy(outputs["logits"])]

    def read_beam(self, outputs: Feeds, *, width: int = ctc.BEAM_WIDTH) -> list[str]:
        """Beam search readings of logits (b, t, classes)."""
        return [ctc.spell(ids, self.labels) for ids in ctc.beam(outputs["logits"], width=width)]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """WER of greedy readings, in the split's order; `also` the character error rate (1 at most) and the share of exact utterances."""
        chosen = [self._lines[split][index] for index in spread(self.count(split), limit)]
        readings: dict[str, str] = {}
        for batch in self.batches(split, batch_size=BATCH, limit=limit):
            readings.update(zip(batch.ids, self.read(predict(batch.inputs)), strict=True))
        truths, said = [line.text for line in chosen], [readings[line.id] for line in chosen]
        errors, weights = word_edits(truths, said)
        letters, of = edits(truths, said)
        also = {"cer": min(1.0, float(letters.sum() / max(1.0, of.sum()))), "exact": float(np.mean(errors == 0)) if len(errors) else 0.0}
        return Score(WER, float(errors.sum() / max(1.0, weights.sum())), errors, weights, also)

    def probes(self) -> dict[str, Feeds]:
        """Validation utterances (test ones, where there are none) one after another, cut at the lengths that latency is measured at."""
        split = next(split for split in ("val", "test", "train") if self._lines[split])
        sounds: list[Wave] = []
        while sum(map(len, sounds)) < max(PROBES) * self.rate:
            sounds.append(self._read(split, len(sounds) % self.count(split)))  # type: ignore[arg-type]
        joined = np.concatenate(sounds)
        return {f"{seconds}s": {"waveform": joined[None, : seconds * self.rate]} for seconds in PROBES}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Utterances spread over the split, as wav files."""
        return [self._sample(self._lines[split][place]) for place in spread(self.count(split), count)]

    def _sample(self, line: Line) -> Sample:
        raw = audio.as_plain(self._corpus.read(line), name=line.named)
        waveform = audio.apply(self.preprocess, raw, name=line.id)
        return Sample(line.id, raw, {"waveform": waveform}, line.text, suffix="wav", picture=audio.picture(waveform[0]))

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split, what is wanting; plain JSON. Decodes every recording, so a damaged one is found now."""
        found: dict[str, Any] = {"task": "speech-recognition", **self._corpus.facts, "case": self._case, "rate": self.rate}
        found.update(charset="given" if self._given else "training texts", labels=len(self.labels))
        found["splits"] = {split: self._facts(split) for split in SPLITS}
        found["rates"] = {str(rate): count for rate, count in sorted(Counter(self._rates.values()).items())}
        found["reopen"] = {"charset": list(self.labels), "case": self._case, "rate": self.rate, "outside": "count"}
        found["warnings"] = list(self._warnings(found["splits"]))
        for warning in found["warnings"]:
            log.warning(warning)
        return found

    def _facts(self, split: Split) -> dict[str, Any]:
        named = self._lines[split]
        lengths = [self._length(split, index) for index in range(len(named))]
        steps = [round(self._padded(length) / self.rate / STEP) for length in lengths]
        short = [line.id for line, have in zip(named, steps, strict=True) if ctc.steps_needed(self.encode(line.text)) > have]
        return {
            "utterances": len(named),
            "words": sum(len(line.text.split()) for line in named),
            "hours": round(sum(lengths) / self.rate / 3600, 4),
            "empty": sum(not line.text for line in named),
            "unlearnable": len(short),
            "unlearnable_first": short[:3],
            "unseen": charset.unseen(named, self.labels),
            "sha256": self._read.seal(split),
        }

    def _warnings(self, splits: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        for split, facts in splits.items():
            if facts["unlearnable"]:
                some = ", ".join(facts["unlearnable_first"])
                yield f"{facts['unlearnable']} of {facts['utterances']} {split} texts have more letters than steps of 40 ms in their sound, e.g. {some}"
            if facts["unseen"]:
                yield f"{split} has characters that training never shows, counted as errors: {' '.join(facts['unseen'])}"
        if others := {rate: count for rate, count in Counter(self._rates.values()).items() if rate != self.rate}:
            yield f"{sum(others.values())} recordings of {', '.join(map(str, sorted(others)))} Hz were brought to {self.rate} Hz"


def signature(classes: int, rate: int) -> Signature:
    """waveform (batch, samples) → logits (batch, time, classes)."""
    ranges = {"batch": (1, 64, 1), "samples": (round(SHORTEST * rate), round(LONGEST * rate), rate // GRID)}
    return Signature((Port("waveform", "float32", ("batch", "samples"), ranges),), (Port("logits", "float32", ("batch", "time", classes)),))
