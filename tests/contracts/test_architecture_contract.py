"""What every built variant of every card promises: it builds, trains, exports, prunes and is as large as its card says."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch_pruning as tp
from torch import nn

from advisor.instantiate import CARD_CLASSES, builder
from compress.context import Target
from compress.export import export
from compress.runtime import predictor, session
from rules.examples import Port, Signature

FOLDER = Path(__file__).parents[2] / "rules" / "knowledge" / "architectures"
CARDS = [card for path in sorted(FOLDER.glob("*.toml")) if (card := tomllib.loads(path.read_text(encoding="utf-8")))["status"] == "built"]
VARIANTS = [(card["name"], size["name"]) for card in CARDS for size in card["variant"]]
NARROWEST = 16
every_variant = pytest.mark.parametrize(("architecture", "variant"), VARIANTS, ids=["-".join(pair) for pair in VARIANTS])


class Lines:
    """As much of a line task's data as an export asks for."""

    signature = Signature(
        (Port("image", "float32", ("batch", 1, 32, "width"), {"width": (NARROWEST, 4096, 16)}),),
        (Port("logits", "float32", ("batch", "time", CARD_CLASSES)),),
    )

    def probes(self) -> dict[str, dict[str, np.ndarray]]:
        return {f"w{width}": {"image": lines(1, width).numpy()} for width in (NARROWEST, 96)}


def lines(count: int, width: int, seed: int = 0) -> torch.Tensor:
    """Coarse random patches, four pixels a side: noise as fine as a pixel looks the same to any convolution."""
    coarse = torch.rand((count, 1, 8, width // 4), generator=torch.Generator().manual_seed(seed)).round()
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)


def card_of(architecture: str, variant: str) -> tuple[dict[str, Any], dict[str, Any]]:
    card = next(card for card in CARDS if card["name"] == architecture)
    return card, next(size for size in card["variant"] if size["name"] == variant)


def fresh(architecture: str, variant: str) -> nn.Module:
    """The variant with random weights and statistics that suit them: an untrained net answers every image nearly alike otherwise."""
    card, size = card_of(architecture, variant)
    torch.manual_seed(0)
    module = builder(card["builds"])(classes=CARD_CLASSES, **size.get("settings", {}))
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        part.momentum = 1.0
    answer(module.train(), lines(8, 64, seed=5))
    for part in norms:
        part.momentum = 0.1
    return module


@cache
def settled(architecture: str, variant: str) -> nn.Module:
    return fresh(architecture, variant).eval()


@torch.no_grad()
def answer(module: nn.Module, image: torch.Tensor) -> torch.Tensor:
    return module(image)


@every_variant
def test_it_has_as_many_parameters_as_its_card_says(architecture: str, variant: str) -> None:
    _, size = card_of(architecture, variant)
    assert sum(parameter.numel() for parameter in settled(architecture, variant).parameters()) == size["params"]


@every_variant
def test_one_step_reaches_every_parameter_and_lowers_the_loss(architecture: str, variant: str) -> None:
    module = fresh(architecture, variant).train()
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    image, spelling = lines(4, 64), torch.tensor([[3, 5, 7]] * 4)
    lengths = torch.full((4,), 16), torch.full((4,), 3)

    def loss() -> torch.Tensor:
        scores = module(image).log_softmax(-1).transpose(0, 1)
        return nn.functional.ctc_loss(scores, spelling, *lengths, blank=0)

    before = loss()
    before.backward()
    idle = [name for name, parameter in module.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    assert idle == []
    torch.optim.AdamW(module.parameters(), 1e-3).step()
    assert loss() < before


@every_variant
@pytest.mark.parametrize(("count", "width"), [(1, NARROWEST), (3, 48), (2, 320)])
def test_any_batch_and_width_give_a_step_every_four_columns(architecture: str, variant: str, count: int, width: int) -> None:
    out = answer(settled(architecture, variant), lines(count, width))
    assert out.shape == (count, width // 4, CARD_CLASSES)
    assert out.isfinite().all()


@every_variant
def test_a_line_reads_the_same_whatever_shares_its_batch(architecture: str, variant: str) -> None:
    module = settled(architecture, variant)
    image = lines(3, 96)
    together, other = answer(module, image), answer(module, torch.cat([image[:1], lines(2, 96, seed=1)]))
    torch.testing.assert_close(together[:1], answer(module, image[:1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(together[:1], other[:1], atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-2  # the lines do differ


@every_variant
def test_the_exported_file_says_what_the_module_says(architecture: str, variant: str, tmp_path: Path) -> None:
    module = settled(architecture, variant)
    path = export(module, Lines(), tmp_path / "model.onnx", target=Target())
    onnx.checker.check_model(str(path), full_check=True)
    assert [type(size) for size in session(path).get_inputs()[0].shape] == [str, int, int, str]
    assert [type(size) for size in session(path).get_outputs()[0].shape] == [str, str, int]
    predict = predictor(path)
    for count, width in [(1, NARROWEST), (2, 80), (3, 320)]:
        image = lines(count, width, seed=width)
        wanted, got = answer(module, image).numpy(), predict({"image": image.numpy()})["logits"]
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max()
        assert np.ptp(wanted, axis=1).max() > 0.05 * np.abs(wanted).max()  # it does depend on what it sees


@every_variant
def test_a_narrower_convolution_still_runs(architecture: str, variant: str) -> None:
    module = fresh(architecture, variant).eval()
    # torch-pruning cannot trace an LSTM; what it needs of one is that the features before it are a plain convolutional net
    features = module.features if hasattr(module, "features") else module
    traced = nn.ModuleList(module.blocks) if hasattr(module, "features") else module
    graph = tp.DependencyGraph().build_dependency(Features(traced, features), lines(1, 64))
    first = next(part for part in module.modules() if isinstance(part, nn.Conv2d))
    before = first.out_channels
    group = graph.get_pruning_group(first, tp.prune_conv_out_channels, idxs=[0, 1])
    assert graph.check_pruning_group(group)
    group.prune()
    assert first.out_channels == before - 2
    assert answer(module, lines(2, 48)).shape == (2, 12, CARD_CLASSES)


class Features(nn.Module):
    """The part of a module that a convolution pruner sees."""

    def __init__(self, owned: nn.Module, run: Any) -> None:
        super().__init__()
        self.owned = owned
        self.run = run

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.run(image)


@every_variant
def test_the_same_seed_builds_the_same_weights(architecture: str, variant: str) -> None:
    one, other = (fresh(architecture, variant).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
