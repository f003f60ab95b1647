"""Prune the network inside any LightningModule while a Trainer fine-tunes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from emomc.callbacks.trainer.pruning_schedule import Prunable, PruningSchedule
from emomc.compression.channel_options import TAYLOR
from emomc.compression.channels import IMPORTANCES, ChannelPruning, Scores, Values
from emomc.compression.criteria import CriterionName
from emomc.compression.patterns import Structure
from emomc.compression.pruning import Percent
from emomc.networks.layers import LayerShape


class PrunedNetwork:
    """A network with masks of its remaining weights."""

    def __init__(self, network: nn.Module, layers: Iterable[LayerShape], masks: Mapping[str, Tensor]) -> None:
        """Take the network, its compressible layers, and layer name -> boolean mask to start from."""
        self._network = network
        self._keys = {layer.name: layer.weight_key for layer in layers}
        self.masks = {name: mask.clone() for name, mask in masks.items()}
        """Layer name -> boolean tensor, true where the weight remains."""

    @property
    def weights(self) -> dict[str, Tensor]:
        """Layer name -> the layer's weights."""
        return {name: self._network.get_parameter(key) for name, key in self._keys.items()}

    @property
    def density(self) -> float:
        """Fraction of the compressible weights that remain, 0..1."""
        masks = self.masks.values()
        return sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)

    @torch.no_grad()
    def channel_scores(self, channels: ChannelPruning) -> Scores:
        """Return the importance of each label of the network's channels, (labels,).

        Raises:
            ValueError: the importance is ``taylor``, which needs the loss of a classifier.
        """
        if channels.importance == TAYLOR:
            raise ValueError(f"expected an importance of weights alone, found {TAYLOR}")
        values = Values(dict(self._network.named_parameters()), {})
        return IMPORTANCES[channels.importance](channels.groups, values)

    def set_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Replace the masks and set the removed weights to zero."""
        self.masks = {name: masks[name].clone() for name in self.masks}
        self.apply_masks()

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Set the removed weights to zero."""
        for name, weight in self.weights.items():
            mask = self.masks[name] = self.masks[name].to(weight.device)
            weight.mul_(mask)


class ModulePruning(PruningSchedule):
    """Prunes the network inside any LightningModule; its masks are in the checkpoints.

    Logs ``density`` (fraction of the compressible weights that remain) in every epoch.
    """

    def __init__(
        self,
        pruned: PrunedNetwork,
        percents: Sequence[Percent],
        criterion: CriterionName = "layerwise",
        macs: Mapping[str, int] | None = None,
        structure: Structure | None = None,
    ) -> None:
        """Take the network; the rest is as for ``PruningSchedule``. The criterion ``sensitivity`` needs classes."""
        super().__init__(percents, criterion, macs, structure=structure)
        self.pruned = pruned

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Log the density at the first batch of an epoch."""
        if trainer.is_last_batch:
            pl_module.log("density", self.pruned.density, rank_zero_only=True, batch_size=1)

    def state_dict(self) -> dict[str, Any]:
        """Return the masks."""
        return {f"mask {name}": mask for name, mask in self.pruned.masks.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the masks of a checkpoint."""
        self.pruned.masks = {name: state_dict[f"mask {name}"] for name in self.pruned.masks}

    def _prunable(self, pl_module: pl.LightningModule) -> Prunable:
        return self.pruned
