"""Scoring one compressed network."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy
from typing_extensions import Self


class CandidateClassifier(pl.LightningModule):
    """A network with its compressed weights in place, to be validated and nothing else.

    After ``Trainer.validate`` the images seen and those classified rightly are whole numbers, not a quotient: ``seen``
    and ``correct``. Nothing is logged: a search makes thousands of validations, and their time is the network's.
    """

    def __init__(self, network: nn.Module, num_classes: int, batch_size: int) -> None:
        """Take the network as it is.

        Args:
            network: maps normalised float images (n, channels, height, width) to scores (n, num_classes).
            num_classes: 2 or more.
            batch_size: images that run through the network at a time, however many come at once.
        """
        super().__init__()
        self.network = network
        self.batch_size = batch_size
        # Each process of a search validates another candidate: an average over processes would mix them.
        self.accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False, sync_on_compute=False)
        self._finite = torch.ones((), dtype=torch.bool)

    def cpu(self) -> Self:
        """Stay on the device: after each run a strategy sends its module to the host, and the next one back."""
        return self

    @property
    def correct(self) -> int:
        """Images classified rightly among those seen."""
        return int(torch.as_tensor(self.accuracy.tp))

    @property
    def seen(self) -> int:
        """Images seen."""
        return self.correct + int(torch.as_tensor(self.accuracy.fn))

    @property
    def finite(self) -> bool:
        """Whether the best score of every image seen was a finite number; that of an image with a NaN is none."""
        return bool(self._finite)

    def on_validation_epoch_start(self) -> None:
        """Start counting from zero."""
        self.accuracy.reset()
        self._finite = torch.ones((), dtype=torch.bool, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Count one batch, or a block of several."""
        images, labels = batch
        # Answers of single batches, kept, would lie scattered among the large activations, and make freeing those and
        # allocating them anew cost a tenth of the time.
        best = torch.empty(len(labels), device=labels.device)
        answers = torch.empty_like(labels)
        parts = (tensor.split(self.batch_size) for tensor in (images, best, answers))
        for part, part_best, part_answers in zip(*parts, strict=True):
            values, indices = self.network(part).max(dim=1)
            part_best.copy_(values)
            part_answers.copy_(indices)
        self._finite &= best.isfinite().all()
        self.accuracy.update(answers, labels)
