"""Show training progress in a terminal."""

from __future__ import annotations

import time

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar


class StageProgressBar(RichProgressBar):
    """Lightning's progress bar with the name of the stage and the minutes left for all stages."""

    def __init__(self, stage: str, epochs_after: int = 0) -> None:
        """Set the name of the stage and the epochs after it.

        Args:
            stage: start of the description.
            epochs_after: epochs of training that follow this stage, for the time left.
        """
        super().__init__()
        self.stage = stage
        self.epochs_after = epochs_after
        self._epoch_started = 0.0
        self._epoch_seconds: float | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the timer of the epoch, and draw its bar."""
        self._epoch_started = time.monotonic()
        super().on_train_epoch_start(trainer, pl_module)
        if self.progress is not None and self.train_progress_bar_id is not None:
            self.progress.update(self.train_progress_bar_id, description=self._description(trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Store the duration of the epoch."""
        self._epoch_seconds = time.monotonic() - self._epoch_started
        super().on_train_epoch_end(trainer, pl_module)

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the metrics shown beside the bar, without the version of the log."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    def _description(self, trainer: pl.Trainer) -> str:
        epochs = trainer.max_epochs or 0
        description = f"{self.stage}: epoch {trainer.current_epoch + 1}/{epochs}"
        if self._epoch_seconds is not None:
            minutes = (epochs - trainer.current_epoch + self.epochs_after) * self._epoch_seconds / 60
            description += f", {minutes:.0f} min left"
        return description
