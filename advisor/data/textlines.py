"""Text lines, opened: what a recogniser is trained on, scored on and timed on.

Everything is decoded on first use and held as bytes, (32, w) a line; a batch is made when it is asked for. The characters are those
of the training lines unless they are given; a character that only validation or test has is read wrong, counted so, and recorded.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor import ctc
from advisor.cer import edits
from advisor.data import charset, lines
from advisor.data.batching import Batches, Pass, Pixels, Row
from advisor.data.corpus import SPLITS, Corpus, Line, Split, spread
from rules.examples import Feeds, Metric, Port, Sample, Score, Signature
from rules.problems import bad_environment

CER = Metric("cer", "lower", "%")
STRIDE = 4  # pixels a time step
BATCH = 32  # lines a batch when scoring
MOST_MEMORY = 4 * 2**30  # bytes of decoded lines held
PROBES = (128, 320)  # widths that latency is measured at; the first is the headline

Predict = Callable[[Feeds], Mapping[str, NDArray[Any]]]
Compose = Callable[[tuple[int, int], int], Row]  # (seed, epoch), index → a training line written anew
log = logging.getLogger("advisor.ocr")


@dataclass(frozen=True, slots=True)
class Held:
    """A decoded line, and the SHA-256 of the file it came from."""

    pixels: Pixels
    digest: str


class LineData:
    """The data of the ocr task.

    `given` are the characters to know; while `strict`, a text with another one is refused. `compose` writes training lines anew for
    each augmented epoch, where the source can.
    """

    preprocess: Sequence[Mapping[str, Any]] = lines.STEPS
    postprocess: Sequence[Mapping[str, Any]] = ({"op": "ctc", "output": "logits", "blank": 0},)

    def __init__(
        self,
        corpus: Corpus,
        *,
        case: str = "keep",
        given: str | Sequence[str] | None = None,
        strict: bool = True,
        limits: Mapping[Split, int | None] | None = None,
        compose: Compose | None = None,
    ) -> None:
        self._corpus, self._case, self._given, self._compose = corpus, case, given is not None, compose
        self._lines = {split: _chosen(charset.normalised(corpus.splits[split], case), (limits or {}).get(split)) for split in SPLITS}
        self.labels = charset.learned(self._lines["train"]) if given is None else charset.given(given, case)
        for split in SPLITS if self._given and strict else ():
            charset.check(self._lines[split], self.labels)
        self._index = {label: place + 1 for place, label in enumerate(self.labels)}
        self._held: dict[tuple[Split, int], Held] = {}
        self._bytes = 0

    @property
    def classes(self) -> int:
        """Outputs a model needs: a class a label, and the blank."""
        return len(self.labels) + 1

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        return {"classes": self.classes}

    @property
    def facts(self) -> dict[str, Any]:
        """What these lines say of a request for a recommendation."""
        return {"charset": "".join(self.labels), "examples": self.count("train")}

    @cached_property
    def signature(self) -> Signature:
        return signature(self.classes)

    def count(self, split: Split) -> int:
        return len(self._lines[split])

    def encode(self, text: str) -> list[int]:
        """Class indices of a text; a character that is not a label is left out."""
        return [self._index[character] for character in text if character in self._index]

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
        """Batches of one padded width each; `limit` takes lines spread over the split, or with `shuffle` at random.

        In order, a line is padded only to its own next multiple of 16. Shuffled, lines of about one width stand together in full
        batches and the narrower are padded further. Augmented, training lines of the built-in set are composed anew.
        """
        named = self._lines[split]
        anew = augment and split == "train" and self._compose is not None
        row = partial(self._composed, (seed, epoch)) if anew else partial(self._row, split)
        look = Pass(row, [line.id for line in named], self.encode, seed=seed, epoch=epoch, vary=augment and not anew)
        if shuffle:
            count = len(named) if limit is None else min(limit, len(named))
            return Batches(lambda: look.mixed(batch_size, count), look.batch, -(-count // batch_size))
        return Batches(lambda: look.ordered(batch_size, spread(len(named), limit)), look.batch)

    def _row(self, split: Split, index: int) -> Row:
        return self._decode(split, index).pixels, self._lines[split][index].text

    def _composed(self, epoch: tuple[int, int], index: int) -> Row:
        assert self._compose is not None
        return self._compose(epoch, index)

    def _decode(self, split: Split, index: int) -> Held:
        """One line, held from then on."""
        if (split, index) not in self._held:
            line = self._lines[split][index]
            raw = self._corpus.read(line)
            name = line.where if line.id in line.where else f"{line.id} ({line.where})"
            held = Held(lines.pixels(raw, name=name), hashlib.sha256(raw).hexdigest())
            self._bytes += held.pixels.nbytes
            if self._bytes > MOST_MEMORY:
                what = f"{len(self._held):,} of {sum(map(self.count, SPLITS)):,} lines fill {MOST_MEMORY >> 30} GB of memory"
                raise bad_environment(what, remedy="use fewer: set train, val or test to a number of lines")
            self._held[split, index] = held
        return self._held[split, index]

    def load(self, split: Split, *, report: Callable[[int, int], None] | None = None) -> list[Held]:
        """Decode every line of `split`, once; `report(done, total)` is told of each.

        Raises Problem: exit 3 at the first image that cannot be read, exit 5 when there are more than memory should hold.
        """
        held = []
        for index in range(self.count(split)):
            held.append(self._decode(split, index))
            if report:
                report(index + 1, self.count(split))
        return held

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """Greedy readings of logits (b, t, classes)."""
        return [ctc.spell(ids, self.labels) for ids in ctc.greedy(outputs["logits"])]

    def read_beam(self, outputs: Feeds, *, width: int = ctc.BEAM_WIDTH) -> list[str]:
        """Beam search readings of logits (b, t, classes)."""
        return [ctc.spell(ids, self.labels) for ids in ctc.beam(outputs["logits"], width=width)]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """CER of greedy readings; `also` holds the share of exact lines. Errors and weights are in the split's order."""
        chosen = [self._lines[split][index] for index in spread(self.count(split), limit)]
        readings: dict[str, str] = {}
        for batch in self.batches(split, batch_size=BATCH, limit=limit):
            readings.update(zip(batch.ids, self.read(predict(batch.inputs)), strict=True))
        errors, weights = edits([line.text for line in chosen], [readings[line.id] for line in chosen])
        exact = float(np.mean(errors == 0)) if len(errors) else 0.0
        return Score(CER, float(errors.sum() / max(1.0, weights.sum())), errors, weights, {"exact": exact})

    def probes(self) -> dict[str, Feeds]:
        """Validation lines (test lines, where there are none) of the widths that latency is measured at: one that is so wide, else several side by side, cut."""
        return {f"w{width}": {"image": lines.stack([self._wide(width)], width=width)} for width in PROBES}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Lines spread over the split, as PNG files of their original size."""
        return [self._sample(self._lines[split][index]) for index in spread(self.count(split), count)]

    def _sample(self, line: Line) -> Sample:
        raw = lines.png(np.asarray(lines.decode(self._corpus.read(line), name=line.id)))
        return Sample(line.id, raw, {"image": lines.apply(lines.STEPS, raw, name=line.id)}, line.text)

    def _wide(self, width: int) -> Pixels:
        rows = [held.pixels for held in self.load(next(split for split in ("val", "test", "train") if self.count(split)))]
        exact = next((row for row in rows if lines.padded(row.shape[1]) == width), None)
        return _joined(rows, width) if exact is None else exact

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split, what is wanting; plain JSON. Decodes every image, so a damaged one is found now."""
        found: dict[str, Any] = {"task": "ocr", **self._corpus.facts, "case": self._case}
        found.update(charset="given" if self._given else "training lines", labels=len(self.labels))
        found["splits"] = {split: self._facts(split) for split in SPLITS}
        found["reopen"] = {"charset": list(self.labels), "case": self._case, "outside": "count"}  # settings that read other data alike
        found["warnings"] = list(_warnings(found["splits"]))
        for warning in found["warnings"]:
            log.warning(warning)
        return found

    def _facts(self, split: Split) -> dict[str, Any]:
        held, named = self.load(split), self._lines[split]
        digest = hashlib.sha256("".join(f"{line.id}\t{line.text}\t{one.digest}\n" for line, one in zip(named, held, strict=True)).encode())
        steps = [lines.padded(one.pixels.shape[1]) // STRIDE for one in held]
        short = [line.id for line, have in zip(named, steps, strict=True) if ctc.steps_needed(self.encode(line.text)) > have]
        return {
            "lines": len(named),
            "characters": sum(len(line.text) for line in named),
            "empty": sum(not line.text for line in named),
            "unlearnable": len(short),
            "unlearnable_first": short[:3],
            "unseen": charset.unseen(named, self.labels),
            "median_width": float(np.median([one.pixels.shape[1] for one in held])) if held else 0.0,
            "sha256": digest.hexdigest(),
        }


def signature(classes: int) -> Signature:
    """image (batch, 1, 32, width) → logits (batch, time, classes)."""
    ranges = {"batch": (1, 64, 1), "width": (lines.NARROWEST, lines.WIDEST, lines.MULTIPLE)}
    image = Port("image", "float32", ("batch", 1, lines.HEIGHT, "width"), ranges)
    return Signature((image,), (Port("logits", "float32", ("batch", "time", classes)),))


def _chosen(named: tuple[Line, ...], limit: int | None) -> tuple[Line, ...]:
    return tuple(named[place] for place in spread(len(named), limit))


def _joined(rows: Sequence[Pixels], width: int) -> Pixels:
    """Rows side by side, over again where they are too few, cut at `width`."""
    joined: list[Pixels] = []
    while sum(row.shape[1] for row in joined) < width:
        joined.append(rows[len(joined) % len(rows)])
    return np.concatenate(joined, axis=1)[:, :width]


def _warnings(splits: Mapping[Split, Mapping[str, Any]]) -> Iterator[str]:
    for split, facts in splits.items():
        if facts["unlearnable"]:
            names = ", ".join(facts["unlearnable_first"])
            what = f"{facts['unlearnable']} of {facts['lines']} {split} labels are longer than a model can spell in their image's width"
            yield f"{what} (a step every {STRIDE} pixels), e.g. {names}"
        if facts["unseen"]:
            yield f"{split} has characters that training never shows, counted as errors: {' '.join(facts['unseen'])}"
