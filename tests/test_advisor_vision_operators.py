"""torchvision works beside any build of torch: our operators give what the runtime's and a brute force give, with gradients."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from advisor.vision_operators import ensure, nms, roi_align

pytestmark = pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")


def boxes(count: int, seed: int, side: float = 40.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand((count, 2), generator=generator) * side
    return torch.cat([corner, corner + 1 + torch.rand((count, 2), generator=generator) * side / 2], 1)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    return shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared)


@given(count=st.integers(0, 40), seed=st.integers(0, 10_000), threshold=st.sampled_from([0.1, 0.5, 0.7]))
@settings(max_examples=40, deadline=None)
def test_suppression_keeps_what_a_brute_force_keeps(count: int, seed: int, threshold: float) -> None:
    dets, scores = boxes(count, seed), torch.rand(count, generator=torch.Generator().manual_seed(seed))
    kept: list[int] = []
    for index in sorted(range(count), key=lambda index: -scores[index]):
        if all(overlap(dets[index].double().numpy(), dets[other].double().numpy()) <= threshold for other in kept):
            kept.append(index)
    assert nms(dets, scores, threshold).tolist() == kept


def runtime_align(maps: torch.Tensor, rois: torch.Tensor, scale: float, ratio: int, aligned: bool) -> np.ndarray:
    mode = "half_pixel" if aligned else "output_half_pixel"
    attributes = {"output_height": 3, "output_width": 4, "sampling_ratio": max(ratio, 0), "spatial_scale": scale, "mode": "avg"}
    node = helper.make_node("RoiAlign", ["x", "r", "b"], ["y"], coordinate_transformation_mode=mode, **attributes)
    values = [
        helper.make_tensor_value_info(name, kind, None)
        for name, kind in (("x", TensorProto.FLOAT), ("r", TensorProto.FLOAT), ("b", TensorProto.INT64))
    ]
    graph = helper.make_graph([node], "align", values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": maps.numpy(), "r": rois[:, 1:].numpy(), "b": rois[:, 0].long().numpy()})[0]


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [-1, 2, 3])
@pytest.mark.parametrize("side", [40.0, 80.0])
def test_alignment_is_the_runtimes_within_and_beyond_the_map(ratio: int, aligned: bool, side: float) -> None:
    maps = torch.randn((2, 5, 16, 20), generator=torch.Generator().manual_seed(0))
    rois = torch.cat([torch.tensor([[0.0], [1.0]]).repeat(6, 1), boxes(12, 3, side)], 1)
    ours = roi_align(maps, rois, 0.5, 3, 4, ratio, aligned).numpy()
    np.testing.assert_allclose(ours, runtime_align(maps, rois, 0.5, ratio, aligned), atol=2e-5)


def test_importing_works_and_the_gradient_is_that_of_the_sums() -> None:
    mode = ensure()
    from torchvision import ops

    assert mode in ("native", "fallback")
    maps = torch.randn((1, 2, 8, 8), dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    rois = torch.cat([torch.zeros(3, 1), boxes(3, 1, 6.0)], 1).double()
    assert torch.autograd.gradcheck(lambda x: ops.roi_align(x, rois, (2, 2), 1.0, 2, True), (maps,))
    empty = ops.roi_align(maps, rois[:0], (2, 2), 1.0, 2, True)
    assert empty.shape == (0, 2, 2, 2)
    assert ops.nms(boxes(5, 0).float(), torch.rand(5), 0.5).dtype == torch.int64


def test_a_detector_learns_from_a_box() -> None:
    ensure()
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    torch.manual_seed(0)
    model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=3, min_size=96, max_size=96).train()
    target = [{"boxes": torch.tensor([[10.0, 10.0, 60.0, 60.0]]), "labels": torch.tensor([1])}]
    losses = model([torch.rand(3, 96, 96)], target)
    sum(losses.values()).backward()
    assert all(value.isfinite() for value in losses.values())
    assert model.roi_heads.box_predictor.cls_score.weight.grad.abs().sum() > 0
