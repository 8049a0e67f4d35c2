"""Boxes as people have them: COCO and VOC read alike, every mistake says where it is, matching is torchvision's and precision pycocotools'."""

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

from advisor import anchors, boxes_graph
from advisor.average_precision import Guess, Truth, evaluated, score
from advisor.box_augment import viewed
from advisor.data import boxed
from advisor.data.detected import DetectedData
from advisor.mask_augment import View
from advisor.tasks.object_detection import TASK, matched
from compress.context import tensors as _tensors
from compress.reader import reader
from rules.problems import Exit, Problem

SPLITS = ("train", "val", "test")
NAMES = ("cat", "dog")
VOC = "<annotation><size><width>60</width><height>40</height></size>{}</annotation>"
OBJECT = "<object><name>{}</name>{}<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def picture(place: int, size: tuple[int, int] = (40, 60)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(place).integers(0, 256, (*size, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def coco(split: str, count: int, first: int) -> dict[str, Any]:
    images = [{"id": first + index, "file_name": f"{split}-{index}.png", "width": 60, "height": 40} for index in range(count)]
    boxes = [
        {"id": 10 * image["id"] + which, "image_id": image["id"], "category_id": 3 + 4 * which, "bbox": [5 + which, 4, 20, 10]}
        for image in images
        for which in (0, 1)
    ]
    return {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]}


def fill_coco(folder: Path) -> Path:
    """train.json, val.json and test.json beside images/."""
    (folder / "images").mkdir()
    for number, split in enumerate(SPLITS):
        (folder / f"{split}.json").write_text(json.dumps(coco(split, 3, 100 * number)))
        for index in range(3):
            (folder / "images" / f"{split}-{index}.png").write_bytes(picture(10 * number + index))
    return folder


def fill_voc(folder: Path) -> Path:
    """The same pictures and boxes as VOC writes them: from one, both ends included."""
    for place in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / place).mkdir(parents=True)
    objects = "".join(OBJECT.format(name, "", 6 + which, 5, 25 + which, 14) for which, name in enumerate(NAMES))
    for number, split in enumerate(SPLITS):
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{split}-{index}\n" for index in range(3)))
        for index in range(3):
            (folder / "Annotations" / f"{split}-{index}.xml").write_text(VOC.format(objects))
            (folder / "JPEGImages" / f"{split}-{index}.png").write_bytes(picture(10 * number + index))
    return folder


@pytest.fixture
def as_coco(tmp_path: Path) -> Path:
    return fill_coco(tmp_path)


@pytest.fixture
def as_voc(tmp_path: Path) -> Path:
    return fill_voc(tmp_path)


def first_batch(data: DetectedData, split: str = "val") -> Any:
    return next(iter(data.batches(split, batch_size=8)))  # type: ignore[arg-type]


def refused(folder: Path, **chosen: Any) -> str:
    with pytest.raises(Problem) as caught:
        assert TASK.open(folder, settings=chosen).provenance
    assert caught.value.code == Exit.INPUT
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# -- formats -------------------------------------------------------------------------------------------------------------


