"""Sampling and variation operators for integer genes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.mutation import Mutation
from pymoo.core.sampling import Sampling


class GivenSampling(Sampling):
    """Starts from the genes that a function gives, which is called when the first population is asked for."""

    def __init__(self, genes: Callable[[], NDArray[np.int64]]) -> None:
        """Take the function; it returns shape (candidates, genes)."""
        super().__init__()
        self._genes = genes

    def _do(self, problem: Any, n_samples: int, *args: Any, **kwargs: Any) -> NDArray[np.int64]:
        return self._genes()


class StepMutation(Mutation):
    """Moves genes by whole steps: mostly to a neighbour, sometimes anywhere.

    A polynomial mutation of a few integer values mostly rounds back to where it was. Here one gene of each row, chosen
    at random, moves by a geometric number of steps, one or more, up or down with equal chance, reflected at its bounds;
    one in five is drawn anew from its whole range. Crossover changes many genes at once, and this one at least.
    """

    def _do(
        self, problem: Any, X: NDArray[Any], *args: Any, random_state: np.random.Generator, **kwargs: Any
    ) -> NDArray[Any]:
        rows, genes = X.shape
        chosen = np.zeros(X.shape, bool)
        chosen[np.arange(rows), random_state.integers(genes, size=rows)] = True
        steps = random_state.geometric(0.5, size=X.shape) * random_state.choice([-1, 1], size=X.shape)
        anew = random_state.integers(problem.xl, problem.xu, size=X.shape, endpoint=True)
        moved = np.where(random_state.random(X.shape) < 0.2, anew, _reflect(X + steps, problem.xl, problem.xu))
        mutated: NDArray[Any] = np.where(chosen, moved, X)
        return mutated


def _reflect(values: NDArray[Any], lower: NDArray[Any], upper: NDArray[Any]) -> NDArray[Any]:
    """Return values reflected once at the bounds they exceed, and clipped if that leads past the other one."""
    reflected = np.where(values < lower, 2 * lower - values, values)
    reflected = np.where(reflected > upper, 2 * upper - reflected, reflected)
    clipped: NDArray[Any] = np.clip(reflected, lower, upper)
    return clipped
