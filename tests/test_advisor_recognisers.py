"""What every recogniser of text lines promises beside what every architecture does: a step every four columns, and a cut that runs."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_pruning as tp
from torch import nn

from advisor.instantiate import builder

FOLDER = Path(__file__).parents[1] / "rules" / "knowledge"
CELLS = {cell["architecture"] for cell in tomllib.loads((FOLDER / "tasks" / "ocr.toml").read_text(encoding="utf-8"))["cell"]}
CARDS = [
    card
    for name in sorted(CELLS)
    if (card := tomllib.loads((FOLDER / "architectures" / f"{name}.toml").read_text(encoding="utf-8")))["status"] == "built"
]
VARIANTS = [(card["name"], size["name"]) for card in CARDS for size in card["variant"]]
NARROWEST, CLASSES = 16, 96
every_variant = pytest.mark.parametrize(("architecture", "variant"), VARIANTS, ids=["-".join(pair) for pair in VARIANTS])


def lines(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, 1, 32, width), generator=torch.Generator().manual_seed(seed))


def fresh(architecture: str, variant: str) -> nn.Module:
    card = next(card for card in CARDS if card["name"] == architecture)
    torch.manual_seed(0)
    settings: dict[str, Any] = next(size.get("settings", {}) for size in card["variant"] if size["name"] == variant)
    return builder(card["builds"])(classes=CLASSES, **settings).eval()


@torch.no_grad()
def answer(module: nn.Module, image: torch.Tensor) -> torch.Tensor:
    return module(image)


@every_variant
@pytest.mark.parametrize(("count", "width"), [(1, NARROWEST), (3, 48), (2, 320)])
def test_any_batch_and_width_give_a_step_every_four_columns(architecture: str, variant: str, count: int, width: int) -> None:
    out = answer(fresh(architecture, variant), lines(count, width))
    assert out.shape == (count, width // 4, CLASSES)
    assert out.isfinite().all()


@every_variant
def test_a_narrower_convolution_still_runs(architecture: str, variant: str) -> None:
    module = fresh(architecture, variant)
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
    assert answer(module, lines(2, 48)).shape == (2, 12, CLASSES)


class Features(nn.Module):
    """The part of a module that a convolution pruner sees."""

    def __init__(self, owned: nn.Module, run: Any) -> None:
        super().__init__()
        self.owned = owned
        self.run = run

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.run(image)