def test_coco_and_voc_read_alike(as_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    data, other = (TASK.open(folder, settings={"side": 64}) for folder in (as_coco, fill_voc(tmp_path_factory.mktemp("voc"))))
    one, two = first_batch(data), first_batch(other)
    assert data.labels == other.labels == ["cat", "dog"] and one.targets["kinds"].tolist() == [[1, 2]] * 3
    assert np.allclose(one.targets["boxes"][0, 0], [5 / 60, 4 / 40, 25 / 60, 14 / 40])
    assert np.array_equal(one.targets["boxes"], two.targets["boxes"]) and np.array_equal(one.inputs["image"], two.inputs["image"])


def test_voc_counts_pixels_from_one_with_both_ends(as_voc: Path) -> None:
    data = TASK.open(as_voc, settings={"side": 64})
    batch = first_batch(data)
    assert data.labels == ["cat", "dog"] and [data.count(split) for split in SPLITS] == [3, 3, 3]  # type: ignore[arg-type]
    assert np.allclose(batch.targets["boxes"][0], [[5 / 60, 4 / 40, 25 / 60, 14 / 40], [6 / 60, 4 / 40, 26 / 60, 14 / 40]])


def test_difficult_things_and_crowds_are_neither_learnt_nor_scored(as_voc: Path) -> None:
    hard = OBJECT.format("dog", "<difficult>1</difficult>", 30, 5, 50, 30)
    (as_voc / "Annotations" / "val-0.xml").write_text(VOC.format(OBJECT.format("cat", "", 6, 5, 25, 14) + hard))
    assert first_batch(TASK.open(as_voc, settings={"side": 64})).targets["kinds"][0].tolist() == [1, -1]


def test_a_folder_is_reopened_as_it_was_trained_on(as_coco: Path) -> None:
    data = TASK.open(as_coco, settings={"side": 96, "smallest": 0.1, "labels": ["dog", "cat"]})
    again = TASK.open(as_coco, settings=data.provenance["reopen"])
    assert again.labels == ["dog", "cat"] and again.given == {"classes": 2, "side": 96, "smallest": 0.1}


# -- refusals ------------------------------------------------------------------------------------------------------------


def altered(folder: Path, change: Any) -> None:
    held = coco("val", 3, 100)
    change(held)
    (folder / "val.json").write_text(json.dumps(held))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda held: held["annotations"][1].update(bbox=[50, 4, 20, 10]), "annotation 1001: the box 50, 4, 70, 14 reaches out of its picture of 60 × 40"),
        (lambda held: held["annotations"][1].update(bbox=[5, 4, 0, 10]), "annotation 1001: the box 5, 4, 5, 14 has no area"),
        (lambda held: held["annotations"][1].update(bbox=[5, 4, "x", 10]), "annotation 1001: bbox"),
        (lambda held: held["annotations"][1].update(category_id=9), "annotation 1001 is of category 9"),
        (lambda held: held["annotations"][1].update(image_id=9), "annotation 1001 is of image 9"),
        (lambda held: held["images"][2].update(file_name="none.png"), "image 102: there is no picture none.png"),
        (lambda held: held["images"][2].update(file_name="../../etc/passwd"), "image 102: '../../etc/passwd' leads out"),
        (lambda held: held["images"][2].update(id=100), "image 100 is there twice"),
        (lambda held: held["images"][2].update(width=61), "its annotation says 61 × 40"),
        (lambda held: held.pop("categories"), "no list 'categories'"),
        (lambda held: held["categories"].append({"id": 3, "name": "owl"}), "category 3"),
    ],
)  # fmt: skip
def test_a_mistake_in_coco_is_refused_with_file_and_id(as_coco: Path, change: Any, said: str) -> None:
    altered(as_coco, change)
    line = refused(as_coco)
    assert "val" in line and said in line


