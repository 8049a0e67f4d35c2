"""Masks as people have them: layouts read alike, every mistake says where it is, mean IoU is the library's, and readers see what training saw."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from advisor.data import drawn_shapes, maskfolders, segments
from advisor.data.maskfolders import VOID
from advisor.data.segmented import counts, mean_iou, scored
from advisor.mask_augment import View, viewed
from advisor.tasks.semantic_segmentation import TASK
from compress.reader import reader
from rules.problems import Exit, Problem

NAMES = ("ground", "road", "sky")
SPLITS = ("train", "val", "test")


def png(array: np.ndarray, mode: str | None = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).convert(mode or None).save(file, "PNG")
    return file.getvalue()


def picture(place: int, size: tuple[int, int] = (40, 50)) -> bytes:
    return png(np.random.default_rng(place).integers(0, 256, (*size, 3), dtype=np.uint8))


def mask(place: int, size: tuple[int, int] = (40, 50), most: int = 2) -> np.ndarray:
    return np.random.default_rng(place).integers(0, most + 1, size, dtype=np.uint8)


def fill(images: Path, masks: Path, *, count: int = 4, first: int = 0) -> None:
    for place in (images, masks):
        place.mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        (images / f"{index}.png").write_bytes(picture(index))
        (masks / f"{index}.png").write_bytes(png(mask(index)))


def named(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    (folder / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train/images beside train/masks, and so on."""
    for number, split in enumerate(SPLITS):
        fill(tmp_path / split / "images", tmp_path / split / "masks", first=100 * number)
    return named(tmp_path)


def refused(folder: Path, **chosen: Any) -> str:
    with pytest.raises(Problem) as caught:
        assert TASK.open(folder, settings=chosen).provenance
    assert caught.value.code == Exit.INPUT
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# -- formats -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["images/{}|masks/{}", "{}/images|{}/masks", "{}|{}annot"])
def test_the_layouts_read_alike(tmp_path: Path, layout: str) -> None:
    for number, split in enumerate(SPLITS):
        images, masks = (tmp_path / place.format(split) for place in layout.split("|"))
        fill(images, masks, first=100 * number)
    data = TASK.open(named(tmp_path))
    assert [data.count(split) for split in SPLITS] == [4, 4, 4] and data.given == {"classes": 3}
    (batch,) = data.batches("val", batch_size=8)
    assert batch.inputs["image"].shape == (4, 3, 32, 64) and batch.targets["mask"].shape == (4, 32, 64)


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl"])
def test_a_list_names_pictures_and_masks(folder: Path, suffix: str) -> None:
    (by_folder,) = TASK.open(folder).batches("test", batch_size=8)
    for number, split in enumerate(SPLITS):
        rows = [(f"{split}/images/{index}.png", f"{split}/masks/{index}.png") for index in range(100 * number, 100 * number + 4)]
        if suffix == "jsonl":
            text = "\n".join(json.dumps({"image": image, "mask": mask}) for image, mask in rows)
        else:
            comma = "," if suffix == "csv" else "\t"
            text = "\n".join([f"image{comma}mask", *(f"{image}{comma}{mask}" for image, mask in rows)])
        (folder / f"{split}.{suffix}").write_text(text, encoding="utf-8")
    data = TASK.open(folder)
    (by_list,) = data.batches("test", batch_size=8)
    assert "lists" in data.provenance and by_list.ids == by_folder.ids
    assert np.array_equal(by_list.targets["mask"], by_folder.targets["mask"])


def test_pictures_without_splits_are_divided_by_name(tmp_path: Path) -> None:
    fill(tmp_path / "images", tmp_path / "masks", count=60)
    data = TASK.open(named(tmp_path))
    assert sum(data.count(split) for split in SPLITS) == 60 and all(data.count(split) for split in SPLITS)


def test_a_folder_is_reopened_as_it_was_trained_on(folder: Path) -> None:
    data = TASK.open(folder, settings={"height": 64, "width": 32, "ignore": 2})
    again = TASK.open(folder, settings=data.provenance["reopen"])
    assert again.labels == data.labels == list(NAMES) and (again.height, again.width) == (64, 32)
    assert (again.batches("train", batch_size=8).__iter__().__next__().targets["mask"] == VOID).any()


# -- refusals ------------------------------------------------------------------------------------------------------------


def test_a_value_that_is_no_class_is_refused_with_its_file_and_place(folder: Path) -> None:
    wrong = mask(1)
    wrong[7, 9] = 17
    (folder / "train" / "masks" / "1.png").write_bytes(png(wrong))
    line = refused(folder)
    assert "train/masks/1.png" in line and "17 in row 7, column 9" in line
    assert TASK.open(folder, settings={"ignore": [17]}).provenance["splits"]["train"]["images"] == 4


def test_a_mask_of_another_size_is_refused_with_both_names(folder: Path) -> None:
    (folder / "val" / "masks" / "101.png").write_bytes(png(mask(1, (40, 49))))
    line = refused(folder)
    assert "val/masks/101.png is 49 × 40" in line and "val/images/101.png 50 × 40" in line


