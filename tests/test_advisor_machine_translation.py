"""Machine translation: parallel files as people keep them, subwords of both sides, nets that write with and without a cache, BLEU."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.architectures import rnn_attention, translator
from advisor.data.generated_pairs import pairs
from advisor.data.parallel import read
from advisor.data.subwords import BEGIN, END
from advisor.data.translations import _bleu, _counted
from advisor.tasks.machine_translation import TASK
from advisor.translating_steps import beginning, reader_stand_in, step_stand_in
from compress.context import Target
from compress.export import export
from compress.reader import steps_text
from compress.reader.steps_cache import Remembering
from compress.runtime import predictor
from rules.problems import Problem

SMALL: dict[str, Any] = {"vocabulary": 40, "length": 16, "width": 16, "heads": 2, "reading": 2, "writing": 2, "feed": 24, "dropout": 0.0}
NOBODY: dict[Any, Any] = {"train": None, "val": None, "test": None}


@pytest.fixture(scope="module")
def data() -> Any:
    return TASK.open(None, settings={"train": 200, "val": 20, "test": 20})


def net(*, recurrent: bool) -> translator.Translator:
    torch.manual_seed(3)
    return translator.build(**SMALL, recurrent=recurrent).eval()


def shaken(model: translator.Translator) -> translator.Translator:
    """An untrained net says one word over and over; this one many."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.5 * torch.randn_like(weight))
    return model


def sentence(words: int = 6, padding: int = 2) -> torch.Tensor:
    return torch.tensor([[5 + place for place in range(words)] + [0] * padding])


# -- files ------------------------------------------------------------------------------------------------------------------


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        raw = text.encode()
        (folder / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return folder


def test_two_files_side_by_side_are_read_a_line_a_pair_packed_or_not(tmp_path):
    write(
        tmp_path,
        {"train.en.gz": "a cat\na dog\n", "train.de.gz": "eine Katze\nein Hund\n", "val.en": "x\n", "val.de": "y\n", "README.txt": "-"},
    )
    found = read(tmp_path, source="en", target="de", named=NOBODY)
    assert [(pair.source, pair.target, pair.where) for pair in found["train"]] == [
        ("a cat", "eine Katze", "train.en.gz:1"),
        ("a dog", "ein Hund", "train.en.gz:2"),
    ]
    assert found["val"][0].target == "y" and "test" not in found


def test_tsv_and_jsonl_are_read_too(tmp_path):
    write(tmp_path, {"train.tsv": "source\ttarget\na\tb\n", "test.jsonl": '{"source": "c", "target": "d"}\n'})
    found = read(tmp_path, source=None, target=None, named=NOBODY)
    assert [(pair.source, pair.target) for split in ("train", "test") for pair in found[split]] == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(
    ("files", "how", "said"),
    [
        ({"train.en": "a\nb\n", "train.de": "c\n"}, {"source": "en", "target": "de"}, "train.en has 2 lines and train.de 1"),
        ({"train.en": "a\n", "train.de": "c\n"}, {}, "has files in de, en"),
        ({"train.en": "a\n"}, {"source": "en", "target": "de"}, "no pair of files .en and .de"),
        ({"train.en": "a\n\n", "train.de": "c\nd\n"}, {"source": "en", "target": "de"}, "train.en:2: the source is empty"),
        ({"train.tsv": "a\tb\tc\n"}, {}, "train.tsv:1: 3 columns"),
        ({"train.jsonl": '{"source": "a"}\n'}, {}, "train.jsonl:1: no source and target"),
        ({"train.jsonl": "{\n"}, {}, "train.jsonl:1: no JSON"),
        ({"test_1.tsv": "a\tb\n", "test_2.tsv": "a\tb\n"}, {}, "has test_1 and test_2 for test"),
    ],
)
def test_a_damaged_corpus_is_refused_with_its_file_and_line(tmp_path, files, how, said):
    with pytest.raises(Problem, match="") as caught:
        read(write(tmp_path, files), **{"source": None, "target": None, **how}, named=NOBODY)
    assert said in str(caught.value) and caught.value.code == 3


def test_of_several_test_files_the_one_that_is_named_is_taken(tmp_path):
    write(tmp_path, {"test_1.tsv": "a\tb\n", "test_2.tsv": "c\td\n"})
    assert read(tmp_path, source=None, target=None, named={**NOBODY, "test": "test_2"})["test"][0].source == "c"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80), st.sampled_from(["train.tsv", "train.jsonl", "train.en.gz", "train.en"]))