def test_a_class_that_is_not_known_is_refused_with_its_place(as_coco: Path) -> None:
    assert "annotation 1: class 'dog' is not known" in refused(as_coco, labels=["cat", "owl"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (VOC.format(OBJECT.format("cat", "", 6, 5, 75, 14)), "object 1 (cat): the box 5, 4, 75, 14 reaches out of its picture of 60 × 40"),
        (VOC.format(OBJECT.format("cat", "", 6, 5, 25, 14) + OBJECT.format("dog", "", 6, 5, 6, 5)), "object 2 (dog): the box 6, 5, 6, 5 has no area"),
        (VOC.format(OBJECT.format("cat", "", 6, "five", 25, 14)), "object 1 (cat): ymin is 'five'"),
        (VOC.format("<object><name>cat</name></object>"), "object 1 (cat) has no bndbox"),
        (VOC.format(OBJECT.format(" ", "", 6, 5, 25, 14)), "object 1: no name of a class"),
        ("<annotation>\n<object>\n</annotation>", "Annotations/val-1.xml:3: not XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "declares a document type"),
    ],
)  # fmt: skip
def test_a_mistake_in_voc_is_refused_with_file_and_object(as_voc: Path, text: str, said: str) -> None:
    (as_voc / "Annotations" / "val-1.xml").write_text(text)
    line = refused(as_voc)
    assert "Annotations/val-1.xml" in line and said in line


def test_boxes_without_area_can_be_skipped_and_are_counted(as_voc: Path) -> None:
    (as_voc / "Annotations" / "val-1.xml").write_text(VOC.format(OBJECT.format("dog", "", 6, 5, 6, 5)))
    data = TASK.open(as_voc, settings={"empty": "skip"})
    assert data.provenance["skipped_boxes"] == 1 and data.provenance["splits"]["val"]["boxes"] == {"cat": 2, "dog": 2}


def test_lists_and_missing_files_are_refused_by_line(as_voc: Path) -> None:
    lists = as_voc / "ImageSets" / "Main" / "test.txt"
    lists.write_text("test-0\n\ntrain-1\n")
    assert "ImageSets/Main/test.txt:3: train-1 is already named at ImageSets/Main/train.txt:2" in refused(as_voc)
    lists.write_text("test-0\nnone\n")
    assert "ImageSets/Main/test.txt:2: there is no Annotations/none.xml" in refused(as_voc)
    lists.write_text("test-0\n")
    (as_voc / "JPEGImages" / "test-0.png").unlink()
    assert "there is no picture JPEGImages/test-0" in refused(as_voc)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300) | st.text("<>/anotibjec \n&;!DOCTYPE[]\"'", max_size=200).map(str.encode))
def test_bytes_that_are_no_xml_are_refused_and_nothing_else_happens(raw: bytes) -> None:
    try:
        boxed.parse_xml(raw, "a.xml")
    except Problem as problem:
        assert problem.code == Exit.INPUT and "a.xml" in str(problem)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["images", "annotations", "categories"]), st.lists(st.dictionaries(st.sampled_from(["id", "file_name", "image_id", "category_id", "bbox", "name", "width"]), JSON, max_size=5), max_size=3) | JSON)
)  # fmt: skip
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, held: Any) -> None:
    folder = tmp_path_factory.mktemp("coco")
    (folder / "train.json").write_text(json.dumps(held))
    with pytest.raises(Problem) as caught:
        boxed.open_folder(folder, seed=0)
    assert caught.value.code == Exit.INPUT


@pytest.mark.parametrize("chosen", [{"side": 100}, {"labels": ["a", "a"]}, {"empty": "keep"}, {"zoom": 2}, {"sides": 3}])
def test_a_wrong_setting_is_refused(as_coco: Path, chosen: dict[str, Any]) -> None:
    with pytest.raises(Problem) as caught:
        TASK.open(as_coco, settings=chosen)
    assert caught.value.code == Exit.USAGE


# -- default boxes and the loss ------------------------------------------------------------------------------------------


def torchvision_ssd() -> Any:
    from advisor.vision_operators import ensure

    ensure()
    from torchvision.models.detection import ssd
    from torchvision.models.detection._utils import BoxCoder, SSDMatcher
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.image_list import ImageList
    from torchvision.ops import box_iou

    class Like:
        box_coder, neg_to_pos_ratio = BoxCoder(weights=anchors.WEIGHTS), 3
        compute_loss = ssd.SSD.compute_loss

    generator = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    maps = [torch.zeros(1, 1, size, size) for size in anchors.cells(320)]
    made = generator(ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)]), maps)[0]
    return Like(), made, SSDMatcher(0.5), box_iou


