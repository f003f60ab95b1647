"""Save the state of a training for its resume, without slowing it down."""

from __future__ import annotations

import time
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

_TRAINING_PER_WRITING = 9


class PacedCheckpoint(Checkpoint):
    """Writes one checkpoint again and again, at the end of epochs, in at most about a tenth of the time.

    After the first epoch, it is written only once training has gone on for nine times as long as the last writing
    took. On a GPU, an epoch over a small dataset is faster than writing the weights of a large network.
    """

    def __init__(self, path: Path) -> None:
        """Set the file of the checkpoint."""
        self.path = path
        self._due = 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint if it is due by the clock of the first process."""
        began = time.monotonic()
        if trainer.strategy.broadcast(began >= self._due):
            trainer.save_checkpoint(self.path)
            ended = time.monotonic()
            self._due = ended + _TRAINING_PER_WRITING * (ended - began)