def test_whatever_lies_in_a_file_is_read_or_refused(tmp_path_factory, raw, name):
    folder = tmp_path_factory.mktemp("pairs")
    (folder / name).write_bytes(raw)
    (folder / "train.de").write_text("x\n")
    try:
        for found in read(folder, source="en", target="de", named=NOBODY).values():
            assert all(pair.source and pair.target for pair in found)
    except Problem as problem:
        assert problem.code == 3 and "\n" not in str(problem)


def test_a_missing_split_is_drawn_by_a_hash_of_the_source(tmp_path):
    write(tmp_path, {"train.tsv": "".join(f"word number {n}\tWort Nummer {n}\n" for n in range(200))})
    one, other = (TASK.open(tmp_path, seed=1, settings={"vocabulary": 60}) for _ in range(2))
    assert (
        one.provenance == other.provenance
        and 10 <= one.count("val") <= 32
        and one.count("train") + one.count("val") + one.count("test") == 200
    )


# -- data -------------------------------------------------------------------------------------------------------------------


def test_the_built_in_pairs_agree_in_gender_and_number_and_have_the_verb_at_the_end():
    made, facts = pairs()
    assert len({pair.source for split in made.values() for pair in split}) == sum(map(len, made.values())) and facts["licence"]
    for pair in made["test"]:
        last = pair.target.rstrip(".").split()[-1]
        assert last.endswith(("it", "un")), "the verb says one or several"


def test_what_is_fed_is_what_was_right_one_word_late(data):
    batch = next(iter(data.batches("val", batch_size=4)))
    target, following = batch.inputs["target"], batch.targets["following"]
    assert (target[:, 0] == BEGIN).all()
    for fed, wanted in zip(target, following, strict=True):
        last = wanted.tolist().index(END)
        assert fed[1 : last + 1].tolist() == wanted[:last].tolist() and not wanted[last + 1 :].any()


def test_bleu_of_a_corpus_is_sacrebleus_and_adds_up_over_rows():
    import sacrebleu

    told = ["the cat sat on the mat", "a dog barks", "no idea at all here"]
    right = ["the cat sat on a mat", "a dog barked loudly", "no idea at all here"]
    counts, own = _counted(told, right)
    assert _bleu(counts) == pytest.approx(sacrebleu.corpus_bleu(told, [right]).score / 100)
    assert _bleu(counts[[2, 2]]) == pytest.approx(1.0) and own[2] == pytest.approx(1.0)


def test_a_net_that_knows_the_translations_scores_one_and_a_silent_one_nothing(data):
    lines = {tuple(data._source("test", index)): data._target("test", index) for index in range(data.count("test"))}

    def knows(feeds: Any, *, silent: bool = False) -> dict[str, np.ndarray]:
        logits = np.zeros((*feeds["target"].shape, data.given["vocabulary"]), np.float32)
        for row, source in enumerate(feeds["source"]):
            answer = [END] if silent else lines[tuple(number for number in source.tolist() if number)]
            logits[row, -1, answer[feeds["target"].shape[1] - 1]] = 1
        return {"logits": logits}

    assert data.score(knows, "test").value == pytest.approx(1.0)
    assert data.score(partial(knows, silent=True), "test").value == 0


# -- nets -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recurrent", [True, False])
def test_no_word_knows_what_comes_after_it(recurrent):
    model, source = net(recurrent=recurrent), sentence()
    target = torch.tensor([[BEGIN, 7, 8, 9, 10]])
    changed = torch.tensor([[BEGIN, 7, 8, 30, 31]])
    with torch.no_grad():
        one, other = model(source, target), model(source, changed)
    assert torch.equal(one[:, :3], other[:, :3]) and not torch.allclose(one[:, 3:], other[:, 3:])


@pytest.mark.parametrize("recurrent", [True, False])
def test_word_by_word_with_its_cache_it_says_what_it_says_of_the_whole(recurrent):
    model, source, target = net(recurrent=recurrent), sentence(), torch.tensor([[BEGIN, 7, 8, 9, 10, 11]])
    with torch.no_grad():
        whole, memory = model(source, target), model.reader()(source)
        past, told = torch.from_numpy(beginning(model)), []
        for first, last in ((0, 3), (3, 4), (4, 6)):  # several words at once, and one
            logits, past = model.step()(target[:, first:last], torch.tensor([first]), source, memory, past)
            told.append(logits)
    assert torch.allclose(torch.cat(told, 1), whole, atol=1e-5)


def test_the_recurrence_in_parallel_is_the_recurrence_step_by_step():
    torch.manual_seed(0)
    layer, x = translator.Recurrence(8, 1), torch.randn(2, 9, 8)
    with torch.no_grad():
        whole, last = layer(x)
        cell = torch.zeros(2, 8)
        for place in range(9):
            gate = torch.sigmoid(layer.gate(x[:, place]))
            cell = gate * cell + (1 - gate) * layer.value(x[:, place])
            assert torch.allclose(torch.relu(cell), whole[:, place], atol=1e-5)
    assert torch.allclose(last[0, :, 0, 0], cell, atol=1e-5)


