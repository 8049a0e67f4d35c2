"""The losses: CTC counts an unspellable label zero, distillation listens to the teacher's letters more than to its silence."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from advisor import ctc_losses
from advisor.tasks.ocr import TASK


def logits(seed: int, *shape: int, sharp: float = 3.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * sharp


TARGETS = {"labels": torch.tensor([[1, 2], [3, 0]]), "lengths": torch.tensor([2, 1]), "widths": torch.tensor([32, 20])}


def test_the_loss_is_minus_the_log_probability_of_the_label_per_character() -> None:
    output = torch.zeros(1, 2, 3)  # three classes, two steps: "a" is spelled by aa, a-, -a of nine paths
    loss = TASK.loss(output, {"labels": torch.tensor([[1]]), "lengths": torch.tensor([1])})
    assert loss.item() == pytest.approx(math.log(9 / 3), rel=1e-6)


def test_a_label_longer_than_the_line_costs_zero_and_not_infinity() -> None:
    targets = {"labels": torch.tensor([[1, 1, 1]]), "lengths": torch.tensor([3])}
    output = logits(0, 1, 4, 3).requires_grad_()
    loss = TASK.loss(output, targets)
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(output.grad).all()


def test_padding_of_the_labels_is_not_read() -> None:
    other = {**TARGETS, "labels": torch.tensor([[1, 2], [3, 3]])}
    assert TASK.loss(logits(1, 2, 8, 4), TARGETS).item() == TASK.loss(logits(1, 2, 8, 4), other).item()


def test_a_student_that_equals_its_teacher_has_no_distillation_loss() -> None:
    same = logits(2, 2, 8, 5)
    assert TASK.distil_loss(same, same, None, temperature=2.0).item() == pytest.approx(0, abs=1e-6)
    assert TASK.distil_loss(same, logits(3, 2, 8, 5), None, temperature=2.0).item() > 0.1


def test_distillation_alone_teaches_a_student_its_teachers_reading() -> None:
    teacher = logits(4, 4, 10, 6)
    student = torch.zeros(4, 10, 6, requires_grad=True)
    optimizer = torch.optim.Adam([student], lr=0.3)
    for _ in range(120):
        optimizer.zero_grad()
        TASK.distil_loss(student, teacher, None, temperature=2.0).backward()
        optimizer.step()
    for one, other in zip(ctc_losses.reading(student), ctc_losses.reading(teacher), strict=True):
        assert torch.equal(one, other)


def test_a_sure_blank_counts_less_than_a_letter() -> None:
    teacher = torch.tensor([[[9.0, 0, 0], [0, 9.0, 0], [0.1, 0, 0]]])
    posteriors = ctc_losses.posteriors(teacher, 3, temperature=1.0)
    blank, letter, unsure = ctc_losses.importance(posteriors, blank=0, blank_weight=0.1)[0].tolist()
    assert letter == 1
    assert blank == pytest.approx(0.1, abs=0.01)
    assert 0.5 < unsure < 1


def test_the_gradient_of_the_frames_does_not_shrink_with_the_temperature() -> None:
    grads = []
    for temperature in (4.0, 8.0):
        student = logits(5, 2, 6, 4, sharp=0.5).requires_grad_()
        ctc_losses.frames(student, logits(6, 2, 6, 4, sharp=0.5), temperature=temperature).backward()
        grads.append(student.grad.norm().item())
    assert grads[1] == pytest.approx(grads[0], rel=0.1)


@pytest.mark.parametrize("extreme", [1e4, 1e30, -1e30])
def test_extreme_scores_give_finite_losses_and_gradients(extreme: float) -> None:
    student, teacher = torch.zeros(2, 8, 4), torch.zeros(2, 8, 4)
    student[:, :, 1], teacher[:, :, 2], teacher[:, 3:, 0] = extreme, extreme, -extreme
    student.requires_grad_()
    loss = replace(TASK, sequence=0.5).distil_loss(student, teacher, TARGETS, temperature=2.0)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all()


def test_alpha_shares_the_loss_between_teacher_and_labels() -> None:
    student, teacher = logits(7, 2, 8, 4), logits(8, 2, 8, 4)
    frames, labels = TASK.distil_loss(student, teacher, None, temperature=2.0), TASK.loss(student, TARGETS)
    shared = replace(TASK, alpha=0.25).distil_loss(student, teacher, TARGETS, temperature=2.0)
    assert shared.item() == pytest.approx(0.25 * frames.item() + 0.75 * labels.item(), rel=1e-5)


def test_the_sequence_part_is_ctc_towards_what_the_teacher_reads() -> None:
    teacher = torch.nn.functional.one_hot(torch.tensor([[1, 1, 0, 2], [0, 0, 0, 0]]), 3).float() * 9
    labels, lengths = ctc_losses.reading(teacher)
    assert labels.tolist() == [[1, 2], [0, 0]] and lengths.tolist() == [2, 0]
    student = logits(9, 2, 4, 3)
    extra = replace(TASK, sequence=1.0).distil_loss(student, teacher, None, temperature=1.0) - TASK.distil_loss(
        student, teacher, None, temperature=1.0
    )
    assert extra.item() == pytest.approx(TASK.loss(student, {"labels": labels, "lengths": lengths}).item(), rel=1e-5)


def test_a_teacher_of_another_frame_rate_is_averaged_or_repeated() -> None:
    teacher = logits(10, 2, 4, 3)
    doubled = teacher.repeat_interleave(2, dim=1)
    student = logits(11, 2, 4, 3)
    plain = ctc_losses.frames(student, teacher, temperature=1.0).item()
    assert ctc_losses.frames(student, doubled, temperature=1.0).item() == pytest.approx(plain, rel=1e-5)
    assert torch.allclose(ctc_losses.posteriors(teacher, 8, temperature=1.0), ctc_losses.posteriors(doubled, 8, temperature=1.0))
    with pytest.raises(ValueError, match="4 frames and the student 6"):
        ctc_losses.frames(logits(12, 2, 6, 3), teacher, temperature=1.0)


def test_the_teacher_gets_no_gradient() -> None:
    teacher = logits(13, 2, 8, 4).requires_grad_()
    replace(TASK, sequence=1.0).distil_loss(logits(14, 2, 8, 4).requires_grad_(), teacher, TARGETS, temperature=2.0).backward()
    assert teacher.grad is None
