"""Progress of a training where there is no terminal."""

from __future__ import annotations

import time

import pytorch_lightning as pl


class EpochLines(pl.Callback):
    """Prints one plain line per epoch: loss, validation accuracy, seconds."""

    def __init__(self, stage: str) -> None:
        """Take the name that the lines begin with."""
        self.stage = stage
        self._started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the time."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line of the epoch."""
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        accuracy = float(metrics.get("val/accuracy", float("nan")))
        print(
            f"{self.stage}: epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, "
            f"loss {float(metrics.get('train/loss', float('nan'))):.4f}, validation accuracy {100 * accuracy:.2f} %, "
            f"{time.monotonic() - self._started:.1f} s",
            flush=True,
        )
