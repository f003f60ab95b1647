"""Save the state of a training for its resume, without slowing it down."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

_TRAINING_PER_WRITING = 9


class PacedCheckpoint(ModelCheckpoint):
    """A ``ModelCheckpoint`` at the end of epochs that takes at most about a tenth of the time.

    After the first epoch, a checkpoint is written only once training has gone on for nine times as long as the last
    one took. On a GPU, an epoch of a small dataset is faster than writing the weights of a large network.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        """Take the arguments of ``ModelCheckpoint`` but ``save_on_train_epoch_end``."""
        super().__init__(*arguments, save_on_train_epoch_end=True, **more)
        self._due = 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if a checkpoint is due by the clock of the first process."""
        began = time.monotonic()
        if trainer.strategy.broadcast(began >= self._due):
            super().on_train_epoch_end(trainer, pl_module)
            ended = time.monotonic()
            self._due = ended + _TRAINING_PER_WRITING * (ended - began)
