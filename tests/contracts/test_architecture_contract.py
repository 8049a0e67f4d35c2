"""What every built variant of every card promises: it builds, learns, exports, is stored and is as large as its card says.

Cards are found by looking; nothing is listed here. Where a card has a reduced form, that stands for its variants; the variants
themselves are held to the same by `make zoo`, which sets ADVISOR_ZOO to the names it wants ("resnet-50/imagenet", or "all").
"""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from advisor.instantiate import builder
from advisor.stand_in import StandIn
from bench.make_costs import stand_in
from compress.context import Target, tensors
from compress.export import export, fused, scatter
from compress.measuring import awake
from compress.runtime import predictor, session
from compress.weights import ModelSpec, load, save
from rules.examples import Feeds

FOLDER = Path(__file__).parents[2] / "rules" / "knowledge" / "architectures"
CARDS = {
    card["name"]: card
    for path in sorted(FOLDER.glob("*.toml"))
    if (card := tomllib.loads(path.read_text(encoding="utf-8")))["status"] == "built"
}
REDUCED = "reduced"
WANTED = [name for name in os.environ.get("ADVISOR_ZOO", "").split(",") if name]
WHOLE = [(card["name"], size["name"]) for card in CARDS.values() for size in card["variant"]]
VARIANTS = (
    [pair for pair in WHOLE if WANTED == ["all"] or "/".join(pair) in WANTED]
    if WANTED
    else [pair for pair in WHOLE if REDUCED not in CARDS[pair[0]]] + [(name, REDUCED) for name, card in CARDS.items() if REDUCED in card]
)
every_variant = pytest.mark.parametrize(("architecture", "variant"), VARIANTS, ids=["-".join(pair) for pair in VARIANTS])
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def settings_of(architecture: str, variant: str) -> dict[str, Any]:
    """Keyword arguments of the builder: what the data gives where cards are counted, and the variant's own."""
    card = CARDS[architecture]
    own = card[REDUCED] if variant == REDUCED else size_of(architecture, variant).get("settings", {})
    return {**data_of(architecture, variant)[0], **own}


def size_of(architecture: str, variant: str) -> dict[str, Any]:
    """A variant of the card; for the reduced form its first."""
    return next(size for size in CARDS[architecture]["variant"] if variant in (size["name"], REDUCED))


@cache
def data_of(architecture: str, variant: str) -> tuple[dict[str, Any], StandIn]:
    given, data = stand_in(architecture, size_of(architecture, variant))
    return dict(given), data


