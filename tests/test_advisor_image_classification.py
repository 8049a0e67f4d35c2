"""Pictures as people have them: folders and lists read alike, the reader sees what training saw, every mistake says where it is."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from advisor.data import batching, drawn_digits, labelled, pictures
from advisor.data.digits import scans
from advisor.picture_augment import Look, generator, mixed, shifted, varied
from advisor.tasks.image_classification import TASK
from compress.reader import reader
from rules.problems import Exit, Problem

CLASSES = ("cat", "dog", "owl")


def picture(place: int, *, size: tuple[int, int] = (40, 36), kind: str = "PNG") -> bytes:
    """An image file of its own colours."""
    shades = np.random.default_rng(place).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(shades).save(file, kind)
    return file.getvalue()


def fill(folder: Path, *, split: str = "", count: int = 4, classes: tuple[str, ...] = CLASSES, first: int = 0) -> None:
    for number, name in enumerate(classes):
        place = folder / split / name
        place.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (place / f"{index}.png").write_bytes(picture(first + 100 * number + index))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder a class, in train, val and test."""
    for number, split in enumerate(("train", "val", "test")):
        fill(tmp_path, split=split, count=4, first=1000 * number)
    return tmp_path


def listed(folder: Path, suffix: str) -> None:
    """The same folder with lists, its folders' names saying nothing."""
    for split in ("train", "val", "test"):
        rows = [(f"{split}/{name}/{index}.png", name) for name in CLASSES for index in range(4)]
        if suffix == "jsonl":
            text = "\n".join(json.dumps({"image": image, "class": name}) for image, name in rows)
        else:
            comma = "," if suffix == "csv" else "\t"
            text = "\n".join([f"image{comma}label", *(f"{image}{comma}{name}" for image, name in rows)])
        (folder / f"{split}.{suffix}").write_text(text, encoding="utf-8")


def refused(folder: Path, **chosen: Any) -> str:
    with pytest.raises(Problem) as caught:
        data = TASK.open(folder, settings=chosen)
        assert data.provenance
    assert caught.value.code == Exit.INPUT
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# -- formats -------------------------------------------------------------------------------------------------------------


def test_a_folder_a_class_is_read_in_its_splits(folder: Path) -> None:
    data = TASK.open(folder)
    assert data.labels == list(CLASSES) and [data.count(split) for split in ("train", "val", "test")] == [12, 12, 12]
    (batch,) = data.batches("test", batch_size=64)
    assert batch.ids[5] == "test/dog/1.png" and batch.targets["label"].tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl"])
def test_a_list_reads_as_the_folders_do(folder: Path, suffix: str) -> None:
    (by_folder,) = TASK.open(folder).batches("val", batch_size=64)
    listed(folder, suffix)
    data = TASK.open(folder)
    (by_list,) = data.batches("val", batch_size=64)
    assert "lists" in data.provenance and by_list.ids == by_folder.ids
    assert np.array_equal(by_list.inputs["image"], by_folder.inputs["image"])
    assert np.array_equal(by_list.targets["label"], by_folder.targets["label"])


def test_classes_without_splits_are_divided_by_name_and_adding_one_moves_no_other(tmp_path: Path) -> None:
    fill(tmp_path, count=30)
    before = {name: split for split in ("train", "val", "test") for name in names(TASK.open(tmp_path), split)}
    assert len(before) == 90 and set(before.values()) == {"train", "val", "test"}
    (tmp_path / "cat" / "new.png").write_bytes(picture(7777))
    after = {name: split for split in ("train", "val", "test") for name in names(TASK.open(tmp_path), split)}
    assert {name: after[name] for name in before} == before


def names(data: Any, split: str) -> list[str]:
    return [name for batch in data.batches(split, batch_size=64) for name in batch.ids]


