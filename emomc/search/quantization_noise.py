"""The noise that quantization adds to the weights of each layer, relative to the weights themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype, SearchSpace

FloatArray = NDArray[np.float64]

# Levels that are quantized together, layer by layer: more need not fit in memory.
_TOGETHER = 8


class QuantizationNoise:
    """The noise |W - Q(W)|^2 / |W|^2 of each level, layer and number of bits; measured when first needed."""

    def __init__(self, networks: CompressedNetworks, space: SearchSpace) -> None:
        """Set the networks, and the levels and bits that may be asked for."""
        self.space = space
        self._networks = networks
        self._levels: dict[int, FloatArray] = {}

    def level(self, percent: int) -> FloatArray:
        """Return the noise at a level, shape (layers, numbers of bits); 0 for a layer without nonzero weights."""
        if not self._levels:
            self._measure()
        return self._levels[percent]

    def of(self, genotypes: Sequence[Genotype]) -> FloatArray:
        """Return the noise of each layer of each genotype, shape (n, layers)."""
        layers = np.arange(len(self.space.layers))
        rows = [
            self.level(genotype.level)[layers, np.array(genotype.bits) - self.space.min_bits] for genotype in genotypes
        ]
        return np.array(rows).reshape(len(genotypes), len(layers))

    def _measure(self) -> None:
        numbers = range(self.space.min_bits, self.space.max_bits + 1)
        noise = {percent: np.zeros((len(self.space.layers), len(numbers))) for percent in self.space.levels}
        for first in range(0, len(self.space.levels), _TOGETHER):
            some = self.space.levels[first : first + _TOGETHER]
            for row, layer in enumerate(self.space.layers):
                self._networks.quantize_ahead(some, layer, numbers)
                for percent in some:
                    noise[percent][row] = self._noise(percent, layer, numbers)
        self._levels = noise

    def _noise(self, percent: int, layer: str, numbers: Sequence[int]) -> list[float]:
        weights = self._networks.level(percent).weights[layer]
        quantized = [self._networks.quantized(percent, layer, bits).dequantize() for bits in numbers]
        total = float(weights.square().sum())
        return [float((weights - own).square().sum()) / total if total else 0.0 for own in quantized]
