"""What a search expects of genotypes before it evaluates them, and which of them it expects most of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from emomc.candidates.genotype import Genotype
from emomc.common.pareto import most_volume, non_dominated
from emomc.search.error_model import ErrorModel
from emomc.search.quantization_noise import QuantizationNoise
from emomc.search.state import Search

FloatArray = NDArray[np.float64]


class Forecast:
    """Knows the costs of every genotype, and learns to predict the error from those that were evaluated."""

    def __init__(self, search: Search, images: int) -> None:
        """Make a forecast that has learned nothing; ``images`` is the number that errors are measured on."""
        self.noise = QuantizationNoise(search.cost_model.networks, search.space)
        self._search = search
        self._model = ErrorModel(images)
        self._known: dict[Genotype, float] = {}
        self._front = np.empty((0, len(search.config.objectives)))

    def learn(self, genotypes: Sequence[Genotype], errors: FloatArray) -> None:
        """Learn from the errors, (n,), of genotypes that meet the constraints and were evaluated on all images."""
        if not len(genotypes):
            return
        self._known.update(zip(genotypes, np.clip(errors, 0.0, 1.0), strict=True))
        known = list(self._known)
        self._model.learn(self._level_errors(known), self.noise.of(known), np.array(list(self._known.values())))
        losses = np.vstack([self._front, self._losses(errors, self._search.cost_model.costs(genotypes))])
        self._front = losses[non_dominated(losses)]

    def most_promising(self, genotypes: Sequence[Genotype], count: int) -> list[int]:
        """Return which genotypes to evaluate, at most ``count``, the most promising first.

        Those that meet the constraints come first, in the order of ``most_volume``; errors are optimistic, so that
        what is uncertain is tried. The others follow, those that violate the constraints least first.
        """
        if not len(genotypes):
            return []
        errors = self._model.optimistic(self._level_errors(genotypes), self.noise.of(genotypes))
        costs = self._search.cost_model.costs(genotypes)
        losses, violations = self._losses(errors, costs), self._search.total_violations(costs)
        feasible, others = np.flatnonzero(violations <= 0), np.flatnonzero(violations > 0)
        chosen = feasible[most_volume(losses[feasible], count, [1.0] * losses.shape[1], known=self._front)]
        others = others[np.argsort(violations[others], kind="stable")]
        return [int(row) for row in np.concatenate([chosen, others])[:count]]

    def cost_of_next_bit(self, genotypes: Sequence[Genotype]) -> FloatArray:
        """Return by how much the error is expected to rise if one layer alone had one bit less.

        Args:
            genotypes: n of them.

        Returns:
            (n, layers), each 0 or more; NaN where the layer has the fewest bits of the search.
        """
        layers, fewest = len(self.noise.space.layers), self.noise.space.min_bits
        rises = np.full((len(genotypes), layers), np.nan)
        for row, genotype in enumerate(genotypes):
            lowered = [layer for layer in range(layers) if genotype.bits[layer] > fewest]
            others = [_with_one_bit_less(genotype, layer) for layer in lowered]
            errors = self._expected([genotype, *others])
            rises[row, lowered] = np.maximum(0.0, errors[1:] - errors[0])
        return rises

    def _expected(self, genotypes: Sequence[Genotype]) -> FloatArray:
        return self._model.expected(self._level_errors(genotypes), self.noise.of(genotypes))

    def _level_errors(self, genotypes: Sequence[Genotype]) -> FloatArray:
        record = self._search.library.record
        # A level may be better than the better end of a metric's range.
        levels = {genotype.level for genotype in genotypes}
        errors = {level: max(0.0, 1 - record(level).validation_accuracy) for level in levels}
        return np.array([errors[genotype.level] for genotype in genotypes])

    def _losses(self, errors: FloatArray, costs: Mapping[str, FloatArray]) -> FloatArray:
        """Return errors and costs relative to uncompressed, (n, objectives)."""
        search = self._search
        return np.column_stack([errors, *(costs[name] / search.uncompressed[name] for name in search.cost_columns)])


def _with_one_bit_less(genotype: Genotype, layer: int) -> Genotype:
    bits = list(genotype.bits)
    bits[layer] -= 1
    return dataclasses.replace(genotype, bits=tuple(bits))
