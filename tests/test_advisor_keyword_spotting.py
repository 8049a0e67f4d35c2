"""Keyword data: the same bytes for the same call, one rate, one length, voices that do not cross splits, refusals with their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor import sound_augment
from advisor.data import audio, spoken, spoken_words
from advisor.sound_augment import Vary
from advisor.tasks.keyword_spotting import TASK
from rules.problems import Exit, Problem

FEW = {"train": 36, "val": 24, "test": 24}


def tone(seconds: float, rate: int, hertz: float = 440) -> bytes:
    return audio.wav((0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32), rate)


def folder(place: Path, rates: dict[str, int], *, count: int = 8, seconds: float = 0.5, alike: bool = False) -> Path:
    for number, (word, rate) in enumerate(rates.items()):
        for share, split in enumerate(("train", "val", "test")):
            (place / split / word).mkdir(parents=True)
            for each in range(count):
                hertz = 200 * (number + 1) + 10 * each + (0 if alike else share)
                (place / split / word / f"{each}.wav").write_bytes(tone(seconds, rate, hertz))
    return place


def first(data: Any, **how: Any) -> Any:
    return next(iter(data.batches("train", batch_size=8, **how)))


# -- the generated words -------------------------------------------------------------------------------------------------


def test_generated_words_say_that_nobody_said_them() -> None:
    facts = TASK.open(None, settings=FEW).provenance
    assert "nobody said them" in facts["source"] and facts["generator"] == "advisor.data.spoken_words:record"
    assert facts["rate"] == 8000 and facts["classes"] == 12 and facts["splits"]["train"]["recordings"] == 36


def test_only_training_words_follow_the_seed() -> None:
    for split in ("train", "val", "test"):
        same = np.array_equal(spoken_words.record(split, 3, seed=0), spoken_words.record(split, 3, seed=1))  # type: ignore[arg-type]
        assert same == (split != "train")
        again = spoken_words.record(split, 3, seed=0)  # type: ignore[arg-type]
        assert np.array_equal(again, spoken_words.record(split, 3, seed=0))  # type: ignore[arg-type]
        assert again.shape == (8000,) and np.abs(again).max() <= 0.91


def test_silence_is_quieter_than_words_and_every_word_can_be_said() -> None:
    rng = np.random.default_rng(0)
    for phones in spoken.WORDS.values():
        said = spoken.say(phones.split(), spoken.voice(rng), rng, rate=8000)
        assert np.isfinite(said).all() and np.abs(said).max() == pytest.approx(0.5) and 800 < len(said) < 8000
    assert {spoken_words.label(index) for index in range(12)} == set(spoken_words.LABELS)


def test_two_voices_differ_and_a_vowel_has_its_formants() -> None:
    one, other = (spoken.voice(np.random.default_rng(seed)) for seed in (1, 2))
    assert one.pitch != other.pitch
    who = spoken.Voice(pitch=100, throat=1.0, pace=3.0, breath=0.0, lively=0.0)
    for vowel in ("iy", "aa"):
        said = spoken.say([vowel], who, np.random.default_rng(0), rate=16000)
        spectrum, hertz = np.abs(np.fft.rfft(said)), np.fft.rfftfreq(len(said), 1 / 16000)
        low, high = spoken.PHONES[vowel][0][0] * np.array([0.6, 1.5])
        between = (hertz > 1300) & (hertz < 1700)
        assert spectrum[(hertz > low) & (hertz < high)].max() > 5 * spectrum[between].max()


# -- folders -------------------------------------------------------------------------------------------------------------


def test_mixed_rates_come_to_one_and_are_told(tmp_path: Path) -> None:
    data = TASK.open(folder(tmp_path, {"a": 8000, "b": 16000}))
    facts = data.provenance
    assert data.rate == 8000 and facts["rates"] == {"8000": 24, "16000": 24}
    assert facts["warnings"] == ["24 recordings of 16000 Hz were brought to 8000 Hz"]
    assert data.signature.inputs[0].ranges["samples"] == (1600, 80000, 160)
    assert first(data).inputs["waveform"].shape == (8, 8000)


@pytest.mark.parametrize(("own", "rate"), [(8000, 8000), (11025, 16000), (44100, 16000), (12000, 12000)])
def test_the_rate_is_the_recordings_own_where_a_net_can_use_it(tmp_path: Path, own: int, rate: int) -> None:
    data = TASK.open(folder(tmp_path, {"a": own, "b": own}, count=1))
    assert data.rate == rate and data.given == {"classes": 2, "rate": rate}


def test_long_recordings_are_cut_and_counted(tmp_path: Path) -> None:
    data = TASK.open(folder(tmp_path, {"a": 8000, "b": 8000}, count=2, seconds=1.5))
    assert "12 recordings are longer than 1 s" in data.provenance["warnings"][0]
    longer = TASK.open(tmp_path, settings={"seconds": 1.5})
    assert first(longer).inputs["waveform"].shape[1] == 12000 and not longer.provenance["warnings"]
    assert list(longer.probes()) == ["1.5s"]


def test_the_same_recording_in_two_splits_is_told(tmp_path: Path) -> None:
    data = TASK.open(folder(tmp_path, {"a": 8000, "b": 8000}, count=1, alike=True))
    assert "the same, byte for byte, in train and val" in data.provenance["warnings"][0]


def test_a_set_to_score_needs_no_training_recordings(tmp_path: Path) -> None:
    trained = TASK.open(folder(tmp_path / "one", {"a": 8000, "b": 8000}))
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "x.wav").write_bytes(tone(0.3, 16000))
    (tmp_path / "two" / "test.tsv").write_text("x.wav\tb\n")
    other = TASK.open(tmp_path / "two", settings=trained.provenance["reopen"])
    assert other.count("train") == 0 and other.rate == 8000 and other.labels == ["a", "b"]
    assert other.score(lambda feeds: {"logits": np.array([[0.0, 1.0]])}, "test").value == 1.0


def test_a_word_that_training_never_shows_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(tone(0.3, 8000))
    (tmp_path / "y.wav").write_bytes(tone(0.3, 8000))
    (tmp_path / "z.wav").write_bytes(tone(0.3, 8000))
    (tmp_path / "train.tsv").write_text("x.wav\ta\ny.wav\tb\n")
    (tmp_path / "test.tsv").write_text("z.wav\tc\n")
    (tmp_path / "val.tsv").write_text("x.wav\ta\n")
    with pytest.raises(Problem, match=r"already named"):
        TASK.open(tmp_path)
    (tmp_path / "v.wav").write_bytes(tone(0.3, 8000))
    (tmp_path / "val.tsv").write_text("v.wav\ta\n")
    with pytest.raises(Problem, match=r"z\.wav \(test\.tsv:1\): class 'c' is not in the training recordings") as refused:
        TASK.open(tmp_path)
    assert refused.value.code == Exit.INPUT


def test_a_damaged_recording_is_named_with_its_line(tmp_path: Path) -> None:
    data = TASK.open(folder(tmp_path, {"a": 8000, "b": 8000}, count=2))
    (tmp_path / "val" / "b" / "1.wav").write_bytes(b"RIFF")
    with pytest.raises(Problem, match=r"val/b/1\.wav"):
        _ = data.provenance


WRONG = {
    "rate": [0, 15999, 2.5, True, 96000],
    "seconds": [0.0, 60, "1", True],
    "train": [0, 1.5],
    "labels": [[], ["a", "a"], "ab", [1]],
    "speed": [-0.1, 0.6, True],
    "time_masks": [1.5, 21],
    "colour": [1],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_wrong_setting_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(Problem, match=key) as refused:
        TASK.open(None, settings={key: value})
    assert refused.value.code == Exit.USAGE


# -- how training recordings vary ----------------------------------------------------------------------------------------


def test_augmented_clips_differ_between_epochs_and_not_between_calls() -> None:
    data = TASK.open(None, settings=FEW)
    one, same, other = (first(data, augment=True, seed=1, epoch=epoch).inputs["waveform"] for epoch in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20000), st.integers(1600, 16000), st.integers(0, 2**31))
def test_however_it_varies_a_clip_has_its_length(have: int, wanted: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.uniform(-1, 1, have).astype(np.float32)
    look = Vary(time_masks=3, band_masks=2)
    clip = sound_augment.placed(sound_augment.paced(samples, look, rng), wanted, look, rng, rate=8000)
    clip = sound_augment.coloured(clip, look, rng, rate=8000)
    assert clip.shape == (wanted,) and clip.dtype == np.float32 and np.abs(clip).max() <= 1


def test_without_variation_a_clip_is_what_the_reader_makes() -> None:
    still = Vary(speed=0, shift=0, gain=0, noise=0, time_masks=0, band_masks=0)
    for count in (3000, 8000, 9001):
        rng, samples = np.random.default_rng(0), np.random.default_rng(1).uniform(-1, 1, count).astype(np.float32)
        varied = sound_augment.placed(sound_augment.paced(samples, still, rng), 8000, still, rng, rate=8000)
        assert np.array_equal(sound_augment.coloured(varied, still, rng, rate=8000), audio.clip(samples, 8000))


def test_a_band_mask_filters_a_stretch_of_pitch_and_a_time_mask_silences_one() -> None:
    rng = np.random.default_rng(3)
    noise = rng.standard_normal(8000).astype(np.float32) * 0.1
    bands = Vary(gain=0, noise=0, time_masks=0, band_masks=1, band_mask=0.5)
    spectrum = np.abs(np.fft.rfft(sound_augment.coloured(noise, bands, rng, rate=8000)))
    assert (spectrum < 0.05).sum() > 50
    times = Vary(gain=0, noise=0, time_masks=1, time_mask=0.5, band_masks=0)
    gaps = [(sound_augment.coloured(noise, times, np.random.default_rng(seed), rate=8000) == 0).sum() for seed in range(20)]
    assert max(gaps) > 1000 and max(gaps) <= 4000
