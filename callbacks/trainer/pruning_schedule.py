"""Prune a network while a Trainer fine-tunes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import pytorch_lightning as pl
from torch import Tensor

from emomc.compression.channels import ChannelPruning, Scores
from emomc.compression.criteria import SENSITIVITY, CriterionName, PruningCost
from emomc.compression.levels import BLOCK, UNSTRUCTURED, kind_of
from emomc.compression.patterns import Pruning, Structure, prune
from emomc.compression.pruning import Percent
from emomc.compression.sensitivity import counts_by_sensitivity, weight_prices
from emomc.lightning_modules.pre_pruning import PrePruningClassifier


class Prunable(Protocol):
    """What a schedule prunes: the layers of a network, with masks of their remaining weights."""

    @property
    def weights(self) -> dict[str, Tensor]:
        """Layer name -> the layer's weights."""

    @property
    def masks(self) -> dict[str, Tensor]:
        """Layer name -> boolean tensor, true where the weight remains."""

    def channel_scores(self, channels: ChannelPruning) -> Scores:
        """Return the importance of each label of the network's channels, (labels,)."""

    def set_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Replace the masks and set the removed weights to zero."""

    def apply_masks(self) -> None:
        """Set the removed weights to zero."""


class PruningSchedule(pl.Callback):
    """Prunes a ``PrePruningClassifier`` at the start of each epoch and keeps removed weights at zero after each step.

    The new masks depend on the weights and the current masks, which are the same on every device; what is measured on
    images is that of the first device.
    """

    def __init__(
        self,
        percents: Sequence[Percent],
        criterion: CriterionName = "layerwise",
        macs: Mapping[str, int] | None = None,
        batches: Sequence[Tensor] | None = None,
        cost: PruningCost = "both",
        structure: Structure | None = None,
    ) -> None:
        """Check and set the schedule.

        Args:
            percents: weights (or cost) remaining in each epoch, percent; the last one holds for all later epochs.
            criterion: see ``prune_by_magnitude``; or ``sensitivity``, see ``counts_by_sensitivity``.
            macs: layer name -> MACs of one image; only the criteria ``macs`` and ``sensitivity`` need it.
            batches: images, (n, channels, height, width), normalised, to measure on; for ``sensitivity`` alone.
            cost: what ``sensitivity`` saves, and ``percents`` are of.
            structure: the pattern of the zeros; None: they follow none. ``criterion`` ranks weights and blocks.

        Raises:
            ValueError: the schedule is empty or increases, or ``sensitivity`` has no MACs or no batches.
        """
        if not percents or any(later > earlier for earlier, later in pairwise(percents)):
            raise ValueError(f"expected percentages that do not rise, found {list(map(float, percents))}")
        if criterion == SENSITIVITY and (macs is None or batches is None):
            raise ValueError("expected macs= and batches= for the criterion 'sensitivity', found none")
        self.percents = tuple(percents)
        self.criterion: CriterionName = criterion
        self.macs = macs
        self.batches = batches
        self.cost: PruningCost = cost
        self.structure = structure or Structure()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune to this epoch's percentage if it has changed."""
        epoch = trainer.current_epoch
        last = len(self.percents) - 1
        if epoch > last or (epoch > 0 and self.percents[epoch] == self.percents[epoch - 1]):
            return
        self.prune(trainer, pl_module, self.percents[epoch])

    def prune(self, trainer: pl.Trainer, pl_module: pl.LightningModule, percent: Percent) -> None:
        """Prune a network to ``percent`` of its weights, now."""
        module = self._prunable(pl_module)
        counts = None
        if self.criterion == SENSITIVITY and kind_of(self.structure.pattern) in (UNSTRUCTURED, BLOCK):
            # Sums may differ in their last digits between devices.
            counts = trainer.strategy.broadcast(self._measured_counts(_pre_pruning(pl_module), percent))
        scores = None
        if self.structure.channels is not None:
            scores = trainer.strategy.broadcast(module.channel_scores(self.structure.channels))
        request = Pruning(
            module.weights, module.masks, percent, self.structure, self.criterion, self.macs, scores, counts
        )
        module.set_masks(prune(request))

    def masks_of(self, pl_module: pl.LightningModule) -> dict[str, Tensor]:
        """Return layer name -> boolean tensor, true where the weight remains."""
        return self._prunable(pl_module).masks

    def _measured_counts(self, module: PrePruningClassifier, percent: Percent) -> dict[str, int]:
        if self.batches is None or self.macs is None:
            raise ValueError("expected macs= and batches= for the criterion 'sensitivity', found none")
        batches = [images.to(module.device) for images in self.batches]
        prices = weight_prices({name: weight.numel() for name, weight in module.weights.items()}, self.macs, self.cost)
        training = module.training
        module.eval()
        counts = counts_by_sensitivity(
            lambda weights: module.scores_with(weights, batches), module.weights, module.masks, percent, prices
        )
        module.train(training)
        return counts

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Set removed weights, which the optimizer may have changed, back to zero."""
        self._prunable(pl_module).apply_masks()

    def _prunable(self, pl_module: pl.LightningModule) -> Prunable:
        return _pre_pruning(pl_module)


def _pre_pruning(module: pl.LightningModule) -> PrePruningClassifier:
    if not isinstance(module, PrePruningClassifier):
        raise TypeError(f"expected a PrePruningClassifier to prune, found {type(module).__name__}")
    return module