def test_default_boxes_matching_and_loss_are_torchvisions() -> None:
    like, made, matcher, box_iou = torchvision_ssd()
    assert np.allclose(anchors.corners(anchors.anchors(320)) * 320, made.numpy(), atol=1e-3)
    torch.manual_seed(0)
    low = torch.rand(2, 3, 2) * 0.6
    boxes, kinds = torch.cat([low, low + 0.2 + torch.rand(2, 3, 2) * 0.2], -1), torch.tensor([[1, 2, 2], [2, 0, 0]])
    scores, offsets = torch.randn(2, len(made), 3), torch.randn(2, len(made), 4)
    truth = [{"boxes": 320 * boxes[row][kinds[row] > 0], "labels": kinds[row][kinds[row] > 0]} for row in range(2)]
    places = [matcher(box_iou(one["boxes"], made)) for one in truth]
    parts = like.compute_loss(truth, {"bbox_regression": offsets, "cls_logits": scores}, [made, made], places)
    found = TASK.loss((scores, offsets), {"boxes": boxes, "kinds": kinds})
    assert found.item() == pytest.approx((parts["bbox_regression"] + parts["classification"]).item(), rel=1e-4)


@pytest.mark.parametrize("smallest", [0.2, 0.07])
def test_a_net_that_says_what_it_should_is_decoded_to_the_true_boxes(smallest: float) -> None:
    batch = next(iter(TASK.open(None, settings={"smallest": smallest}).batches("val", batch_size=4)))
    boxes, kinds = (torch.from_numpy(batch.targets[name]) for name in ("boxes", "kinds"))
    wanted, offsets = matched(boxes, kinds, 96, smallest=smallest)
    assert TASK.loss((50 * torch.nn.functional.one_hot(wanted.clamp(min=0), 5).float(), offsets), _tensors(batch.targets)).item() < 1e-3
    scores = 20 * torch.nn.functional.one_hot(wanted.clamp(min=0), 5).float()
    truths = [
        Truth(box[kind > 0].numpy(), kind[kind > 0].numpy() - 1, np.zeros(int((kind > 0).sum()), bool))
        for box, kind in zip(boxes, kinds, strict=True)
    ]
    guesses = [
        Guess(*anchors.found(score.numpy(), offset.numpy(), 96, least=0.02, overlap=0.5, most=100, smallest=smallest))
        for score, offset in zip(scores, offsets, strict=True)
    ]
    assert score(truths, guesses, 4).value == pytest.approx(1.0)


def random_pictures(count: int, classes: int = 3) -> tuple[list[Truth], list[Guess]]:
    rng = np.random.default_rng(4)
    truths, guesses = [], []
    for _ in range(count):
        number = int(rng.integers(0, 5))
        low = rng.uniform(0, 60, (number, 2))
        boxes, kinds = np.concatenate([low, low + rng.uniform(8, 30, (number, 2))], 1), rng.integers(0, classes, number)
        truths.append(Truth(boxes, kinds, rng.random(number) < 0.1))
        near = np.concatenate([boxes + rng.normal(0, 0.8, boxes.shape), boxes + rng.normal(0, 5, boxes.shape)])
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        guesses.append(Guess(near, np.where(rng.random(2 * number) < 0.8, np.tile(kinds, 2), 0), rng.random(2 * number)))
    return truths, guesses


def test_average_precision_is_that_of_pycocotools() -> None:
    truths, guesses = random_pictures(40)
    evaluation = evaluated(truths, guesses, 3)
    evaluation.accumulate()
    precision = evaluation.eval["precision"]
    found = score(truths, guesses, 3)
    assert 0.1 < found.value < 0.9 and found.value == pytest.approx(precision[precision > -1].mean(), abs=1e-9)
    assert found.also["AP at overlap 0.5"] == pytest.approx(precision[0][precision[0] > -1].mean(), abs=1e-9)


def test_a_draw_of_pictures_is_scored_as_if_there_were_only_those() -> None:
    truths, guesses = random_pictures(30)
    rows = np.array([2, 3, 5, 8, 13, 21, 22, 25])
    found = score(truths, guesses, 3)
    assert found.over is not None
    assert found.over(rows) == pytest.approx(score([truths[row] for row in rows], [guesses[row] for row in rows], 3).value)
    twice = score([truths[row] for row in [*rows, *rows]], [guesses[row] for row in [*rows, *rows]], 3).value
    assert found.over(np.concatenate([rows, rows])) == pytest.approx(twice, abs=0.01)


