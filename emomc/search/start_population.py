"""The first population of a search: what is expected to lie on the front, by quantization noise and cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emomc.candidates.genotype import Genotype
from emomc.search.bit_allocation import cheapest_allocations
from emomc.search.forecast import Forecast
from emomc.search.state import Search

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def start_population(search: Search, forecast: Forecast, size: int) -> IntArray:
    """Return the genes of the most promising genotypes, and of the corners of the space.

    The four corners come first: fewest and most bits, at the lowest and the highest level. The others are the most
    promising of the ``cheapest_allocations`` of every level, in which layers that tolerate them have fewer bits. If
    there are too few, the rest is random.

    Args:
        search: its objectives, space and seed.
        forecast: what is expected of genotypes before the first is evaluated.
        size: number of candidates, 4 or more.

    Returns:
        Genes, shape (size, 1 + layers); rows may repeat if the space is small.
    """
    space = search.space
    corners = [
        Genotype(level, (bits,) * len(space.layers))
        for level in (space.levels[0], space.levels[-1])
        for bits in (space.min_bits, space.max_bits)
    ]
    cheapest = [
        Genotype(level, tuple(int(option) + space.min_bits for option in options))
        for level in space.levels
        for options in cheapest_allocations(forecast.noise.level(level), _costs(search, level))
    ]
    others = [genotype for genotype in cheapest if genotype not in corners]
    promising = [others[row] for row in forecast.most_promising(others, size - len(corners))]
    genes = [space.encode(genotype) for genotype in [*corners, *promising]]
    generator = np.random.default_rng(search.config.seed)
    shape = (size - len(genes), len(space.lower))
    return np.concatenate([genes, generator.integers(space.lower, space.upper, size=shape, endpoint=True)])


def _costs(search: Search, level: int) -> FloatArray:
    """Return the mean of all costs, each relative to uncompressed, by the bits of one layer; the others have most bits.

    Returns:
        Shape (layers, numbers of bits).
    """
    space, numbers = search.space, range(search.space.min_bits, search.space.max_bits + 1)
    genotypes = [
        Genotype(level, tuple(bits if other == layer else space.max_bits for other in space.layers))
        for layer in space.layers
        for bits in numbers
    ]
    costs = search.cost_model.costs(genotypes)
    relative: FloatArray = np.mean([costs[name] / search.uncompressed[name] for name in search.cost_columns], axis=0)
    return relative.reshape(len(space.layers), len(numbers))
