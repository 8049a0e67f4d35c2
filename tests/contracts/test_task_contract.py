"""What every task keeps: its default set opens, its batches are sound, a model learns from its loss, its files read as its arrays.

Tasks are found by looking into `advisor/tasks`; nothing is listed here.
"""

from __future__ import annotations

import base64
import json
import math
import pkgutil
from importlib import import_module
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

import advisor.tasks
from compress.context import tensors
from compress.reader import reader
from compress.report.reading import image
from rules.examples import BESIDE_ERRORS, Answers, Batch, Metric

FOUND = sorted(module.name for module in pkgutil.iter_modules(advisor.tasks.__path__))
SPLITS = ("train", "val", "test")
LIMIT = 24


@pytest.fixture(scope="module", params=FOUND)
def task(request: pytest.FixtureRequest) -> Any:
    return import_module(f"advisor.tasks.{request.param}").TASK


@pytest.fixture(scope="module")
def data(task: Any) -> Any:
    return task.open(None, seed=0)


def limited(data: Any, split: str, **how: Any) -> list[Batch]:
    return list(data.batches(split, batch_size=8, limit=LIMIT, **how))


def fits(shape: tuple[int | str, ...], array: np.ndarray) -> bool:
    return len(shape) == array.ndim and all(isinstance(want, str) or want == have for want, have in zip(shape, array.shape, strict=True))