# -- what is handed over -------------------------------------------------------------------------------------------------


def heads(count: int = 2, side: int = 96) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(6)
    scores = rng.standard_normal((count, anchors.count(side), 5)).astype(np.float32)
    scores[..., 0] += 3
    scores[:, ::17, 2] += 6
    return {"scores": scores, "boxes": rng.standard_normal((count, anchors.count(side), 4)).astype(np.float32)}


@pytest.mark.parametrize("smallest", [0.2, 0.07])
def test_the_reader_finds_what_training_finds(smallest: float) -> None:
    data, outputs = TASK.open(None, settings={"smallest": smallest}), heads()
    manifest = {"postprocess": json.loads(json.dumps(data.postprocess)), "labels": data.labels}
    for row, said in enumerate(data.read(outputs)):
        one = {name: array[row : row + 1] for name, array in outputs.items()}
        text, confidence = reader.reading(one, manifest)
        assert text == said and 0.5 < confidence <= 1
        boxes, kinds, chances = anchors.found(one["scores"][0], one["boxes"][0], 96, least=0.5, overlap=0.5, most=100, smallest=smallest)
        told = reader.details(one, manifest)
        assert [thing["class"] for thing in told] == [data.labels[kind] for kind in kinds]
        assert np.allclose([thing["box"] for thing in told], boxes, atol=1e-4) and np.allclose(
            [thing["chance"] for thing in told], chances, atol=1e-4
        )


@pytest.mark.parametrize("smallest", [0.2, 0.07])
def test_the_graph_of_its_own_finds_the_same(smallest: float) -> None:
    import onnxruntime

    made = boxes_graph.graph(4, 96, smallest=smallest)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = heads(1)
    found, classes, chances = session.run(None, outputs)
    boxes, kinds, sure = anchors.found(outputs["scores"][0], outputs["boxes"][0], 96, least=0.5, overlap=0.5, most=100, smallest=smallest)
    order = np.argsort(-chances, kind="stable")
    assert len(boxes) > 3 and np.allclose(found[order], boxes, atol=1e-5)
    assert np.array_equal(classes[order], kinds) and np.allclose(chances[order], sure, atol=1e-6)


def test_picture_and_boxes_are_varied_alike() -> None:
    picture = np.zeros((96, 96, 3), dtype=np.uint8)
    picture[20:50, 30:70] = 255
    boxes = np.array([[30, 20, 70, 50], [0, 0, 4, 4]], dtype=np.float32) / 96
    seen, moved, stayed = viewed(picture, boxes, np.random.default_rng(3), View(flip=True, zoom=0.5))
    inside = seen[:, :, 0] > 128
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert stayed[0] and np.allclose(moved[0] * 96, [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], atol=1.6)
    assert not np.allclose(moved[0], boxes[0])


def test_things_of_the_built_in_scenes_are_found_on_the_finest_grid() -> None:
    data = TASK.open(None, settings={"train": 40, "val": 1, "test": 1})
    batch = next(iter(data.batches("train", batch_size=40)))
    boxes, kinds = (torch.from_numpy(batch.targets[name]) for name in ("boxes", "kinds"))
    finest = anchors.SHAPES * anchors.cells(data.side)[0] ** 2

    def share(smallest: float) -> float:
        found = matched(boxes, kinds, data.side, smallest=smallest)[0] > 0
        return float(found[:, :finest].sum() / found.sum())

    assert share(data.smallest) > 0.8 > 0.5 > share(0.2)
    assert TASK.open(None, settings={"train": 1, "val": 1, "test": 1, "smallest": 0.2}).smallest == 0.2


# -- decoding beside the net, or inside -----------------------------------------------------------------------------------------


