"""Recordings are read as the bundle's reader reads them, whatever their kind; what is no recording is refused by name."""

from __future__ import annotations

import io
import json
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.data import audio, recordings
from compress.reader import reader, steps_audio
from rules.problems import Exit, Problem

SHAPES = (audio.steps(8000, 8000), audio.steps(16000, 4000), audio.speech_steps(16000, multiple=160, minimum=4800, longest=480000))


def pcm(samples: np.ndarray, rate: int, *, width: int = 2, channels: int = 1) -> bytes:
    """A wav file with samples of `width` bytes."""
    file = io.BytesIO()
    whole = np.clip(np.round(samples * 2.0 ** (8 * width - 1)), -(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1).astype(np.int64)
    data = (
        (whole + 128).astype(np.uint8).tobytes() if width == 1 else whole.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    )
    with wave.open(file, "wb") as target:
        target.setnchannels(channels)
        target.setsampwidth(width)
        target.setframerate(rate)
        target.writeframes(data)
    return file.getvalue()


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, count)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([8000, 11025, 16000, 22050, 44100]),
    st.integers(1, 5000),
    st.sampled_from(SHAPES),
)
def test_the_reader_hears_what_training_hears(width: int, channels: int, rate: int, count: int, steps: Any) -> None:
    raw = pcm(noise(count * channels), rate, width=width, channels=channels)
    ours = audio.apply(steps, raw)
    assert ours.dtype == np.float32 and ours.shape[0] == 1 and np.abs(ours).max() <= 2
    assert np.array_equal(ours, reader.apply(raw, json.loads(json.dumps(steps))))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_whole_numbers_of_any_width_become_the_same_sound(width: int) -> None:
    samples, rate = audio.decode(pcm(noise(500), 8000, width=width))
    assert rate == 8000 and np.abs(samples - noise(500)).max() <= 1.01 * 2.0 ** -(8 * width - 1) + 6e-8


def test_channels_are_averaged() -> None:
    both = np.stack([noise(300), -noise(300) / 2], axis=1).reshape(-1)
    assert np.allclose(audio.decode(pcm(both, 8000, channels=2))[0], noise(300) / 4, atol=1e-4)


@pytest.mark.parametrize(("have", "rate"), [(16000, 8000), (8000, 16000), (44100, 16000), (48000, 8000)])
def test_another_rate_keeps_what_both_can_hold(have: int, rate: int) -> None:
    heard = [0.5 * np.sin(2 * np.pi * 997 * np.arange(place) / place).astype(np.float32) for place in (have, rate)]
    found = audio.resample((heard[0].astype(np.float32), have), rate)[0]
    assert len(found) == rate and np.abs(found - heard[1])[300:-300].max() < 1e-3


def test_what_the_lower_rate_cannot_hold_is_filtered_away() -> None:
    high = 0.5 * np.sin(2 * np.pi * 6000 * np.arange(16000) / 16000)
    assert np.abs(audio.resample((high.astype(np.float32), 16000), 8000)[0][200:-200]).max() < 1e-3


def test_a_clip_is_the_middle_and_a_short_one_stands_in_the_middle() -> None:
    row = np.arange(1, 11, dtype=np.float32)[None]
    assert audio.clip(row, 4).tolist() == [[4, 5, 6, 7]] and audio.clip(row, 10).tolist() == row.tolist()
    assert audio.clip(row[:, :2], 5).tolist() == [[0, 1, 2, 0, 0]]


def test_flac_and_float_wav_are_read_by_soundfile_and_shipped_as_plain_wav() -> None:
    soundfile = pytest.importorskip("soundfile")
    for kind, subtype, near in (("FLAC", "PCM_16", 1e-4), ("WAV", "FLOAT", 1e-6)):
        file = io.BytesIO()
        soundfile.write(file, noise(800), 16000, format=kind, subtype=subtype)
        samples, rate = audio.decode(file.getvalue())
        assert rate == 16000 and np.abs(samples - noise(800)).max() < near
        shipped = audio.as_plain(file.getvalue())
        assert np.abs(steps_audio.wave_file(shipped)[0] - samples).max() < 1e-4
    assert audio.as_plain(pcm(noise(9), 8000)) == pcm(noise(9), 8000)


def test_without_soundfile_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert audio.decode(pcm(noise(5), 8000))[1] == 8000
    with pytest.raises(Problem, match=r"a\.flac is no plain wav.*edge-advisor\[audio\]") as refused:
        audio.decode(b"fLaC....", name="a.flac")
    assert refused.value.code == Exit.ENVIRONMENT


GOOD = pcm(noise(50), 8000)


@settings(deadline=None, max_examples=150)
@given(st.one_of(st.binary(max_size=200), st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=8)), st.integers(0, len(GOOD))))
def test_a_damaged_file_is_refused_in_one_line_by_both(damage: Any) -> None:
    if isinstance(damage, tuple):
        raw = GOOD[: damage[0]] + damage[1] + GOOD[damage[0] + len(damage[1]) :]
    else:
        raw = GOOD[:damage] if isinstance(damage, int) else damage
    try:
        samples, rate = audio.decode(raw, name="list.tsv:3")
        assert samples.ndim == 1 and samples.size and np.isfinite(samples).all() and rate > 0
    except Problem as problem:
        assert problem.code == Exit.INPUT and "list.tsv:3" in str(problem) and "\n" not in str(problem)
    try:
        reader.apply(raw, [{"op": "wave"}])
    except reader.Refused as refusal:
        assert "\n" not in str(refusal)


