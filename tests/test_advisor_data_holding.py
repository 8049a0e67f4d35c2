"""Examples held while there is room: decoded once, known by their bytes, found again in another split."""

from __future__ import annotations

import hashlib

from advisor.data.corpus import SPLITS, Line, Split
from advisor.data.holding import Decoded, Holder

BYTES = {"train": [b"one", b"two", b"three"], "val": [b"two"], "test": [b"four", b"one"]}
LINES = {split: [Line(f"{split}{place}", raw.decode(), "list.tsv:1") for place, raw in enumerate(BYTES[split])] for split in SPLITS}


class Decoder:
    def __init__(self) -> None:
        self.asked: list[tuple[Split, int]] = []

    def __call__(self, split: Split, index: int) -> Decoded[str]:
        self.asked.append((split, index))
        raw = BYTES[split][index]
        return Decoded(raw.decode(), raw, len(raw))


def test_an_example_is_decoded_once_while_there_is_room() -> None:
    decoder = Decoder()
    held = Holder(LINES, decoder)
    assert [held("train", 1), held("train", 1), held("test", 1)] == ["two", "two", "one"]
    assert decoder.asked == [("train", 1), ("test", 1)]


def test_what_is_beyond_the_room_is_decoded_again_and_what_is_smaller_still_held() -> None:
    decoder = Decoder()
    held = Holder(LINES, decoder, most=4)
    for _ in range(2):
        assert [held("train", 2), held("train", 0)] == ["three", "one"]
    assert decoder.asked == [("train", 2), ("train", 0), ("train", 2)]


def test_a_seal_is_over_ids_texts_and_bytes() -> None:
    held = Holder(LINES, Decoder())
    digests = [hashlib.sha256(raw).hexdigest() for raw in BYTES["test"]]
    told = "".join(f"{line.id}\t{line.text}\t{digest}\n" for line, digest in zip(LINES["test"], digests, strict=True))
    assert held.seal("test") == hashlib.sha256(told.encode()).hexdigest()
    bare = "".join(f"{line.id}\t{digest}\n" for line, digest in zip(LINES["test"], digests, strict=True))
    assert held.seal("test", texts=False) == hashlib.sha256(bare.encode()).hexdigest()


def test_the_same_bytes_in_two_splits_are_told_with_both() -> None:
    assert list(Holder(LINES, Decoder()).doubles()) == [(1, "train", "val"), (1, "train", "test")]


def test_a_message_names_the_place_and_the_id_where_that_does_not_tell_it() -> None:
    assert Line("a/b.png", "x", "train.tsv:3").named == "a/b.png (train.tsv:3)"
    assert Line("a/b.png", "x", "/data/a/b.png").named == "/data/a/b.png"
