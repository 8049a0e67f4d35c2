"""The classifiers keep what their papers and the edge need: places for small pictures, branches that fuse, weights by timm's own door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from advisor.architectures import plain_cnn, resnet_small, timm_classifier
from compress.export import fused
from compress.measuring import awake
from rules.problems import Exit, Problem


def last_map(module: nn.Module, side: int) -> int:
    """The side of the last map with places that a convolution makes."""
    seen: list[int] = []
    handles = [
        part.register_forward_hook(lambda *a: seen.append(a[2].shape[-1])) for part in module.modules() if isinstance(part, nn.Conv2d)
    ]
    with torch.no_grad():
        module.eval()(torch.zeros(1, 3, side, side))
    for handle in handles:
        handle.remove()
    return min(size for size in seen if size > 1) if max(seen) > 1 else 1


@pytest.mark.parametrize("net", ["efficientnet_lite0", "mobilenetv4_conv_small", "mobilenetv3_large_100"])
@pytest.mark.parametrize("stride", [8, 16])
def test_a_net_for_small_pictures_keeps_as_many_places_as_its_stride_says(net: str, stride: int) -> None:
    assert last_map(timm_classifier.build(classes=3, side=64, net=net, stride=stride, width=0.1), 64) == 64 // stride


def test_a_stride_that_a_net_does_not_have_is_no_guess() -> None:
    with pytest.raises(ValueError, match="stride"):
        timm_classifier.keep_size(nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 3)), by=4)
    with pytest.raises(ValueError, match="no width"):
        timm_classifier.build(classes=3, side=32, net="resnet50", width=0.5)


def test_fusing_branches_changes_the_net_and_not_the_answer() -> None:
    torch.manual_seed(0)
    net: dict[str, Any] = {"net": "repvit_m0_9", "stride": 8, "embed_dim": (8, 16, 24, 32), "depth": (1, 1, 2, 1), "distillation": False}
    module = awake(timm_classifier.build(classes=5, side=32, **net)).train()
    images = torch.randn(8, 3, 32, 32)
    for _ in range(20):  # statistics that are not those of the start
        module(images)
    module.eval()
    plain = fused(module)
    with torch.no_grad():
        wanted, got = module(images), plain(images)
    assert (wanted - got).abs().max() < 1e-4 * wanted.abs().max()
    parts = [sum(isinstance(part, kind) for part in plain.modules()) for kind in (nn.BatchNorm2d, nn.Conv2d)]
    before = [sum(isinstance(part, kind) for part in module.modules()) for kind in (nn.BatchNorm2d, nn.Conv2d)]
    assert parts[0] == 0 and parts[1] < before[1] and before[0] > 0, "the module itself still trains"


def test_weights_come_from_a_local_file_and_the_head_is_new(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    settings: dict[str, Any] = {"net": "resnet50", "layers": (1, 1, 1, 1), "channels": (4, 8, 8, 16)}
    torch.manual_seed(0)
    theirs = timm_classifier.build(classes=1000, side=64, **settings)
    path = tmp_path / "theirs.safetensors"
    save_file(theirs.state_dict(), path)
    ours = timm_classifier.build(classes=3, side=64, weights=str(path), **settings)
    same = {key for key, value in ours.state_dict().items() if value.shape == theirs.state_dict()[key].shape}
    assert all(torch.equal(ours.state_dict()[key], theirs.state_dict()[key]) for key in same)
    assert set(ours.state_dict()) - same == {"fc.weight", "fc.bias"}


def test_weights_that_are_missing_or_of_another_net_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    settings: dict[str, Any] = {"net": "resnet50", "layers": (1, 1, 1, 1), "channels": (4, 8, 8, 16)}
    save_file({"conv1.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "other.safetensors")
    for name, said in (("gone.safetensors", "no weights"), ("weights.pth", "no weights"), ("other.safetensors", "does not fit")):
        with pytest.raises(Problem, match=said) as caught:
            timm_classifier.build(classes=3, side=64, weights=str(tmp_path / name), **settings)
        assert caught.value.code == Exit.INPUT


def test_a_transformer_is_built_for_the_side_of_its_pictures() -> None:
    module = timm_classifier.build(classes=3, side=48, net="deit_tiny_patch16_224", patch_size=8, embed_dim=24, depth=1, num_heads=3)
    assert module(torch.zeros(2, 3, 48, 48)).shape == (2, 3)


def test_a_residual_block_that_says_nothing_hands_its_input_on() -> None:
    block = resnet_small.Block(8, 8, stride=1)
    nn.init.zeros_(block.norm2.weight)
    images = torch.rand(2, 8, 6, 6)
    assert torch.equal(block.eval()(images), images)


def test_the_sizes_of_a_pruned_net_are_its_layers_own() -> None:
    from compress.refit import refit

    slim = resnet_small.build(classes=4, side=32, widths=(8, 12, 16))
    wide = refit(resnet_small.build(classes=4, side=32), slim.state_dict()).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(wide(images), slim.eval()(images))


def test_dilation_sees_further_with_the_same_weights() -> None:
    def reach(dilation: int) -> int:
        """How many columns of the picture a pixel of the last stage's convolution depends on."""
        torch.manual_seed(0)
        stage = plain_cnn.Stage(3, 4, repeats=2, dilation=dilation, groups=1).eval()
        image = torch.randn(1, 3, 33, 33, requires_grad=True)
        maps = stage.norms[1](stage.convs[1](torch.sigmoid(stage.convs[0](image))))
        maps[0, :, 16, 16].sum().backward()
        return int((image.grad[0].abs().sum((0, 1)) > 0).sum())

    assert reach(1) == 5 and reach(3) == 9
    plain, dilated = (sum(p.numel() for p in plain_cnn.build(classes=2, side=32, dilation=d).parameters()) for d in (1, 3))
    assert plain == dilated


@pytest.mark.parametrize(
    ("build", "settings"),
    [(resnet_small.build, {"side": 2}), (plain_cnn.build, {"side": 4}), (resnet_small.build, {"side": 32, "depth": 0})],
)
def test_a_net_that_does_not_fit_its_pictures_is_said(build: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pixels"):
        build(classes=2, **settings)
