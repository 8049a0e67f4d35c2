"""The CRNN shares none of the seven defects of the listing that its source article prints; one test a defect."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advisor.architectures.crnn import CRNN, HEIGHT, Block, Collapse, build

SMALL = {"channels": (8, 16, 16, 16, 24), "hidden": 12}
CLASSES = 11


def small(**changes: object) -> CRNN:
    torch.manual_seed(0)
    model = build(classes=CLASSES, **{**SMALL, **changes})  # type: ignore[arg-type]
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:  # statistics that suit the random weights, else every image is answered nearly alike
        part.momentum = 1.0
    with torch.no_grad():
        model.train()(lines(8, 64, seed=5))
    return model.eval()


def lines(count: int, width: int, seed: int = 0) -> torch.Tensor:
    """Coarse random patches, four pixels a side: noise as fine as a pixel looks the same to any convolution."""
    coarse = torch.rand((count, 1, HEIGHT // 4, width // 4 + 1), generator=torch.Generator().manual_seed(seed)).round()
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :width]


# Defect 1: a size that is never defined; the class cannot be constructed.
@pytest.mark.parametrize("strided", [0, 1, 5])
@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("strides", [((2, 2), (2, 2), (2, 1), (2, 1), (1, 1)), ((2, 2), (2, 2), (2, 1), (2, 1), (2, 1))])
def test_every_size_follows_from_the_settings(strided: int, layers: int, strides: tuple[tuple[int, int], ...]) -> None:
    model = small(strided=strided, layers=layers, strides=strides)
    assert len(model.recurrent) == layers
    assert model(lines(2, 32)).shape == (2, 8, CLASSES)


@pytest.mark.parametrize(("wrong", "says"), [({"channels": (8, 16)}, "2 channels, 5 strides"), ({"strides": ((3, 1),) * 5}, "32 rows")])
def test_settings_that_contradict_each_other_are_refused_at_construction(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        small(**wrong)


# Defect 2: nothing pools the height away.
@pytest.mark.parametrize("width", [16, 100, 128])
def test_the_height_collapses_to_one_row_and_the_width_to_a_quarter(width: int) -> None:
    model = small()
    heights = []
    x = lines(1, width)
    for block in model.blocks:
        x = block(x)
        heights.append(x.shape[2])
    assert heights == [16, 8, 4, 2, 2, 1]
    assert x.shape == (1, 24, 1, width // 4)


# Defect 3: squeezing an axis that is not one does nothing, without a word.
@pytest.mark.parametrize("height", [64, 48])
def test_a_line_of_the_wrong_height_is_refused_and_never_squeezed_silently(height: int) -> None:
    with pytest.raises(RuntimeError):
        small()(torch.rand(2, 1, height, 64))


# Defect 4: the batch is read as time, so that one example changes another.
def test_changing_one_line_leaves_every_other_reading_alone() -> None:
    model = small()
    image = lines(4, 64)
    before = model(image)
    image[3] = lines(1, 64, seed=9)[0]
    after = model(image)
    assert torch.equal(before[:3], after[:3])
    assert not torch.allclose(before[3], after[3], atol=1e-2)


def test_time_runs_along_the_line() -> None:
    model = small(layers=0)  # without recurrence a step sees its neighbourhood only
    image = lines(1, 256)
    before = model(image)
    image[..., 224:] = 0
    changed = (model(image) - before).abs().amax(-1)[0]
    assert changed[:40].max() == 0
    assert changed[56:].min() > 0


# Defect 5: one step is kept of all: one label a line.
def test_every_step_is_scored_and_both_directions_reach_it() -> None:
    model = small()
    image = lines(1, 128).requires_grad_()
    logits = model(image)
    assert logits.shape == (1, 32, CLASSES)
    (seen,) = torch.autograd.grad(logits[0, 16].sum(), image)
    columns = seen[0, 0].abs().amax(0)
    assert columns[:16].max() > 0
    assert columns[-16:].max() > 0


# Defect 6: no blank, no CTC.
def test_a_line_with_a_doubled_letter_is_learnt_through_the_blank() -> None:
    """Only with class 0 as the blank can "1 1 2" be told from "1 2"; the logits are raw, the loss normalises them."""
    torch.manual_seed(0)
    model = build(classes=CLASSES, **SMALL).train()  # type: ignore[arg-type]
    image, spelling = lines(2, 48), torch.tensor([[1, 1, 2], [2, 2, 2]])
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(200):
        scores = model(image).log_softmax(-1).transpose(0, 1)
        loss = nn.functional.ctc_loss(scores, spelling, torch.tensor([12, 12]), torch.tensor([3, 3]), blank=0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    path = model(image).argmax(-1)
    collapsed = [[int(step) for step in row.unique_consecutive() if step] for row in path]
    assert collapsed == spelling.tolist()
    assert (path == 0).any()
    assert not torch.allclose(model(image).exp().sum(-1), torch.ones(2, 12))


# Defect 7: padding counts as content, and evaluation is not reproducible.
@settings(deadline=None, max_examples=25)
@given(widths=st.lists(st.integers(4, 96), min_size=2, max_size=4), strided=st.sampled_from([0, 1, 5]), padding=st.floats(-1, 1))
def test_a_padded_batch_reads_like_single_lines(widths: list[int], strided: int, padding: float) -> None:
    model = small(strided=strided)
    batch = torch.full((len(widths), 1, HEIGHT, max(widths) + 7), padding)
    for row, width in enumerate(widths):
        batch[row, ..., :width] = lines(1, width, seed=row)[0]
    with torch.no_grad():
        together = model(batch, torch.tensor(widths))
        for row, width in enumerate(widths):
            alone = model(batch[row : row + 1, ..., :width])
            assert alone.shape[1] == model.steps(torch.tensor([width])).item()
            torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], atol=1e-5, rtol=0)


def test_without_the_mask_padding_does_change_the_reading() -> None:
    """The control of the test above: it could not pass by accident."""
    model = small()
    line = lines(1, 48)
    padded = nn.functional.pad(line, (0, 48), value=0.7)
    assert (model(padded)[:, :12] - model(line)).abs().max() > 1e-2


def test_evaluation_is_deterministic_and_leaves_no_trace() -> None:
    model = small(dropout=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    image = lines(2, 64)
    assert torch.equal(model(image), model(image))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.train()
    assert not torch.equal(model(image), model(image))  # dropout is on while training


def test_every_nonlinearity_is_a_relu_so_that_it_vanishes_into_an_integer_convolution() -> None:
    kinds = {type(part) for part in small().modules()}
    assert kinds == {
        CRNN,
        nn.ModuleList,
        Block,
        Collapse,
        nn.Conv2d,
        nn.BatchNorm2d,
        nn.MaxPool2d,
        nn.Identity,
        nn.LSTM,
        nn.Dropout,
        nn.Linear,
    }
