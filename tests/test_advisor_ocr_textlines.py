"""The opened data: batches of one width, the same bytes for the same call, an honest score, characters that are known or refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from operator import length_hint
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.augment import augment, generator
from advisor.data import lines
from advisor.data.corpus import spread
from advisor.data.lines import png
from advisor.data.textlines import LineData
from advisor.tasks.ocr import TASK
from rules.examples import Batch
from rules.problems import Exit, Problem

SMALL = {"train": 90, "val": 30, "test": 40}


@pytest.fixture(scope="module")
def data() -> LineData:
    return TASK.open(None, settings=SMALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty lines of many widths in a folder with lists."""
    texts = {"train": ["TOTAL 9", "Tax 6%", "CASH"] * 5, "val": ["TOTAL"] * 7, "test": ["CASH 69"] * 8}
    for split, said in texts.items():
        rows = []
        for index, text in enumerate(said):
            name = f"{split}-{index}.png"
            shades = np.random.default_rng(index).integers(0, 256, (20 + index, 40 + 17 * index), dtype=np.uint8)
            (tmp_path / name).write_bytes(png(shades))
            rows.append(f"{name}\t{text}\n")
        (tmp_path / f"{split}.tsv").write_text("".join(rows), encoding="utf-8")
    return tmp_path


def fingerprint(batches: Any) -> list[bytes]:
    return [
        b"".join([*map(str.encode, batch.ids), *(a.tobytes() for a in (*batch.inputs.values(), *batch.targets.values()))])
        for batch in batches
    ]


def echo(data: LineData, split: Any, spoil: Mapping[str, str] | None = None) -> Any:
    """A predictor that knows the answers: its logits spell each line's text, or what `spoil` says instead."""
    texts = {sample.name: (spoil or {}).get(sample.name, sample.truth) for sample in data.samples(split, data.count(split))}
    by_image = {}
    for batch in data.batches(split, batch_size=32):
        for row, name in zip(batch.inputs["image"], batch.ids, strict=True):
            by_image[row.tobytes()] = texts[name]

    def predict(feeds: Mapping[str, Any]) -> dict[str, Any]:
        logits = np.zeros((len(feeds["image"]), 200, data.classes), np.float32)
        logits[:, :, 0] = 9
        for place, row in enumerate(feeds["image"]):
            for step, code in enumerate(data.encode(by_image[row.tobytes()])):
                logits[place, 2 * step, code] = 30
        return {"logits": logits}

    return predict


# -- batches -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("source", ["digits", "folder"])
def test_a_pass_holds_every_line_once_in_batches_of_one_width(
    data: LineData, folder: Path, source: str, shuffle: bool, augmented: bool
) -> None:
    opened = data if source == "digits" else TASK.open(folder)
    seen: list[str] = []
    for batch in opened.batches("train", batch_size=8, shuffle=shuffle, augment=augmented):
        image, (high, wide) = batch.inputs["image"], batch.inputs["image"].shape[2:]
        assert image.dtype == np.float32 and image.shape == (len(batch.ids), 1, 32, wide) and high == 32
        assert wide % 16 == 0 and 32 <= wide <= 1024 and len(batch.ids) <= 8
        assert image.min() >= -1 and image.max() <= 1
        assert batch.targets["labels"].dtype == batch.targets["lengths"].dtype == np.int64
        assert (batch.targets["widths"] <= wide).all() and batch.targets["labels"].max() < opened.classes
        for row, code, length, own in zip(image[:, 0], *batch.targets.values(), strict=True):
            assert (code[:length] > 0).all() and (code[length:] == 0).all()
            assert (row[:, own:] == 1).all()
        seen += batch.ids
    assert len(seen) == len(set(seen)) == opened.count("train")


def test_in_order_a_line_is_padded_as_it_would_be_alone(data: LineData) -> None:
    samples = {sample.name: sample.inputs["image"][0] for sample in data.samples("test", data.count("test"))}
    for batch in data.batches("test", batch_size=8):
        for row, name in zip(batch.inputs["image"], batch.ids, strict=True):
            assert np.array_equal(row, samples[name])


