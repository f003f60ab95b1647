"""Print training progress as plain lines, for output that is not a terminal."""

from __future__ import annotations

import time

import pytorch_lightning as pl


class EpochLines(pl.Callback):
    """Prints one plain line per epoch: loss, validation metric, density, seconds, minutes left."""

    def __init__(self, stage: str, epochs_after: int = 0, monitor: str = "val/accuracy") -> None:
        """Set the name of the stage and the epochs after it.

        Args:
            stage: start of each line.
            epochs_after: epochs of training that follow this stage, for the time left.
            monitor: name of the validation metric to print.
        """
        self.stage = stage
        self.monitor = monitor
        self.epochs_after = epochs_after
        self._started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the timer of the epoch."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line of the epoch."""
        if not trainer.is_global_zero:
            return
        seconds = time.monotonic() - self._started
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        parts = [f"{self.stage}: epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"]
        if "train/loss" in metrics:
            parts.append(f"loss {metrics['train/loss']:.4f}")
        if self.monitor == "val/accuracy" and self.monitor in metrics:
            parts.append(f"validation accuracy {100 * metrics[self.monitor]:.2f} %")
        elif self.monitor in metrics:
            parts.append(f"{self.monitor} {metrics[self.monitor]:.4g}")
        if "density" in metrics:
            parts.append(f"density {metrics['density']:.3f}")
        epochs_left = (trainer.max_epochs or 0) - trainer.current_epoch - 1 + self.epochs_after
        parts.append(f"{seconds:.1f} s, {epochs_left * seconds / 60:.0f} min left")
        print(", ".join(parts), flush=True)
