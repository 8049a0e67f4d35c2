"""The loss of a detector that answers with a set: every true box is given the one query that fits it best, and all others are the ground.

Idea: pairs are chosen by the Hungarian method over class, distance and overlap, anew for every layer's answer; so no two queries are
rewarded for one thing, and nothing has to be suppressed. A class is wanted as surely as its box overlaps.
Source: transformers' RTDetrLoss, https://github.com/huggingface/transformers (Apache-2.0), which is Lv et al. 2023, arXiv:2304.08069;
matching, Carion et al. 2020, arXiv:2005.12872; the varifocal loss, Zhang et al. 2021, arXiv:2008.13367.
Shape: scores (b, queries, classes) raw and boxes (b, queries, 4) middle and size; while training also those of the layers before, (b, l, …).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from advisor.vision_operators import ensure
from rules.problems import bad_environment

TAUGHT = 0.3  # chance from which a teacher's box is a thing to find


def set_loss(output: Sequence[Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """The loss of an answer and of its layers' before it. `targets` as a batch has them; what is left aside is neither wanted nor known."""
    boxes, kinds = targets["boxes"], targets["kinds"]
    sized = torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-6)], -1)
    wanted = [{"class_labels": kinds[row][kinds[row] > 0] - 1, "boxes": sized[row][kinds[row] > 0]} for row in range(len(kinds))]
    return _loss(output, wanted)


def taught_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """The loss towards what a teacher finds: queries stand in no order, so its boxes are matched as true ones are."""
    chances, kinds = teacher[0].float().sigmoid().max(-1)
    seen = chances > TAUGHT
    wanted = [{"class_labels": kinds[row][seen[row]], "boxes": teacher[1].float()[row][seen[row]]} for row in range(len(kinds))]
    return _loss(student, wanted)


def _loss(output: Sequence[Tensor], wanted: list[dict[str, Tensor]]) -> Tensor:
    scores, boxes, *before = (value.float() for value in output)
    if not boxes.isfinite().all():  # matching would raise; the loop says where training left the numbers
        return boxes.sum()
    found: dict[str, Any] = {"logits": scores, "pred_boxes": boxes}
    if before:
        layers = zip(before[0].unbind(1), before[1].unbind(1), strict=True)
        found["auxiliary_outputs"] = [{"logits": one, "pred_boxes": other} for one, other in layers]
    return torch.stack(list(_criterion(scores.shape[-1])(found, wanted).values())).sum()


@lru_cache(maxsize=8)
def _criterion(classes: int) -> Any:
    """transformers' own loss with its published weights. Raises Problem (exit 5) without transformers or scipy."""
    ensure()
    try:
        from transformers import RTDetrConfig
        from transformers.loss.loss_rt_detr import RTDetrLoss

        settings: dict[str, Any] = {"num_labels": classes}
        return RTDetrLoss(RTDetrConfig(**settings))  # type: ignore[no-untyped-call]
    except ImportError:
        raise bad_environment("rt-detr needs transformers and scipy, one of which is not installed", remedy=INSTALL) from None


INSTALL = "pip install 'edge-advisor[text,vision]'"
