"""TimeSformer: a vision Transformer for clips that attends over time and over the picture in turn.

Idea: every frame is cut into patches; in each layer a patch first looks at the same place in the other frames, then at the other places of
its own frame, so that the work grows with frames plus patches and not with their product. A class token gathers the answer.
Source: Bertasius, Wang & Torresani 2021, arXiv:2102.05095, divided space-time attention; transformers' implementation,
https://github.com/huggingface/transformers (Apache-2.0). The authors' own code and weights exclude commercial use; nothing of them is here.
Shape: clip (b, frames, 3, side, side) → logits (b, classes), raw; the number of frames and the side are the net's.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from advisor.published import begin
from advisor.vision_operators import ensure
from rules.problems import Problem, bad_environment

INSTALL = "pip install 'edge-advisor[text]'"  # where transformers is


class Timesformer(nn.Module):
    """transformers' net. `forward(clip)`: (b, frames, 3, side, side) float32 → logits (b, classes)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net: Any = net

    def forward(self, clip: Tensor) -> Tensor:
        logits: Tensor = self.net(clip).logits
        return logits


def build(
    *,
    classes: int,
    frames: int,
    side: int,
    patch: int = 16,
    width: int = 384,
    layers: int = 12,
    heads: int = 6,
    hidden: int = 0,
    weights: str = "",
) -> Timesformer:
    """A TimeSformer of `layers`, `width` wide with `heads` heads, on patches of `patch` pixels; `hidden`: width inside, 0: four times.

    `weights`: a local .safetensors file of this very net. Raises Problem: exit 2 where patches do not fit the side, exit 3 for a file that
    is not there or does not fit, exit 5 without transformers.
    """
    if side % patch:
        raise Problem(f"patches of {patch} pixels do not fill a side of {side}", remedy="patch divides side")
    ensure()
    try:
        from transformers import TimesformerConfig, TimesformerForVideoClassification
    except ImportError:
        raise bad_environment("timesformer needs transformers, which is not installed", remedy=INSTALL) from None
    answers: dict[str, Any] = {"num_labels": classes}
    config = TimesformerConfig(
        **answers,
        image_size=side,
        patch_size=patch,
        num_frames=frames,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=hidden or 4 * width,
        attention_type="divided_space_time",
    )
    model = Timesformer(TimesformerForVideoClassification(config))
    if weights:
        begin(model, weights)
    return model