def test_images_are_found_below_their_class_and_other_files_are_counted(folder: Path) -> None:
    (folder / "train" / "cat" / "more").mkdir()
    (folder / "train" / "cat" / "more" / "deep.JPEG").write_bytes(picture(5, kind="JPEG"))
    (folder / "train" / "cat" / "notes.txt").write_text("tabby")
    (folder / "train" / "cat" / ".DS_Store").write_text("hidden")
    data = TASK.open(folder)
    assert data.count("train") == 13 and data.provenance["skipped"] == 1


def test_the_side_suits_the_pictures_unless_it_is_given(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for number, name in enumerate(("a", "b")):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "x.png").write_bytes(picture(number, size=(300, 130)))
    assert TASK.open(tmp_path).side == 128
    data = TASK.open(tmp_path, settings={"side": 24})
    assert data.given == {"classes": 2, "side": 24} and data.signature.inputs[0].shape == ("batch", 3, 24, 24)


def test_with_labels_a_folder_may_hold_only_pictures_to_score(tmp_path: Path) -> None:
    fill(tmp_path, split="test")
    data = TASK.open(tmp_path, settings={"labels": ["owl", "cat", "dog"]})
    assert data.labels == ["owl", "cat", "dog"] and data.count("train") == 0 and data.count("test") == 12
    again = TASK.open(tmp_path, settings=data.provenance["reopen"])
    assert again.labels == data.labels and again.side == data.side


# -- refusals ------------------------------------------------------------------------------------------------------------


def test_a_broken_image_is_refused_by_name(folder: Path) -> None:
    (folder / "val" / "dog" / "2.png").write_bytes(picture(1)[:60])
    assert "val/dog/2.png" in refused(folder)
    (folder / "val" / "dog" / "2.png").write_bytes(b"no image")
    assert "val/dog/2.png" in refused(folder)


def test_a_class_that_training_has_not_is_refused_with_its_place(folder: Path) -> None:
    fill(folder, split="test", classes=("zebra",))
    line = refused(folder)
    assert "test/zebra/0.png" in line and "'zebra'" in line


def test_a_class_in_a_list_that_training_has_not_is_refused_with_its_line(folder: Path) -> None:
    listed(folder, "tsv")
    text = (folder / "val.tsv").read_text().replace("val/cat/2.png\tcat", "val/cat/2.png\tlynx")
    (folder / "val.tsv").write_text(text)
    line = refused(folder)
    assert "val.tsv:4" in line and "'lynx'" in line and "val/cat/2.png" in line


def test_a_list_with_a_missing_image_or_no_class_is_refused_with_its_line(folder: Path) -> None:
    listed(folder, "csv")
    text = (folder / "train.csv").read_text()
    (folder / "train.csv").write_text(text.replace("train/dog/3.png,dog", "train/dog/9.png,dog"))
    assert "train.csv:9" in refused(folder)
    (folder / "train.csv").write_text(text.replace("train/dog/3.png,dog", "train/dog/3.png,"))
    assert "train.csv:9" in refused(folder) and "no class" in refused(folder)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "validation").mkdir(), "same split"),
        (lambda folder: (folder / "zebra").mkdir(), "zebra beside"),
        (lambda folder: (folder / "train" / "emu").mkdir(), "train/emu has no image"),
    ],
)
def test_a_folder_in_the_wrong_shape_is_refused(folder: Path, spoil: Any, said: str) -> None:
    spoil(folder)
    assert said in refused(folder)


def test_an_empty_folder_none_and_a_packed_one_are_told_apart(tmp_path: Path) -> None:
    assert "is empty" in refused(tmp_path)
    assert "no data folder" in refused(tmp_path / "gone")
    (tmp_path / "train.tar.xz").write_bytes(b"")
    with pytest.raises(Problem) as caught:
        TASK.open(tmp_path)
    assert "train.tar.xz" in str(caught.value) and "tar -C" in caught.value.remedy