def test_shuffled_batches_are_full_and_counted_before_they_are_made(data: LineData) -> None:
    batches = data.batches("train", batch_size=8, shuffle=True)
    assert length_hint(batches) == 12
    assert sorted(len(batch.ids) for batch in batches) == [2, *[8] * 11]


@pytest.mark.parametrize("arguments", [{}, {"shuffle": True}, {"augment": True}, {"shuffle": True, "augment": True, "limit": 13}])
def test_the_same_call_gives_the_same_bytes(folder: Path, arguments: dict[str, Any]) -> None:
    one, other = TASK.open(folder), TASK.open(folder)
    once = fingerprint(one.batches("train", batch_size=4, seed=3, epoch=2, **arguments))
    list(other.batches("train", batch_size=4, seed=9, epoch=7, shuffle=True, augment=True))
    assert once == fingerprint(other.batches("train", batch_size=4, seed=3, epoch=2, **arguments))


@pytest.mark.parametrize("change", [{"seed": 4}, {"epoch": 3}])
def test_another_seed_or_epoch_gives_another_order_and_other_pixels(folder: Path, change: dict[str, int]) -> None:
    opened = TASK.open(folder)
    base = {"seed": 3, "epoch": 2, "batch_size": 4}
    for how in ("shuffle", "augment"):
        assert fingerprint(opened.batches("train", **base, **{how: True})) != fingerprint(
            opened.batches("train", **base | change, **{how: True})
        )


def test_what_is_done_to_a_line_does_not_depend_on_its_batch(folder: Path) -> None:
    opened = TASK.open(folder)

    def pixels(batch_size: int) -> dict[str, bytes]:
        found = {}
        for batch in opened.batches("train", batch_size=batch_size, augment=True, seed=1, epoch=1):
            for row, name in zip(batch.inputs["image"], batch.ids, strict=True):
                found[name] = row.tobytes()
        return found

    assert pixels(1) == pixels(7)


def test_a_limit_takes_lines_from_all_over_the_split(data: LineData) -> None:
    names = [name for batch in data.batches("train", batch_size=4, limit=9) for name in batch.ids]
    assert sorted(names) == [f"train/{index:05d}" for index in range(0, 90, 10)]
    assert sum(len(batch.ids) for batch in data.batches("train", batch_size=4, limit=9, shuffle=True)) == 9
    assert sum(len(batch.ids) for batch in data.batches("val", batch_size=4, limit=999)) == 30


@given(st.integers(0, 500), st.integers(1, 500))
def test_spread_takes_as_many_as_asked_in_order_and_none_twice(count: int, limit: int) -> None:
    found = spread(count, limit)
    assert len(found) == min(count, limit) and found == sorted(set(found)) and set(found) <= set(range(count))


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 300), st.integers(4, 300), st.integers(0, 10**6))
def test_augmented_lines_have_the_width_asked_for_and_stay_readable_bytes(before: int, after: int, index: int) -> None:
    row = np.random.default_rng(index).integers(0, 256, (32, before), dtype=np.uint8)
    held = row.copy()
    found = augment(row, generator(0, 0, index), width=after)
    assert found.shape == (32, after) and found.dtype == np.uint8
    assert np.array_equal(row, held)


# -- scores --------------------------------------------------------------------------------------------------------------


def test_a_reader_that_knows_the_answers_scores_zero(data: LineData) -> None:
    found = data.score(echo(data, "test"), "test")
    assert found.value == 0 and found.also["exact"] == 1 and len(found.errors) == 40


def test_the_score_is_what_jiwer_says_of_the_readings_in_the_order_of_the_split(data: LineData) -> None:
    samples = data.samples("test", 40)
    spoil = {samples[3].name: "", samples[8].name: samples[8].truth + "11", samples[20].name: "9" + samples[20].truth[1:]}
    found = data.score(echo(data, "test", spoil), "test")
    readings = [spoil.get(sample.name, sample.truth) for sample in samples]
    truths = [sample.truth for sample in samples]
    assert found.value == pytest.approx(jiwer.cer(truths, readings)) and found.value > 0
    assert found.value == pytest.approx(found.errors.sum() / found.weights.sum())
    assert found.errors[3] == len(truths[3]) and found.errors[8] == 2 and found.weights.tolist() == [len(text) for text in truths]
    assert found.also["exact"] == np.mean([a == b for a, b in zip(truths, readings, strict=True)])


