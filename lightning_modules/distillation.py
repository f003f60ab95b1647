"""Learning from the answers of another network."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional

from emomc.networks.answer import select_answer

TEMPERATURE = 2.0
"""By which the scores of both networks are divided."""


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A network whose answers are a part of what another one learns.

    It is not a module, so that its weights are not weights of the module that has it: they are neither trained nor
    saved.
    """

    network: nn.Module
    """In eval mode; it is not changed."""
    share: float
    """Share of the loss that is the divergence from its answers, 0..1."""
    output: str | None = None
    """Which of several outputs has the scores; see ``select_answer``."""

    @torch.no_grad()
    def answers(self, images: Tensor) -> Tensor:
        """Return class scores (n, classes) for images on the network's device."""
        return select_answer(self.network(images), self.output)

    def loss(self, scores: Tensor, answers: Tensor, of_labels: Tensor) -> Tensor:
        """Return the loss of a network that learns, a scalar.

        Args:
            scores: its class scores, (n, classes).
            answers: of ``answers``, for the same images.
            of_labels: its loss against the labels, a scalar.

        Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2: the
        gradients of the divergence shrink with the square of the temperature, hence the factor.
        """
        divergence = functional.kl_div(
            (scores / TEMPERATURE).log_softmax(1),
            (answers / TEMPERATURE).log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - self.share) * of_labels + self.share * TEMPERATURE**2 * divergence
