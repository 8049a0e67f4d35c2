"""Pictures and their captions: read from lists, numbered as the bundle's reader numbers them, found by each other; two towers that ship apart."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advisor import words
from advisor.architectures import dual_encoder
from advisor.data import captioned_shapes
from advisor.data.pictures import png
from advisor.tasks.image_text_matching import TASK
from compress.context import Target
from compress.export import export
from compress.reader import reader, steps_pair
from rules.problems import Exit, Problem

FEW = {"train": 40, "val": 12, "test": 12}
CAPTIONS = [f"A {colour} {thing}." for colour in ("red", "green", "blue") for thing in ("cat", "dog", "hat", "cup")]


def folder(place: Path, captions: list[str], *, ending: str = "csv", header: str = "image,caption") -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for number, caption in enumerate(captions):
        (place / f"{number}.png").write_bytes(png(rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)))
        split = ("train", "train", "val", "test")[number % 4]
        rows.append({"image": f"{number}.png", "caption": caption, "split": split})
    if ending == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        text = f"{header},split\n" + "".join(",".join(row.values()) + "\n" for row in rows)
    (place / f"manifest.{ending}").write_text(text)
    return place


def small(data: Any) -> dual_encoder.DualEncoder:
    torch.manual_seed(0)
    return dual_encoder.build(**data.given, picture=(8, 16), width=16, layers=1, heads=2).eval()


# -- data ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_list_of_captions_is_read(tmp_path: Path, ending: str) -> None:
    data = TASK.open(folder(tmp_path, CAPTIONS, ending=ending), settings={"side": 32, "length": 6})
    assert [data.count(split) for split in ("train", "val", "test")] == [6, 3, 3]
    assert data.words[0] == "a" and "cat" in data.words, "the most frequent word is the first"
    (batch,) = data.batches("val", batch_size=8)
    assert batch.inputs["image"].shape == (3, 3, 32, 32) and batch.inputs["words"].shape == (3, 6)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda place: (place / "3.png").unlink(), r"manifest\.csv:5: there is no 3\.png"),
        (lambda place: (place / "3.png").write_bytes(b"no picture"), r"3\.png \(manifest\.csv:5\)"),
        (
            lambda place: (place / "manifest.csv").write_text("image,caption,split\n0.png,...,train\n1.png,a,val\n2.png,b,test\n"),
            r"manifest\.csv:2\): the caption '\.\.\.' has no word",
        ),
        (lambda place: (place / "manifest.csv").write_text('image,caption\n0.png,"left open\n'), r"manifest\.csv:\d+"),
    ],
    ids=["missing", "no picture", "no word", "a quote left open"],
)
def test_a_folder_in_the_wrong_shape_is_refused_with_its_line(tmp_path: Path, spoil: Any, said: str) -> None:
    place = folder(tmp_path, CAPTIONS)
    spoil(place)
    with pytest.raises(Problem, match=said) as refused:
        data = TASK.open(place, settings={"side": 32})
        list(data.batches("test", batch_size=8))
    assert refused.value.code == Exit.INPUT


@pytest.mark.parametrize(
    "wrong", [{"side": 8}, {"length": 0}, {"embedding": 1.5}, {"fit": "squash"}, {"vocabulary": ["a", "a"]}, {"words": 3}]
)
def test_a_wrong_setting_is_refused_in_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(Problem, match=next(iter(wrong))) as refused:
        TASK.open(None, settings=wrong)
    assert refused.value.code == Exit.USAGE


@given(st.text(max_size=60), st.integers(1, 8))
def test_the_reader_numbers_words_as_training_does(text: str, length: int) -> None:
    known = ["a", "red", "über", "3", "cat"]
    assert np.array_equal(words.encode(text, known, length), steps_pair.words(text, known, length)[0])


@given(
    st.one_of(
        st.binary(max_size=60), st.sampled_from([b"[1]", b'{"image": 3, "words": "a"}', b'{"image": "!", "words": "a"}', b'{"words": "a"}'])
    )
)
def test_whatever_is_in_a_pairs_file_is_read_or_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="no JSON object with"):
        steps_pair.fields(raw, binary=["image"], text=["words"])


def test_a_sample_reads_in_the_bundle_as_in_training() -> None:
    data = TASK.open(None, settings=FEW)
    (sample,) = data.samples("test", 1)
    found = reader.apply(sample.raw, data.preprocess)
    assert sorted(found) == ["image", "words"] and all(np.array_equal(found[name], sample.inputs[name]) for name in found)
    shown = base64.b64decode(json.loads(sample.raw)["image"])
    assert shown == sample.picture and sample.suffix == "json"


def test_the_drawn_pictures_are_the_same_twice_and_say_that_they_are_drawn() -> None:
    assert np.array_equal(captioned_shapes.draw("test", 3), captioned_shapes.draw("test", 3))
    assert "nothing about photographs" in TASK.open(None, settings=FEW).provenance["generated"]


# -- score and loss ------------------------------------------------------------------------------------------------------


def test_pairs_that_lie_together_are_always_found_and_equal_captions_count_as_own() -> None:
    data = TASK.open(None, settings=FEW)
    said = {line.text: place for place, line in enumerate(data._lines["test"])}
    order = iter(data._lines["test"])

    def perfect(feeds: Any) -> dict[str, np.ndarray]:
        rows = np.eye(64, dtype=np.float32)[[said[next(order).text] for _ in feeds["words"]]]
        return {"image_embedding": rows, "text_embedding": rows}

    def same(feeds: Any) -> dict[str, np.ndarray]:
        return dict.fromkeys(("image_embedding", "text_embedding"), np.ones((len(feeds["words"]), 64), np.float32))

    found = data.score(perfect, "test")
    assert found.value == 1 and found.also["image_to_text"] == found.also["text_to_image"] == 1 and len(found.errors) == 12
    assert data.score(same, "test").value == 0, "a net that says the same of everything finds nothing"


def test_the_loss_falls_as_pairs_come_together_and_a_teacher_that_is_met_costs_nothing() -> None:
    torch.manual_seed(0)
    captions = {"caption": torch.arange(6)}
    image = torch.nn.functional.normalize(torch.randn(6, 8), dim=-1)
    losses = [float(TASK.loss((image, (1 - near) * torch.randn(6, 8) + near * image), captions)) for near in (0.0, 0.5, 1.0)]
    assert losses[0] > losses[1] > losses[2]
    assert float(TASK.distil_loss((image, image), (image, image), None, temperature=2.0)) == pytest.approx(0, abs=1e-6)


# -- the net -------------------------------------------------------------------------------------------------------------


def test_the_towers_meet_in_the_dot_product_only() -> None:
    data = TASK.open(None, settings=FEW)
    model = small(data)
    (batch,) = data.batches("val", batch_size=12)
    image, text = (torch.from_numpy(batch.inputs[name]) for name in ("image", "words"))
    places, other = model(image, text), model(image.flip(0), text)
    assert torch.allclose(other[0], places[0].flip(0), atol=1e-5) and torch.equal(other[1], places[1])
    assert all(torch.allclose(place.norm(dim=-1), torch.ones(12), atol=1e-5) for place in places)


def test_what_stands_behind_the_last_word_is_not_read() -> None:
    data = TASK.open(None, settings=FEW)
    text = small(data).text
    said = torch.from_numpy(next(iter(data.batches("val", batch_size=4))).inputs["words"])
    before = text(said)
    with torch.no_grad():
        text.words.weight[dual_encoder.PADDING] += 5
    assert torch.allclose(text(said), before, atol=1e-5)


def test_the_pictures_half_can_be_cut_out_and_answers_alike(tmp_path: Path) -> None:
    """Where the names are known, their vectors are computed once and only this half ships."""
    import onnxruntime

    data = TASK.open(None, settings=FEW)
    whole = export(small(data), data, tmp_path / "whole.onnx", target=Target())
    onnx.utils.extract_model(str(whole), str(tmp_path / "half.onnx"), ["image"], ["image_embedding"])
    (batch,) = data.batches("test", batch_size=12)
    both, half = (
        onnxruntime.InferenceSession(str(tmp_path / name), providers=["CPUExecutionProvider"]) for name in ("whole.onnx", "half.onnx")
    )
    (alone,) = half.run(["image_embedding"], {"image": batch.inputs["image"]})
    assert np.allclose(alone, both.run(["image_embedding"], dict(batch.inputs))[0], atol=1e-6)
    assert [port.name for port in half.get_inputs()] == ["image"]
