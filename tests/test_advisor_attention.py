"""Attention maps say what the attention weighed, leave the model as it was, and come with their caveat."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from advisor.architectures import svtr, timm_classifier
from advisor.architectures.plain_cnn import build
from advisor.attention import columns, of_lines, of_pictures, patches, rollout, watched
from advisor.data.pictures import png, stack
from advisor.tasks import image_classification, ocr
from rules.examples import Sample
from rules.problems import Exit, Problem


class Attends(nn.Module):
    """One attention over given queries and keys; the value is the identity, so that the output is the weights."""

    def __init__(self, **how: object) -> None:
        super().__init__()
        self.how = how

    def forward(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        value = torch.eye(key.shape[2])[None, None].expand(1, query.shape[1], -1, -1)
        return scaled_dot_product_attention(query, key, value, **self.how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": torch.tensor([[True] * 4 + [False]]).expand(5, 5)},
        {"attn_mask": torch.randn(5, 5)},
    ],
    ids=["plain", "scaled", "causal", "masked", "biased"],
)
def test_the_weights_are_those_the_attention_used(how: dict[str, object]) -> None:
    query, key = (np.random.default_rng(place).standard_normal((1, 2, 5, 8)).astype(np.float32) for place in (0, 1))
    (weights,), output = watched(Attends(**how), {"query": query, "key": key})
    assert weights.shape == (2, 5, 5) and np.allclose(weights, output[0], atol=1e-6)


def test_rollout_follows_what_was_looked_at_through_the_layers_before() -> None:
    first, second = np.zeros((1, 3, 3), np.float32), np.zeros((1, 3, 3), np.float32)
    first[0, :, 2] = 1  # everybody looks at place 2, then everybody at place 1, which had looked at 2
    second[0, :, 1] = 1
    joined = rollout([first, second])
    assert joined.sum(1) == pytest.approx(1) and joined[0] == pytest.approx([0.25, 0.25, 0.5])


def test_a_step_of_a_line_is_bright_where_its_own_rows_looked() -> None:
    rows, steps = 2, 5
    weights = np.zeros((1, rows, steps, rows, steps), np.float32)
    for step in range(steps):
        weights[0, :, step, 1, (step + 1) % steps] = 1  # every row of a step looks at the lower row of the next one
    found = columns([weights.reshape(1, rows * steps, rows * steps)], steps)
    for step, heat in enumerate(found):
        assert np.unravel_index(heat.argmax(), heat.shape) == (1, (step + 1) % steps) and heat[:, (step + 2) % steps].max() == 0
        assert heat[:, step].max() == 0, "a step's own place is not bright by construction"
    with pytest.raises(Problem, match="no columns of 3 steps"):
        columns([weights.reshape(1, rows * steps, rows * steps)], 3)


def test_a_vision_transformer_shows_its_patches() -> None:
    model = timm_classifier.build(classes=3, side=32, net="vit_tiny_patch16_224", patch_size=8, depth=2, embed_dim=24, num_heads=2).train()
    image = stack([np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)])
    layers, logits = watched(model, {"image": image})
    assert len(layers) == 2 and model.training and logits.shape == (1, 3)
    found = patches(layers)
    assert found.shape == (4, 4) and found.min() == 0 and found.max() == pytest.approx(1)


def test_a_line_shows_where_it_looked_for_each_character() -> None:
    torch.manual_seed(0)
    model = svtr.build(classes=4, widths=(8, 8, 8), far=(0, 1, 2), heads=2)
    data = ocr.TASK.open(None, settings={"train": 20, "val": 4, "test": 4})
    (found,) = ocr.TASK.explain(svtr.build(classes=data.classes, widths=(8, 8, 8), heads=2), data)
    assert "not why" in found.caveat and len(found.seen) == 4 and "of 4 readings" in found.lines[0]
    layers, logits = watched(model, {"image": np.zeros((1, 1, 32, 64), np.float32)})
    assert columns(layers, logits.shape[1]).shape == (16, 2, 16)
    sample = Sample("line", b"", {"image": np.random.default_rng(1).uniform(-1, 1, (1, 1, 32, 64)).astype(np.float32)}, "abc")
    said = of_lines(model, [sample], "abc").seen[0]
    with Image.open(io.BytesIO(said.picture)) as picture:
        spelt = said.says.rpartition("write ")[2].split() if "write" in said.says else []
        assert picture.size == (64, 32 * (1 + len(spelt)))


def test_a_convolutional_net_shows_its_regions_and_a_transformer_its_attention() -> None:
    data = image_classification.TASK.open(None, settings={"train": 40, "val": 10, "test": 10})
    regions = build(**data.given, widths=(8, 8))
    looks = timm_classifier.build(**data.given, net="vit_tiny_patch16_224", patch_size=8, depth=1, embed_dim=24, num_heads=2)
    for model, title in ((regions, "Grad-CAM"), (looks, "Attention")):
        (found,) = image_classification.TASK.explain(model, data)
        assert found.title.startswith(title) and found.caveat and found.source and 0 < len(found.seen) <= 6
        assert "hottest fifth" in found.lines[0] and "random fifth" in found.lines[0]


def test_a_net_without_attention_has_nothing_to_show() -> None:
    data = ocr.TASK.open(None, settings={"train": 20, "val": 4, "test": 2})

    class Blind(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(image), image.shape[3] // 4, data.classes)

    assert ocr.TASK.explain(Blind(), data) == []
    raw = png(np.zeros((32, 32, 3), np.uint8))
    sample = Sample("black", raw, {"image": np.zeros((1, 3, 32, 32), np.float32)}, "a")
    with pytest.raises(Problem, match="no attention") as caught:
        of_pictures(build(classes=2, side=32, widths=(8, 8)), [sample], ["a", "b"])
    assert caught.value.code == Exit.USAGE
