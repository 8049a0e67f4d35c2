"""DeepLabv3+: dilated convolutions of several rates over the last map (ASPP), and a decoder that adds a map of stride four.

Source: Chen et al. 2018, "Encoder-Decoder with Atrous Separable Convolution", arXiv:1802.02611; segmentation-models-pytorch,
https://github.com/qubvel-org/segmentation_models.pytorch (MIT), with any of timm's encoders as `tu-…`. The published net spreads its
answer over the picture; here it stays on the grid.
Shape: image (b, 3, height, width), sides a multiple of 32 → logits (b, height / 4, width / 4, classes), raw.
"""

from __future__ import annotations

from torch import Tensor, nn

from rules.problems import bad_environment

HUB = "hub"


class OnGrid(nn.Module):
    """The net with the classes last."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.net(image)
        return logits.permute(0, 2, 3, 1)


def build(*, classes: int, encoder: str = "tu-mobilenetv3_large_100", channels: int = 256, weights: str = "") -> nn.Module:
    """DeepLabv3+ on `encoder` with a decoder of `channels`; `weights = "hub"` starts from its published ones.

    Raises Problem (exit 5) without segmentation-models-pytorch.
    """
    from advisor.vision_operators import ensure

    ensure()
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        what = "this architecture is segmentation-models-pytorch's, which is not installed"
        raise bad_environment(what, remedy="pip install 'edge-advisor[vision]'") from None
    net = smp.DeepLabV3Plus(
        encoder,
        encoder_weights="imagenet" if weights == HUB else None,
        classes=classes,
        decoder_channels=channels,
        upsampling=1,
    )
    return OnGrid(net)
