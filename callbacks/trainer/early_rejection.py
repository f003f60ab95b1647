"""Ending an evaluation that can no longer matter."""

from __future__ import annotations

from typing import Any, Protocol

import pytorch_lightning as pl

from emomc.lightning_modules.candidate import CandidateClassifier


class Stoppable(Protocol):
    """A loader that can be told to yield no more."""

    def stop(self) -> None:
        """End the iteration under way before what it would yield next."""


class EarlyRejection(pl.Callback):
    """Stops a validation once more images are misclassified than the candidate can afford.

    The images misclassified so far bound the accuracy from above, whatever the images left will show. A Trainer's
    validation ignores ``should_stop``; its loader stops yielding instead.
    """

    def __init__(self, loader: Stoppable, affordable_misses: int) -> None:
        """Take what is to be stopped, and when.

        Args:
            loader: what is validated over.
            affordable_misses: misclassified images up to which the candidate still matters.
        """
        self._loader = loader
        self._affordable_misses = affordable_misses

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Stop the loader if the misses so far are too many."""
        if not isinstance(pl_module, CandidateClassifier):
            raise TypeError(f"expected a CandidateClassifier to reject, found {type(pl_module).__name__}")
        if pl_module.seen - pl_module.correct > self._affordable_misses:
            self._loader.stop()
