"""What a net is trained towards whose answer is a place: the right person's direction, its own kind's mean, its teacher's place.

Source: an angular margin, Deng et al. 2018, arXiv:1801.07698; class means of a small task, Snell et al. 2017, arXiv:1703.05175;
a teacher's places, Romero et al. 2014, arXiv:1412.6550 (hints), on the unit sphere.
Shape: embedding (b, d), cosines (b, people), labels (b,) int64. Everything is computed in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def arcface(cosines: Tensor, labels: Tensor, *, scale: float, margin: float) -> Tensor:
    """Cross entropy over the people, the right one's angle widened by `margin` radians: nats a picture.

    Where the angle and the margin pass half a turn, the cosine goes on falling straight instead of rising again.
    """
    cosines = cosines.float()
    right = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = torch.acos(right)
    wider = torch.where(angle + margin <= torch.pi, torch.cos(angle + margin), right - margin * torch.sin(torch.tensor(margin)))
    return F.cross_entropy(scale * cosines.scatter(1, labels[:, None], wider), labels)


def prototypical(embedding: Tensor, labels: Tensor, *, scale: float) -> Tensor:
    """Which of the batch's classes is each example of, told by their means? An example is left out of its own class's mean.

    Cross entropy of scaled cosines, nats an example; examples that are alone in their class only stand for it. A batch in which
    all are alone, or all are of one class, teaches nothing: zero.
    """
    unit = F.normalize(embedding.float(), dim=-1)
    kinds, place = torch.unique(labels, return_inverse=True)
    member = F.one_hot(place, len(kinds)).to(unit.dtype)  # (b, k)
    sums, counts = member.T @ unit, member.sum(0)
    asked = counts[place] > 1
    if len(kinds) < 2 or not bool(asked.any()):
        return 0.0 * embedding.float().sum()
    means = F.normalize(sums, dim=-1)
    cosines = unit @ means.T
    others = (unit * F.normalize(sums[place] - unit, dim=-1)).sum(-1, keepdim=True)
    cosines = torch.where(member.bool(), others, cosines)
    return F.cross_entropy(scale * cosines[asked], place[asked])


def toward(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine of the two places, the mean over the examples."""
    return (1 - F.cosine_similarity(student.float(), teacher.detach().float(), dim=-1)).mean()
