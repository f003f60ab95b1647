"""The noise that quantization adds to the weights and inputs of each layer, relative to what it is added to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype, SearchSpace
from emomc.compression.levels import LevelName

FloatArray = NDArray[np.float64]

# Levels that are quantized together, layer by layer: more need not fit in memory.
_TOGETHER = 8


class QuantizationNoise:
    """The noise |W - Q(W)|^2 / |W|^2 of each level, layer and number of bits; measured when first needed.

    Where bits of inputs are searched, the same of a layer's inputs, as ``CompressedNetworks.input_noise`` estimates it.
    """

    def __init__(self, networks: CompressedNetworks, space: SearchSpace) -> None:
        """Set the networks, and the levels and bits that may be asked for."""
        self.space = space
        self._networks = networks
        self._levels: dict[LevelName, FloatArray] = {}
        self._inputs: dict[LevelName, FloatArray] = {}

    def level(self, level: LevelName) -> FloatArray:
        """Return the noise at a level, shape (layers, numbers of bits); 0 for a layer without nonzero weights."""
        if not self._levels:
            self._measure()
        return self._levels[level]

    def inputs(self, level: LevelName) -> FloatArray:
        """Return the noise of inputs at a level, shape (layers, numbers of bits); (layers, 0) if not searched."""
        if level not in self._inputs:
            noise = [
                [self._networks.of(level).input_noise(level, layer, bits) for bits in self.space.activation_bits]
                for layer in self.space.layers
            ]
            self._inputs[level] = np.array(noise).reshape(len(self.space.layers), len(self.space.activation_bits))
        return self._inputs[level]

    def of(self, genotypes: Sequence[Genotype]) -> FloatArray:
        """Return the noise of each layer of each genotype, shape (n, layers): that of its weights.

        Where bits of inputs are searched, shape (n, 2 layers): after it, that of its inputs.
        """
        layers = np.arange(len(self.space.layers))
        rows = []
        for genotype in genotypes:
            row = self.level(genotype.level)[layers, np.array(genotype.bits) - self.space.min_bits]
            if genotype.activation_bits:
                options = np.searchsorted(self.space.activation_bits, genotype.activation_bits)
                row = np.concatenate([row, self.inputs(genotype.level)[layers, options]])
            rows.append(row)
        parts = 2 if self.space.activation_bits else 1
        return np.array(rows).reshape(len(genotypes), parts * len(layers))

    def _measure(self) -> None:
        numbers = range(self.space.min_bits, self.space.max_bits + 1)
        noise = {level: np.zeros((len(self.space.layers), len(numbers))) for level in self.space.levels}
        for networks, positions in self._networks.by_network(self.space.levels).items():
            for first in range(0, len(positions), _TOGETHER):
                some = [self.space.levels[position] for position in positions[first : first + _TOGETHER]]
                for row, layer in enumerate(self.space.layers):
                    networks.quantize_ahead(some, layer, numbers)
                    for level in some:
                        noise[level][row] = _noise(networks, level, layer, numbers)
        self._levels = noise


def _noise(networks: CompressedNetworks, level: LevelName, layer: str, numbers: Sequence[int]) -> list[float]:
    weights = networks.level(level).weights[layer]
    quantized = [networks.quantized(level, layer, bits).dequantize() for bits in numbers]
    total = float(weights.square().sum())
    return [float((weights - own).square().sum()) / total if total else 0.0 for own in quantized]
