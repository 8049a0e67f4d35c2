"""Texts to be gone on with: read as people keep them, split by a rule that is recorded, scored in nats a character."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import bundle_for_tests
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.data import documents, generated_stories
from advisor.data.documents import Text
from advisor.data.passages import surprise
from advisor.data.signs import OTHER, Pieces, characters
from advisor.data.subwords import learn
from advisor.tasks.text_generation import TASK
from compress import bundle
from compress.golden import step_files
from compress.reader import reader, steps_writing
from rules.problems import Exit, Problem

FEW = {"train": 20, "val": 4, "test": 4}


def even(data: Any) -> Any:
    """A net that knows nothing: every sign is as likely as any other."""
    return lambda feeds: {"logits": np.zeros((*feeds["ids"].shape, len(data.labels)), np.float32)}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refused(source: Path, **chosen: Any) -> Problem:
    with pytest.raises(Problem) as found:
        TASK.open(source, settings=chosen)
    return found.value


# -- the built-in stories --------------------------------------------------------------------------------------------------


def test_the_same_seed_tells_the_same_stories_and_another_others() -> None:
    one, same, other = (TASK.open(None, seed=seed).provenance["splits"]["train"]["sha256"] for seed in (0, 0, 1))
    assert one == same != other


def test_stories_agree_with_words_long_before() -> None:
    for index in range(40):
        told, nats = generated_stories.story("train", index, seed=5)
        hero = told.removeprefix("There was a ").split(" ")[0]
        assert told.count(f"the {hero}") + told.count(f"The {hero}") >= 1 and nats > 0
        assert hero in told.strip().rsplit(".", 2)[-2]
        assert told.count('"') % 2 == 0


# -- reading -------------------------------------------------------------------------------------------------------------


def test_one_text_is_cut_by_place_and_the_rule_is_recorded(tmp_path: Path) -> None:
    text = "".join(chr(97 + k % 26) for k in range(4000))
    data = TASK.open(write(tmp_path / "it.txt", text), settings={"length": 16, "held_out": [0.05, 0.05]})
    assert [data.provenance["splits"][split]["signs"] for split in ("train", "val", "test")] == [3600, 200, 200]
    assert "by place" in data.provenance["split"] and "5% val, 5% test" in data.provenance["split"]
    parts = [data.signs_of(split) for split in ("train", "val", "test")]
    assert "".join(parts) == text


def test_many_texts_are_held_out_whole(tmp_path: Path) -> None:
    for number in range(60):
        write(tmp_path / f"{number}.txt", f"text {number} " * 40)
    data = TASK.open(tmp_path, settings={"length": 16})
    counts = data.provenance["splits"]
    assert sum(counts[split]["texts"] for split in counts) == 60 and "sha256" in data.provenance["split"]
    moved = TASK.open(tmp_path, settings={"length": 16}, seed=1).provenance["splits"]
    assert moved["val"]["sha256"] != counts["val"]["sha256"]


def test_files_that_say_their_split_keep_it(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write(tmp_path / f"wiki.{split}.txt", f"{split} text and more of it. " * 20)
    data = TASK.open(tmp_path, settings={"length": 16})
    assert data.provenance["split"] == "as given" and data.signs_of("val")[1:].startswith(f"a{OTHER}id text")
    write(tmp_path / "more.txt", "whose is this?")
    assert refused(tmp_path).code == Exit.INPUT and "more.txt" in refused(tmp_path).what


def test_lines_of_json_are_texts(tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"line {k}\r\nand on " * 8, "id": k}) for k in range(30)] + [json.dumps("a text alone " * 8)]
    data = TASK.open(write(tmp_path / "it.jsonl", "\n".join(rows)), settings={"length": 16})
    assert sum(data.provenance["splits"][split]["texts"] for split in ("train", "val", "test")) == 31
    assert "\r" not in data.labels


@pytest.mark.parametrize(
    ("name", "raw", "says"),
    [
        ("it.txt", b"", "empty"),
        ("it.txt", b"good\nb\xff\xfed\n", "it.txt:2: not UTF-8"),
        ("it.txt", b"good\n\ngo\0od", "it.txt:3: a NUL byte"),
        ("it.jsonl", b'{"text": "a"}\n{"text": 3}', "it.jsonl:2: no text"),
        ("it.jsonl", b'"fine"\n{"text": ', "it.jsonl:2: no JSON"),
        ("it.jsonl", b'{"text": " "}', "it.jsonl:1: an empty text"),
        ("it.jsonl", b'{"text": "a", "id": 1}\n{"text": "b", "id": 1}', "two texts"),
        ("it.csv", b"a,b", "none of"),
        ("it.txt", b"too short", "length"),
    ],
)
def test_a_text_in_the_wrong_shape_is_refused_with_its_line(tmp_path: Path, name: str, raw: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(raw)
    found = refused(tmp_path / name)
    assert found.code == Exit.INPUT and says in f"{found.what} {found.remedy}"


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "README.txt", "about the texts")
    assert refused(tmp_path).code == Exit.INPUT
    assert refused(tmp_path / "nowhere").code == Exit.INPUT


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200), st.sampled_from(["it.txt", "it.jsonl"]))
def test_hostile_bytes_are_read_or_refused_as_input(raw: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(raw)
        try:
            found = documents.read(path)
        except Problem as problem:
            assert problem.code == Exit.INPUT and "it." in problem.what
        else:
            assert all(text.text.strip() and "\r" not in text.text for text in found["train"])


WRONG: dict[str, list[Any]] = {
    "length": [4, 2.5, True, 10**6],
    "signs": ["words"],
    "split": ["random"],
    "held_out": [[0.5], [0.6, 0.5], [0.0, 0.1], "all", [1, 2]],
    "train": [0, 1],
    "vocabulary": [3],
    "known": ["abc", OTHER, OTHER + "aa", 5],
    "subwords": [{}],
    "temperature": [1.0],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_wrong_setting_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(Problem, match=key) as found:
        TASK.open(None, settings={key: value})
    assert found.value.code == Exit.USAGE


# -- signs ---------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=60), st.text(max_size=60))
def test_characters_read_back_and_a_strange_one_is_the_first(train: str, text: str) -> None:
    signs = characters([train])
    wanted = "".join(one if one in set(train) - {"\ufeff"} else OTHER for one in text.encode("utf-8", "replace").decode())
    assert signs.decode(signs.encode(text.encode("utf-8", "replace").decode()).tolist()) == wanted
    assert list(signs.labels) == sorted(signs.labels, key=lambda one: (one != OTHER, one))


def test_subwords_stand_for_as_many_characters_as_the_text_has() -> None:
    text = "the old mill, the old miller.\nhe said: where is the old mill?\n" * 30
    signs = Pieces(learn([text], size=60, lower=False, lines=True))
    ids = signs.encode(text)
    counted = signs.characters(ids[:-1], ids[1:]).sum() + len(signs.labels[ids[0]]) - 1
    assert counted == len(text)
    assert signs.decode(ids.tolist()) == text


def test_a_net_that_knows_nothing_scores_the_logarithm_of_the_vocabulary() -> None:
    data = TASK.open(None, settings=FEW)
    found = data.score(even(data), "val")
    assert found.value == pytest.approx(np.log(len(data.labels)))
    assert found.weights.sum() == 4 * 128 and len(found.errors) == 4


def test_subwords_are_scored_by_character() -> None:
    data = TASK.open(None, settings={"signs": "subwords", "vocabulary": 300, "length": 32, **FEW})
    found = data.score(even(data), "val")
    assert len(data.labels) == data.given["vocabulary"] <= 300
    assert found.value == pytest.approx(4 * 32 * np.log(len(data.labels)) / found.weights.sum())
    assert found.weights.sum() > 2 * 4 * 32


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 9), st.integers(0, 2**31))
def test_surprise_is_the_cross_entropy(classes: int, seed: int) -> None:
    import torch

    rng = np.random.default_rng(seed)
    logits, truth = rng.normal(0, 30, (2, 3, classes)).astype(np.float32), rng.integers(0, classes, (2, 3))
    entropy = torch.nn.functional.cross_entropy
    wanted = entropy(torch.from_numpy(logits).double().flatten(0, 1), torch.from_numpy(truth).flatten(), reduction="none")
    assert np.allclose(surprise(logits, truth).ravel(), wanted.numpy())


# -- passages ------------------------------------------------------------------------------------------------------------


def test_targets_are_the_signs_that_came() -> None:
    data = TASK.open(None, settings=FEW)
    batch = next(iter(data.batches("train", batch_size=4)))
    assert np.array_equal(batch.inputs["ids"][:, 1:], batch.targets["following"][:, :-1])
    assert np.array_equal(batch.targets["following"][:-1, -1], batch.inputs["ids"][1:, 0]), "and go on where the passage ends"


def test_training_passages_begin_elsewhere_in_every_epoch_and_the_same_in_the_same() -> None:
    data = TASK.open(None, settings=FEW)
    one, same, other = (
        [name for batch in data.batches("train", batch_size=8, augment=True, epoch=epoch) for name in batch.ids] for epoch in (0, 0, 1)
    )
    assert one == same and one != other and len(set(one)) == len(one) == 20


def test_data_reopens_with_the_signs_it_was_trained_on(tmp_path: Path) -> None:
    for chosen in ({}, {"signs": "subwords", "vocabulary": 200}):
        data = TASK.open(None, settings={"length": 32, **FEW, **chosen})
        again = json.loads(json.dumps(data.provenance["reopen"]))
        other = TASK.open(write(tmp_path / "other" / "test.txt", "A new story: the miller went home. " * 20), settings=again)
        assert other.labels == data.labels and other.given == data.given and other.count("train") == 0
        assert other.score(even(other), "test").value > 0


@pytest.mark.parametrize("chosen", [{}, {"signs": "subwords", "vocabulary": 300, "length": 32}])
def test_a_text_file_becomes_the_last_signs_of_it_by_the_declared_steps(chosen: dict[str, Any]) -> None:
    data = TASK.open(None, settings={**FEW, **chosen})
    steps = json.loads(json.dumps(data.preprocess))
    for sample in data.samples("test", 4):
        assert np.array_equal(reader.apply(sample.raw, steps), sample.inputs["ids"])
        assert sample.inputs["ids"].shape == (1, data.given["length"])
    assert reader.apply(b"The m", steps).shape[1] <= 5
    with pytest.raises(reader.Refused, match="UTF-8"):
        reader.apply(b"\xff", steps)
    assert {"steps_writing.py"} <= {path.name for path in step_files(data)}


def test_readings_of_the_task_and_of_the_reader_are_the_same() -> None:
    data = TASK.open(None, settings=FEW)
    logits = np.random.default_rng(0).normal(0, 1, (3, 5, len(data.labels))).astype(np.float32)
    manifest = {"labels": data.labels, "postprocess": json.loads(json.dumps(data.postprocess))}
    ours = data.read({"logits": logits})
    theirs = [reader.reading({"logits": logits[k : k + 1]}, manifest)[0] for k in range(3)]
    assert ours == theirs


# -- writing on ----------------------------------------------------------------------------------------------------------


def alphabet(ids: np.ndarray) -> np.ndarray:
    """A net for which the next letter follows, or the one after it a third as likely."""
    logits = np.full((*ids.shape, 5), -9.0, np.float32)
    for row, column in np.ndindex(ids.shape):
        logits[row, column, 1 + ids[row, column] % 4] = 0.0
        logits[row, column, 1 + (ids[row, column] + 1) % 4] = -np.log(3)
    return logits


LETTERS = [OTHER, "a", "b", "c", "d"]


def test_without_temperature_the_likeliest_text_is_written() -> None:
    text, confidence = steps_writing.written(alphabet, np.array([[1]]), LETTERS, steps=6, temperature=0, seed=0, length=8)
    assert text == "bcdabc" and confidence == pytest.approx(0.75, abs=0.01)


def test_with_temperature_a_seed_writes_the_same_and_another_seed_other_texts() -> None:
    how = {"labels": LETTERS, "steps": 40, "temperature": 1.0, "length": 8}
    one, same, other = (steps_writing.written(alphabet, np.array([[1]]), seed=seed, **how)[0] for seed in (0, 0, 1))
    assert one == same != other and OTHER not in one


def test_signs_are_drawn_by_their_chances() -> None:
    how = {"labels": LETTERS, "steps": 4000, "temperature": 1.0, "length": 1, "seed": 0}
    text = steps_writing.written(alphabet, np.array([[1]]), **how)[0]
    jumps = [(ord(after) - ord(before)) % 4 for before, after in pairwise(text)]
    assert jumps.count(1) / len(jumps) == pytest.approx(0.75, abs=0.03) and jumps.count(2) / len(jumps) == pytest.approx(0.25, abs=0.03)


def test_a_net_is_never_asked_for_more_signs_than_it_reads() -> None:
    asked = []

    def counted(ids: np.ndarray) -> np.ndarray:
        asked.append(ids.shape[1])
        return alphabet(ids)

    steps_writing.written(counted, np.array([[1, 2, 3]]), LETTERS, steps=6, temperature=0, seed=0, length=4)
    assert asked == [3, 4, 2, 3, 4, 2]  # the older half is let go where four are reached


def test_a_name_that_is_taken_twice_is_none() -> None:
    parts, how = documents.complete({"train": [Text(f"{k}", "text " * 50) for k in range(3)]}, seed=0, way="auto", source="here")
    assert [len(parts[split]) for split in ("train", "val", "test")] == [3, 3, 3] and how["seed"] is None
    assert all(part.start > 0 for part in parts["val"])


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a small net that was not trained: it writes nonsense, and always the same."""
    import torch

    from advisor.architectures import char_rnn
    from compress.context import Target
    from compress.export import export

    data, folder = TASK.open(None, settings={**FEW, "length": 16}), tmp_path_factory.mktemp("bundle")
    torch.manual_seed(0)
    graph = export(char_rnn.build(**data.given, width=8, hidden=8, layers=1), data, folder / "model.onnx", target=Target())
    record = {**bundle_for_tests.record(), "task": TASK.name, "data": data.provenance}
    return bundle.write(folder / "bundle", record=record, graph=graph, data=data, task=TASK)


