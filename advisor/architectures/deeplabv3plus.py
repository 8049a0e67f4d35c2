"""DeepLabv3+: dilated convolutions of several rates over the last map (ASPP), and a decoder that adds a map of stride four.

Source: Chen et al. 2018, "Encoder-Decoder with Atrous Separable Convolution", arXiv:1802.02611; segmentation-models-pytorch,
https://github.com/qubvel-org/segmentation_models.pytorch (MIT), with any of timm's encoders as `tu-…`. The published net spreads its
answer over the picture; here it stays on the grid.
Shape: image (b, 3, height, width), sides a multiple of 32 → logits (b, height / 4, width / 4, classes), raw.
"""

from __future__ import annotations

from torch import Tensor, nn

from advisor.published import HUB, of_timm
from rules.problems import bad_environment, bad_input

TIMM = "tu-"  # how segmentation-models-pytorch marks an encoder of timm's


class OnGrid(nn.Module):
    """The net with the classes last."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.net(image)
        return logits.permute(0, 2, 3, 1)


def build(*, classes: int, encoder: str = "tu-mobilenetv3_large_100", channels: int = 256, weights: str = "") -> nn.Module:
    """DeepLabv3+ on `encoder` with a decoder of `channels`; `weights = "hub"` starts an encoder of timm's ("tu-…") from its published ones.

    Raises Problem: exit 5 without segmentation-models-pytorch or the Hub, exit 3 for other weights.
    """
    from advisor.vision_operators import ensure

    ensure()
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        what = "this architecture is segmentation-models-pytorch's, which is not installed"
        raise bad_environment(what, remedy="pip install 'edge-advisor[vision]'") from None
    if weights:
        _fetch(encoder, weights)
    net = smp.DeepLabV3Plus(
        encoder,
        encoder_weights="imagenet" if weights else None,
        classes=classes,
        decoder_channels=channels,
        upsampling=1,
    )
    return OnGrid(net)


def _fetch(encoder: str, weights: str) -> None:
    """Bring the published file of an encoder of timm's into the Hub's cache, where segmentation-models-pytorch looks for it."""
    if weights != HUB or not encoder.startswith(TIMM):
        raise bad_input(f"{encoder} cannot start from {weights}", remedy='weights = "hub", for an encoder of timm\'s')
    of_timm(encoder.removeprefix(TIMM))
