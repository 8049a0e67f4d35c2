"""CNN + LSTM: its answers hang on the order of the frames and on none that has not come yet, and a stream says what the clip says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from advisor.architectures import cnn_lstm
from rules.problems import Problem

GIVEN = {"classes": 8, "frames": 6, "side": 32}
FORMS: dict[str, dict[str, Any]] = {
    "3d": {"widths": [8, 8, 16, 16], "hidden": 16},
    "pictures": {"net": "resnet18", "layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "stride": 16, "hidden": 16},
}
every_form = pytest.mark.parametrize("form", FORMS)


def settled(form: str) -> cnn_lstm.CnnLstm:
    """A net with statistics that suit random clips, and a head that is not too shy to be measured."""
    torch.manual_seed(0)
    model = cnn_lstm.build(**GIVEN, **FORMS[form]).train()
    for _ in range(20):
        model(clips(8))
    return model.eval()


def clips(count: int, *, frames: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, frames, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def each(model: cnn_lstm.CnnLstm, clip: Tensor) -> Tensor:
    """The logits of every frame, (b, frames, classes), as they come."""
    stream, memory, found = cnn_lstm.stream(model), (), []
    for frame in clip.unbind(1):
        logits, *memory = stream(frame, *memory)
        found.append(logits)
    return torch.stack(found, 1)


@every_form
@torch.no_grad()
def test_a_stream_answers_frame_by_frame_what_the_clip_answers(form: str) -> None:
    model, clip = settled(form), clips(2, seed=1)
    assert torch.allclose(each(model, clip).mean(1), model(clip), atol=1e-6)


@every_form
@torch.no_grad()
def test_no_frame_waits_for_one_that_has_not_come(form: str) -> None:
    model, clip = settled(form), clips(1, seed=1)
    changed = torch.cat([clip[:, :4], clips(1, frames=2, seed=2)], 1)
    one, other = (model.lstm(model.eyes(found).transpose(0, 1))[0] for found in (clip, changed))
    assert torch.allclose(one[:4], other[:4], atol=1e-6)
    assert (one[4:] - other[4:]).abs().max() > 1e-4


@every_form
@torch.no_grad()
def test_it_tells_a_clip_from_the_same_clip_backwards(form: str) -> None:
    model, clip = settled(form), clips(1, seed=1)
    assert (model(clip) - model(clip.flip(1))).abs().max() > 1e-4


@torch.no_grad()
def test_its_3d_convolutions_see_motion_and_the_nets_for_pictures_leave_it_to_the_lstm() -> None:
    clip = clips(1, seed=1)
    moved = torch.cat([clip[:, :1].flip(-1), clip[:, 1:]], 1)
    for form, reached in (("3d", True), ("pictures", False)):
        eyes = settled(form).eyes
        apart = (eyes(clip) - eyes(moved)).abs().amax((0, 2))
        assert apart[0] > 1e-4 and bool(apart[1] > 1e-4) == reached


@every_form
@torch.no_grad()
def test_any_number_of_frames_is_read(form: str) -> None:
    model = settled(form)
    assert model(clips(2, frames=1)).shape == model(clips(2, frames=9)).shape == (2, 8)


def test_weights_of_the_3d_convolutions_are_refused_because_nobody_published_any() -> None:
    with pytest.raises(Problem, match="published weights"):
        cnn_lstm.build(**GIVEN, weights="hub")
