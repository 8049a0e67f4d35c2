"""RT-DETR on ResNet-18: a convolutional net sees, a Transformer asks it a fixed number of times where something is.

Idea: three maps of a ResNet are mixed, the coarsest by self-attention, across scales by convolutions; the likeliest cells become queries,
and layers of a decoder look where each of them points and correct its box. Queries are trained as a set, so nothing is suppressed.
Source: Lv et al. 2023, arXiv:2304.08069, as transformers keeps it, https://github.com/huggingface/transformers (Apache-2.0); deformable
attention, Zhu et al. 2020, arXiv:2010.04159; the sizes of ResNet-18's form, https://github.com/lyuwenyu/RT-DETR (Apache-2.0).
Shape: image (b, 3, side, side) → scores (b, queries, classes) raw and boxes (b, queries, 4), middle and size as shares (`advisor/queries.py`);
while training also what each layer before the last said, (b, layers, queries, …).

What differs from the paper, and why: there the decoder also learns to repair true boxes that were disturbed, which needs the answers
as inputs; a module here is given pictures alone, so that part is left out, and training takes longer for it. Batch norms learn: published
nets freeze those of their pretrained backbone, and these start from nothing (He et al. 2015, arXiv:1502.01852). Answers come in the
order of the queries' first places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from advisor import queries as asked
from advisor.set_loss import INSTALL
from advisor.vision_operators import ensure
from rules.problems import bad_environment

ROW = 64.0  # how much more a place's row counts than its column


class RtDetr(nn.Module):
    """The detector: image (b, 3, side, side) float32 → (scores, boxes); while training (scores, boxes, scores before, boxes before)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net: Any = net

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        said = self.net(image)
        scores, boxes = said.intermediate_logits, said.intermediate_reference_points  # (b, layers, queries, classes), (…, 4)
        if not self.training:
            order = _order(said.init_reference_points)
            return tuple(found[:, -1].gather(1, order.expand(-1, -1, found.shape[-1])) for found in (scores, boxes))
        last = scores[:, -1], boxes[:, -1]
        first = said.enc_topk_logits[:, None], said.enc_topk_bboxes[:, None]
        return *last, torch.cat([first[0], scores[:, :-1]], 1), torch.cat([first[1], boxes[:, :-1]], 1)


def _order(places: Tensor) -> Tensor:
    """Row by row, from left to right, (b, queries, 1): chosen by their scores, queries would change places where two are alike but for rounding."""
    held = places[..., :2].sigmoid()
    return (held[..., :1] + ROW * held[..., 1:]).argsort(1)


def build(
    *,
    classes: int,
    side: int,
    smallest: float = 0.0,
    queries: int = asked.USUAL,
    channels: Sequence[int] = (64, 128, 256, 512),
    depths: Sequence[int] = (2, 2, 2, 2),
    width: int = 256,
    hidden: int = 1024,
    heads: int = 8,
    layers: int = 3,
    expansion: float = 0.5,
) -> nn.Module:
    """RT-DETR for `classes` on a ResNet of `channels` and `depths` a stage; `layers` of the decoder, everything above the ResNet `width` wide.

    `side` bounds how many `queries` there can be; `hidden` is the width inside a Transformer layer, `expansion` that of the convolutions
    which mix scales; `smallest`, the scale of default boxes, is not needed here. Raises Problem (exit 5) without transformers.
    """
    ensure()
    try:
        from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig
    except ImportError:
        raise bad_environment("rt-detr needs transformers, which is not installed", remedy=INSTALL) from None
    stages: dict[str, Any] = {"out_features": ["stage2", "stage3", "stage4"]}
    backbone = RTDetrResNetConfig(
        embedding_size=channels[0], hidden_sizes=list(channels), depths=list(depths), layer_type="basic", **stages
    )
    answers: dict[str, Any] = {"num_labels": classes}
    config = RTDetrConfig(
        **answers,
        backbone_config=backbone,
        num_queries=asked.count(side, queries),
        num_denoising=0,
        freeze_backbone_batch_norms=False,
        encoder_in_channels=list(channels[1:]),
        decoder_in_channels=[width] * 3,
        encoder_hidden_dim=width,
        d_model=width,
        encoder_ffn_dim=hidden,
        decoder_ffn_dim=hidden,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        decoder_layers=layers,
        hidden_expansion=expansion,
    )
    net = RTDetrForObjectDetection(config).model
    for part in net.modules():  # transformers' own start is for weights that are loaded: hardly anything of a picture comes through
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
    return RtDetr(net)
