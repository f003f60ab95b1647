"""Stop the training of a candidate between two batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from emomc.lightning_modules.candidate import Stopped


class StopTraining(pl.Callback):
    """Ends a training without a result, by an error, once it is stopped from outside.

    A Trainer's own ``should_stop`` ends with weights that look trained.
    """

    def __init__(self, stopped: Callable[[], bool]) -> None:
        """Ask ``stopped`` before each batch."""
        self._stopped = stopped

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Raise ``Stopped`` if the training must end."""
        if self._stopped():
            raise Stopped