def inputs(architecture: str, variant: str, batch: int, *, probe: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs of the sizes of one probe."""
    data = data_of(architecture, variant)[1]
    sizes = list(data.sizes.values())
    return data.feeds(sizes[probe % len(sizes)], batch=batch, seed=seed)


def fresh(architecture: str, variant: str) -> nn.Module:
    """The variant with random weights and statistics that suit them: an untrained net answers every input nearly alike otherwise."""
    torch.manual_seed(0)
    module = awake(builder(CARDS[architecture]["builds"])(**settings_of(architecture, variant)))
    norms = [part for part in module.modules() if isinstance(part, NORMS)]
    for part in norms:
        part.momentum = 1.0
    if norms:
        answer(module.train(), inputs(architecture, variant, 8, seed=5))
    for part in norms:
        part.momentum = 0.1
    return module


@cache
def settled(architecture: str, variant: str) -> nn.Module:
    return fresh(architecture, variant).eval()


def outputs(module: nn.Module, feeds: Feeds) -> tuple[Tensor, ...]:
    found = module(*tensors(feeds).values())
    return tuple(found.values()) if isinstance(found, dict) else (found,) if isinstance(found, Tensor) else tuple(found)


@torch.no_grad()
def answer(module: nn.Module, feeds: Feeds) -> tuple[Tensor, ...]:
    return outputs(module, feeds)


def apart(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((one.double() - other.double()).abs().max() / one.double().abs().max().clamp_min(1e-12))


@every_variant
def test_it_has_as_many_parameters_as_its_card_says(architecture: str, variant: str) -> None:
    counted = sum(parameter.numel() for parameter in fused(settled(architecture, variant)).parameters())
    if variant == REDUCED:
        assert counted < min(size["params"] for size in CARDS[architecture]["variant"]), "a reduced form is smaller than every variant"
        return
    assert counted == size_of(architecture, variant)["params"]


@every_variant
def test_one_step_reaches_every_parameter_and_lowers_a_loss(architecture: str, variant: str) -> None:
    module = fresh(architecture, variant).train()
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    feeds = inputs(architecture, variant, 4, seed=1)
    generator = torch.Generator().manual_seed(2)
    goals = [torch.randn(output.shape, generator=generator) for output in outputs(module, feeds)]

    def loss() -> Tensor:
        found = [output for output in outputs(module, feeds) if output.is_floating_point()]
        return torch.stack([(output - goal).square().mean() for output, goal in zip(found, goals, strict=True)]).sum()

    before = loss()
    before.backward()
    idle = [
        name
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
    ]
    assert idle == []
    start = {name: value.clone() for name, value in module.state_dict().items()}
    after = []
    for step in (
        1e-4,
        1e-5,
        1e-8,
    ):  # norms over four examples in a row make some losses steep: a shorter step along the gradient counts too
        module.load_state_dict(start)
        torch.optim.AdamW(module.parameters(), step).step()
        after.append(float(loss()))
    assert min(after) < before


@every_variant
def test_any_batch_and_size_gives_the_axes_of_its_signature(architecture: str, variant: str) -> None:
    data = data_of(architecture, variant)[1]
    for number, count in enumerate((1, 3, 2)):
        feeds = inputs(architecture, variant, count, probe=number)
        for port, output in zip(data.signature.outputs, answer(settled(architecture, variant), feeds), strict=True):
            assert output.isfinite().all()
            assert len(output.shape) == len(port.shape)
            assert all(isinstance(want, str) or want == have for want, have in zip(port.shape, output.shape, strict=True))
            assert port.shape[0] != "batch" or output.shape[0] == count


@every_variant
def test_an_example_is_answered_the_same_whatever_shares_its_batch(architecture: str, variant: str) -> None:
    module = settled(architecture, variant)
    feeds, others = inputs(architecture, variant, 3), inputs(architecture, variant, 3, seed=1)
    mixed = {name: np.concatenate([array[:1], others[name][:2]]) for name, array in feeds.items()}
    alone = answer(module, {name: array[:1] for name, array in feeds.items()})
    differences = []
    for one, together, other in zip(alone, answer(module, feeds), answer(module, mixed), strict=True):
        company = max(apart(one, together[:1]), apart(one, other[:1]))
        differences.append(apart(together[:1], together[1:2]))
        assert company < 1e-4 and company < differences[-1] / 5, "what else is in the batch moves it less than another example does"
    assert max(differences) > 1e-3, "the examples do differ"


@every_variant
def test_padding_that_is_masked_changes_nothing(architecture: str, variant: str) -> None:
    data = data_of(architecture, variant)[1]
    if data.padded is None:
        pytest.skip("its inputs carry no mask")
    module, feeds = settled(architecture, variant), inputs(architecture, variant, 2)
    for port, wanted, got in zip(data.signature.outputs, answer(module, feeds), answer(module, data.padded(feeds)), strict=True):
        same = got[tuple(slice(0, size) for size in wanted.shape)]
        assert apart(wanted, same) < 1e-4, port.name


@every_variant
def test_the_exported_file_says_what_the_module_says(architecture: str, variant: str, tmp_path: Path) -> None:
    module, data = settled(architecture, variant), data_of(architecture, variant)[1]
    path = export(module, data, tmp_path / "model.onnx", target=Target())  # type: ignore[arg-type]
    onnx.checker.check_model(str(path), full_check=True)
    opened = session(path)
    for port, info in zip((*data.signature.inputs, *data.signature.outputs), (*opened.get_inputs(), *opened.get_outputs()), strict=True):
        assert [type(size) for size in info.shape] == [type(size) for size in port.shape], port.name
    predict = predictor(path)
    for number, count in enumerate((1, 2, 3)):
        feeds = inputs(architecture, variant, count, probe=number, seed=10 + number)
        got = predict(feeds)
        for port, wanted in zip(data.signature.outputs, answer(module, feeds), strict=True):
            assert got[port.name].shape == tuple(wanted.shape)
            difference = apart(wanted, torch.from_numpy(got[port.name]))
            assert difference <= 1e-4 or difference <= scatter(module, data.signature, feeds)[port.name]


@every_variant
def test_its_state_goes_through_a_file_and_back(architecture: str, variant: str, tmp_path: Path) -> None:
    module = settled(architecture, variant)
    save(module, ModelSpec(CARDS[architecture]["builds"], settings_of(architecture, variant)), tmp_path, "module")
    again = load(tmp_path, "module")[0]
    feeds = inputs(architecture, variant, 2)
    assert all(torch.equal(one, other) for one, other in zip(answer(module, feeds), answer(again, feeds), strict=True))


@every_variant
def test_the_same_seed_builds_the_same_weights(architecture: str, variant: str) -> None:
    one, other = (fresh(architecture, variant).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
