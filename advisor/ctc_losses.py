"""What a line recogniser is trained towards: the labels by CTC, and a teacher by its frames and its reading.

CTC: Graves et al. 2006 (ICML, pages 369-376). Distillation of frame posteriors at a temperature: Hinton et al. 2015, arXiv:1503.02531.
A CTC model spends most frames on a confident blank, which teaches nothing and outweighs the rest, so such frames count little here;
the sequence-level part, after Kim & Rush 2016, arXiv:1606.07947, takes what the teacher reads as if it were the label.
Shape: logits (b, t, classes) raw; labels (b, n) int64 padded with anything; lengths (b,). Everything is computed in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import ctc_loss, log_softmax

FLOOR = -1e4  # log probabilities are cut off here, so that a zero probability weighs much and not infinitely


def ctc(logits: Tensor, labels: Tensor, lengths: Tensor, *, blank: int = 0) -> Tensor:
    """Mean over the lines of -log p(label) per character. A label that no path can spell counts zero, not infinity."""
    steps = torch.full((logits.shape[0],), logits.shape[1], dtype=torch.long, device=logits.device)
    scores = log_softmax(logits.float(), dim=-1).clamp_min(FLOOR).transpose(0, 1)
    return ctc_loss(scores, labels, steps, lengths, blank=blank, zero_infinity=True)


def frames(student: Tensor, teacher: Tensor, *, temperature: float, blank: int = 0, blank_weight: float = 0.1) -> Tensor:
    """KL(teacher ‖ student) per frame at `temperature`, times its square; the mean over frames weighted by what they say.

    A frame the teacher gives to a label weighs 1; one it gives to the blank weighs from 1 down to `blank_weight`, the surer the less.
    """
    goal = posteriors(teacher.detach(), student.shape[1], temperature=temperature)
    weight = importance(posteriors(teacher.detach(), student.shape[1], temperature=1.0), blank=blank, blank_weight=blank_weight)
    said = log_softmax(student.float() / temperature, dim=-1).clamp_min(FLOOR)
    divergence = (goal.exp() * (goal - said)).sum(-1)
    return temperature**2 * (weight * divergence).sum() / weight.sum()


def importance(teacher: Tensor, *, blank: int, blank_weight: float) -> Tensor:
    """How much each frame counts, (b, t), from the teacher's log posteriors (b, t, classes)."""
    sure = teacher[..., blank].exp()
    silent = teacher.argmax(-1) == blank
    return torch.where(silent, 1 - (1 - blank_weight) * sure, torch.ones_like(sure))


def posteriors(logits: Tensor, steps: int, *, temperature: float) -> Tensor:
    """Log posteriors at `temperature` in `steps` frames: repeated where there are too few, averaged where there are too many.

    Raises ValueError when neither number of frames is a multiple of the other.
    """
    found = log_softmax(logits.float() / temperature, dim=-1).clamp_min(FLOOR)
    have = found.shape[1]
    if have == steps:
        return found
    if have > steps and have % steps == 0:
        return found.exp().reshape(len(found), steps, have // steps, -1).mean(2).log().clamp_min(FLOOR)
    if have < steps and steps % have == 0:
        return found.repeat_interleave(steps // have, dim=1)
    raise ValueError(f"the teacher has {have} frames and the student {steps}: one must be a multiple of the other")


def reading(logits: Tensor, *, blank: int = 0) -> tuple[Tensor, Tensor]:
    """The greedy reading as labels: (b, n) int64 padded with 0, and its lengths (b,)."""
    best = logits.detach().argmax(-1)
    keep = best != blank
    keep[:, 1:] &= best[:, 1:] != best[:, :-1]
    lengths = keep.sum(-1)
    labels = best.new_zeros((best.shape[0], max(1, int(lengths.max()))))
    places = keep.cumsum(-1) - 1
    rows = torch.arange(best.shape[0], device=best.device)[:, None].expand_as(best)
    labels[rows[keep], places[keep]] = best[keep]
    return labels, lengths


def sequence(student: Tensor, teacher: Tensor, *, blank: int = 0) -> Tensor:
    """CTC towards the teacher's greedy reading."""
    labels, lengths = reading(teacher, blank=blank)
    return ctc(student, labels, lengths, blank=blank)
