"""Text classification: lists are read or refused with name and line, texts become the same tokens everywhere, and a net learns them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.architectures import text_cnn
from advisor.data import intents, text_lists
from advisor.data.corpus import SPLITS
from advisor.data.subwords import PADDING, UNKNOWN
from advisor.data.texts import TextData, sizes
from advisor.tasks.text_classification import TASK
from compress.context import tensors
from compress.reader import reader
from rules.problems import Exit, Problem

FEW = {"train": 240, "val": 40, "test": 80}
CSV = "text,label\n" + "".join(
    f'"{word} {number}, please",{label}\n' for number in range(40) for word, label in (("yes", "a"), ("no", "b"))
)


def opened(tmp_path: Path, name: str = "all.csv", content: str = CSV, **how: Any) -> TextData:
    (tmp_path / name).write_text(content, encoding="utf-8")
    return TASK.open(tmp_path, settings=how)


def refused(tmp_path: Path, name: str, content: str | bytes) -> Problem:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Problem) as caught:
        TASK.open(tmp_path)
    return caught.value


# -- lists ---------------------------------------------------------------------------------------------------------------


def test_one_file_a_folder_of_splits_and_json_lines_say_the_same(tmp_path: Path) -> None:
    rows = [("yes, it is", "a", "train"), ("no", "b", "train"), ("oh yes", "a", "val"), ("never", "b", "dev"), ("yes!", "a", "test")]
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "one.csv").write_text("split,label,text\n" + "".join(f'{split},{label},"{text}"\n' for text, label, split in rows))
    (tmp_path / "json").mkdir()
    entries = [json.dumps({"Text": text, "intent": label, "split": split}) for text, label, split in rows]
    (tmp_path / "json" / "all.jsonl").write_text("\n".join(entries))
    (tmp_path / "tsv").mkdir()
    for split, names in (("train", ("train",)), ("dev", ("val", "dev")), ("test", ("test",))):
        lines = [f"{text}\t{label}\n" for text, label, name in rows if name in names]
        (tmp_path / "tsv" / f"{split}.tsv").write_text("sentence\tcategory\n" + "".join(lines))
    found = [text_lists.corpus(tmp_path / place, seed=0) for place in ("csv", "json", "tsv", "csv/one.csv")]
    for corpus in found:
        assert [[(corpus.read(line).decode(), line.text) for line in corpus.splits[split]] for split in SPLITS] == [
            [(text, label) for text, label, name in rows if name in names] for names in (("train",), ("val", "dev"), ("test",))
        ]
        assert corpus.facts["split"] == "as given"


def test_a_tab_separated_text_keeps_its_quotes(tmp_path: Path) -> None:
    (tmp_path / "all.tsv").write_text('text\tlabel\n"so" he said\ta\nno "\tb\n')
    assert [row[1] for row in text_lists.rows(tmp_path / "all.tsv", "all.tsv")] == ['"so" he said', 'no "']


def test_a_missing_split_is_drawn_by_the_text_and_a_text_that_stands_twice_stands_together(tmp_path: Path) -> None:
    one = opened(tmp_path, content=CSV + CSV.partition("\n")[2])
    held = {split: set(one._texts[split]) for split in SPLITS}
    assert all(held.values()) and not held["train"] & held["val"] and not held["train"] & held["test"] and not held["val"] & held["test"]
    assert sum(one.count(split) for split in SPLITS) == 160 and "10% val" in one.provenance["split"]
    more = opened(tmp_path, content="text,label\nmore,a\n" + CSV.partition("\n")[2])
    assert set(more._texts["val"]) - {"more"} == held["val"], "a text more moves no other"


WRONG: Mapping[str, tuple[str, str | bytes, str]] = {
    "no columns": ("all.csv", "hello,a\nbye,b\n", r"all\.csv:1: no column is called text"),
    "no label": ("all.csv", "text,kind\nhello,a\n", r"all\.csv:1: no column is called label"),
    "two texts": ("all.csv", "text,query,label\nx,y,a\n", "may both be the text"),
    "a cell too many": ("all.csv", "text,label\nhello,a\nbye, then,b\n", r"all\.csv:3: 3 columns where the first line names 2"),
    "an open quote": ("all.csv", 'text,label\nhello,a\n"bye,b\n', r"all\.csv:3: unexpected end"),
    "no line": ("all.csv", "text,label\n", "no line below"),
    "nothing": ("all.csv", "\n", "is empty"),
    "an empty text": ("all.tsv", "text\tlabel\nhello\ta\n \tb\n", r"all\.tsv:3: the text is empty"),
    "an empty label": ("all.tsv", "text\tlabel\nhello\t\n", r"all\.tsv:2: the label is empty"),
    "a label of two lines": ("all.csv", 'text,label\nhello,"a\nb"\n', "is no label"),
    "a split of its own": ("all.csv", "text,label,split\nhello,a,later\n", r"all\.csv:2: the split 'later' is not known"),
    "no JSON": ("all.jsonl", '{"text": "x", "label": "a"}\n{"text"\n', r"all\.jsonl:2: not JSON"),
    "a number for a text": ("all.jsonl", '{"text": 1, "label": "a"}\n', r"all\.jsonl:1: a text and a label are needed"),
    "a list": ("all.jsonl", "[1, 2]\n", r"all\.jsonl:1: a text and a label are needed"),
    "not UTF-8": ("all.csv", b"text,label\nhello,a\ncaf\xe9,b\n", r"all\.csv:3: not UTF-8"),
    "a NUL byte": ("all.csv", b"text,label\nhel\0lo,a\n", r"all\.csv:2: a NUL byte"),
    "too few": ("all.csv", "text,label\nhello,a\nbye,b\n", "too few to draw"),
    "one label": ("all.csv", "text,label\n" + "".join(f"text {number},a\n" for number in range(60)), "all texts have the label 'a'"),
    "no list": ("texts.docx", "hello", "has no list of texts"),
}


@pytest.mark.parametrize(("name", "content", "said"), WRONG.values(), ids=WRONG)
def test_a_list_in_the_wrong_shape_is_refused_with_name_and_line(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    problem = refused(tmp_path, name, content)
    assert problem.code == Exit.INPUT
    with pytest.raises(Problem, match=said):
        raise problem


def test_lists_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(CSV)
    assert "for the same texts" in str(refused(tmp_path, "train.tsv", "text\tlabel\nx\ta\n"))


def test_a_label_that_training_never_shows_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(CSV)
    problem = refused(tmp_path, "test.csv", "text,label\nyes,a\nwell,c\n")
    assert "test.csv:3: the label 'c' is not in the training texts" in str(problem) and problem.code == Exit.INPUT


@settings(deadline=None, max_examples=150)
@given(st.one_of(st.binary(max_size=80), st.text(max_size=60).map(str.encode)), st.sampled_from(text_lists.SUFFIXES))
def test_any_bytes_are_read_or_refused_by_name(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    file = tmp_path_factory.getbasetemp() / f"any{suffix}"
    file.write_bytes(content)
    try:
        assert all(len(row) == 4 for row in text_lists.rows(file, file.name))
    except Problem as problem:
        assert problem.code == Exit.INPUT and file.name in str(problem)


# -- the data ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built_in() -> TextData:
    return TASK.open(None, settings=FEW)


def test_the_built_in_sentences_are_the_same_every_time_and_none_stands_twice() -> None:
    one, other = intents.corpus(FEW, seed=0), intents.corpus(FEW, seed=1)
    assert one.splits == other.splits and all(one.read(line) == other.read(line) for line in one.splits["test"])
    texts = [one.read(line) for split in SPLITS for line in one.splits[split]]
    assert len(set(texts)) == len(texts) == sum(FEW.values())
    assert intents.sentence("train", 0) == ("well turn the lights in the bathroom on!", "lights"), "another grammar is another GENERATOR"


def test_words_alone_do_not_settle_an_intent() -> None:
    """The same words are said of several intents: a list of words to look for would be wrong."""
    said: dict[str, set[str]] = {}
    for index in range(800):
        text, label = intents.sentence("train", index)
        for word in text.lower().split():
            said.setdefault(word, set()).add(label)
    assert sum(len(labels) >= 3 for labels in said.values()) > 60


def test_a_batch_in_order_is_padded_as_each_text_alone(built_in: TextData) -> None:
    for batch in built_in.batches("test", batch_size=16):
        for name, row in zip(batch.ids, batch.inputs["tokens"], strict=True):
            index = int(name.partition("/")[2])
            alone = reader.apply(built_in._texts["test"][index].encode(), built_in.preprocess)
            assert np.array_equal(alone[0], row)


def test_shuffled_batches_are_full_and_hold_every_text_once(built_in: TextData) -> None:
    batches = list(built_in.batches("train", batch_size=32, shuffle=True, epoch=3))
    assert [len(batch.ids) for batch in batches] == [32] * 7 + [16] and len(built_in.batches("train", batch_size=32, shuffle=True)) == 8
    assert len({name for batch in batches for name in batch.ids}) == FEW["train"]


def test_training_texts_hide_some_subwords_and_never_a_score(built_in: TextData) -> None:
    plain, varied, again = (
        next(iter(built_in.batches("train", batch_size=240, shuffle=True, augment=augment))).inputs["tokens"]
        for augment in (False, True, True)
    )
    assert np.array_equal(varied, again) and np.array_equal(varied == PADDING, plain == PADDING)
    changed = (varied != plain)[plain != PADDING]
    assert 0.05 < changed.mean() < 0.15 and (varied[varied != plain] == UNKNOWN).all()
    tests = [next(iter(built_in.batches("test", batch_size=80, augment=augment))).inputs["tokens"] for augment in (False, True)]
    assert np.array_equal(*tests)


def test_smoothed_labels_add_up_to_one_in_training_alone() -> None:
    data = TASK.open(None, settings={**FEW, "smoothing": 0.1})
    soft = next(iter(data.batches("train", batch_size=8, augment=True))).targets["soft"]
    assert soft.shape == (8, 8) and np.allclose(soft.sum(1), 1) and np.allclose(soft.max(1), 0.9 + 0.1 / 8)
    assert "soft" not in next(iter(data.batches("val", batch_size=8, augment=True))).targets


def test_a_score_keeps_the_order_of_the_split(built_in: TextData) -> None:
    truth = built_in._truth["test"]
    ids = {
        tuple(row): int(label)
        for batch in built_in.batches("test", batch_size=64)
        for row, label in zip(batch.inputs["tokens"], batch.targets["label"], strict=True)
    }

    def predict(feeds: Any) -> dict[str, np.ndarray]:
        wrong = np.array([ids[tuple(row)] for row in feeds["tokens"]])
        return {"logits": np.eye(8, dtype=np.float32)[np.where(wrong == 2, 3, wrong)]}

    found = built_in.score(predict, "test")
    assert np.array_equal(found.errors, (truth != 2).astype(float)) and found.value == pytest.approx((truth != 2).mean())
    assert found.also["mean_over_classes"] == pytest.approx(7 / 8)


def test_a_set_to_score_reopens_with_labels_and_subwords(tmp_path: Path, built_in: TextData) -> None:
    (tmp_path / "test.csv").write_text("text,label\nturn the light on,lights\nwake me at six,alarm\n")
    other = TASK.open(tmp_path, settings=json.loads(json.dumps(built_in.provenance["reopen"])))
    assert other.count("train") == 0 and other.given == built_in.given and other.preprocess == built_in.preprocess
    assert next(iter(other.batches("test", batch_size=2))).targets["label"].tolist() == [
        built_in.labels.index(name) for name in ("lights", "alarm")
    ]


def test_long_texts_are_cut_and_told_of(tmp_path: Path) -> None:
    data = opened(tmp_path, content=CSV + f"{'yes ' * 90},a\n", length=32)
    assert "and are cut" in " ".join(data.provenance["warnings"])
    assert max(batch.inputs["tokens"].shape[1] for batch in data.batches("train", batch_size=8)) <= 32
    assert [feeds["tokens"].shape for feeds in data.probes().values()] == [(1, size) for size in sizes(32)] == [(1, 32), (1, 16)]


def test_what_is_doubtful_is_told(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(CSV + "yes 1,b\nyes 1,a\n")
    data = opened(tmp_path, "test.csv", "text,label\nyes 1,a\n")
    said = " ".join(data.provenance["warnings"])
    assert "the same in train and test" in said and "different labels" in said


SETTINGS = {
    "length": [0, 24, True, "64", 8192],
    "vocabulary": [3, 1.5, True, 10**9],
    "lower": [1, "yes"],
    "hide": [-0.1, 0.95, True, "0.1"],
    "smoothing": [1.0],
    "labels": [[], ["a", "a"], "ab", [1]],
    "subwords": ["abc", {}],
    "train": [0, 1.5],
    "words": [1],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in SETTINGS.items() for value in values])
def test_a_wrong_setting_is_refused(key: str, value: Any) -> None:
    with pytest.raises(Problem) as caught:
        TASK.open(None, settings={key: value})
    assert caught.value.code == Exit.USAGE


# -- nets ----------------------------------------------------------------------------------------------------------------


def test_textcnn_finds_a_phrase_wherever_it_stands() -> None:
    torch.manual_seed(0)
    net = text_cnn.build(classes=2, vocabulary=50, length=32, width=8, filters=6).eval()
    phrase = torch.tensor([7, 8, 9])
    found = []
    for place in (5, 20):
        tokens = torch.full((1, 32), 3)
        tokens[0, place : place + 3] = phrase
        found.append(net(tokens))
    assert torch.allclose(*found, atol=1e-6) and not torch.allclose(found[0], net(torch.full((1, 32), 3)), atol=1e-3)


def test_textcnn_learns_the_built_in_intents(built_in: TextData) -> None:
    torch.manual_seed(0)
    net = text_cnn.build(**built_in.given, width=32, filters=32, dropout=0.2)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    for epoch in range(6):
        for batch in built_in.batches("train", batch_size=32, epoch=epoch, augment=True, shuffle=True):
            loss = TASK.loss(net(tensors(batch.inputs)["tokens"]), tensors(batch.targets))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def predict(feeds: Any) -> dict[str, np.ndarray]:
        return {"logits": net.eval()(tensors(feeds)["tokens"]).numpy()}

    assert built_in.score(predict, "test").value > 0.6  # by chance an eighth
