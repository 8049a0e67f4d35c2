"""Face recognition: people who are strangers to each other's splits, error rates as scikit-learn counts them, a head that does not ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from advisor import metric_losses, verification
from advisor.architectures import iresnet, mobilefacenet, prototypical
from advisor.data import faces, gallery
from advisor.data.pictures import png
from advisor.tasks.face_recognition import TASK
from compress.context import Target
from compress.export import export, fused
from compress.reader import reader, steps_embedding
from rules.problems import Exit, Problem


def folder(root: Path, layout: dict[str, int], *, seed: int = 0) -> Path:
    """Folders of so many pictures each."""
    rng = np.random.default_rng(seed)
    for name, count in layout.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.png").write_bytes(png(rng.integers(0, 256, (40, 36, 3)).astype(np.uint8)))
    return root


def people_of(data: Any, split: str) -> set[str]:
    return {name.rsplit("/", 1)[0] for batch in data.batches(split, batch_size=32) for name in batch.ids}


# -- data ----------------------------------------------------------------------------------------------------------------


def test_a_folder_without_splits_draws_whole_people_and_says_so(tmp_path: Path) -> None:
    data = TASK.open(folder(tmp_path, {f"p{number:02d}": 3 for number in range(12)}))
    held = {split: people_of(data, split) for split in ("train", "val", "test")}
    assert [len(names) for names in held.values()] == [8, 2, 2] and len(set.union(*held.values())) == 12
    assert data.provenance["splits"]["val"]["people"] == 2 and "people" in data.provenance["split"]
    assert data.given == {"people": 8, "side": 112, "embedding": 128}


def test_adding_a_person_moves_none_from_training_to_the_others(tmp_path: Path) -> None:
    names = {f"p{number:02d}": 2 for number in range(12)}
    before = people_of(TASK.open(folder(tmp_path / "a", names)), "train")
    after = people_of(TASK.open(folder(tmp_path / "b", {**names, "zz": 2})), "train")
    assert len(before - after) <= 1, "at most the one that the newcomer's hash displaces"


def test_a_person_in_two_splits_is_refused_by_name(tmp_path: Path) -> None:
    place = folder(tmp_path, {"train/ann": 3, "train/bob": 3, "val/cid": 2, "val/dan": 2, "test/ann": 2, "test/eve": 2})
    with pytest.raises(Problem, match=r"'ann' is in two splits: train/ann/0\.png, test/ann/0\.png") as refusal:
        TASK.open(place)
    assert refusal.value.code == Exit.INPUT


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_list_of_people_reads_as_their_folders_do(tmp_path: Path, ending: str) -> None:
    names = {f"p{number:02d}": 3 for number in range(12)}
    place = folder(tmp_path / "listed" / "shots", names).parent
    rows = [(f"shots/{name}/{number}.png", name) for name, count in names.items() for number in range(count)]
    text = {
        "csv": "image,person\n" + "".join(f"{image},{name}\n" for image, name in rows),
        "jsonl": "".join(json.dumps({"image": image, "person": name}) + "\n" for image, name in rows),
    }
    (place / f"manifest.{ending}").write_text(text[ending])
    listed, folders = TASK.open(place), TASK.open(folder(tmp_path / "folders", names))
    for split in ("train", "val", "test"):
        assert {name.split("/")[1] for name in people_of(listed, split)} == people_of(folders, split)


def test_a_person_in_two_splits_of_a_list_and_nobody_are_refused_with_their_line(tmp_path: Path) -> None:
    place = folder(tmp_path, dict.fromkeys(("ann", "bob", "cid", "dan", "eve", "fay"), 2))
    split = dict(zip(("ann", "bob", "cid", "dan", "eve", "fay"), ("train", "train", "val", "val", "test", "test"), strict=True))
    rows = [(f"{name}/{number}.png", name, split[name]) for name in split for number in range(2)]
    for line, wrong, said in (
        (4, ("bob/1.png", "eve", "train"), r"'eve' is in two splits"),
        (4, ("bob/1.png", " ", "train"), "manifest.csv:5: bob/1.png is of no kind"),
    ):
        changed = [*rows[: line - 1], wrong, *rows[line:]]
        (place / "manifest.csv").write_text("image,person,split\n" + "".join(",".join(row) + "\n" for row in changed))
        with pytest.raises(Problem, match=said) as refusal:
            TASK.open(place)
        assert refusal.value.code == Exit.INPUT


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({"ann": 3, "bob": 3}, "too few"),
        ({"train/a": 2, "train/b": 2, "val/c": 1, "val/d": 1, "test/e": 2, "test/f": 2}, "val has 2 people, and fewer than two"),
    ],
)
def test_people_who_cannot_be_compared_are_refused(tmp_path: Path, layout: dict[str, int], said: str) -> None:
    with pytest.raises(Problem, match=said) as refusal:
        TASK.open(folder(tmp_path, layout))
    assert refusal.value.code == Exit.INPUT


@pytest.mark.parametrize("wrong", [{"side": 100}, {"side": 16}, {"side": True}, {"embedding": 4}, {"fit": "squash"}, {"size": 112}])
def test_a_wrong_setting_is_refused_in_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(Problem) as refusal:
        TASK.open(None, settings=wrong)
    assert refusal.value.code == Exit.USAGE and "\n" not in str(refusal.value)


def test_a_drawn_face_is_the_same_twice_and_another_one_in_another_picture() -> None:
    assert np.array_equal(faces.draw(3, 1), faces.draw(3, 1))
    assert not np.array_equal(faces.draw(3, 1), faces.draw(3, 2))


def test_a_training_batch_has_something_to_compare_and_an_epoch_every_picture_once(tmp_path: Path) -> None:
    data = TASK.open(folder(tmp_path, {f"p{number:02d}": 5 for number in range(12)}), settings={"side": 32})
    batches = list(data.batches("train", batch_size=8, shuffle=True, seed=1))
    names = [name for batch in batches for name in batch.ids]
    assert sorted(names) == sorted(set(names)) and len(names) == data.count("train")
    assert all(len(np.unique(batch.targets["label"])) < len(batch.ids) for batch in batches[:-1])
    again = list(data.batches("train", batch_size=8, shuffle=True, seed=1))
    assert all(np.array_equal(one.inputs["image"], other.inputs["image"]) for one, other in zip(batches, again, strict=True))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 70))
def test_whole_kinds_gives_exactly_as_many_rows_as_asked(kinds: list[int], limit: int) -> None:
    rows = gallery.whole_kinds(np.array(kinds), limit)
    assert len(rows) == min(limit, len(kinds)) and len(set(rows.tolist())) == len(rows) and (np.diff(rows) > 0).all()


# -- error rates ---------------------------------------------------------------------------------------------------------


def scattered(people: int, pictures: int, *, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    names = np.repeat(np.arange(people), pictures)
    places = rng.standard_normal((people, 16))[names] + noise * rng.standard_normal((len(names), 16))
    return places / np.linalg.norm(places, axis=1, keepdims=True), names


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 3.0))
def test_a_resampled_rate_is_that_of_scikit_learn_with_weights(seed: int, noise: float) -> None:
    found = verification.pairs(*scattered(5, 4, noise=noise, seed=seed))
    counts = np.random.default_rng(seed).integers(0, 3, 20)
    weight = (counts[found.first] * counts[found.second]).astype(float)
    if not (weight[found.same].sum() and weight[~found.same].sum()):
        return
    false, true = found.weighed(counts)
    wanted = roc_curve(found.same, found.similarity, sample_weight=weight, drop_intermediate=False)
    assert np.interp(0.1, false, true) == pytest.approx(np.interp(0.1, wanted[0], wanted[1]))
    assert verification.equal_error(false, true) == pytest.approx(verification.equal_error(wanted[0], wanted[1]))


def test_the_errors_of_all_pictures_make_the_equal_error_rate() -> None:
    found = verification.pairs(*scattered(8, 5, noise=1.5))
    false, true, thresholds = found.rates()
    value = verification.equal_error(false, true)
    wrong = found.wrong(float(thresholds[verification.closest(false, true)]))
    assert 0.02 < value < 0.4 and wrong.mean() == pytest.approx(value) == pytest.approx(found.over(np.arange(40)))


def test_perfect_places_err_never_and_places_without_meaning_half_the_time() -> None:
    perfect = verification.pairs(*scattered(20, 5, noise=1e-6))
    assert verification.equal_error(*perfect.rates()[:2]) == 0 and verification.accepts(perfect)["tar_at_far_1e-2"] == 1
    chance = verification.pairs(*scattered(20, 10, noise=1e6))
    assert verification.equal_error(*chance.rates()[:2]) == pytest.approx(0.5, abs=0.06)


def test_too_many_pairs_keep_all_of_the_same_person_and_few_of_strangers() -> None:
    places, names = scattered(20, 10, noise=1.0)
    found = verification.pairs(places, names, most=4000)
    assert found.same.sum() == 20 * 45 and 2000 < len(found.same) < 6000
    assert len(set(zip(found.first.tolist(), found.second.tolist(), strict=True))) == len(found.same)
    assert all(found.first != found.second)


# -- losses --------------------------------------------------------------------------------------------------------------


def test_without_a_margin_arcface_is_cross_entropy_and_a_margin_costs() -> None:
    cosines, labels = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9, torch.tensor([0, 1, 2, 3, 0, 1])
    plain = torch.nn.functional.cross_entropy(16 * cosines, labels)
    assert metric_losses.arcface(cosines, labels, scale=16, margin=0.0).item() == pytest.approx(plain.item(), rel=1e-4)
    assert metric_losses.arcface(cosines, labels, scale=16, margin=0.3) > plain


def test_arcface_always_gets_better_when_the_right_angle_gets_smaller() -> None:
    right = torch.linspace(-0.999, 0.999, 200)
    losses = torch.stack([metric_losses.arcface(torch.tensor([[value, 0.1]]), torch.tensor([0]), scale=16, margin=0.5) for value in right])
    assert (losses[1:] <= losses[:-1] + 1e-5).all()


def test_a_prototype_leaves_the_asked_picture_out() -> None:
    embedding = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]])
    honest = metric_losses.prototypical(embedding, torch.tensor([0, 0, 1, 1]), scale=16)
    assert honest > metric_losses.prototypical(embedding, torch.tensor([0, 1, 0, 1]), scale=16) + 1


def test_a_batch_of_strangers_or_of_one_person_teaches_nothing_and_fails_nothing() -> None:
    embedding = torch.randn(4, 8, requires_grad=True)
    for labels in ([0, 1, 2, 3], [5, 5, 5, 5]):
        loss = metric_losses.prototypical(embedding, torch.tensor(labels), scale=16)
        assert loss.item() == 0
        torch.autograd.backward(loss)


# -- nets ----------------------------------------------------------------------------------------------------------------


def test_the_published_sizes_are_met() -> None:
    """0.99 M (Chen et al. 2018), 24.0, 43.6 and 65.2 M (InsightFace's R18, R50, R100 with 512 numbers)."""

    def counted(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert counted(mobilefacenet.build(people=0)) == pytest.approx(0.99e6, rel=0.02)
    for blocks, published in (((2, 2, 2, 2), 24.0e6), ((3, 4, 14, 3), 43.6e6), ((3, 13, 30, 3), 65.2e6)):
        with torch.device("meta"):
            assert counted(iresnet.build(people=0, blocks=blocks)) == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize("build", [mobilefacenet.build, iresnet.build])
def test_the_people_of_the_training_set_are_learned_and_do_not_ship(build: Any, tmp_path: Path) -> None:
    small = {"width": 0.25, "depth": 0.2} if build is mobilefacenet.build else {"widths": (8, 8, 16, 16), "blocks": (1, 1, 1, 1)}
    module, image = build(people=7, side=32, embedding=16, **small), torch.randn(4, 3, 32, 32)
    embedding, cosines = module(image)
    torch.autograd.backward(TASK.loss((embedding, cosines), {"label": torch.tensor([0, 6, 3, 3])}))
    assert cosines.shape == (4, 7) and module.centres.grad.abs().sum() > 0
    assert embedding.norm(dim=-1).tolist() == pytest.approx([1.0] * 4)
    module.eval()
    shipped = fused(module)
    assert not any("centres" in name for name, _ in shipped.named_parameters()) and torch.equal(shipped(image), module(image))
    data = TASK.stand_in({"people": 7, "side": 32, "embedding": 16})
    path = export(module, data, tmp_path / "model.onnx", target=Target())  # type: ignore[arg-type]
    assert not any(tensor.dims[:1] == [7] for tensor in onnx.load(str(path)).graph.initializer)


def test_at_28_pixels_the_prototypical_net_is_the_papers() -> None:
    module = prototypical.build(people=0, channels=1).eval()
    assert sum(parameter.numel() for parameter in module.parameters()) == 111_936
    assert torch.nn.Sequential(*list(module.body.children())[:-2])(torch.randn(1, 1, 28, 28)).shape == (1, 64, 1, 1)


def test_a_teacher_that_is_met_costs_nothing_and_one_with_a_head_is_understood() -> None:
    place = torch.nn.functional.normalize(torch.randn(4, 8), dim=-1)
    assert TASK.distil_loss((place, torch.zeros(4, 3)), place, None, temperature=2.0).item() == pytest.approx(0, abs=1e-5)
    assert TASK.distil_loss(place, -place, None, temperature=2.0).item() == pytest.approx(2 * TASK.closeness)


def test_the_bundles_reader_says_of_a_place_what_the_task_says() -> None:
    place = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    text, share = steps_embedding.embedding(place, [])
    assert text == gallery.said(place[0]) and 0 < share <= 1 and reader.known("embedding", "POSTPROCESS") is not None
