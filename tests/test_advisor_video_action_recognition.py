"""Action data: only motion tells the built-in classes apart, clips of any kind are read alike, refusals name their place."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from advisor import clip_augment
from advisor.clip_augment import Filmed
from advisor.data import clipfolders, frames, moving_shapes, pictures
from advisor.tasks.video_action_recognition import TASK
from compress.reader import reader
from rules.problems import Exit, Problem

FEW = {"train": 48, "val": 24, "test": 24}


def shades(count: int, *, width: int = 20, height: int = 16, first: int = 0) -> list[np.ndarray]:
    """Frames whose grey is their number."""
    return [np.full((height, width, 3), first + number, np.uint8) for number in range(count)]


def gif(clip: list[np.ndarray], **how: Any) -> bytes:
    file = io.BytesIO()
    images = [Image.fromarray(frame) for frame in clip]
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], **how)
    return file.getvalue()


def filled(place: Path, count: int, *, first: int = 0) -> None:
    place.mkdir(parents=True)
    for number, frame in enumerate(shades(count, first=first), 1):
        (place / f"{number}.png").write_bytes(pictures.png(frame))


def folders(place: Path, *, clips: int = 4, count: int = 12) -> Path:
    for number, name in enumerate(("wave", "clap")):
        for share, split in enumerate(("train", "val", "test")):
            for each in range(clips):
                filled(place / split / name / f"clip-{each}", count, first=100 * number + 20 * share + each)
    return place


def greys(found: list[Any]) -> list[int]:
    return [int(np.asarray(image)[0, 0, 0]) for image in found]


# -- the built-in clips ----------------------------------------------------------------------------------------------------


def test_generated_clips_say_that_nothing_was_filmed() -> None:
    facts = TASK.open(None, settings=FEW).provenance
    assert "nothing was filmed" in facts["source"] and facts["generator"] == "advisor.data.moving_shapes:compose"
    assert facts["classes"] == 8 and facts["splits"]["train"] == facts["splits"]["train"] | {"clips": 48, "smallest_class": 6}


def test_only_training_clips_follow_the_seed_and_the_epoch() -> None:
    for split in ("train", "val", "test"):
        one, other = (moving_shapes.compose(split, 3, seed=seed) for seed in (0, 1))  # type: ignore[arg-type]
        assert np.array_equal(one, other) == (split != "train")
        assert one.shape == (8, 32, 32, 3) and one.dtype == np.uint8
    data = TASK.open(None, settings=FEW)
    first, again, second = (next(iter(data.batches("train", batch_size=8, epoch=epoch, augment=True))) for epoch in (0, 0, 1))
    assert np.array_equal(first.inputs["clip"], again.inputs["clip"]) and not np.array_equal(first.inputs["clip"], second.inputs["clip"])


@pytest.mark.parametrize(("kind", "axis", "sign"), [("right", 0, 1), ("left", 0, -1), ("down", 1, 1), ("up", 1, -1)])
def test_a_heading_is_where_the_shapes_go(kind: str, axis: int, sign: int) -> None:
    for number in range(20):
        steps = np.diff(moving_shapes.path(kind, np.random.default_rng(number)), axis=0)
        assert (sign * steps[:, axis] > np.abs(steps[:, 1 - axis])).all()


def test_a_turn_is_seen_from_above_with_rows_counted_downwards() -> None:
    for kind, sign in (("circling right", 1), ("circling left", -1)):
        steps = np.diff(moving_shapes.path(kind, np.random.default_rng(1)), axis=0)
        turned = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]
        assert (sign * turned > 0).all()


def test_every_kind_but_rest_moves_at_the_same_pace() -> None:
    for kind in set(moving_shapes.LABELS) - {"resting"}:
        paces = []
        for number in range(200):
            steps = np.diff(moving_shapes.path(kind, np.random.default_rng(number)), axis=0)
            paces.append(np.sqrt((steps**2).sum(1).mean()))
        assert np.mean(paces) == pytest.approx((moving_shapes.SLOWEST + moving_shapes.FASTEST) / 2, rel=0.05), kind


def test_what_leaves_on_one_side_comes_back_on_the_other() -> None:
    moved = np.linspace(0, 1, 9)[:8, None] * np.array([1.0, 0.0])  # in eighths of the field
    ink = moving_shapes._shape(0.3 + moved, 0.15, 0)
    for number in range(8):
        assert np.allclose(ink[number], np.roll(ink[0], 4 * number, axis=1), atol=1e-4)


# -- frames ----------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 64))
def test_frames_are_the_middles_of_equal_parts(length: int, count: int) -> None:
    places = frames.middles(length, count)
    assert len(places) == count and places == sorted(places) and 0 <= places[0] <= places[-1] < length
    for part, place in enumerate(places):
        assert place == int((part + 0.5) * length / count)
    assert frames.middles(length, 3 * count)[1::3] == places


def test_names_count_as_people_count() -> None:
    names = ["10.png", "2.png", "1.png", "a10.png", "a9.png", "b.png"]
    assert sorted(names, key=frames.in_order) == ["1.png", "2.png", "10.png", "a9.png", "a10.png", "b.png"]


@pytest.mark.parametrize("form", ["zip", "gif", "webp", "apng"])
def test_a_clip_is_the_same_frames_in_any_container(form: str) -> None:
    clip = [frame * 12 for frame in shades(12)]
    if form == "zip":
        raw = frames.packed(clip)
    elif form == "gif":
        raw = gif(clip)
    else:
        file, images = io.BytesIO(), [Image.fromarray(frame) for frame in clip]
        kind = {"webp": {"format": "WEBP", "lossless": True}, "apng": {"format": "PNG"}}[form]
        images[0].save(file, save_all=True, append_images=images[1:], **kind)
        raw = file.getvalue()
    found, length = frames.decode(raw, 4, name=f"x.{form}")
    assert length == 12 and greys(found) == [12, 48, 84, 120] and found[0].size == (20, 16)


@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize("normalise", ["half", "imagenet"])
def test_the_reader_makes_bit_for_bit_what_training_sees(fit: str, normalise: str) -> None:
    rng = np.random.default_rng(0)
    clip = [rng.integers(0, 256, (37, 51, 3), dtype=np.uint8) for _ in range(11)]
    half = Image.fromarray(rng.integers(0, 256, (37, 51, 4), dtype=np.uint8))
    odd = io.BytesIO()
    half.save(odd, "PNG", save_all=True, append_images=[half.rotate(90), half.rotate(180)])
    steps = json.loads(json.dumps(frames.steps(5, 24, fit=fit, normalise=normalise)))
    for raw in (frames.packed(clip), gif(clip), gif(clip, transparency=3, disposal=2), odd.getvalue(), pictures.png(clip[0])):
        seen = frames.stack([frames.film(frames.decode(raw, 5, name="x")[0], 24, fit=fit)], normalise=normalise)
        assert np.array_equal(reader.apply(raw, steps), seen) and seen.shape == (1, 5, 3, 24, 24)


def test_the_reader_refuses_what_is_no_clip() -> None:
    steps = frames.steps(4, 16)
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    for raw in (b"", b"PK\x03\x04 no zip", empty.getvalue(), b"RIFF", gif(shades(6))[:80], frames.zipped([("1.png", b"no picture")])):
        with pytest.raises(reader.Refused):
            reader.apply(raw, steps)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", b"PK\x03\x04", b"GIF89a"]), st.integers(0, 4000), st.booleans())
def test_damaged_clips_are_refused_and_never_crash(noise: bytes, start: bytes, at: int, packed: bool) -> None:
    good = frames.packed(shades(3)) if packed else gif([frame * 40 for frame in shades(3)])
    for raw in (start + noise, good[: at % len(good)] + noise):
        for read in (partial(frames.decode, count=2, name="a.gif"), partial(reader.apply, steps=frames.steps(2, 8))):
            try:
                read(raw)
            except Problem as refused:
                assert refused.code == Exit.INPUT and "a.gif" in str(refused)
            except reader.Refused:
                pass


def test_absurd_clips_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MOST_FRAMES", 5)
    with pytest.raises(Problem, match="more than 5 frames"):
        frames.decode(frames.packed(shades(6)), 2, name="x.zip")
    with pytest.raises(Problem, match="more than 5 frames"):
        frames.decode(gif([frame * 40 for frame in shades(6)]), 2, name="x.gif")


def test_a_video_file_without_a_decoder_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(Problem, match=r"x\.mp4 .*PyAV.*not installed") as refused:
        frames.decode(b"....ftyp", 2, name="x.mp4")
    assert refused.value.code == Exit.ENVIRONMENT and "edge-advisor[video]" in refused.value.remedy


def test_a_video_file_is_read_frame_by_frame() -> None:
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as target:
        stream = target.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in [*shades(20, width=64, height=48), None]:
            target.mux(stream.encode(None if frame is None else av.VideoFrame.from_ndarray(frame * 12, format="rgb24")))
    found, length = frames.decode(file.getvalue(), 4, name="a/x.mp4 (train.tsv:3)")
    assert length == 20 and found[0].size == (64, 48)
    assert np.allclose(greys(found), [12 * place for place in (2, 7, 12, 17)], atol=6)
    for raw in (file.getvalue()[:200], b"no video"):
        with pytest.raises(Problem, match=r"x\.mp4 cannot be read as a video") as refused:
            frames.decode(raw, 4, name="x.mp4")
        assert refused.value.code == Exit.INPUT


# -- folders and lists -----------------------------------------------------------------------------------------------------


def test_a_folder_of_frames_is_a_clip(tmp_path: Path) -> None:
    data = TASK.open(folders(tmp_path), settings={"frames": 4})
    assert data.labels == ["clap", "wave"] and data.given == {"classes": 2, "frames": 4, "side": 32}
    clip = next(iter(data.batches("val", batch_size=2))).inputs["clip"]
    assert clip.shape == (2, 4, 3, 32, 32)
    grey = np.round((clip[0, :, 0, 0, 0] * 0.5 + 0.5) * 255).astype(int)
    assert grey.tolist() == [121, 124, 127, 130]  # frames 2, 5, 8 and 11 of clap's first: 100 + 20 + 1, and so on
    assert data.provenance["splits"]["val"]["median_frames"] == 12 and data.provenance["layout"] == "a folder a class"
    assert data.facts == {"resolution": 32, "classes": 2, "examples": 8}


def test_missing_splits_are_drawn_by_the_clip_and_recorded(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(20):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{number}.gif").write_bytes(gif([frame * 30 for frame in shades(4, first=number % 4)]))
    data = TASK.open(tmp_path, settings={"frames": 2})
    assert sum(data.count(split) for split in ("train", "val", "test")) == 40 and data.count("val") and data.count("test")
    assert "sha256" in data.provenance["split"] and data.provenance["seed"] == 0
    first, again = (next(iter(TASK.open(tmp_path, settings={"frames": 2}).batches("val", batch_size=40))) for _ in range(2))
    assert first.ids == again.ids


@pytest.mark.parametrize("form", ["tsv", "csv", "jsonl"])
def test_lists_name_clips_that_are_files_or_folders(tmp_path: Path, form: str) -> None:
    filled(tmp_path / "clips" / "one", 5)
    (tmp_path / "clips" / "two.gif").write_bytes(gif([frame * 40 for frame in shades(6)]))
    (tmp_path / "clips" / "three.zip").write_bytes(frames.packed(shades(7)))
    filled(tmp_path / "clips" / "four", 3)
    rows = [("clips/one", "a", "train"), ("clips/two.gif", "b", "train"), ("clips/three.zip", "a", "val"), ("clips/four", "b", "test")]
    text = {
        "tsv": "clip\tlabel\tsplit\n" + "".join("\t".join(row) + "\n" for row in rows),
        "csv": "clip,label,split\n" + "".join(",".join(row) + "\n" for row in rows),
        "jsonl": "".join(json.dumps(dict(zip(("clip", "label", "split"), row, strict=True))) + "\n" for row in rows),
    }[form]
    (tmp_path / f"labels.{form}").write_text(text)
    data = TASK.open(tmp_path, settings={"frames": 4})
    assert [data.count(split) for split in ("train", "val", "test")] == [2, 1, 1]
    assert "1 clips have fewer than 4 frames: some of theirs come twice" in data.provenance["warnings"]


WRONG_SHAPES: dict[str, tuple[Any, str]] = {
    "nothing": (lambda place: place.mkdir(), r"is empty"),
    "frames without a clip": (
        lambda place: ((place / "a").mkdir(parents=True), (place / "a" / "1.png").write_bytes(b"x")),
        r"a/1\.png is a frame of no clip",
    ),
    "a class without clips": (
        lambda place: ((place / "a").mkdir(parents=True), (place / "a" / "x.txt").write_text("x")),
        r"class a has no clip",
    ),
    "classes beside splits": (lambda place: ((place / "train" / "a").mkdir(parents=True), (place / "b").mkdir()), r"has b beside train"),
    "a list of what is not there": (
        lambda place: (place.mkdir(), (place / "train.tsv").write_text("x.gif\ta\n")),
        r"train\.tsv:1: there is no x\.gif",
    ),
    "a list that leads out": (lambda place: (place.mkdir(), (place / "train.tsv").write_text("../x\ta\n")), r"train\.tsv:1: .* leads out"),
}


@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_a_folder_in_the_wrong_shape_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    make, said = WRONG_SHAPES[name]
    make(tmp_path / "data")
    with pytest.raises(Problem, match=said) as refused:
        TASK.open(tmp_path / "data")
    assert refused.value.code == Exit.INPUT and refused.value.remedy


def test_an_empty_clip_and_a_damaged_frame_are_named(tmp_path: Path) -> None:
    folders(tmp_path, clips=2, count=4)
    (tmp_path / "val" / "wave" / "clip-1" / "3.png").write_bytes(b"no picture")
    with pytest.raises(Problem, match=r"val/wave/clip-1: 3\.png cannot be read"):
        _ = TASK.open(tmp_path, settings={"frames": 4}).provenance
    (tmp_path / "test" / "clap" / "clip-2").mkdir()
    (tmp_path / "val" / "wave" / "clip-1" / "3.png").write_bytes(pictures.png(shades(1)[0]))
    with pytest.raises(Problem, match=r"test/clap/clip-2 has no frame"):
        _ = TASK.open(tmp_path, settings={"frames": 1}).provenance


def test_a_class_that_training_never_shows_is_refused(tmp_path: Path) -> None:
    folders(tmp_path, clips=1, count=4)
    filled(tmp_path / "test" / "jump" / "one", 3)
    with pytest.raises(Problem, match=r"test/jump/one: class 'jump' is not in the training clips"):
        TASK.open(tmp_path)


def test_the_same_clip_in_two_splits_is_told(tmp_path: Path) -> None:
    folders(tmp_path, clips=1, count=4)
    for number in range(4):
        (tmp_path / "val" / "wave" / "clip-0" / f"{number + 1}.png").write_bytes(
            (tmp_path / "train" / "wave" / "clip-0" / f"{number + 1}.png").read_bytes()
        )
    assert "the same, byte for byte, in train and val" in TASK.open(tmp_path, settings={"frames": 4}).provenance["warnings"][0]


def test_a_set_to_score_needs_no_training_clips(tmp_path: Path) -> None:
    trained = TASK.open(folders(tmp_path / "one"), settings={"frames": 3})
    filled(tmp_path / "two" / "test" / "wave" / "x", 9)
    other = TASK.open(tmp_path / "two", settings=trained.provenance["reopen"])
    assert other.count("train") == 0 and other.frames == 3 and other.labels == ["clap", "wave"]
    assert other.score(lambda feeds: {"logits": np.array([[0.0, 1.0]])}, "test").value == 1.0


# -- variation -------------------------------------------------------------------------------------------------------------


def test_a_clip_varies_as_one_and_only_where_it_is_trained_on(tmp_path: Path) -> None:
    data = TASK.open(folders(tmp_path), settings={"frames": 4})
    plain, varied = (next(iter(data.batches("train", batch_size=4, augment=augment))).inputs["clip"] for augment in (False, True))
    assert not np.array_equal(plain, varied)
    still, kept = (next(iter(data.batches("val", batch_size=4, augment=augment))).inputs["clip"] for augment in (False, True))
    assert np.array_equal(still, kept)


def test_frames_are_moved_and_mirrored_together() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    held = np.stack([picture] * 4)
    for seed in range(8):
        seen = clip_augment.varied(held, clip_augment.generator(0, 0, seed), Filmed(flip=True, shift=0.2, tone=0.3))
        assert (seen == seen[:1]).all() and seen.shape == held.shape


def test_jitter_takes_one_frame_of_each_part() -> None:
    held = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    taken = {int(value) for seed in range(40) for value in clip_augment.taken(held, np.random.default_rng(seed))[:, 0, 0, 0]}
    assert taken == set(range(12)) and clip_augment.middle(held)[:, 0, 0, 0].tolist() == [1, 4, 7, 10]
    for seed in range(10):
        places = clip_augment.taken(held, np.random.default_rng(seed))[:, 0, 0, 0].astype(int)
        assert (places // 3).tolist() == [0, 1, 2, 3]


WRONG = {
    "frames": [0, 65, 2.0, True, None],
    "side": [8, 1024, "32", True],
    "fit": ["fill"],
    "normalise": ["none"],
    "train": [0, 1.5],
    "labels": [[], ["a", "a"], "ab", [1]],
    "flip": [1, "yes"],
    "jitter": [0],
    "shift": [-0.1, 0.6, True],
    "tone": [1.0, "0.1"],
    "colour": [1],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_wrong_setting_is_refused_before_anything_is_read(key: str, value: Any) -> None:
    with pytest.raises(Problem) as refused:
        TASK.open(Path("nowhere"), settings={key: value})
    assert refused.value.code == Exit.USAGE and key in str(refused.value)


def test_many_classes_are_scored_by_the_best_five_too(tmp_path: Path) -> None:
    for number in range(12):
        for split in ("train", "val", "test"):
            filled(tmp_path / split / f"c{number:02d}" / "x", 2, first=number)
    data = TASK.open(tmp_path, settings={"frames": 2})
    wrong = np.tile(np.arange(12.0)[::-1], (12, 1))  # the first class is always best
    score = data.score(lambda feeds: {"logits": wrong[: len(feeds["clip"])]}, "test")
    assert score.value == pytest.approx(1 / 12) and score.also["top5"] == pytest.approx(5 / 12)
    assert clipfolders.corpus(tmp_path, seed=0).facts["split"] == "as given"
