"""The LightningModules that train the stages."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from emomc.lightning_modules.classifier import Classifier
from emomc.lightning_modules.distillation import Teacher
from emomc.lightning_modules.pre_pruning import PrePruningClassifier
from emomc.lightning_modules.robust_pre_pruning import RobustPrePruningClassifier
from emomc.networks.layers import LayerShape
from emomc.networks.state import load_unique
from emomc.pretraining.config import PretrainingConfig


def dense_module(config: PretrainingConfig, network: nn.Module, num_classes: int) -> Classifier:
    """Return the module that trains the dense network, in place."""
    return Classifier(network, num_classes, config.training_recipe, config.network_output)


def level_module(
    config: PretrainingConfig,
    network: nn.Module,
    num_classes: int,
    layers: Sequence[LayerShape],
    masks: Mapping[str, Tensor],
    dense: Mapping[str, Tensor],
) -> PrePruningClassifier:
    """Return the module that fine-tunes a level, in place.

    Args:
        config: the settings.
        network: with the weights to start from.
        num_classes: 2 or more.
        layers: those whose weights are compressed.
        masks: layer name -> boolean tensor, true where the weight remains at the start.
        dense: state of the dense network, which teaches robust levels; see ``unique_state``.
    """
    recipe, output = config.fine_tuning_recipe, config.network_output
    if not config.robust:
        keys = {layer.name: layer.weight_key for layer in layers}
        return PrePruningClassifier(network, num_classes, recipe, masks, weight_keys=keys, output=output)
    taught_by = copy.deepcopy(network)
    load_unique(taught_by, dense)
    teacher = Teacher(taught_by.eval(), config.distillation, output)
    return RobustPrePruningClassifier(network, num_classes, recipe, masks, layers, teacher, output=output)
