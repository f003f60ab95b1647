"""Sampling and variation operators for integer genes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.mutation import Mutation
from pymoo.core.sampling import Sampling


class GivenSampling(Sampling):
    """Takes the first population from a function, which is called when the algorithm asks for that population."""

    def __init__(self, genes: Callable[[], NDArray[np.int64]]) -> None:
        """Store the function; it returns genes of shape (candidates, genes)."""
        super().__init__()
        self._genes = genes

    def _do(self, problem: Any, n_samples: int, *args: Any, **kwargs: Any) -> NDArray[np.int64]:
        return self._genes()


class StepMutation(Mutation):
    """Changes one gene of each row, chosen at random.

    With probability 0.8 the gene moves up or down with equal probability, by a geometric number of steps (1 or more),
    reflected at its bounds; with probability 0.2 it is drawn uniformly from its whole range. Polynomial mutation is not
    used because, with few integer values, it mostly rounds back to the old value.
    """

    def _do(
        self, problem: Any, X: NDArray[Any], *args: Any, random_state: np.random.Generator, **kwargs: Any
    ) -> NDArray[Any]:
        rows, genes = X.shape
        chosen = np.zeros(X.shape, bool)
        chosen[np.arange(rows), random_state.integers(genes, size=rows)] = True
        steps = random_state.geometric(0.5, size=X.shape) * random_state.choice([-1, 1], size=X.shape)
        drawn = random_state.integers(problem.xl, problem.xu, size=X.shape, endpoint=True)
        moved = np.where(random_state.random(X.shape) < 0.2, drawn, _reflect(X + steps, problem.xl, problem.xu))
        mutated: NDArray[Any] = np.where(chosen, moved, X)
        return mutated


def _reflect(values: NDArray[Any], lower: NDArray[Any], upper: NDArray[Any]) -> NDArray[Any]:
    """Reflect values at the lower bound, then at the upper one; clip what then still lies outside."""
    reflected = np.maximum(values, 2 * lower - values)
    reflected = np.minimum(reflected, 2 * upper - reflected)
    clipped: NDArray[Any] = np.clip(reflected, lower, upper)
    return clipped
