"""The loss of a network that learns from the answers of another."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

TEMPERATURE = 2.0
"""By which the scores of both networks are divided."""


def distillation_loss(scores: Tensor, answers: Tensor, of_labels: Tensor, share: float) -> Tensor:
    """Return a loss of which a share is the divergence from the teacher's answers.

    Args:
        scores: of the network that learns, (n, classes).
        answers: scores of the teacher for the same images, (n, classes).
        of_labels: loss against the labels, a scalar.
        share: of the divergence, 0..1.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2: the
    gradients of the divergence shrink with the square of the temperature, hence the factor.
    """
    divergence = functional.kl_div(
        (scores / TEMPERATURE).log_softmax(1),
        (answers / TEMPERATURE).log_softmax(1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - share) * of_labels + share * TEMPERATURE**2 * divergence