class Columns(nn.Module):
    """The smallest recogniser: four columns of pixels make a step, one linear layer reads it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.steps = nn.Conv2d(1, classes, (32, 4), stride=(32, 4))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.steps(image)[:, :, 0].transpose(1, 2)


class Steps(nn.Module):
    """The smallest model of a window over time: one linear map along it, to the steps ahead or back to the window and its score."""

    def __init__(self, length: int, outputs: int, *, scored: bool) -> None:
        super().__init__()
        self.map = nn.Linear(length, outputs)
        self.scored = scored

    def forward(self, window: torch.Tensor) -> Any:
        answer = self.map(window.transpose(1, 2)).transpose(1, 2)
        return (answer, (answer - window).square().flatten(1).mean(1)) if self.scored else answer


class Places(nn.Module):
    """The smallest model that answers with a place: coarse pixels, one bend, one linear map."""

    def __init__(self, pixels: int, outputs: int) -> None:
        super().__init__()
        self.map = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(pixels // 16, 64), nn.Tanh(), nn.Linear(64, outputs))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(self.map(image), dim=-1)


class Towers(nn.Module):
    """The smallest model of a picture and a text: coarse pixels and one bend; the mean of its words."""

    def __init__(self, pixels: int, words: int, outputs: int) -> None:
        super().__init__()
        self.picture, self.words = Places(pixels, outputs), nn.EmbeddingBag(words, outputs)

    def forward(self, image: torch.Tensor, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.picture(image), nn.functional.normalize(self.words(words), dim=-1)


class Waves(nn.Module):
    """The smallest model that hears: 10 ms of sound are a step, one linear layer reads it; of a clip the mean over its steps."""

    def __init__(self, hop: int, classes: int, *, spelled: bool) -> None:
        super().__init__()
        self.steps = nn.Conv1d(1, classes, 4 * hop, 4 * hop)
        self.spelled = spelled

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        found = self.steps(10 * waveform[:, None])
        return found.transpose(1, 2) if self.spelled else found.abs().mean(2)


class Rows(nn.Module):
    """The smallest model of a row of a table: a weight a number and one a category, summed."""

    def __init__(self, numeric: int, rows: int) -> None:
        super().__init__()
        self.numbers, self.categories = nn.Linear(numeric, 1), nn.Embedding(rows, 1)

    def forward(self, numeric: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
        return (self.numbers(numeric) + self.categories(categorical).mean(1)).squeeze(1)


class Pairs(nn.Module):
    """The smallest model of what follows: one sign says it, by a table."""

    def __init__(self, signs: int) -> None:
        super().__init__()
        self.follows = nn.Embedding(signs, signs)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.follows(ids)


class Cells(nn.Module):
    """The smallest model with an answer for each place of a picture: eight by eight pixels are a cell, one linear layer reads it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.map = nn.Conv2d(3, classes, 8, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.map(image).permute(0, 2, 3, 1)


class Anchored(nn.Module):
    """The smallest detector: the whole picture, seen coarsely, moves every default box and its scores."""

    def __init__(self, pixels: int, places: int, numbers: int) -> None:
        super().__init__()
        self.sees = nn.Sequential(nn.AvgPool2d(16), nn.Flatten())
        self.scores, self.boxes = (nn.Linear(pixels // 256, places * count) for count in (numbers, 4))
        self.places = places

    def forward(self, image: torch.Tensor) -> Any:
        seen = self.sees(image)
        return tuple(head(seen).unflatten(1, (self.places, -1)) for head in (self.scores, self.boxes))


class Bag(nn.Module):
    """The smallest classifier of texts: every subword speaks for each label, and the mean counts."""

    def __init__(self, vocabulary: int, classes: int) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(vocabulary, classes, padding_idx=0)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.words(tokens)


class Glossed(nn.Module):
    """The smallest translator: what comes next by a table of the word before, and by what words of the source speak for."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.follows, self.means = nn.Embedding(words, words), nn.EmbeddingBag(words, words, padding_idx=0)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.follows(target) + self.means(source)[:, None]


def small_model(data: Any) -> nn.Module:
    """A model of the task's ports, with fixed weights."""
    port, out = data.signature.inputs[0], data.signature.outputs[0]
    if [each.name for each in data.signature.inputs] == ["source", "target"]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Glossed(data.given["vocabulary"])
    if port.name == "tokens" and len(out.shape) == 2:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Bag(data.given["vocabulary"], int(out.shape[1]))
    if [each.name for each in data.signature.outputs] == ["scores", "boxes"]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Anchored(math.prod(port.shape[1:]), int(out.shape[1]), int(out.shape[2]))
    if len(port.shape) == 4 and out.shape[1:3] == ("rows", "columns"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Cells(int(out.shape[3]))
    if port.name == "ids" and out.shape[1:2] == ("time",):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Pairs(data.given["vocabulary"])
    if port.name == "waveform":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Waves(data.given["rate"] // 100, int(out.shape[-1]), spelled=len(out.shape) == 3)
    if [each.name for each in data.signature.inputs] == ["numeric", "categorical"]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Rows(int(port.shape[1]), data.given["rows"])
    if out.name == "image_embedding":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Towers(math.prod(port.shape[1:]), data.given["vocabulary"], int(out.shape[1]))
    if out.name == "embedding":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Places(math.prod(port.shape[1:]), int(out.shape[1]))
    if port.name == "clip":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nn.Sequential(
                nn.Flatten(1, 2), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(math.prod(port.shape[1:]) // 16, out.shape[1])
            )  # clip → classes
    if port.name in ("history", "window"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Steps(int(port.shape[1]), int(out.shape[1]), scored=len(data.signature.outputs) > 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if len(port.shape) == 4 and all(isinstance(size, int) for size in (*port.shape[1:], *out.shape[1:])) and len(out.shape) == 2:
            return nn.Sequential(
                nn.AvgPool2d(4), nn.Flatten(), nn.Linear(math.prod(port.shape[1:]) // 16, out.shape[1])
            )  # picture → classes
    assert port.shape[1:3] == (1, 32) and out.shape[1] == "time", f"no small model for {port} → {out}: write one here"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Columns(out.shape[2])


def predictor(model: nn.Module, data: Any) -> Any:
    names = [port.name for port in data.signature.outputs]

    def predict(feeds: Any) -> dict[str, np.ndarray]:
        with torch.no_grad():
            found = model(*tensors(feeds).values())
        return {name: value.numpy() for name, value in zip(names, found if isinstance(found, tuple) else (found,), strict=True)}

    return predict


def test_a_task_is_found() -> None:
    assert "ocr" in FOUND


def test_a_task_has_a_name_and_a_metric_with_a_direction(task: Any) -> None:
    assert isinstance(task.metric, Metric) and task.metric.better in ("lower", "higher") and task.name.replace("-", "_") in FOUND


def test_the_default_set_opens_with_three_splits(data: Any) -> None:
    assert all(data.count(split) >= LIMIT for split in SPLITS)
    assert data.labels and len(set(data.labels)) == len(data.labels)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("augment", [False, True])
def test_batches_fit_the_signature_and_are_bounded(data: Any, split: str, augment: bool) -> None:
    batches = limited(data, split, augment=augment)
    assert len({name for batch in batches for name in batch.ids}) == sum(len(batch.ids) for batch in batches) == LIMIT
    for batch in batches:
        for port in data.signature.inputs:
            array = batch.inputs[port.name]
            assert array.dtype == port.dtype and fits(port.shape, array) and len(array) == len(batch.ids) <= 8
            lowest, highest = port.values or (-100, 100)
            assert np.isfinite(array).all() and lowest <= array.min() and array.max() <= highest
            for axis, size in zip(port.shape, array.shape, strict=True):
                low, high, multiple = port.ranges.get(str(axis), (size, size, 1))
                assert low <= size <= high and size % multiple == 0
        assert all(len(target) == len(batch.ids) for target in batch.targets.values())


def test_no_example_is_in_two_splits(data: Any) -> None:
    names = [{name for batch in data.batches(split, batch_size=64) for name in batch.ids} for split in SPLITS]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]


def test_a_few_steps_of_training_reduce_the_loss(task: Any, data: Any) -> None:
    model, (batch, *_) = small_model(data), limited(data, "train")
    inputs, targets = tensors(batch.inputs), tensors(batch.targets)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = task.loss(model(*inputs.values()), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_distillation_moves_a_student_towards_its_teacher(task: Any, data: Any) -> None:
    inputs = tensors(limited(data, "train")[0].inputs)
    student, teacher = small_model(data), small_model(data)
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.mul_(3.0)
        goal = teacher(*inputs.values())
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = task.distil_loss(student(*inputs.values()), goal, None, temperature=2.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert task.distil_loss(goal, goal, None, temperature=2.0).item() == pytest.approx(0, abs=1e-5)


def test_the_metric_is_a_finite_fraction_with_its_parts(task: Any, data: Any) -> None:
    found = data.score(predictor(small_model(data), data), "val", limit=LIMIT)
    assert found.metric == task.metric and len(found.errors) == len(found.weights) == LIMIT
    assert np.isfinite(found.value) and found.value >= 0
    everyone = np.arange(LIMIT)
    assert found.value == pytest.approx(found.errors.sum() / found.weights.sum() if found.over is None else found.over(everyone))
    assert all(value >= 0 and (value <= 1 or name in BESIDE_ERRORS) for name, value in found.also.items())


def test_a_score_is_the_same_twice(data: Any) -> None:
    predict = predictor(small_model(data), data)
    one, other = (data.score(predict, "val", limit=LIMIT) for _ in range(2))
    assert one.value == other.value and np.array_equal(one.errors, other.errors)


def test_a_sample_file_becomes_its_array_by_the_declared_steps(data: Any) -> None:
    samples = data.samples("test", 5)
    assert len(samples) == len({sample.name for sample in samples}) == 5
    steps = json.loads(json.dumps(data.preprocess))  # as a bundle stores them
    for sample in samples:
        made = reader.apply(sample.raw, steps)
        for port in data.signature.inputs:
            array = sample.inputs[port.name]
            assert np.array_equal(made[port.name] if isinstance(made, dict) else made, array) and len(array) == 1
            assert fits(port.shape, array)


def test_reading_gives_a_text_an_example(data: Any) -> None:
    batch = limited(data, "val")[0]
    readings = data.read(predictor(small_model(data), data)(batch.inputs))
    assert len(readings) == len(batch.ids) and all(isinstance(reading, str) for reading in readings)


def test_a_reading_can_be_what_the_truth_says_where_it_is_judged_by_it(data: Any) -> None:
    """The report marks a class that is not the truth as wrong: a truth that is no class would be wrong every time. Figures are not marked."""
    said = getattr(data, "answers", "text")
    assert said in get_args(Answers)
    if said == "class":
        told = [repr(label)[1:-1] for label in data.labels]
        assert all(any(label in sample.truth for label in (*told, "nothing")) for sample in data.samples("test", 8))


def test_what_draws_its_answers_gives_a_picture_that_the_report_shows(data: Any) -> None:
    sample = data.samples("test", 1)[0]
    if sample.draw is None:
        assert not getattr(data, "legend", ""), "nothing is drawn that a legend could explain"
        return
    outputs = predictor(small_model(data), data)(sample.inputs)
    assert image(base64.b64encode(sample.draw({"float": outputs, "shipped": outputs})).decode()) and data.legend


def test_probes_are_single_examples_of_the_signature(data: Any) -> None:
    probes = data.probes()
    assert probes
    for feeds in probes.values():
        for port in data.signature.inputs:
            assert feeds[port.name].dtype == port.dtype and fits(port.shape, feeds[port.name]) and len(feeds[port.name]) == 1


def test_provenance_and_steps_are_json(data: Any) -> None:
    for value in (data.provenance, data.preprocess, data.postprocess):
        assert json.loads(json.dumps(value)) == (list(value) if isinstance(value, tuple) else value)
    assert data.provenance["source"] and data.provenance["licence"]
