"""What a net of classes learns from another one.

Source: distillation of softened answers, Hinton et al. 2015, arXiv:1503.02531.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def softened(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """How far the student's shares of the classes are from the teacher's, both at `temperature`: logits (n, classes) each, nats a row.

    The divergence counts by the square of the temperature, so that its gradients keep their size.
    """
    from torch.nn.functional import kl_div, log_softmax

    said, wanted = (log_softmax(logits.float() / temperature, -1) for logits in (student, teacher))
    return temperature**2 * kl_div(said, wanted, reduction="batchmean", log_target=True)