def test_a_mask_of_colours_and_a_damaged_one_are_refused_by_name(folder: Path) -> None:
    place = folder / "test" / "masks" / "201.png"
    place.write_bytes(picture(3))
    assert "test/masks/201.png is a mask of colours (RGB)" in refused(folder)
    place.write_bytes(png(mask(3))[:50])
    assert "test/masks/201.png is no PNG" in refused(folder)


def test_a_picture_without_a_mask_and_a_mask_without_a_picture_are_refused(folder: Path) -> None:
    (folder / "train" / "masks" / "2.png").rename(folder / "train" / "masks" / "9.png")
    assert "train/images/2.png has no mask: there is no train/masks/2.png" in refused(folder)
    (folder / "train" / "masks" / "9.png").rename(folder / "train" / "masks" / "2.png")
    (folder / "train" / "images" / "3.png").unlink()
    assert "train/masks/3.png has no picture" in refused(folder)


def test_class_names_are_needed_once_each(folder: Path) -> None:
    named(folder, ("ground", "road", "ground"))
    assert "classes.txt:3: 'ground' is already on line 1" in refused(folder)
    (folder / "classes.txt").write_text("ground\n\nsky\n")
    assert "classes.txt:2" in refused(folder)
    (folder / "classes.txt").unlink()
    assert "has no classes.txt" in refused(folder)
    assert TASK.open(folder, settings={"labels": list(NAMES)}).labels == list(NAMES)


def test_a_list_that_leads_out_or_nowhere_is_refused_with_its_line(folder: Path) -> None:
    for number, split in enumerate(SPLITS):
        (folder / f"{split}.tsv").write_text(f"{split}/images/{100 * number}.png\t{split}/masks/{100 * number}.png\n", encoding="utf-8")
    assert TASK.open(folder).count("val") == 1
    text = "image\tmask\ntrain/images/0.png\ttrain/masks/0.png\ntrain/images/1.png\t{}\n"
    for wrong, said in (("../../etc/passwd", "leads out"), ("train/masks/none.png", "there is no mask"), (" ", "no mask is named")):
        (folder / "train.tsv").write_text(text.format(wrong), encoding="utf-8")
        line = refused(folder)
        assert "train.tsv:3" in line and said in line


def test_an_unknown_layout_says_what_is_expected(tmp_path: Path) -> None:
    assert "is empty" in refused(tmp_path)
    (tmp_path / "pictures").mkdir()
    assert "images/" in refused(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300) | st.builds(lambda tail: b"\x89PNG\r\n\x1a\n" + tail, st.binary(max_size=200)))
def test_bytes_that_are_no_mask_are_refused_and_nothing_else_happens(raw: bytes) -> None:
    with pytest.raises(Problem) as caught:
        maskfolders.decode_mask(raw, name="a.png", classes=3, ignore=())
    assert caught.value.code == Exit.INPUT and "a.png" in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_file_of_names_is_read_or_refused_by_line(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    file = tmp_path_factory.mktemp("names") / "classes.txt"
    file.write_bytes(raw)
    try:
        names = maskfolders.read_names(file)
    except Problem as problem:
        assert problem.code == Exit.INPUT and "classes.txt" in str(problem)
    else:
        assert len(set(names)) == len(names) >= 2


@pytest.mark.parametrize(
    "chosen", [{"height": 48, "width": 64}, {"height": 64}, {"ignore": "x"}, {"balance": 2}, {"zoom": 0}, {"labels": ["a"]}, {"sides": 3}]
)
def test_a_wrong_setting_is_refused(tmp_path: Path, chosen: dict[str, Any]) -> None:
    fill(tmp_path / "images", tmp_path / "masks", count=30)
    with pytest.raises(Problem) as caught:
        TASK.open(named(tmp_path), settings=chosen)
    assert caught.value.code == Exit.USAGE


# -- scores --------------------------------------------------------------------------------------------------------------


def test_mean_iou_is_that_of_scikit_learn_and_void_counts_nowhere() -> None:
    from sklearn.metrics import jaccard_score

    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 4, (3, 20, 30), dtype=np.uint8), rng.integers(0, 4, (3, 20, 30), dtype=np.uint8)
    truth[0, :3] = VOID
    tables = np.stack([counts(one, other, 5) for one, other in zip(truth, found, strict=True)])
    valid = truth != VOID
    wanted = jaccard_score(truth[valid], found[valid], average="macro", labels=[0, 1, 2, 3])  # the fifth class is nowhere and left out
    score = scored(tables)
    assert score.value == pytest.approx(wanted) and score.weights.sum() == valid.sum()
    assert score.errors.sum() == (truth[valid] != found[valid]).sum()
    rows = np.array([0, 2, 2])
    assert score.over is not None and score.over(rows) == pytest.approx(mean_iou(tables[rows].sum(0)))


