"""torchvision beside a build of torch that its own library does not fit: its two operators that detectors need, in plain torch.

A CPU build of torch has no CUDA library for torchvision's to link with, so the latter's operators are missing and even importing it
fails. `ensure()` is called before torchvision, timm or transformers are imported. Where the native operators exist nothing is
touched; else `nms` and `roi_align` are registered under torchvision's own names, with gradients, slower and equal in value.
Sources: torchvision's ops documentation; RoIAlign, He et al. 2017, arXiv:1703.06870.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Mode = Literal["native", "fallback", "absent"]
MISSING = "torchvision::nms does not exist"
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, int sampling_ratio,"
    " bool aligned) -> Tensor",
    "_roi_align_backward(Tensor grad, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, SymInt batch_size,"
    " SymInt channels, SymInt height, SymInt width, int sampling_ratio, bool aligned) -> Tensor",
)


@lru_cache(maxsize=1)
def ensure() -> Mode:
    """Make `import torchvision` work. Returns how: with its own operators, with ours, or not at all because it is not installed."""
    if find_spec("torchvision") is None:
        return "absent"
    try:
        import torchvision

        return "native"
    except RuntimeError as error:
        if MISSING not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    _register()
    import torchvision.extension

    def has_ops() -> bool:  # a lambda would break scripting, which looks for the source of a function
        return True

    torchvision.extension._has_ops = has_ops
    sys.modules["torchvision.ops.roi_align"]._has_ops = has_ops  # type: ignore[attr-defined]
    return "fallback"


LIBRARIES: list[Any] = []  # kept alive: an operator is gone with its library


def _register() -> None:
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    LIBRARIES.append(library)
    for schema in SCHEMAS:
        library.define(schema)
    library.impl("nms", nms, "CPU")
    library.impl("roi_align", roi_align, "CPU")
    library.impl("_roi_align_backward", _backward, "CPU")
    torch.library.register_fake("torchvision::roi_align", _shape, lib=library)
    torch.library.register_fake("torchvision::_roi_align_backward", _backward_shape, lib=library)
    torch.library.register_autograd("torchvision::roi_align", _gradient, setup_context=_remember, lib=library)


# -- non-maximum suppression -----------------------------------------------------------------------------------------


def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Boxes (n, 4) as x1, y1, x2, y2 and scores (n,) → indices of those kept, by falling score, int64."""
    boxes = dets.detach().double().numpy()
    order = torch.sort(scores, stable=True, descending=True).indices.numpy()
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while order.size:
        first, others = order[0], order[1:]
        kept.append(int(first))
        low, high = np.maximum(boxes[first, :2], boxes[others, :2]), np.minimum(boxes[first, 2:], boxes[others, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        together = areas[first] + areas[others] - shared
        order = others[~(shared > iou_threshold * together)]
    return torch.tensor(kept, dtype=torch.int64)


# -- region of interest align ----------------------------------------------------------------------------------------


def roi_align(
    input: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int, sampling_ratio: int, aligned: bool
) -> Tensor:
    """Maps (n, c, h, w) and rois (k, 5) as index, x1, y1, x2, y2 → (k, c, pooled_height, pooled_width): means of bilinear samples.

    Both axes are sampled apart; a bin is then one weighted sum of pixels, which `embedding_bag` does without a copy of them.
    """
    _count, channels, height, width = input.shape
    if not len(rois):
        return input.new_zeros((0, channels, pooled_height, pooled_width))
    offset = 0.5 if aligned else 0.0
    corners = rois[:, 1:] * spatial_scale - offset
    sizes = corners[:, 2:] - corners[:, :2]
    sizes = sizes if aligned else sizes.clamp(min=1.0)
    table = input.permute(0, 2, 3, 1).reshape(-1, channels)
    out = []
    for places in _alike(sizes, (pooled_width, pooled_height), sampling_ratio):
        grids = [max(1, int(grid)) for grid in _grids(sizes[places[0]], (pooled_width, pooled_height), sampling_ratio)]
        columns, across = _samples(corners[places, 0], sizes[places, 0], pooled_width, grids[0], width)
        rows, down = _samples(corners[places, 1], sizes[places, 1], pooled_height, grids[1], height)
        start = rois[places, 0].long() * height * width
        index = start[:, None, None, None, None] + rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
        weight = down[:, :, None, :, None] * across[:, None, :, None, :]
        bags = F.embedding_bag(index.flatten(0, 2).flatten(1), table, per_sample_weights=weight.flatten(0, 2).flatten(1), mode="sum")
        out.append((places, bags.reshape(len(places), pooled_height, pooled_width, channels).permute(0, 3, 1, 2)))
    result = input.new_empty((len(rois), channels, pooled_height, pooled_width))
    return result.index_copy(0, torch.cat([places for places, _ in out]), torch.cat([bags for _, bags in out]))


def _grids(size: Tensor, bins: tuple[int, int], sampling_ratio: int) -> list[float]:
    """Samples a bin, across and down."""
    if sampling_ratio > 0:
        return [float(sampling_ratio)] * 2
    return [float(torch.ceil(length / count)) for length, count in zip(size, bins, strict=True)]


def _alike(sizes: Tensor, bins: tuple[int, int], sampling_ratio: int) -> list[Tensor]:
    """The regions with equally many samples a bin, together."""
    if sampling_ratio > 0:
        return [torch.arange(len(sizes))]
    grids = torch.ceil(sizes / torch.tensor(bins, dtype=sizes.dtype)).clamp(min=1)
    kinds, which = torch.unique(grids, dim=0, return_inverse=True)
    return [torch.nonzero(which == kind).flatten() for kind in range(len(kinds))]


def _samples(start: Tensor, size: Tensor, bins: int, grid: int, length: int) -> tuple[Tensor, Tensor]:
    """Along one axis, for each region and bin: the pixels that its samples fall between, and their share; both (k, bins, 2 grid)."""
    step = size[:, None, None] / bins
    inner = (torch.arange(grid, dtype=start.dtype) + 0.5) / grid
    place = start[:, None, None] + (torch.arange(bins, dtype=start.dtype)[:, None] + inner) * step
    inside = ((place >= -1) & (place <= length)).to(start.dtype)
    place = place.clamp(min=0)
    low = place.floor().long().clamp(max=length - 1)
    high = (low + 1).clamp(max=length - 1)
    share = torch.where(low >= length - 1, torch.zeros_like(place), place - low)
    index = torch.cat([low, high], -1)
    weight = torch.cat([(1 - share) * inside, share * inside], -1) / grid
    return index, weight


def _backward(
    grad: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """The gradient with respect to the maps, through the forward pass's own operators."""
    maps = grad.new_zeros((batch_size, channels, height, width))
    if not len(rois):
        return maps
    with torch.enable_grad():
        maps.requires_grad_()
        pooled = roi_align(maps, rois, spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned)
        (found,) = torch.autograd.grad(pooled, maps, grad)
    return found


def _shape(input: Tensor, rois: Tensor, scale: float, height: int, width: int, ratio: int, aligned: bool) -> Tensor:
    return input.new_empty((rois.shape[0], input.shape[1], height, width))


def _backward_shape(grad: Tensor, rois: Tensor, *numbers: Any) -> Tensor:
    batch, channels, height, width = numbers[3:7]
    return grad.new_empty((batch, channels, height, width))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    maps, rois, *numbers = inputs
    ctx.save_for_backward(rois)
    ctx.numbers, ctx.shape = numbers, maps.shape


def _gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (rois,) = ctx.saved_tensors
    scale, height, width, ratio, aligned = ctx.numbers
    found = torch.ops.torchvision._roi_align_backward(grad.contiguous(), rois, scale, height, width, *ctx.shape, ratio, aligned)
    return found, None, None, None, None, None, None