def test_scheduled_sampling_feeds_its_own_words_in_training_and_never_otherwise():
    model, source, target = net(recurrent=False), sentence(), torch.tensor([[BEGIN, 7, 8, 9]])
    model.sampling = 1.0
    with torch.no_grad():
        before = model(source, target)
        memory = model.remembered(source)
        own = model.sampled(target, memory, torch.zeros(1, 1, 1, source.shape[1]))
        assert own[0, 0] == BEGIN and torch.equal(
            own[0, 1:], model.continued(target, memory, torch.zeros(1, 1, 1, 8))[0].argmax(-1)[0, :-1]
        )
        model.sampling = 0.0
        assert torch.equal(before, model(source, target))


def test_a_source_read_from_the_right_is_not_disturbed_by_its_padding():
    torch.manual_seed(0)
    model = rnn_attention.build(vocabulary=40, length=16, width=8, hidden=12, layers=2).eval()
    target = torch.tensor([[BEGIN, 7, 8]])
    with torch.no_grad():
        assert torch.allclose(model(sentence(padding=2), target), model(sentence(padding=10), target), atol=1e-6)


# -- decoding -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[True, False], ids=["recurrent", "attention"])
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A translator, its reader and step in onnxruntime, and the whole graph."""
    model, folder = shaken(net(recurrent=request.param)), tmp_path_factory.mktemp("parts")
    given = {"vocabulary": SMALL["vocabulary"], "length": SMALL["length"]}
    files = {
        "reader": export(model.reader().eval(), reader_stand_in(model, **given), folder / "reader.onnx", target=Target()),
        "step": export(model.step().eval(), step_stand_in(model, **given), folder / "step.onnx", target=Target()),
        "whole": export(model, TASK.stand_in(given), folder / "whole.onnx", target=Target()),
    }
    return model, {name: predictor(path) for name, path in files.items()}


def remembering(model: Any, graphs: Mapping[str, Any]) -> Remembering:
    return Remembering(graphs["step"], model.past, graphs["reader"], model.memory)


def several(count: int) -> Any:
    """Sources that differ, of one width."""
    source = np.random.default_rng(1).integers(4, 40, (count, 8))
    source[:, -1] = END
    return source


def test_translations_written_with_a_cache_are_those_written_without(parts):
    from advisor.data.translations import written

    model, graphs = parts
    source = several(5)
    found = written(remembering(model, graphs), source, most=12)
    assert found == written(graphs["whole"], source, most=12)
    assert len({tuple(ids) for ids in found}) > 1


@pytest.mark.parametrize("beam", [0, 1, 5])
def test_a_bundles_reader_finds_with_a_cache_what_it_finds_without(parts, beam):
    model, graphs = parts
    labels = [*steps_text.SPECIAL, *(f"\u2581{number}" for number in range(4, 40))]
    ask = remembering(model, graphs)
    for source in several(3):
        cut, whole = (
            steps_text.translated(lambda fed, call=call: call(fed)["logits"], {"source": source[None]}, labels, most=8, beam=beam)
            for call in (ask, graphs["whole"])
        )
        assert cut[0] == whole[0] and cut[1] == pytest.approx(whole[1], rel=1e-4)


def test_a_beam_finds_nothing_less_likely_than_the_greedy_way(parts):
    model, graphs = parts
    ask = remembering(model, graphs)
    for source in several(3):
        greedy, beam = (
            steps_text.translated(lambda fed: ask(fed)["logits"], {"source": source[None]}, [str(n) for n in range(40)], most=8, beam=width)
            for width in (1, 5)
        )
        assert beam[1] >= greedy[1] - 1e-9


def test_with_a_cache_each_word_after_the_first_is_read_alone(parts):
    model, graphs = parts
    read: list[int] = []

    def step(feeds: Mapping[str, Any]) -> Any:
        read.append(feeds["ids"].shape[1])
        return graphs["step"](feeds)

    ask = Remembering(step, model.past, graphs["reader"], model.memory)
    steps_text.translated(lambda fed: ask(fed)["logits"], {"source": several(1)}, [str(n) for n in range(40)], most=8, beam=5)
    assert len(read) > 3 and set(read) == {1}


def test_a_bundles_reader_says_of_one_call_what_the_task_says(data):
    logits = np.random.default_rng(0).standard_normal((1, 7, data.given["vocabulary"])).astype(np.float32)
    logits[0, 4, END] = 50
    assert steps_text.translation(logits, data.labels, most=32)[0] == data.read({"logits": logits})[0]
