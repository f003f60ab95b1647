"""Stop the evaluation of a candidate that can no longer reach the required accuracy."""

from __future__ import annotations

import math
from typing import Any, Protocol

import pytorch_lightning as pl

from emomc.lightning_modules.candidate import CandidateClassifier


class Stoppable(Protocol):
    """A data loader that can be stopped."""

    def stop(self) -> None:
        """End the current iteration before its next item."""


class EarlyRejection(pl.Callback):
    """Stops a validation once more images are misclassified than allowed.

    The images misclassified so far give an upper bound on the accuracy. A Trainer's validation ignores ``should_stop``,
    so its data loader is stopped instead.
    """

    def __init__(self, loader: Stoppable, affordable_misses: float = math.inf) -> None:
        """Set the loader and the limit.

        Args:
            loader: data loader of the validation.
            affordable_misses: largest number of misclassified images allowed; may be changed for the next validation.
        """
        self._loader = loader
        self.affordable_misses = affordable_misses

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Stop the loader if too many images were misclassified."""
        if not isinstance(pl_module, CandidateClassifier):
            raise TypeError(f"expected a CandidateClassifier to reject, found {type(pl_module).__name__}")
        # Counting waits for the device, so it is not done without need.
        if self.affordable_misses < math.inf and pl_module.seen - pl_module.correct > self.affordable_misses:
            self._loader.stop()
