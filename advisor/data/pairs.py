"""Pictures with a caption each, opened for a net that gives both a place: what it is trained on, scored on and timed on.

The words are those of the training captions unless they are given; another is unknown to the net. Pictures are decoded when first
needed and held as bytes, (side, side, 3), as long as there is room. One caption a picture; pictures may share one.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor import words
from advisor.data import pictures
from advisor.data.batching import Batches, alike
from advisor.data.corpus import SPLITS, Corpus, Line, Split, spread
from advisor.data.holding import Decoded, Holder
from advisor.data.pictures import Pixels
from advisor.picture_augment import Look, generator, varied
from rules.examples import Answers, Batch, Feeds, Metric, Port, Sample, Score, Signature
from rules.problems import bad_input

RECALL = Metric("recall at 1", "higher", "%")
BATCH = 64  # pairs a batch when scoring
TOP = 5
MATCH = 0.5  # cosine from which the bundle's reader says "match"

Predict = Callable[[Feeds], Mapping[str, NDArray[Any]]]
Array = NDArray[Any]
log = logging.getLogger("advisor.image_text_matching")


class PairData:
    """The data of the image-text-matching task. A line's text is its caption; `vocabulary` are the words to know."""

    answers: Answers = "figures"
    labels: Sequence[str] = ("no match", "match")

    def __init__(
        self,
        corpus: Corpus,
        *,
        side: int,
        length: int,
        most: int,
        embedding: int,
        fit: str,
        look: Look,
        vocabulary: Sequence[str] | None = None,
    ) -> None:
        self._corpus, self._fit, self._look, self._given_words = corpus, fit, look, vocabulary is not None
        self.side, self.length, self.embedding = side, length, embedding
        self._lines = corpus.splits
        for line in (line for split in SPLITS for line in self._lines[split]):
            if not words.split(line.text):
                raise bad_input(f"{line.named}: the caption {line.text!r} has no word", remedy="mend it, or leave the picture out")
        captions = [line.text for line in self._lines["train"]]
        self.words = list(vocabulary) if vocabulary is not None else words.learned(captions, most=most)
        self._ids = {
            split: np.stack([words.encode(line.text, self.words, length) for line in self._lines[split]])
            for split in SPLITS
            if self._lines[split]
        }
        known = {text: place for place, text in enumerate(sorted({line.text for split in SPLITS for line in self._lines[split]}))}
        self._said = {split: np.array([known[line.text] for line in self._lines[split]], dtype=np.int64) for split in SPLITS}
        self._read: Holder[Pixels] = Holder(self._lines, self._decoded)

    @property
    def given(self) -> dict[str, Any]:
        """What a builder is given."""
        return {"side": self.side, "length": self.length, "vocabulary": words.FIRST + len(self.words), "embedding": self.embedding}

    @property
    def facts(self) -> dict[str, Any]:
        """What these pairs say of a request for a recommendation."""
        return {"resolution": self.side, "examples": self.count("train")}

    @cached_property
    def signature(self) -> Signature:
        return signature(**self.given)

    @property
    def preprocess(self) -> Sequence[Mapping[str, Any]]:
        """From a JSON file with a picture and a text to both inputs."""
        image = [{**step, "of": "image"} for step in pictures.steps(self.side, fit=self._fit)]
        text = {"op": "words", "of": "words", "words": self.words, "length": self.length}
        return [{"op": "fields", "binary": ["image"], "text": ["words"]}, *image, text]

    @property
    def postprocess(self) -> Sequence[Mapping[str, Any]]:
        return [{"op": "similarity", "outputs": ["image_embedding", "text_embedding"], "threshold": MATCH}]

    def count(self, split: Split) -> int:
        return len(self._lines[split])

    def _decoded(self, split: Split, index: int) -> Decoded[Pixels]:
        line = self._lines[split][index]
        raw = self._corpus.read(line)
        picture = pictures.square(pictures.decode(raw, name=line.named), self.side, fit=self._fit)
        return Decoded(picture, raw, picture.nbytes)

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
        """Batches of pairs; `limit` takes some spread over the split, or with `shuffle` at random. Pictures alone are varied.

        Targets: caption (b,), equal where the captions are.
        """
        vary = augment and split == "train"

        def make(members: list[int]) -> Batch:
            seen = [self._seen(split, index, seed, epoch) if vary else self._read(split, index) for index in members]
            inputs: Feeds = {"image": pictures.stack(seen), "words": self._ids[split][members]}
            return Batch(inputs, {"caption": self._said[split][members]}, tuple(self._lines[split][index].id for index in members))

        return alike(self.count(split), make, batch_size=batch_size, seed=seed, epoch=epoch, shuffle=shuffle, limit=limit)

    def _seen(self, split: Split, index: int, seed: int, epoch: int) -> Pixels:
        return varied(self._read(split, index), generator(seed, epoch, index), self._look)

    # -- readings --------------------------------------------------------------------------------------------------------

    def read(self, outputs: Feeds) -> list[str]:
        """Whether picture and text of each pair match, by the cosine of their places."""
        one, other = (_unit(outputs[name].astype(np.float64)) for name in ("image_embedding", "text_embedding"))
        return [self.labels[int(cosine >= MATCH)] for cosine in (one * other).sum(-1)]

    def score(self, predict: Predict, split: Split, *, limit: int | None = None) -> Score:
        """How often the nearest caption is a picture's own and the nearest picture a caption's own, the mean of both, among these pairs.

        A picture of the same caption counts as its own. Per example the mean of both. `also`: either way, and among the best five.
        """
        said = self._said[split][spread(self.count(split), limit)]
        found = [predict(batch.inputs) for batch in self.batches(split, batch_size=BATCH, limit=limit)]
        image, text = (
            _unit(np.concatenate([each[name] for each in found]).astype(np.float64)) for name in ("image_embedding", "text_embedding")
        )
        likeness = image @ text.T
        ranks = [_rank(side, said) for side in (likeness, likeness.T)]
        right = np.mean([rank < 1 for rank in ranks], axis=0)
        also = {"image_to_text": float((ranks[0] < 1).mean()), "text_to_image": float((ranks[1] < 1).mean())}
        also["recall_at_5"] = float(np.mean([rank < TOP for rank in ranks]))
        return Score(RECALL, float(right.mean()), right, np.ones_like(right), also)

    def probes(self) -> dict[str, Feeds]:
        """One pair that was not trained on."""
        split: Split = "val" if self.count("val") else "test" if self.count("test") else "train"
        return {f"s{self.side}": {"image": pictures.stack([self._read(split, 0)]), "words": self._ids[split][:1]}}

    def samples(self, split: Split, count: int) -> list[Sample]:
        """Pairs spread over the split, as JSON files with the picture in base64."""
        return [self._sample(self._lines[split][place]) for place in spread(self.count(split), count)]

    def _sample(self, line: Line) -> Sample:
        shown = pictures.shown(self._corpus.read(line), name=line.named)
        raw = json.dumps({"image": base64.b64encode(shown).decode(), "words": line.text}, ensure_ascii=False).encode()
        picture = pictures.square(pictures.decode(shown, name=line.id), self.side, fit=self._fit)
        inputs: Feeds = {"image": pictures.stack([picture]), "words": words.encode(line.text, self.words, self.length)[None]}
        return Sample(line.id, raw, inputs, line.text, suffix="json", picture=shown)

    # -- where it comes from ---------------------------------------------------------------------------------------------

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Source, counts, how it was split, what is wanting; plain JSON. Decodes every image, so a damaged one is found now."""
        found: dict[str, Any] = {"task": "image-text-matching", **self._corpus.facts, **self.given, "fit": self._fit}
        found["words"] = "given" if self._given_words else "training captions"
        found["splits"] = {split: self._facts(split) for split in SPLITS}
        kept = {"side": self.side, "length": self.length, "embedding": self.embedding, "fit": self._fit}
        found["reopen"] = {**kept, "vocabulary": self.words}
        found["warnings"] = list(self._warnings())
        for warning in found["warnings"]:
            log.warning(warning)
        return found

    def _facts(self, split: Split) -> dict[str, Any]:
        lines = self._lines[split]
        longer = sum(len(words.split(line.text)) > self.length for line in lines)
        unknown = int((self._ids[split] == words.UNKNOWN).sum()) if lines else 0
        facts = {"pairs": len(lines), "captions": len({line.text for line in lines}), "cut": longer, "unknown_words": unknown}
        return {**facts, "sha256": self._read.seal(split)}

    def _warnings(self) -> Iterator[str]:
        for split in SPLITS:
            facts = self._facts(split)
            if facts["cut"]:
                yield f"{facts['cut']} of {facts['pairs']} {split} captions have more than {self.length} words and are cut: set length"


def signature(side: int, length: int, vocabulary: int, embedding: int) -> Signature:
    """image (batch, 3, side, side), words (batch, length) → image_embedding and text_embedding (batch, d), both of length one."""
    ranges = {"batch": (1, 256, 1)}
    image = Port("image", "float32", ("batch", pictures.CHANNELS, side, side), ranges)
    text = Port("words", "int64", ("batch", length), ranges, values=(0, vocabulary - 1))
    places = (Port(name, "float32", ("batch", embedding), decides=False) for name in ("image_embedding", "text_embedding"))
    return Signature((image, text), tuple(places))


def _rank(likeness: Array, said: Array) -> Array:
    """How many others of another caption are at least as near as the nearest of one's own, per row."""
    own = said[:, None] == said[None, :]
    best = np.where(own, likeness, -np.inf).max(1, keepdims=True)
    return np.asarray((~own & (likeness >= best)).sum(1))


def _unit(places: Array) -> Array:
    return np.asarray(places / np.maximum(np.linalg.norm(places, axis=-1, keepdims=True), 1e-12))
