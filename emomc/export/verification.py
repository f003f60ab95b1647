"""Evaluation of exported files on images."""

from __future__ import annotations

import dataclasses
import statistics

import torch
from torch import Tensor, nn

from emomc.common.errors import UserError
from emomc.data.resident import ResidentBlocks
from emomc.lightning_modules.candidate import CandidateClassifier
from emomc.networks.equivalence import TOLERANCE, deviation
from emomc.runtime.compilation import CompiledNetwork
from emomc.runtime.trainers import validation_trainer

ROUNDED_TOLERANCE = 0.02
"""Largest deviation of an image's scores where inputs of layers are rounded, as a fraction of the largest score."""


@dataclasses.dataclass(frozen=True)
class EvaluationConditions:
    """The conditions under which a search evaluated a network."""

    batch_size: int
    """Images per forward pass."""
    precision: str = "32-true"
    """Arithmetic, as Lightning names it."""
    memory_format: torch.memory_format = torch.channels_last
    """Of the network and its images."""
    compiled: bool = False
    """Whether whole batches went through a compiled graph."""


@dataclasses.dataclass(frozen=True)
class ReadBack:
    """What an exported file gives for some images."""

    correct: int
    """Images classified correctly."""
    other_class: int | None = None
    """Images that get another class than from the network that was searched; None: not compared one by one."""


@dataclasses.dataclass(frozen=True, eq=False)
class ExpectedScores:
    """What a search's network gives for some images."""

    images: Tensor
    """Float, (n, channels, height, width), normalised."""
    scores: Tensor
    """(n, classes)."""
    rounded: bool = False
    """Whether inputs of layers are rounded. An input half-way between two codes may go either way, which moves the
    scores of that image: then the median image decides, not the worst."""

    @torch.no_grad()
    def check(self, exported: nn.Module, what: str) -> None:
        """Check the scores that something else gives for the same images.

        Raises:
            UserError: one differs by more than ``TOLERANCE`` of the largest; with rounded inputs, those of half of the
                images differ by more than ``ROUNDED_TOLERANCE``.
        """
        scores = exported(self.images)
        if self.rounded:
            pairs = zip(scores, self.scores, strict=True)
            found, allowed = statistics.median(deviation(*pair) for pair in pairs), ROUNDED_TOLERANCE
        else:
            found, allowed = deviation(scores, self.scores), TOLERANCE
        if found > allowed:
            raise UserError(
                f"expected {what} to give the scores of the network that was searched, found a difference of "
                f"{found:.1e} of the largest: nothing is written"
            )


def evaluate_as_searched(
    exported: nn.Module, images: Tensor, labels: Tensor, classes: int, conditions: EvaluationConditions
) -> ReadBack:
    """Evaluate an exported file as the search does; on the same machine the count is the same."""
    network = exported.to(memory_format=conditions.memory_format)
    runner = CompiledNetwork(network, conditions.batch_size) if conditions.compiled else network
    module = CandidateClassifier(runner, classes, conditions.batch_size)
    blocks = ResidentBlocks(images, labels, conditions.batch_size, conditions.memory_format)
    trainer = validation_trainer(torch.device("cpu"), conditions.precision)
    trainer.validate(module, blocks, verbose=False)
    return ReadBack(module.correct)


@torch.no_grad()
def compare_classes(
    exported: nn.Module, searched: nn.Module, images: Tensor, labels: Tensor, conditions: EvaluationConditions
) -> ReadBack:
    """Count the right classes of an exported file, and those that differ from those of the network that was searched.

    What is not computed with integers is computed in float32, in another order: a few images may get another class.
    """
    searched = searched.to(memory_format=conditions.memory_format)
    correct = other_class = 0
    for part, label in zip(images.split(conditions.batch_size), labels.split(conditions.batch_size), strict=True):
        classes = exported(part).argmax(1)
        expected = searched(part.contiguous(memory_format=conditions.memory_format)).argmax(1)
        correct += int((classes == label).sum())
        other_class += int((classes != expected).sum())
    return ReadBack(correct, other_class)