def test_one_class_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, count=30, classes=("cat",))
    assert "one class only" in refused(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"side": 4},
        {"side": "32"},
        {"fit": "pad"},
        {"normalise": "none"},
        {"labels": []},
        {"labels": ["a", "a"]},
        {"flip": 1},
        {"crop": 0.0},
        {"mixup": -1},
        {"smoothing": 1.0},
        {"train": 0},
        {"colour": True},
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(Problem) as caught:
        TASK.open(None, settings=wrong)
    assert caught.value.code == Exit.USAGE and next(iter(wrong)) in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(raw=st.one_of(st.binary(max_size=200), st.integers(0, 400).map(lambda cut: picture(3, size=(9, 9))[:cut])))
def test_whatever_is_in_an_image_file_is_read_or_refused(raw: bytes) -> None:
    try:
        assert pictures.square(pictures.decode(raw, name="x.png"), 16).shape == (16, 16, 3)
    except Problem as problem:
        assert problem.code == Exit.INPUT and "x.png" in str(problem)


# -- the steps -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    side=st.sampled_from([8, 32, 33]),
    fit=st.sampled_from(pictures.FITS),
    normalise=st.sampled_from(list(pictures.SCALES)),
)
def test_the_reader_makes_bit_for_bit_what_training_saw(size: tuple[int, int], side: int, fit: str, normalise: str) -> None:
    raw = picture(11, size=size)
    steps = json.loads(json.dumps(pictures.steps(side, fit=fit, normalise=normalise)))
    seen = pictures.stack([pictures.square(pictures.decode(raw, name="x"), side, fit=fit)], normalise=normalise)
    read = reader.apply(raw, steps)
    assert read.dtype == seen.dtype == np.float32 and np.array_equal(read, seen)


def test_a_wide_picture_keeps_its_middle_and_its_ratio() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    inside = pictures.square(Image.fromarray(wide), 10)[:, 1:-1]  # its first and last column also see a little of their neighbours
    assert (inside == 200).all()
    assert not (pictures.square(Image.fromarray(wide), 10, fit="stretch")[:, 1:-1] == 200).all()


def test_a_line_of_pixels_a_mile_long_costs_no_memory() -> None:
    long = Image.new("RGB", (200_000, 1))
    assert pictures.square(long, 32).shape == (32, 32, 3)


# -- batches -------------------------------------------------------------------------------------------------------------


def test_the_same_seed_epoch_and_index_give_the_same_bytes_and_another_epoch_others(folder: Path) -> None:
    def drawn(**how: int) -> np.ndarray:
        data = TASK.open(folder, settings={"mixup": 0.4, "cutmix": 1.0, "smoothing": 0.1, "crop": 0.5, "tone": 0.2})
        return np.concatenate([batch.inputs["image"] for batch in data.batches("train", batch_size=5, augment=True, shuffle=True, **how)])

    assert np.array_equal(drawn(seed=3, epoch=1), drawn(seed=3, epoch=1))
    assert not np.array_equal(drawn(seed=3, epoch=1), drawn(seed=3, epoch=2))
    assert not np.array_equal(drawn(seed=3, epoch=1), drawn(seed=4, epoch=1))


@given(count=st.integers(0, 70), size=st.integers(1, 17))
def test_batches_cover_everything_once_and_none_is_a_single_example(count: int, size: int) -> None:
    cuts = list(batching.cuts(count, size))
    assert [place for start, end in cuts for place in range(start, end)] == list(range(count))
    assert all(end - start <= size for start, end in cuts)
    assert size <= 2 or count == 1 or all(end - start > 1 for start, end in cuts)


def test_mixed_labels_are_shares_that_add_up_to_one(folder: Path) -> None:
    data = TASK.open(folder, settings={"mixup": 0.5, "cutmix": 1.0, "smoothing": 0.1})
    for epoch in range(6):
        for batch in data.batches("train", batch_size=6, augment=True, shuffle=True, epoch=epoch):
            assert np.allclose(batch.targets["soft"].sum(1), 1, atol=1e-5) and (batch.targets["soft"] > 0.03).all()
    (plain,) = data.batches("val", batch_size=64, augment=True)
    assert set(plain.targets) == {"label"}


