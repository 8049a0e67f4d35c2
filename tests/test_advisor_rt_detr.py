"""RT-DETR: a set of answers without doubles, learnt by matching; what is found is the same in numpy, in the reader and in ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

from advisor import anchors, boxes_graph, queries
from advisor.architectures.rt_detr import RtDetr, build
from advisor.tasks.object_detection import TASK
from advisor.vision_operators import ensure
from compress.context import Target, tensors
from compress.export import export
from compress.forward import predictor
from compress.reader import steps_vision
from rules.problems import Problem

SIDE, CLASSES, ASKED = 96, 4, 60
SMALL = {"channels": (16, 32, 64, 96), "depths": (1, 1, 1, 1), "width": 64, "hidden": 128, "heads": 4, "layers": 2}


def small(**changes: Any) -> RtDetr:
    torch.manual_seed(0)
    return build(**{"classes": CLASSES, "side": SIDE, "queries": ASKED, **SMALL, **changes}).eval()  # type: ignore[return-value]


def answers(seed: int, rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(-1, 2, (1, rows, CLASSES)).astype(np.float32), rng.uniform(0.05, 0.95, (1, rows, 4)).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_found_is_what_transformers_finds(seed: int) -> None:
    ensure()
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil
    from transformers.models.rt_detr.modeling_rt_detr import RTDetrObjectDetectionOutput

    scores, boxes = answers(seed)
    said = RTDetrObjectDetectionOutput(logits=torch.from_numpy(scores), pred_boxes=torch.from_numpy(boxes))
    theirs = RTDetrImageProcessorPil().post_process_object_detection(said, threshold=0.4)[0]
    ours = queries.found(scores[0], boxes[0], least=0.4, most=40)
    assert len(ours[0]) == len(theirs["scores"]) > 5
    assert np.allclose(ours[2], theirs["scores"].numpy(), atol=1e-6)
    assert np.array_equal(ours[1], theirs["labels"].numpy())
    assert np.allclose(ours[0], theirs["boxes"].clamp(0, 1).numpy(), atol=1e-6)


@pytest.mark.parametrize(("seed", "least", "most"), [(0, 0.5, 100), (1, 0.3, 7), (2, 0.999, 100)])
def test_the_reader_and_the_decoding_graph_find_the_same(seed: int, least: float, most: int) -> None:
    scores, boxes = answers(seed)
    places, kinds, chances = queries.found(scores[0], boxes[0], least=least, most=most)
    read = steps_vision.asked(scores[0], boxes[0], least, most)
    assert [label for _, label, _ in read] == kinds.tolist()
    assert np.allclose(np.array([box for _, _, box in read]).reshape(-1, 4), places)
    made = boxes_graph.of_queries(CLASSES, scores.shape[1], least=least, most=most)
    assert "NonMaxSuppression" not in {node.op_type for node in made.graph.node}
    found = ort.InferenceSession(made.SerializeToString()).run(None, {"scores": scores, "boxes": boxes})
    assert np.allclose(found[0], places, atol=1e-6) and np.array_equal(found[1], kinds) and np.allclose(found[2], chances, atol=1e-6)


def truth() -> dict[str, torch.Tensor]:
    boxes = torch.tensor([[[0.1, 0.1, 0.4, 0.5], [0.5, 0.4, 0.9, 0.8]], [[0.2, 0.3, 0.5, 0.6], [0.0, 0.0, 0.0, 0.0]]])
    return {"boxes": boxes, "kinds": torch.tensor([[1, 3], [2, 0]])}


def test_the_loss_is_transformers_own_of_true_boxes_as_middle_and_size() -> None:
    ensure()
    from transformers import RTDetrConfig
    from transformers.loss.loss_rt_detr import RTDetrForObjectDetectionLoss

    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((2, 3, 10, CLASSES), generator=generator)  # (b, layers, queries, classes)
    places = torch.rand((2, 3, 10, 4), generator=generator) * 0.5 + 0.2
    first = torch.randn((2, 10, CLASSES), generator=generator), torch.rand((2, 10, 4), generator=generator)
    labels = [
        {"class_labels": torch.tensor([0, 2]), "boxes": torch.tensor([[0.25, 0.3, 0.3, 0.4], [0.7, 0.6, 0.4, 0.4]])},
        {"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.35, 0.45, 0.3, 0.3]])},
    ]
    config = RTDetrConfig(num_labels=CLASSES)
    last = logits[:, -1], places[:, -1]
    wanted = RTDetrForObjectDetectionLoss(last[0], labels, torch.device("cpu"), last[1], config, logits, places, *first)[0]
    before = torch.cat([first[0][:, None], logits[:, :-1]], 1), torch.cat([first[1][:, None], places[:, :-1]], 1)
    assert torch.isclose(TASK.loss((*last, *before), truth()), wanted, rtol=1e-5)


def test_the_loss_does_not_mind_the_order_of_the_queries_and_knows_nothing_of_what_is_left_aside() -> None:
    generator = torch.Generator().manual_seed(4)
    scores, boxes = torch.randn((2, 10, CLASSES), generator=generator), torch.rand((2, 10, 4), generator=generator)
    order = torch.randperm(10, generator=generator)
    assert torch.isclose(TASK.loss((scores, boxes), truth()), TASK.loss((scores[:, order], boxes[:, order]), truth()), rtol=1e-5)
    more = {key: torch.cat([value, value[:, :1]], 1) for key, value in truth().items()}
    more["kinds"][:, -1] = -1
    assert torch.isclose(TASK.loss((scores, boxes), truth()), TASK.loss((scores, boxes), more))


def test_pictures_without_things_are_learnt_from_too() -> None:
    scores = torch.zeros((2, 10, CLASSES), requires_grad=True)
    loss = TASK.loss((scores, torch.full((2, 10, 4), 0.5)), {"boxes": torch.zeros(2, 1, 4), "kinds": torch.zeros(2, 1, dtype=torch.int64)})
    loss.backward()
    assert loss.isfinite() and scores.grad is not None and (scores.grad > 0).all(), "every query is to be less sure"


def test_an_answer_that_is_no_number_gives_a_loss_that_is_none() -> None:
    assert TASK.loss((torch.zeros(2, 10, CLASSES), torch.full((2, 10, 4), torch.nan)), truth()).isnan()


def test_a_student_is_taught_what_its_teacher_finds_whatever_its_order() -> None:
    boxes = torch.tensor([[[0.25, 0.3, 0.3, 0.4], [0.7, 0.6, 0.4, 0.4], [0.5, 0.5, 0.1, 0.1]]]).repeat(2, 1, 1)
    sure = torch.full((2, 3, CLASSES), -8.0)
    sure[:, 0, 0] = sure[:, 1, 2] = 8.0
    turned = sure.flip(1), boxes.flip(1)
    same = TASK.distil_loss(turned, (sure, boxes), None, temperature=2.0)
    other = TASK.distil_loss((sure.flip(2), boxes), (sure, boxes), None, temperature=2.0)
    assert same < 0.05 < other
    assert same < TASK.distil_loss((sure, boxes.flip(1)), (sure, boxes), None, temperature=2.0)


def test_it_learns_two_pictures_by_heart_and_its_graph_reads_them(tmp_path: Path) -> None:
    data = TASK.open(None, settings={"train": 2, "val": 2, "test": 2, "queries": ASKED})
    model = small().train()
    batch = next(iter(data.batches("train", batch_size=2)))
    inputs, targets = tensors(batch.inputs), tensors(batch.targets)
    steps = 110
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 10) * (1 - step / steps)
        loss = TASK.loss(model(*inputs.values()), targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.train(False)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum, part.training = None, True
            part.reset_running_stats()
    with torch.no_grad():
        model(*inputs.values())  # statistics of these two pictures
    path = export(model.eval(), data, tmp_path / "model.onnx", target=Target())
    session = ort.InferenceSession(path)
    assert session.get_inputs()[0].shape[0] == "batch"
    score = data.score(lambda feeds: dict(zip(("scores", "boxes"), session.run(None, feeds), strict=True)), "train")
    assert score.also["AP at overlap 0.5"] > 0.8
    assert np.isclose(score.value, data.score(predictor(model, data), "train").value)


@torch.no_grad()
def test_queries_stand_in_the_order_of_their_places() -> None:
    model = small()
    picture = torch.randn((2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    said = model.net(picture)
    held = said.init_reference_points.sigmoid()
    order = (64 * held[..., 1] + held[..., 0]).argsort(1)
    wanted = said.intermediate_logits[:, -1].gather(1, order[..., None].expand(-1, -1, CLASSES))
    torch.testing.assert_close(model(picture)[0], wanted)


def test_there_are_no_more_queries_than_cells_and_never_as_many_as_default_boxes() -> None:
    assert queries.count(96, 300) == 144 + 36 + 9 and queries.count(640, 300) == 300
    data = TASK.open(None, settings={"train": 1, "val": 1, "test": 1, "queries": 300})
    assert data.given["queries"] == 189 and data.signature.outputs[0].shape == ("batch", 189, 4)
    assert TASK.open(None, settings=data.provenance["reopen"]).signature == data.signature
    assert not any(queries.answered(anchors.count(side)) for side in range(64, 1025, 32)) and queries.answered(300)
    with pytest.raises(Problem, match="how many default boxes"):
        TASK.open(None, settings={"queries": anchors.count(96)})


def test_a_plan_opens_the_data_as_its_architecture_asks() -> None:
    from cli import _fitting
    from compress.plan import parse
    from rules.knowledge import load

    table = {"schema_version": 1, "task": "object-detection", "architecture": "rt-detr", "variant": "r18-320"}
    assert _fitting(TASK, parse(table, "plan"), load()) == {"queries": 300}
    other = {**table, "architecture": "ssdlite", "variant": "mobilenetv3-320"}
    assert _fitting(TASK, parse(other, "plan"), load()) == {}
    with pytest.raises(Problem, match="ssdlite has no queries"):
        _fitting(TASK, parse({**other, "settings": {"queries": 50}}, "plan"), load())
