"""Utterances: padded as alone, spelled by their own characters, scored in words; refusals with their place; the nets of their papers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.architectures import conformer, conv_bilstm_ctc, quartznet
from advisor.data import audio, spoken_sentences
from advisor.tasks.speech_recognition import TASK
from advisor.wer import word_edits
from compress.reader import reader, steps_audio
from rules.problems import Exit, Problem

FEW = {"train": 40, "val": 24, "test": 24}


def count(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def wav(seconds: float, *, hertz: float = 300, rate: int = 8000) -> bytes:
    return audio.wav((0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32), rate)


def folder(place: Path, texts: dict[str, list[str]], *, seconds: float = 1.0) -> Path:
    for share, (split, said) in enumerate(texts.items()):
        rows = []
        for number, text in enumerate(said):
            (place / f"{split}{number}.wav").write_bytes(wav(seconds + 0.1 * number, hertz=200 + 50 * number + share))
            rows.append(f"{split}{number}.wav\t{text}\n")
        (place / f"{split}.tsv").write_text("".join(rows))
    return place


# -- the nets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("groups", "published"), [(1, 6.7e6), (2, 12.8e6), (3, 18.9e6)])
def test_quartznet_has_the_sizes_of_its_paper(groups: int, published: float) -> None:
    assert count(quartznet.build(classes=29, rate=16000, groups=groups)) == pytest.approx(published, rel=0.005)


def test_a_step_of_quartznet_sees_its_neighbourhood_only() -> None:
    net = quartznet.build(classes=5, rate=8000, channels=(8,) * 5, kernels=(3,) * 5, ends=((8, 3), (8, 3), (8, 1)), repeats=1).eval()
    sound = torch.randn(1, 16000)
    changed = sound.clone()
    changed[:, 8000:] = 0
    one, other = net(sound), net(changed)
    assert torch.equal(one[:, :40], other[:, :40]) and not torch.equal(one[:, 50:], other[:, 50:])


@pytest.mark.parametrize("builder", [conformer.build, conv_bilstm_ctc.build])
def test_attention_and_two_directions_see_the_whole_utterance(builder: Any) -> None:
    small = {"width": 32, "layers": 1} if builder is conformer.build else {"channels": 4, "hidden": 8, "layers": 1}
    torch.manual_seed(0)
    net = builder(classes=5, rate=8000, **small).eval()
    sound = torch.randn(1, 16000)
    changed = sound.clone()
    changed[:, 6400:] = 0  # from step 40 on, of 20 ms; convolutions reach back by 10
    early = 12 if builder is conformer.build else 24
    assert not torch.equal(net(sound)[:, early], net(changed)[:, early])


@pytest.mark.parametrize(("builder", "share"), [(conformer.build, 4), (conv_bilstm_ctc.build, 2), (quartznet.build, 2)])
def test_steps_are_the_share_of_frames_that_is_promised(builder: Any, share: int) -> None:
    small = {
        conformer.build: {"width": 32, "layers": 1},
        conv_bilstm_ctc.build: {"channels": 4, "hidden": 8, "layers": 1},
        quartznet.build: {"channels": (8,) * 5, "kernels": (3,) * 5, "ends": ((8, 3), (8, 3), (8, 1)), "repeats": 1},
    }[builder]
    net = builder(classes=5, rate=8000, **small).eval()
    for seconds in (1, 3):
        frames = 100 * seconds - 1
        assert net(torch.zeros(2, 8000 * seconds)).shape == (2, -(-frames // share), 5)


# -- words ---------------------------------------------------------------------------------------------------------------


def test_word_errors_are_counted_by_utterance() -> None:
    errors, weights = word_edits(["go left now", "stop", "", "a b"], ["go right", "stop", "hm", "b"])
    assert errors.tolist() == [2, 0, 1, 1] and weights.tolist() == [3, 1, 0, 2]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.text("ab ", max_size=9), st.text("ab ", max_size=9)), min_size=1, max_size=6))
def test_word_errors_are_edit_distances(pairs: list[tuple[str, str]]) -> None:
    def distance(one: list[str], other: list[str]) -> int:
        row = list(range(len(other) + 1))
        for i, word in enumerate(one, 1):
            row, last = [i], row
            for j, said in enumerate(other, 1):
                row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (word != said)))
        return row[-1]

    errors, weights = word_edits([one for one, _ in pairs], [other for _, other in pairs])
    assert errors.tolist() == [distance(one.split(), other.split()) for one, other in pairs]
    assert weights.tolist() == [len(one.split()) for one, _ in pairs]


# -- the data ------------------------------------------------------------------------------------------------------------


def test_generated_utterances_say_that_nobody_said_them() -> None:
    facts = TASK.open(None, settings=FEW).provenance
    assert "nobody said them" in facts["source"] and facts["generator"] == "advisor.data.spoken_sentences:record"
    assert not facts["warnings"] and facts["splits"]["train"]["unlearnable"] == 0


def test_only_training_utterances_follow_the_seed() -> None:
    for split in ("train", "val", "test"):
        one, other = (spoken_sentences.record(split, 2, seed=seed) for seed in (0, 1))  # type: ignore[arg-type]
        assert (one[1] == other[1] and np.array_equal(one[0], other[0])) == (split != "train")


def test_an_utterance_is_padded_in_order_as_it_is_alone() -> None:
    data = TASK.open(None, settings=FEW)
    samples = {sample.name: sample for sample in data.samples("val", 24)}
    seen = 0
    for batch in data.batches("val", batch_size=4):
        for row, name in zip(batch.inputs["waveform"], batch.ids, strict=True):
            assert np.array_equal(row[None], samples[name].inputs["waveform"])
            seen += 1
    assert seen == 24


def test_shuffled_batches_are_full_and_hold_everything_once() -> None:
    data = TASK.open(None, settings=FEW)
    batches = list(data.batches("train", batch_size=16, shuffle=True, augment=True, epoch=3))
    assert [len(batch.ids) for batch in sorted(batches, key=lambda batch: len(batch.ids))] == [8, 16, 16]
    assert len({name for batch in batches for name in batch.ids}) == 40 == sum(len(batch.ids) for batch in batches)
    again = list(data.batches("train", batch_size=16, shuffle=True, augment=True, epoch=3))
    assert all(np.array_equal(one.inputs["waveform"], other.inputs["waveform"]) for one, other in zip(batches, again, strict=True))
    for batch in batches:
        texts = [
            "".join(data.labels[place - 1] for place in row[:size])
            for row, size in zip(batch.targets["labels"], batch.targets["lengths"], strict=True)
        ]
        assert all(set(text.split()) <= set(spoken_sentences.WORDS) for text in texts)


def test_texts_are_lowered_and_strange_characters_are_told_or_refused(tmp_path: Path) -> None:
    folder(tmp_path, {"train": ["Go Left", "NO"], "val": ["go"], "test": ["über"]})
    data = TASK.open(tmp_path)
    assert data.labels == tuple(" efglnot") and data.rate == 8000
    assert data.provenance["splits"]["test"]["unseen"] == {"b": 1, "r": 1, "ü": 1}
    with pytest.raises(Problem, match=r"test0\.wav|test\.tsv:1: 'ü'") as refused:
        TASK.open(tmp_path, settings={"charset": "efglnot "})
    assert refused.value.code == Exit.INPUT
    assert TASK.open(tmp_path, settings={"charset": "efglnot ", "outside": "count"}).count("test") == 1


def test_a_text_too_long_for_its_sound_is_told(tmp_path: Path) -> None:
    folder(tmp_path, {"train": ["abcdefghijklmnopqrstuvwxyz and more", "b"], "val": ["a"], "test": ["a"]}, seconds=0.6)
    assert "1 of 2 train texts have more letters than steps" in TASK.open(tmp_path).provenance["warnings"][0]


def test_an_endless_recording_is_refused_by_name(tmp_path: Path) -> None:
    folder(tmp_path, {"train": ["a", "b"], "val": ["a"], "test": ["a"]})
    (tmp_path / "val0.wav").write_bytes(wav(31))
    with pytest.raises(Problem, match=r"val0\.wav.*lasts 31\.0 s") as refused:
        _ = TASK.open(tmp_path).provenance
    assert refused.value.code == Exit.INPUT


def test_a_folder_a_word_is_no_transcript(tmp_path: Path) -> None:
    (tmp_path / "yes").mkdir()
    (tmp_path / "yes" / "a.wav").write_bytes(wav(0.5))
    with pytest.raises(Problem, match="has no list of what its files say") as refused:
        TASK.open(tmp_path)
    assert refused.value.code == Exit.INPUT


@pytest.mark.parametrize(
    ("key", "value"), [("case", "title"), ("outside", "drop"), ("rate", 1), ("train", 0), ("shift", 0.1), ("speed", 2.0)]
)
def test_a_wrong_setting_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(Problem, match=key) as refused:
        TASK.open(None, settings={key: value})
    assert refused.value.code == Exit.USAGE


def test_the_beam_reads_what_several_paths_say_together_and_the_bundles_reader_agrees() -> None:
    """Over two steps the path of two blanks has 0.36, each single one of the letter 0.24 at most, all of them together 0.64."""
    data = TASK.open(None, settings=FEW)
    shares = np.full((1, 2, len(data.labels) + 1), 1e-9, np.float32)
    shares[..., :2] = 0.6, 0.4
    logits, said = np.log(shares), {"labels": data.labels, "postprocess": list(data.postprocess)}
    for beam, text in ((0, ""), (5, data.labels[0])):
        assert (data.read_beam if beam else data.read)({"logits": logits}) == [text]
        assert reader.reading({"logits": logits}, said, beam)[0] == text


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6000), st.integers(20, 900))
def test_a_long_recording_is_cut_into_pieces_that_fit_and_lose_nothing(seed: int, count: int, longest: int) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, (1, count)).astype(np.float32)
    found = steps_audio.pieces(samples, longest=longest, quiet=longest // 4)
    assert all(0 < part.shape[-1] <= longest for part in found)
    assert np.array_equal(np.concatenate(found, axis=1), samples)
    assert len(found) <= 2 * count // longest + 1


def test_a_long_recording_is_cut_where_it_is_quietest() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (1, 1000)).astype(np.float32)
    samples[:, 410:430] *= 0.01
    assert 412 <= steps_audio.pieces(samples, longest=600, quiet=16)[0].shape[-1] <= 428


def test_the_bundles_reader_reads_a_recording_longer_than_the_model_takes_piece_by_piece() -> None:
    """A stand-in for the model says how many tenths of a second it was given: of 70 seconds never more than 30."""
    asked: list[int] = []

    class Session:
        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name="waveform")]

        def get_outputs(self) -> list[Any]:
            return [SimpleNamespace(name="logits")]

        def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
            asked.append(feeds["waveform"].shape[-1])
            return [np.log(np.array([[[0.1, 0.9, 0.0001]]], np.float32))]

    data = TASK.open(None, settings=FEW)
    manifest = {"preprocess": list(data.preprocess), "postprocess": list(data.postprocess), "labels": data.labels[:2]}
    text, confidence = reader.read_file(Session(), manifest, wav(70))
    assert len(asked) >= 3 and max(asked) <= 30 * data.rate and all(size % (data.rate // 10) == 0 for size in asked)
    assert text == " ".join([data.labels[0]] * len(asked)) and 0.89 < confidence < 0.91
    with pytest.raises(reader.Refused, match="too long for one answer"):
        reader.apply(wav(70), data.preprocess)
    with pytest.raises(Problem, match="one piece has"):
        audio.apply(data.preprocess, wav(70))