def test_a_perfect_answer_scores_one_at_the_masks_own_size(folder: Path) -> None:
    data = TASK.open(folder)
    places = {
        image.tobytes(): number
        for number, image in enumerate(np.concatenate([b.inputs["image"] for b in data.batches("test", batch_size=8)]))
    }
    truths = [np.array(Image.open(folder / "test" / "masks" / f"{200 + number}.png")) for number in range(4)]

    def oracle(feeds: Any) -> dict[str, np.ndarray]:
        return {"logits": np.stack([np.eye(3, dtype=np.float32)[truths[places[image.tobytes()]]] for image in feeds["image"]])}

    assert data.score(oracle, "test").value == 1.0


def test_scores_are_spread_out_as_torch_does_it() -> None:
    logits = np.random.default_rng(1).standard_normal((5, 7, 3)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(logits.transpose(2, 0, 1))[None], size=(40, 51), mode="bilinear", align_corners=False
    )
    assert np.allclose(segments.spread_out(logits, 40, 51), wanted[0].numpy().transpose(1, 2, 0), atol=1e-5)


def test_the_reader_says_what_training_says(folder: Path) -> None:
    data = TASK.open(folder)
    logits = np.random.default_rng(2).standard_normal((2, 4, 8, 3)).astype(np.float32) * 2
    manifest = {"postprocess": json.loads(json.dumps(data.postprocess)), "labels": data.labels}
    for row, said in zip(logits, data.read({"logits": logits}), strict=True):
        text, confidence = reader.reading({"logits": row[None]}, manifest)
        assert text == said and "%" in text and 0 < confidence < 1


# -- learning ------------------------------------------------------------------------------------------------------------


def test_void_pixels_and_weights_are_what_the_loss_sees() -> None:
    torch.manual_seed(0)
    output, mask = torch.randn(2, 4, 4, 3), torch.randint(0, 3, (2, 8, 8), dtype=torch.uint8)
    mask[0, :4] = VOID
    weight = torch.tensor([[1.0, 2.0, 0.5]]).repeat(2, 1)
    wide = torch.nn.functional.interpolate(output.permute(0, 3, 1, 2), size=(8, 8), mode="bilinear", align_corners=False)
    wanted = torch.nn.functional.cross_entropy(wide, mask.long(), weight=weight[0], ignore_index=VOID)
    assert TASK.loss(output, {"mask": mask, "weight": weight}).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert TASK.loss(output, {"mask": torch.full_like(mask, VOID), "weight": weight}).item() == 0


def test_a_teacher_of_a_finer_grid_teaches_a_coarser_student() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 2, 3, 4), torch.randn(1, 4, 6, 4)
    assert TASK.distil_loss(student, teacher, None, temperature=2.0).item() > 0
    flat = torch.ones(1, 4, 6, 4) * torch.tensor([1.0, 0.0, 2.0, 0.5])
    assert TASK.distil_loss(flat[:, :2, :3], flat, None, temperature=2.0).item() == pytest.approx(0, abs=1e-6)


def test_picture_and_mask_are_varied_alike() -> None:
    classes = drawn_shapes.scene("val", 3, size=(64, 96)).classes
    shown = np.repeat(classes[:, :, None] * 50, 3, axis=2)
    seen, mask = viewed(shown, classes, np.random.default_rng(5), View(flip=True, zoom=0.5))
    assert mask.shape == classes.shape and not np.array_equal(mask, classes)
    assert (np.abs(seen[:, :, 0].astype(int) - mask.astype(int) * 50) <= 25).mean() > 0.95  # edges differ by the way they are scaled


def test_drawn_scenes_are_fixed_but_for_training_and_boxes_hold_their_shapes() -> None:
    one, other = (drawn_shapes.scene("test", 7, size=(64, 96), seed=seed) for seed in (0, 1))
    assert np.array_equal(one.picture, other.picture)
    first, second = (drawn_shapes.scene("train", 7, size=(64, 96), seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.picture, second.picture)
    kinds = set()
    for index in range(40):
        scene = drawn_shapes.scene("val", index, size=(64, 96))
        kinds |= set(scene.kinds.tolist())
        assert len(scene.kinds) == len(scene.boxes) >= 1 and set(np.unique(scene.classes)) - {0} <= set(scene.kinds.tolist())
        assert (
            (scene.boxes[:, :2] >= 0).all()
            and (scene.boxes[:, 2:] <= (96, 64)).all()
            and (scene.boxes[:, 2:] - scene.boxes[:, :2] > 5).all()
        )
    assert kinds == {1, 2, 3, 4}


def test_rare_classes_count_more_where_the_settings_say_so(folder: Path) -> None:
    for index in range(4):
        drawn = np.zeros((40, 50), dtype=np.uint8)
        drawn[:4], drawn[0, :2] = 1, 2
        (folder / "train" / "masks" / f"{index}.png").write_bytes(png(drawn))
    weights = [
        next(iter(TASK.open(folder, settings={"balance": share}).batches("train", batch_size=4))).targets["weight"][0] for share in (0, 1)
    ]
    assert weights[0].tolist() == [1, 1, 1] and weights[1][0] < weights[1][1] == 1 < weights[1][2] <= 10