def said(bundled: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(bundled / "reader.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_bundle_of_texts_is_sound_and_names_the_next_sign(bundled: Path, tmp_path: Path) -> None:
    assert bundle.verify(bundled) == []
    found = said(bundled, write(tmp_path / "it.txt", "There was a"), "--json")
    assert len(eval(json.loads(found.stdout)["reading"])) == 1  # one sign, as Python writes it


def test_a_bundle_of_texts_goes_on_as_its_seed_says(bundled: Path, tmp_path: Path) -> None:
    start = write(tmp_path / "it.txt", "There was a miller.\r\nHe")
    greedy = said(bundled, start, "--write", 30)
    assert greedy.returncode == 0 and len(greedy.stdout) == 31, greedy.stderr
    one, same, other = (said(bundled, start, "--write", 30, "--temperature", 1, "--seed", seed).stdout for seed in (0, 0, 1))
    assert one == same != other and len({one, other, greedy.stdout}) == 3


@pytest.mark.parametrize("wrong", [["--write", "-1"], ["--write", "3", "--temperature", "-1"], ["--write", "3", "--seed", "-4"]])
def test_a_wrong_wish_is_refused_as_usage(bundled: Path, tmp_path: Path, wrong: list[str]) -> None:
    assert said(bundled, write(tmp_path / "it.txt", "There"), *wrong).returncode == 2


def test_an_empty_text_or_one_that_is_none_is_refused(bundled: Path, tmp_path: Path) -> None:
    for raw in (b"", b"\xff\xfe"):
        (tmp_path / "it.txt").write_bytes(raw)
        found = said(bundled, tmp_path / "it.txt", "--write", 5)
        assert found.returncode == 3 and "Traceback" not in found.stderr


def test_a_model_that_answers_once_writes_nothing(tmp_path: Path) -> None:
    made = bundle_for_tests.write(tmp_path / "bundle")
    found = said(made, made / "golden" / "raw" / "0.png", "--write", 5)
    assert found.returncode == 3 and "nothing to --write" in found.stderr
