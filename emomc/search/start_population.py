"""The first population of a search: bits are allocated to layers by their quantization noise and cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emomc.candidates.cost_model import CostModel
from emomc.candidates.genotype import Genotype, SearchSpace
from emomc.compression.allocation import cheapest_allocations, total

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_ROUNDING = 1 + 1e-9


def start_population(
    cost_model: CostModel, space: SearchSpace, columns: Sequence[str], size: int, seed: int
) -> IntArray:
    """Return genes spread over the whole search space, with fewer bits in layers that tolerate them.

    If bits were drawn independently for each layer, nearly all candidates would cost about the same, and each would
    have some layer with far too few bits. Here the four corners come first: fewest and most bits, at the lowest and the
    highest level. Each other candidate draws a level and a number of bits b, both spread evenly over their ranges. Its
    bits are the cheapest of ``cheapest_allocations`` whose noise is at most that of b bits in every layer.

    The noise of a candidate is the sum over its layers of |W - Q(W)|^2 / |W|^2: to a first approximation, the noise-to-
    signal ratios of the layers add up at the output of the network (Lin et al., "Fixed Point
    Quantization of Deep Convolutional Networks", ICML 2016).

    Args:
        cost_model: of the library.
        space: the levels and bits to choose from.
        columns: columns of ``CostModel.costs``; the cost of a layer is their mean, each relative to uncompressed.
        size: number of candidates, 4 or more.
        seed: decides which level is combined with which number of bits.

    Returns:
        Genes, shape (size, 1 + layers); rows may repeat if the space is small.
    """
    generator = np.random.default_rng(seed)
    common = generator.permutation(np.linspace(space.min_bits, space.max_bits, size - 4))
    levels = np.rint(generator.permutation(np.linspace(0, len(space.levels) - 1, size - 4))).astype(int)
    ends = (space.min_bits, space.max_bits)
    genes = [[level, *[bits] * len(space.layers)] for level in (0, len(space.levels) - 1) for bits in ends]
    tables = {level: _tables(cost_model, space, columns, space.levels[level]) for level in np.unique(levels)}
    allocations = {level: cheapest_allocations(noise, cost) for level, (noise, cost) in tables.items()}
    for level, bits in zip(levels, common, strict=True):
        noise, cost = tables[level]
        allowed = _between(noise.sum(axis=0), bits - space.min_bits)
        choice = _cheapest(allocations[level], noise, cost, allowed)
        genes.append([level, *(choice + space.min_bits)])
    return np.array(genes, dtype=np.int64)


def _cheapest(allocations: IntArray, noise: FloatArray, cost: FloatArray, allowed: float) -> IntArray:
    """Return the cheapest allocation whose noise is at most ``allowed``."""
    eligible = allocations[total(noise, allocations) <= allowed * _ROUNDING]
    chosen: IntArray = eligible[np.argmin(total(cost, eligible))]
    return chosen


def _between(values: FloatArray, position: float) -> float:
    """Interpolate geometrically between two neighbouring values, as noise falls exponentially with bits."""
    low, high = int(np.floor(position)), int(np.ceil(position))
    share = position - low
    return float(values[low] ** (1 - share) * values[high] ** share)


def _tables(
    cost_model: CostModel, space: SearchSpace, columns: Sequence[str], level: int
) -> tuple[FloatArray, FloatArray]:
    """Return noise and cost of each layer and number of bits at a level, each of shape (layers, numbers of bits)."""
    numbers = range(space.min_bits, space.max_bits + 1)
    networks = cost_model.networks
    noise = np.zeros((len(space.layers), len(numbers)))
    genotypes = []
    for row, layer in enumerate(space.layers):
        weights = networks.level(level).weights[layer]
        power = float(weights.square().sum())
        for column, bits in enumerate(numbers):
            error = weights - networks.quantized(level, layer, bits).dequantize()
            noise[row, column] = float(error.square().sum()) / power if power else 0.0
            genotypes.append(
                Genotype(level, tuple(bits if other == layer else space.max_bits for other in space.layers))
            )
    costs = cost_model.costs(genotypes)
    uncompressed = cost_model.uncompressed()
    relative = np.mean([costs[name] / uncompressed[name] for name in columns], axis=0)
    return noise, relative.reshape(noise.shape)
