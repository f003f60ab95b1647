"""Prune a network while a Trainer fine-tunes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytorch_lightning as pl

from emomc.compression.criteria import CriterionName
from emomc.compression.pruning import Percent, prune_by_magnitude
from emomc.lightning_modules.pre_pruning import PrePruningClassifier


class PruningSchedule(pl.Callback):
    """Prunes a ``PrePruningClassifier`` at the start of each epoch and keeps removed weights at zero after each step.

    The new masks depend only on the weights and the current masks, which are the same on every device.
    """

    def __init__(
        self, percents: Sequence[Percent], criterion: CriterionName = "layerwise", macs: Mapping[str, int] | None = None
    ) -> None:
        """Check and set the schedule.

        Args:
            percents: weights remaining in each epoch, percent; the last one holds for all later epochs.
            criterion: see ``prune_by_magnitude``.
            macs: layer name -> MACs of one image; only the criterion ``macs`` needs it.

        Raises:
            ValueError: the schedule is empty or increases.
        """
        if not percents or any(later > earlier for earlier, later in pairwise(percents)):
            raise ValueError(f"expected percentages that do not rise, found {list(map(float, percents))}")
        self.percents = tuple(percents)
        self.criterion: CriterionName = criterion
        self.macs = macs

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune to this epoch's percentage if it has changed."""
        module = _pre_pruning(pl_module)
        epoch = trainer.current_epoch
        last = len(self.percents) - 1
        if epoch > last or (epoch > 0 and self.percents[epoch] == self.percents[epoch - 1]):
            return
        self.prune(module, self.percents[epoch])

    def prune(self, module: PrePruningClassifier, percent: Percent) -> None:
        """Prune a network to ``percent`` of its weights, now."""
        module.set_masks(
            prune_by_magnitude(module.weights, percent, criterion=self.criterion, masks=module.masks, macs=self.macs)
        )

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Set removed weights, which the optimizer may have changed, back to zero."""
        _pre_pruning(pl_module).apply_masks()


def _pre_pruning(module: pl.LightningModule) -> PrePruningClassifier:
    if not isinstance(module, PrePruningClassifier):
        raise TypeError(f"expected a PrePruningClassifier to prune, found {type(module).__name__}")
    return module
