"""The first population of a search: what is expected to lie on the front, by quantization noise and cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emomc.candidates.genotype import Genotype, SearchSpace
from emomc.compression.levels import LevelName
from emomc.search.bit_allocation import cheapest_allocations
from emomc.search.forecast import Forecast
from emomc.search.quantization_noise import QuantizationNoise
from emomc.search.state import Search

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_Choice = tuple[int, tuple[int, ...]]
"""Bits of a layer's weights, and those of its inputs if they are searched."""


def start_population(search: Search, forecast: Forecast, size: int) -> IntArray:
    """Return the genes of the most promising genotypes, and of the corners of the space.

    The four corners come first: fewest and most bits, at the lowest and the highest level. The others are the most
    promising of the ``cheapest_allocations`` of every level, in which layers that tolerate them have fewer bits. Where
    bits of inputs are searched, a layer's choices are all pairs of bits of weights and of inputs; the allocations in
    which all inputs have the same bits are among the others, too. If there are too few, the rest is random.

    Args:
        search: its objectives, space and seed.
        forecast: what is expected of genotypes before the first is evaluated.
        size: number of candidates, 4 or more.

    Returns:
        Genes, shape (size, genes); rows may repeat if the space is small.
    """
    space, fewest = search.space, min(search.space.activation_bits, default=None)
    corners = [
        space.uniform(level, *bits)
        for level in (space.levels[0], space.levels[-1])
        for bits in ((space.min_bits, fewest), (space.max_bits, None))
    ]
    cheapest = [genotype for level in space.levels for genotype in _cheapest(search, forecast.noise, level)]
    others = [genotype for genotype in dict.fromkeys(cheapest) if genotype not in corners]
    promising = [others[row] for row in forecast.most_promising(others, size - len(corners))]
    genes = [space.encode(genotype) for genotype in [*corners, *promising]]
    generator = np.random.default_rng(search.config.seed)
    shape = (size - len(genes), len(space.lower))
    return np.concatenate([genes, generator.integers(space.lower, space.upper, size=shape, endpoint=True)])


def _cheapest(search: Search, noise: QuantizationNoise, level: LevelName) -> list[Genotype]:
    """Return the cheapest allocations of a level: of all choices, then of those with inputs of equally many bits."""
    space = search.space
    choices = _choices(space)
    # Before the costs: it quantizes to all numbers of bits at once, which is faster than one after the other.
    added = noise.level(level)[:, [bits - space.min_bits for bits, _ in choices]]
    cost = _costs(search, level)
    if inputs := space.activation_bits:
        added = added + noise.inputs(level)[:, [inputs.index(*own) for _, own in choices]]
    groups = [slice(None), *(slice(first, None, len(inputs)) for first in range(len(inputs)))]
    return [
        _genotype(level, [choices[group][option] for option in options])
        for group in groups
        for options in cheapest_allocations(added[:, group], cost[:, group])
    ]


def _costs(search: Search, level: LevelName) -> FloatArray:
    """Return the mean of all costs, each relative to uncompressed, by the bits of one layer; the others have most bits.

    Returns:
        Shape (layers, choices).
    """
    space, choices = search.space, _choices(search.space)
    genotypes = [
        _genotype(level, [choice if other == layer else choices[-1] for other in space.layers])
        for layer in space.layers
        for choice in choices
    ]
    costs = search.cost_model.costs(genotypes)
    relative: FloatArray = np.mean([costs[name] / search.uncompressed[name] for name in search.cost_columns], axis=0)
    return relative.reshape(len(space.layers), len(choices))


def _choices(space: SearchSpace) -> list[_Choice]:
    """Return what the bits of one layer may be, the most last."""
    inputs: list[tuple[int, ...]] = [(bits,) for bits in space.activation_bits] or [()]
    return [(bits, own) for bits in range(space.min_bits, space.max_bits + 1) for own in inputs]


def _genotype(level: LevelName, chosen: Sequence[_Choice]) -> Genotype:
    inputs = tuple(bits for _, own in chosen for bits in own)
    return Genotype(level, tuple(bits for bits, _ in chosen), activation_bits=inputs)
