"""How accurate the dense network stays when one layer alone is pruned or quantized."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from emomc.compression.pruning import keep_largest, remaining_count
from emomc.compression.quantization import quantize_symmetric
from emomc.data.splits import load_some
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.lightning_modules.pre_pruning import PrePruningClassifier
from emomc.networks.layers import LayerShape, as_stored, output_first
from emomc.networks.state import load_unique
from emomc.pretraining.measured_images import images_to_measure
from emomc.runtime.memory import memory_for
from emomc.runtime.recipe import Recipe

DENSITIES = (80, 60, 40, 30, 20, 15, 10, 7, 5, 3, 2)
"""Percent of the layer's weights that remain."""
BITS = (8, 6, 5, 4, 3, 2)
# As many images may be lost where a range counts as one where nothing is lost: one in so many.
_ALLOWED = 500


@dataclasses.dataclass(frozen=True)
class LayerSensitivity:
    """Accuracies of the dense network when one layer alone is changed."""

    layer: LayerShape
    by_density: Mapping[int, int]
    """Percent of the layer's weights that remain, the largest -> images classified correctly."""
    by_bits: Mapping[int, int]
    """Bits of the layer's weights, one step per channel, largest weight -> images classified correctly."""


@dataclasses.dataclass(frozen=True)
class NetworkSensitivity:
    """What was measured of a network, layer by layer."""

    images: int
    dense_correct: int
    """Images that the dense network classifies correctly."""
    layers: tuple[LayerSensitivity, ...]

    def lossless(self, correct: Mapping[int, int]) -> int | None:
        """Return the lowest density, or the fewest bits, down to which at most one image in 500 is lost; None: none."""
        least = self.dense_correct - max(1, self.images // _ALLOWED)
        found = None
        for value in sorted(correct, reverse=True):
            if correct[value] < least:
                break
            found = value
        return found


@torch.no_grad()
def measure_layers(
    library: Library, network: nn.Module, data: pl.LightningDataModule, *, channels_last: bool
) -> NetworkSensitivity:
    """Prune and quantize each layer of the dense network alone, and count the images classified correctly.

    Args:
        library: with the dense network.
        network: of the library's kind; not changed.
        data: of the library.
        channels_last: run the network in channels-last memory format.
    """
    manifest = library.manifest
    images, labels = load_some(data, "validation", images_to_measure(len(manifest.compressed_layers)))
    network = copy.deepcopy(network)
    load_unique(network, library.load_state(DENSE))
    layers = {layer.name: layer for layer in manifest.compressed_layers}
    masks = {name: torch.ones_like(network.get_parameter(layer.weight_key)) > 0 for name, layer in layers.items()}
    keys = {name: layer.weight_key for name, layer in layers.items()}
    # The learning rate is not used: nothing is trained.
    recipe = Recipe(1.0, channels_last=channels_last)
    module = PrePruningClassifier(
        network, manifest.num_classes, recipe, masks, weight_keys=keys, output=manifest.network_output
    ).eval()
    # Training had memory for the one, and a search will need memory for the other.
    size = min(manifest.data["batch_size"], manifest.evaluation_batch_size)
    batches, labels = images.to(module.device).split(size), labels.to(module.device)

    def correct(weights: Mapping[str, Tensor]) -> int:
        with memory_for(f"evaluating batches of {size} images", "lower --evaluation_batch_size"):
            return int((module.scores_with(weights, batches).argmax(1) == labels).sum())

    measured = []
    for name, layer in layers.items():
        weight = module.weights[name]
        by_density = {percent: correct({name: _pruned(name, weight, percent)}) for percent in DENSITIES}
        by_bits = {bits: correct({name: _rounded(layer, weight, bits)}) for bits in BITS}
        measured.append(LayerSensitivity(layer, by_density, by_bits))
    return NetworkSensitivity(len(labels), correct({}), tuple(measured))


def _pruned(name: str, weight: Tensor, percent: int) -> Tensor:
    count = max(1, remaining_count(weight.numel(), percent))
    return weight * keep_largest({name: weight}, {name: count}, {name: torch.ones_like(weight) > 0})[name]


def _rounded(layer: LayerShape, weight: Tensor, bits: int) -> Tensor:
    return as_stored(quantize_symmetric(output_first(weight, layer), bits, per_channel=True).dequantize(), layer)