def test_a_limited_score_is_of_the_same_lines_whoever_reads_them(data: LineData) -> None:
    silent = lambda feeds: {"logits": np.zeros((len(feeds["image"]), 8, data.classes), np.float32)}  # noqa: E731
    found, known = data.score(silent, "test", limit=7), data.score(echo(data, "test"), "test", limit=7)
    assert found.value == 1 and known.value == 0
    assert found.weights.tolist() == known.weights.tolist() and len(found.errors) == 7


def test_both_decoders_read_the_same_where_the_model_is_sure(data: LineData) -> None:
    outputs = echo(data, "test")(next(iter(data.batches("test", batch_size=4))).inputs)
    assert data.read(outputs) == data.read_beam(outputs) and all(data.read(outputs))


# -- characters ----------------------------------------------------------------------------------------------------------


def test_the_characters_are_those_of_the_training_lines_sorted(folder: Path) -> None:
    opened = TASK.open(folder)
    assert "".join(opened.labels) == " %69ACHLOSTax"
    assert opened.classes == len(opened.labels) + 1 == opened.signature.outputs[0].shape[2]


def test_case_is_folded_in_labels_and_characters(folder: Path) -> None:
    opened = TASK.open(folder, settings={"case": "upper"})
    assert "".join(opened.labels) == " %69ACHLOSTX"
    assert {sample.truth for sample in opened.samples("train", 15)} == {"TOTAL 9", "TAX 6%", "CASH"}


def test_a_label_outside_the_given_characters_is_refused_with_its_place(folder: Path) -> None:
    with pytest.raises(Problem, match=r"train\.tsv:2: '%' \(U\+0025\) in 'Tax 6%' is not in the charset") as refused:
        TASK.open(folder, settings={"charset": " 69ACHLOSTax"})
    assert refused.value.code == Exit.INPUT


def test_a_character_outside_may_be_counted_instead(folder: Path) -> None:
    opened = TASK.open(folder, settings={"charset": "69ACHLOSTax ", "outside": "count"})
    assert opened.provenance["splits"]["train"]["unseen"] == {"%": 5}
    assert opened.score(echo(opened, "train"), "train").errors.tolist() == [0, 1, 0] * 5


def test_a_folder_with_only_test_lines_is_scored_with_the_characters_of_another(folder: Path) -> None:
    first = TASK.open(folder)
    (folder / "train.tsv").unlink()
    (folder / "val.tsv").unlink()
    with pytest.raises(Problem, match="has no training lines"):
        TASK.open(folder)
    opened = TASK.open(folder, settings=first.provenance["reopen"])
    assert opened.labels == first.labels and [opened.count(split) for split in ("train", "val", "test")] == [0, 0, 8]
    assert opened.score(echo(opened, "test"), "test").value == 0
    assert list(opened.probes()) == ["w128", "w320"] and opened.provenance["splits"]["val"]["lines"] == 0


def test_given_characters_keep_their_order_and_may_be_more_than_the_labels_use(folder: Path) -> None:
    opened = TASK.open(folder, settings={"charset": "xaTSOLHCA96% Z"})
    assert opened.labels[:3] == ("x", "a", "T") and opened.encode("Tax") == [3, 2, 1]


def test_a_character_that_only_test_has_is_an_error_and_is_recorded(folder: Path) -> None:
    (folder / "test.tsv").write_text("test-0.png\tCASH ~\n", encoding="utf-8")
    opened = TASK.open(folder)
    assert opened.provenance["splits"]["test"]["unseen"] == {"~": 1}
    assert any("~" in warning for warning in opened.provenance["warnings"])
    assert opened.score(echo(opened, "test"), "test").errors.tolist() == [2]  # the tilde, and the space that is at the end without it