def test_cutmix_takes_the_share_of_the_label_that_it_takes_of_the_picture() -> None:
    images = np.stack([np.full((3, 20, 20), value, np.float32) for value in (0.0, 1.0)])
    soft = np.eye(2, dtype=np.float32)
    for seed in range(20):
        cut, labels = mixed(images, soft, np.random.default_rng(seed), Look(cutmix=1.0))
        assert cut[0].mean() == pytest.approx(labels[0, 1], abs=1e-6)
        blend, labels = mixed(images, soft, np.random.default_rng(seed), Look(mixup=1.0))
        assert np.allclose(blend[0], labels[0, 1], atol=1e-6) and np.unique(blend[0]).size == 1


def test_a_picture_that_is_only_mirrored_or_moved_keeps_its_pixels() -> None:
    own = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    looks = [varied(own, generator(0, epoch, 0), Look(flip=True)) for epoch in range(12)]
    assert {look.tobytes() for look in looks} == {own.tobytes(), own[:, ::-1].tobytes()}
    moved = shifted(own, np.random.default_rng(1), most=3)
    assert moved.shape == own.shape and any(
        np.array_equal(moved[3:13, 3:13], own[3 + down : 13 + down, 3 + right : 13 + right])
        for down in range(-3, 4)
        for right in range(-3, 4)
    )


# -- score ---------------------------------------------------------------------------------------------------------------


def told(data: Any, split: str, answers: np.ndarray) -> Any:
    """A predictor that gives these classes in the split's order."""
    left = iter(np.eye(len(data.labels), dtype=np.float32)[answers])
    return lambda feeds: {"logits": np.stack([next(left) for _ in feeds["image"]])}


def test_accuracy_is_that_of_the_standard_library(folder: Path) -> None:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    data = TASK.open(folder)
    truth = np.concatenate([batch.targets["label"] for batch in data.batches("test", batch_size=5)])
    answers = np.random.default_rng(0).integers(0, 3, len(truth))
    found = data.score(told(data, "test", answers), "test")
    assert found.value == pytest.approx(accuracy_score(truth, answers))
    assert found.also["mean_over_classes"] == pytest.approx(balanced_accuracy_score(truth, answers))
    assert found.errors.sum() / found.weights.sum() == pytest.approx(found.value)


def test_with_many_classes_the_best_five_are_told() -> None:
    lines = {split: tuple(labelled.Line(f"{split}{k}", f"c{k:02d}", "") for k in range(20)) for split in ("train", "val", "test")}
    data = labelled.PictureData(labelled.Corpus(lines, lambda line: picture(int(line.text[1:]), size=(8, 8))), side=8)
    fourth = np.tile(np.linspace(1, 0, 20, dtype=np.float32), (20, 1))  # class 0 first, 1 second …
    found = data.score(lambda feeds: {"logits": fourth[: len(feeds["image"])]}, "test")
    assert found.value == pytest.approx(1 / 20) and found.also["top5"] == pytest.approx(5 / 20)


# -- the built-in set ----------------------------------------------------------------------------------------------------


def test_no_scan_is_in_two_splits_and_held_out_pictures_never_change() -> None:
    parts = [set(scans(split).indices.tolist()) for split in ("train", "val", "test")]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    for split in ("val", "test"):
        same = [drawn_digits.compose(split, 5, seed=seed, epoch=(seed, 1))[0] for seed in (0, 1)]  # type: ignore[arg-type]
        assert np.array_equal(*same)
    one, other = (drawn_digits.compose("train", 5, seed=0, epoch=(0, epoch)) for epoch in (0, 1))
    assert not np.array_equal(one[0], other[0]) and one[1] == other[1]


def test_doubled_pictures_across_splits_are_told(folder: Path) -> None:
    (folder / "test" / "owl" / "again.png").write_bytes((folder / "train" / "owl" / "0.png").read_bytes())
    assert any("train and test" in warning for warning in TASK.open(folder).provenance["warnings"])
    assert TASK.open(None, settings={"train": 40, "val": 20, "test": 20}).provenance["warnings"] == []
