"""The built-in handwriting: no scan in two splits, the same lines every time, new training lines every epoch."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from advisor.data import digits
from advisor.tasks.ocr import TASK
from rules.problems import Exit, Problem

SMALL = {"train": 60, "val": 20, "test": 20}


def test_no_scan_is_in_two_splits_and_none_is_lost() -> None:
    parts = [set(digits.scans(split).indices.tolist()) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797
    assert [len(part) for part in parts] == [1266, 178, 353]


def test_no_two_splits_share_a_scan_that_looks_the_same() -> None:
    looks = [{image.tobytes() for image in digits.scans(split).images} for split in ("train", "val", "test")]
    assert not looks[0] & looks[1] and not looks[0] & looks[2] and not looks[1] & looks[2]


def test_every_split_has_every_digit_in_like_shares() -> None:
    for split in ("train", "val", "test"):
        counts = np.bincount(digits.scans(split).digits, minlength=10)
        assert counts.min() >= 0.9 * counts.max()


def test_the_test_split_has_at_least_a_thousand_lines() -> None:
    assert digits.COUNTS["test"] >= 1000


def test_the_text_is_what_is_drawn() -> None:
    held = digits.scans("test")
    pixels, text = digits.compose("test", 5)
    rng, chosen = digits._choose("test", 5, seed=0)
    assert text == "".join(str(held.digits[k]) for k in chosen)
    assert np.array_equal(pixels, digits.draw([held.images[k] for k in chosen], rng))
    assert pixels.dtype == np.uint8 and pixels.shape[0] == 32 and 3 <= len(text) <= 8


def test_lines_are_dark_on_light_and_of_many_widths() -> None:
    lines = [digits.compose("train", index)[0] for index in range(60)]
    assert all(np.median(line) > line.mean() > line.min() + 40 for line in lines)
    assert len({line.shape[1] for line in lines}) > 20


def test_validation_and_test_lines_do_not_follow_the_seed_and_training_lines_do() -> None:
    one, other = TASK.open(None, seed=0, settings=SMALL).provenance, TASK.open(None, seed=1, settings=SMALL).provenance
    for split, same in (("train", False), ("val", True), ("test", True)):
        assert (one["splits"][split]["sha256"] == other["splits"][split]["sha256"]) is same


def test_each_augmented_epoch_writes_new_lines_and_repeats_itself() -> None:
    data = TASK.open(None, settings=SMALL)

    def pixels(epoch: int, seed: int = 0) -> bytes:
        found = data.batches("train", batch_size=60, epoch=epoch, seed=seed, augment=True)
        return b"".join(batch.inputs["image"].tobytes() for batch in found)

    assert pixels(0) == pixels(0) != pixels(1)
    assert pixels(0) != pixels(0, seed=5)


def test_without_scikit_learn_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    digits.scans.cache_clear()
    real = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(Problem, match=r"pip install 'edge-advisor\[train\]'") as refused:
        TASK.open(None)
    assert refused.value.code == Exit.ENVIRONMENT