def test_composed_and_decomposed_letters_are_one_character(folder: Path) -> None:
    (folder / "train.tsv").write_text("train-0.png\tCAFE\u0301\ntrain-1.png\tCAF\u00c9\n", encoding="utf-8")
    assert TASK.open(folder).labels == ("A", "C", "F", "\u00c9")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown setting": ({"charste": "abc"}, "unknown setting of the ocr task 'charste'; did you mean 'charset'"),
    "an unknown case": ({"case": "uper"}, "unknown case 'uper'; did you mean 'upper'"),
    "an unknown way": ({"outside": "cuont"}, "unknown outside 'cuont'; did you mean 'count'"),
    "no lines": ({"train": 0}, "train is 0, allowed: a number of lines"),
    "a boolean for a number": ({"val": True}, "val is True"),
    "no characters": ({"charset": ""}, "charset is empty"),
    "a character twice": ({"charset": "aba"}, "charset names 'a' twice"),
    "a character of another case": ({"charset": "Ab", "case": "upper"}, "charset holds 'b', which never occurs with case = 'upper'"),
    "a word for a character": ({"charset": ["a", "bc"]}, "charset holds 'bc', which is not one character"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting_is_refused(case: str) -> None:
    chosen, reason = WRONG[case]
    with pytest.raises(Problem, match=reason) as refused:
        TASK.open(None, settings=SMALL | chosen)
    assert refused.value.code == Exit.USAGE


# -- what is recorded ----------------------------------------------------------------------------------------------------


def test_provenance_is_json_repeats_itself_and_follows_the_pixels(folder: Path) -> None:
    before = TASK.open(folder).provenance
    assert json.loads(json.dumps(before)) == before == TASK.open(folder).provenance
    (folder / "test-3.png").write_bytes(png(np.zeros((30, 99), np.uint8)))
    after = TASK.open(folder).provenance
    assert before["splits"]["test"]["sha256"] != after["splits"]["test"]["sha256"]
    assert before["splits"]["train"] == after["splits"]["train"]


def test_labels_too_long_for_their_image_are_counted_and_named(folder: Path) -> None:
    (folder / "narrow.png").write_bytes(png(np.zeros((32, 30), np.uint8)))  # 32 pixels: 8 steps
    (folder / "train.tsv").write_text("train-0.png\tCASH 69\nnarrow.png\tAABBCC\n", encoding="utf-8")  # 6 letters and 3 blanks between
    found = TASK.open(folder).provenance
    assert found["splits"]["train"]["unlearnable"] == 1 and found["splits"]["train"]["unlearnable_first"] == ["narrow.png"]
    assert "narrow.png" in found["warnings"][0]


def test_opening_decodes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "decode", lambda *_, **__: pytest.fail("an image was decoded"))
    opened = TASK.open(folder)
    assert (opened.count("train"), opened.classes) == (15, 14)
    assert length_hint(opened.batches("train", batch_size=4, shuffle=True)) == 4


def test_decoding_reports_each_line(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    TASK.open(folder).load("val", report=lambda done, total: told.append((done, total)))
    assert told == [(place + 1, 7) for place in range(7)]


def test_more_lines_than_memory_should_hold_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advisor.data.textlines.MOST_MEMORY", 20_000)
    with pytest.raises(Problem, match=r"of 30 lines fill .* \(use fewer: set train, val or test to a number of lines\)") as refused:
        TASK.open(folder).load("train")
    assert refused.value.code == Exit.ENVIRONMENT
    TASK.open(folder, settings={"train": 3}).load("train")


def test_probes_are_lines_of_the_widths_that_are_timed(data: LineData, folder: Path) -> None:
    for opened in (data, TASK.open(folder)):
        probes = opened.probes()
        assert list(probes) == ["w128", "w320"]
        for name, feeds in probes.items():
            assert feeds["image"].shape == (1, 1, 32, int(name[1:])) and feeds["image"].dtype == np.float32
            assert feeds["image"].std() > 0.1


def test_reading_data_needs_no_torch() -> None:
    code = """
import sys
from advisor.tasks.ocr import TASK
data = TASK.open(None, settings={"train": 4, "val": 4, "test": 4})
list(data.batches("train", batch_size=2, augment=True)), data.probes(), data.samples("test", 1), data.provenance
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[1]).returncode == 0


def test_batch_is_the_house_noun(data: LineData) -> None:
    assert isinstance(next(iter(data.batches("val", batch_size=2))), Batch)
