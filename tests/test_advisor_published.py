"""Weights that others published: a plan starts from them, they are never a pickle, and what is stored is built again without them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from advisor import published
from advisor.architectures import deeplabv3plus, ssdlite, timm_classifier
from advisor.instantiate import builder, spec_settings
from advisor.recommend import plan_toml, recommend
from cli import _job
from compress.pipeline import Run, _fresh
from compress.profile import Measured
from compress.warm_start import check
from compress.weights import ModelSpec, load, save
from rules.facts import Request
from rules.knowledge import load as knowledge
from rules.problems import Exit, Problem

KNOWN = knowledge()
SMALL = "mobilenetv3-large", "small-image"
HUB = [(card, variant) for card in KNOWN.cards.values() for variant in card.variants if variant.weights]


def spec(classes: int = 10) -> ModelSpec:
    return ModelSpec(*spec_settings(KNOWN, *SMALL, classes=classes, side=32))


def stored(path: Path, *, classes: int = 10, seed: int = 7) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    state = spec(classes).build().state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return dict(state)


def job(path: Path, **header: str) -> Any:
    lines = [f'{key} = "{value}"' for key, value in header.items()]
    path.write_text(
        "\n".join(["schema_version = 1", 'task = "image-classification"', *lines, "", '[[stage]]\nname = "train"\nsteps = 1', ""])
    )
    options: Mapping[str, Any] = {"device": None, "teacher": None, "threads": 1, "train_on": "cpu", "overlay": None}
    return _job("image-classification", None, path, **options)


def plan(weights: str) -> dict[str, str]:
    return {"architecture": SMALL[0], "variant": SMALL[1], "weights": weights}


# -- from a plan ---------------------------------------------------------------------------------------------------------


def test_a_plan_starts_from_a_local_file_and_reads_pictures_as_it_was_trained_to(tmp_path: Path) -> None:
    given = stored(tmp_path / "net.safetensors")
    asked = job(tmp_path / "plan.toml", **plan(str(tmp_path / "net.safetensors")))
    assert asked.plan.settings == {"normalise": "imagenet"}
    begun = _fresh(asked.student, 0, asked.plan.weights).state_dict()
    body = [name for name in given if not name.startswith("classifier")]
    assert len(body) > 100 and all(torch.equal(begun[name], given[name]) for name in body)
    assert not all(torch.equal(_fresh(asked.student, 0).state_dict()[name], given[name]) for name in body)


def test_a_head_for_other_classes_is_new(tmp_path: Path) -> None:
    given = stored(tmp_path / "net.safetensors", classes=1000)
    begun = _fresh(spec(10), 0, str(tmp_path / "net.safetensors")).state_dict()
    assert torch.equal(begun["conv_stem.weight"], given["conv_stem.weight"])
    assert begun["classifier.weight"].shape[0] == 10


def test_what_is_stored_is_built_again_without_them(tmp_path: Path) -> None:
    stored(tmp_path / "net.safetensors")
    module = _fresh(spec(), 0, str(tmp_path / "net.safetensors"))
    save(module, spec(), tmp_path, "module")
    (tmp_path / "net.safetensors").unlink()
    again, facts = load(tmp_path, "module")
    assert "weights" not in facts.settings
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in module.state_dict().items())


def test_a_folder_is_not_continued_from_other_weights_under_the_same_name(tmp_path: Path) -> None:
    stored(tmp_path / "net.safetensors")
    asked = job(tmp_path / "plan.toml", **plan(str(tmp_path / "net.safetensors")))
    (tmp_path / "run").mkdir()
    Run(asked, tmp_path / "run", latencies=Measured())
    stored(tmp_path / "net.safetensors", seed=8)
    with pytest.raises(Problem, match="another given"):
        Run(asked, tmp_path / "run", latencies=Measured())


def test_a_net_that_has_no_published_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="plain-cnn has no published weights") as refused:
        job(tmp_path / "plan.toml", architecture="plain-cnn", variant=KNOWN.cards["plain-cnn"].variants[0].name, weights="hub")
    assert refused.value.code == Exit.USAGE


# -- what is advised -------------------------------------------------------------------------------------------------------


def test_pretrained_weights_stand_in_the_plan_only_where_they_were_asked_for() -> None:
    for said, expected in ((True, True), (None, False), (False, False)):
        text = plan_toml(recommend(Request("image-classification", device="x86-avx512-vnni", pretrained=said), KNOWN))
        assert ('weights = "hub"' in text) is expected


@pytest.mark.parametrize(("card", "variant"), HUB, ids=[f"{card.name}-{variant.name}" for card, variant in HUB])
def test_every_variant_said_to_have_published_weights_can_start_from_them(card: Any, variant: Any) -> None:
    from advisor.vision_operators import ensure

    ensure()
    import timm

    check(card.name, card.builds, "hub")
    net = variant.settings.get("net") or variant.settings.get("encoder", "tu-mobilenetv3_large_100").removeprefix("tu-")
    assert timm.get_pretrained_cfg(net).hf_hub_id and not {"width", "stride", "layers", "depth"} & set(variant.settings)


# -- where they come from --------------------------------------------------------------------------------------------------


def test_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(pickle.dumps({"conv_stem.weight": 1}))
    for build in (timm_classifier.build, ssdlite.build):
        settings = {"net": "resnet18"} if build is timm_classifier.build else {}
        with pytest.raises(Problem, match="no weights") as refused:
            build(classes=2, side=64, weights=str(path), **settings)  # type: ignore[operator]
        assert refused.value.code == Exit.INPUT


def test_a_file_of_another_net_is_refused_in_one_line(tmp_path: Path) -> None:
    save_file({"somewhere.else": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name, build in (("resnet18", timm_classifier.build), ("MobileNetV3", ssdlite.build)):
        settings = {"net": "resnet18"} if build is timm_classifier.build else {}
        with pytest.raises(Problem, match=f"does not fit {name}") as refused:
            build(classes=2, side=64, weights=str(tmp_path / "other.safetensors"), **settings)  # type: ignore[operator]
        assert refused.value.code == Exit.INPUT and "\n" not in str(refused.value)


def test_a_detector_starts_from_its_own_backbones_file(tmp_path: Path) -> None:
    net = ssdlite.build(classes=2, side=64)
    from torchvision.models import mobilenet_v3_large

    torch.manual_seed(3)
    whole = mobilenet_v3_large(reduced_tail=True)
    save_file({name: value.contiguous() for name, value in whole.state_dict().items()}, tmp_path / "own.safetensors")
    begun = ssdlite.build(classes=2, side=64, weights=str(tmp_path / "own.safetensors"))
    first = next(name for name, value in net.state_dict().items() if name.startswith("backbone") and value.dim() == 4)
    assert torch.equal(begun.state_dict()[first], whole.state_dict()["features.0.0.weight"])


def test_a_hub_out_of_reach_is_one_line_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreached(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreached)
    with pytest.raises(Problem, match="cannot be fetched") as refused:
        timm_classifier.build(classes=2, side=64, net="resnet18", weights="hub")
    assert refused.value.code == Exit.ENVIRONMENT
    with pytest.raises(Problem, match="cannot be fetched"):
        deeplabv3plus.build(classes=2, weights="hub")
    with pytest.raises(Problem, match="cannot start from"):
        deeplabv3plus.build(classes=2, encoder="resnet50", weights="hub")


def test_only_the_file_of_numbers_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stored(tmp_path / "net.safetensors")
    asked: list[str] = []

    def fetched(_: str, name: str) -> str:
        asked.append(name)
        return str(tmp_path / "net.safetensors")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetched)
    assert published.of_timm("mobilenetv3_large_100") == str(tmp_path / "net.safetensors")
    assert asked == ["model.safetensors"]
    assert builder("advisor.architectures.timm_classifier:build") is timm_classifier.build