def test_an_hour_is_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "LONGEST", 1)
    with pytest.raises(Problem, match="lasts 2 seconds"):
        audio.decode(pcm(noise(16000), 8000), name="x")


# -- folders -------------------------------------------------------------------------------------------------------------


def speak(folder: Path, names: list[str]) -> None:
    for place, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(pcm(noise(80, place), 8000))


def test_a_folder_a_word_is_read_with_or_without_splits(tmp_path: Path) -> None:
    speak(tmp_path / "one", [f"{word}/{number}.wav" for word in ("yes", "no") for number in range(40)])
    found = recordings.corpus(tmp_path / "one", seed=0)
    assert sum(map(len, found.splits.values())) == 80 and "sha256" in found.facts["split"]
    assert {line.text for line in found.splits["train"]} == {"yes", "no"}
    speak(
        tmp_path / "two", [f"{split}/{word}/{number}.wav" for split in ("train", "dev", "test") for word in ("a", "b") for number in "12"]
    )
    found = recordings.corpus(tmp_path / "two", seed=0)
    assert [len(found.splits[split]) for split in ("train", "val", "test")] == [4, 4, 4] and found.facts["split"] == "as given"


def test_the_lists_of_speech_commands_are_followed(tmp_path: Path) -> None:
    speak(tmp_path, [f"{word}/{number}.wav" for word in ("yes", "no", "_background_noise_") for number in range(4)])
    (tmp_path / "validation_list.txt").write_text("yes/0.wav\nno/0.wav\n")
    (tmp_path / "testing_list.txt").write_text("yes/1.wav\n")
    found = recordings.corpus(tmp_path, seed=0)
    assert [line.id for line in found.splits["val"]] == ["no/0.wav", "yes/0.wav"]
    assert [line.id for line in found.splits["test"]] == ["yes/1.wav"] and len(found.splits["train"]) == 5


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl"])
def test_lists_of_recordings_are_read(tmp_path: Path, ending: str) -> None:
    speak(tmp_path, [f"w/{number}.wav" for number in range(6)])
    rows = [(f"w/{number}.wav", "yes" if number % 2 else "no", ("train", "val", "test")[number // 2]) for number in range(6)]
    text = {
        "tsv": "file\tlabel\tsplit\n" + "".join("\t".join(row) + "\n" for row in rows),
        "csv": "audio,label,split\n" + "".join(",".join(row) + "\n" for row in rows),
        "jsonl": "".join(json.dumps({"audio_filepath": row[0], "text": row[1], "split": row[2], "duration": 0.01}) + "\n" for row in rows),
    }
    (tmp_path / f"manifest.{ending}").write_text(text[ending])
    found = recordings.corpus(tmp_path, seed=0)
    assert [[line.text for line in found.splits[split]] for split in ("train", "val", "test")] == [["no", "yes"]] * 3


REFUSED = {
    "an empty folder": ({}, "is empty"),
    "an archive": ({"words.tar.gz": b""}, r"unpack first: tar"),
    "a word without recordings": ({"yes/a.txt": b"", "no/a.wav": GOOD}, "the folder yes has no recording"),
    "a list of other things": (
        {"yes/a.wav": GOOD, "testing_list.txt": b"yes/a.wav\nword\n"},
        r"testing_list\.txt:2: 'word' is no recording",
    ),
    "a listed file that is missing": ({"yes/a.wav": GOOD, "testing_list.txt": b"yes/b.wav\n"}, r"names yes/b\.wav, which is not there"),
    "a third column without a name": (
        {
            "train.tsv": b"a.wav\tyes\t1.000\n",
            "a.wav": GOOD,
            "val.tsv": b"b.wav\tno\n",
            "b.wav": GOOD,
            "test.tsv": b"c.wav\tno\n",
            "c.wav": GOOD,
        },
        r"train\.tsv:1: a tab in the text 'yes",
    ),
    "a row without a tab": ({"train.tsv": b"a.wav yes\n"}, r"train\.tsv:1: no tab between file and text"),
    "too few to draw from": ({"yes/a.wav": GOOD}, "too few to draw"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_in_the_wrong_shape_is_refused_by_name(tmp_path: Path, case: str) -> None:
    files, reason = REFUSED[case]
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    with pytest.raises(Problem, match=reason) as refused:
        recordings.corpus(tmp_path, seed=0)
    assert refused.value.code == Exit.INPUT


def test_a_picture_of_sound_is_a_picture() -> None:
    from PIL import Image

    shown = np.asarray(Image.open(io.BytesIO(audio.picture(noise(1000).astype(np.float32)))))
    assert shown.shape == (64, 320) and shown.min() < 100 and shown.max() == 255
