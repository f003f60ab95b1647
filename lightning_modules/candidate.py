"""Evaluation of one compressed network."""

from __future__ import annotations

from collections.abc import Callable

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy
from typing_extensions import Self


class Stopped(Exception):
    """The evaluation or training of a candidate was stopped before its end, and has no result."""


class CandidateClassifier(pl.LightningModule):
    """A network with its compressed weights in place, for validation only.

    After ``Trainer.validate``, ``seen`` and ``correct`` are the numbers of images seen and classified correctly.
    Nothing is logged, since a search runs thousands of validations.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        batch_size: int,
        prepare: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Take the network as it is.

        Args:
            network: maps normalised float images (n, channels, height, width) to scores (n, num_classes); in eval mode,
                on the device of the Trainer, which leaves it alone.
            num_classes: 2 or more.
            batch_size: largest number of images in one forward pass; a larger block is split.
            prepare: makes normalised images of those of a batch; None: they are.
        """
        super().__init__()
        # Not as a submodule: a Trainer goes through all submodules several times a run, which takes a millisecond.
        self._scores: Callable[[Tensor], Tensor] = network.__call__
        self.batch_size = batch_size
        self.prepare = prepare
        self.stopped: Callable[[], bool] = lambda: False
        """Asked before each batch; once it returns True, ``Stopped`` is raised."""
        # Each process of a search validates a different candidate, so the counts must not be combined.
        self.accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False, sync_on_compute=False)
        self._finite = torch.ones((), dtype=torch.bool)

    def use(self, network: nn.Module) -> None:
        """Run another network from now on; as for ``CandidateClassifier``."""
        self._scores = network.__call__

    def cpu(self) -> Self:
        """Stay on the device; Lightning would move the module to the CPU after each run and back for the next."""
        return self

    @property
    def correct(self) -> int:
        """Number of the images seen that were classified correctly."""
        return int(torch.as_tensor(self.accuracy.tp))

    @property
    def seen(self) -> int:
        """Number of images seen."""
        return self.correct + int(torch.as_tensor(self.accuracy.fn))

    @property
    def finite(self) -> bool:
        """Whether the largest score of every image seen was finite; if any score is a NaN, so is the largest."""
        return bool(self._finite)

    def on_validation_epoch_start(self) -> None:
        """Start counting from zero."""
        self.accuracy.reset()
        self._finite = torch.ones((), dtype=torch.bool, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Count one batch, or a block of several."""
        images, labels = batch
        # Predictions are written into one tensor. If each batch kept its own small tensor among the large activations,
        # freeing and allocating those again would take a tenth of the time.
        best = torch.empty(len(labels), device=labels.device)
        predictions = torch.empty_like(labels)
        parts = (tensor.split(self.batch_size) for tensor in (images, best, predictions))
        for part, part_best, part_predictions in zip(*parts, strict=True):
            if self.stopped():
                raise Stopped
            prepared = part if self.prepare is None else self.prepare(part)
            values, indices = self._scores(prepared).max(dim=1)
            part_best.copy_(values)
            part_predictions.copy_(indices)
        self._finite &= best.isfinite().all()
        self.accuracy.update(predictions, labels)