def raw_detector(classes: int, rows: int, side: int = 96) -> Any:
    """A net of one product: the picture's mean colour decides scores and boxes of every place. As ONNX, with a free batch."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "scores": rng.normal(0, 2, (3, rows * classes)).astype(np.float32),
        "boxes": rng.normal(0, 0.3, (3, rows * 4)).astype(np.float32),
    }
    nodes = [helper.make_node("ReduceMean", ["image"], ["found"], axes=[2, 3], keepdims=0)]  # a name that the decoding has too
    for name in ("scores", "boxes"):
        nodes += [
            helper.make_node("MatMul", ["found", f"{name}/weight"], [f"{name}/flat"]),
            helper.make_node("Reshape", [f"{name}/flat", f"{name}/shape"], [name]),
        ]
    shapes = {f"{name}/shape": np.array([-1, rows, size]) for name, size in (("scores", classes), ("boxes", 4))}
    values = {**{f"{name}/weight": value for name, value in weights.items()}, **shapes}
    graph = helper.make_graph(
        nodes,
        "raw",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, side, side])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", rows, size])
            for name, size in (("scores", classes), ("boxes", 4))
        ],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def told(model: Any, feeds: Any) -> list[np.ndarray]:
    import onnxruntime

    return list(onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds))


@pytest.mark.parametrize("asked", [0, 30], ids=["default boxes", "queries"])
def test_a_joined_graph_finds_in_a_picture_what_the_two_find_one_after_the_other(asked: int) -> None:
    data = TASK.open(None, settings={"train": 4, "val": 2, "test": 2, "nms": "inside", "queries": asked})
    heads = data.signature.outputs[0].shape
    main = raw_detector(heads[2], heads[1])
    graphs = TASK.behind(main, data)
    assert set(graphs) == {"boxes", "joined"}
    image = np.random.default_rng(2).normal(0, 3, (1, 3, 96, 96)).astype(np.float32) + np.array([2, -1, 1], np.float32)[:, None, None]
    scores, boxes = told(main, {"image": image})
    apart, together = told(graphs["boxes"][0], {"scores": scores, "boxes": boxes}), told(graphs["joined"][0], {"image": image})
    assert len(apart[0]) > 0 and all(np.array_equal(one, other) for one, other in zip(apart, together, strict=True))
    assert [port.name for port in graphs["joined"][1].signature.outputs] == ["found", "classes", "chances"]


@pytest.mark.parametrize("asked", [0, 30], ids=["default boxes", "queries"])
def test_golden_heads_are_sure_of_three_things(asked: int) -> None:
    data = TASK.open(None, settings={"train": 4, "val": 2, "test": 2, "queries": asked})
    heads = data.signature.outputs[0].shape
    decode, fed = TASK.behind(raw_detector(heads[2], heads[1]), data)["boxes"]
    found, classes, chances = told(decode, dict(fed.probes()["some"]))
    assert len(found) == 3 and len(set(classes.tolist())) == 3 and chances.min() > 0.99


def test_beside_is_what_a_bundle_has_unless_it_is_asked_for_inside() -> None:
    data = TASK.open(None, settings={"train": 4, "val": 2, "test": 2})
    heads = data.signature.outputs[0].shape
    assert set(TASK.behind(raw_detector(heads[2], heads[1]), data)) == {"boxes"}
    with pytest.raises(Problem, match="nms"):
        TASK.open(None, settings={"nms": "within"})


def test_a_bundle_of_a_detector_holds_its_decoding_and_proves_it(tmp_path: Path) -> None:
    import onnx

    from compress import beside
    from compress.bundle import verify, write
    from tests.bundle_for_tests import record

    data = TASK.open(None, settings={"train": 4, "val": 2, "test": 2, "nms": "inside"})
    heads = data.signature.outputs[0].shape
    onnx.save(raw_detector(heads[2], heads[1]), tmp_path / "model.onnx")
    parts = beside.made(TASK, data, tmp_path / "model.onnx", tmp_path / "beside")
    bundle = write(tmp_path / "bundle", record=record(), graph=tmp_path / "model.onnx", data=data, task=TASK, parts=parts)
    assert verify(bundle) == []
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert [graph["role"] for graph in manifest["graphs"]] == ["main", "boxes", "joined"]
    assert {"boxes.onnx", "joined.onnx"} <= {path.name for path in bundle.iterdir()}
