"""Evolution over integer genes, asked and told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.core.algorithm import Algorithm
from pymoo.core.evaluator import Evaluator
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.mutation.pm import PM
from pymoo.operators.sampling.rnd import FloatRandomSampling
from pymoo.problems.static import StaticProblem
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from pymoo.util.ref_dirs import get_reference_directions

from emomc.candidates.genotype import Genotype, SearchSpace
from emomc.common.errors import UserError
from emomc.search.config import EvolutionSettings
from emomc.search.operators import GivenSampling, StepMutation

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Evolution:
    """The evolving population: asks for genotypes, and is told their losses."""

    def __init__(
        self,
        space: SearchSpace,
        settings: EvolutionSettings,
        *,
        losses: int,
        constraints: int,
        start: Callable[[], IntArray] | None = None,
    ) -> None:
        """Prepare generation one.

        Args:
            space: what may be chosen.
            settings: how to evolve.
            losses: number of objectives, each minimised.
            constraints: number of constraints, each met at 0 or below.
            start: gives the genes of the first population when that is asked for, shape (``settings.survivors``,
                1 + layers); drawn at random if None.

        Raises:
            UserError: the algorithm needs a package that is not installed.
        """
        self.space = space
        self.survivors = settings.survivors
        self._problem = Problem(
            n_var=len(space.lower), n_obj=losses, n_ieq_constr=constraints, xl=space.lower, xu=space.upper
        )
        self._algorithm = _make_algorithm(settings, losses, start)
        self._algorithm.setup(
            self._problem, termination=("n_gen", settings.generations), seed=settings.seed, verbose=False
        )
        self._asked: Population | None = None

    def ask(self) -> list[Genotype] | None:
        """Return the next generation's genotypes; None when the generations are over or nothing is left to try."""
        self._asked = self._algorithm.ask() if self._algorithm.has_next() else None
        if self._asked is None:
            return None
        return [self.space.decode(genes) for genes in self._asked.get("X")]

    @property
    def ranks_by_dominance(self) -> bool:
        """Whether ``contenders`` holds: survival depends on a candidate's front, and within it on that front alone.

        NSGA-III and its like scale by the extremes of the whole population, so a bound in place of a loss would tell.
        """
        return isinstance(self._algorithm, NSGA2)

    def contenders(self, losses: FloatArray, violations: FloatArray) -> IntArray:
        """Say which of the asked genotypes could survive, given losses of which some may be too low.

        NSGA-II keeps whole fronts of parents and offspring together, and a part of the front that no longer fits.
        Whatever lies in a deeper front does not survive. If a loss given here is a lower bound of the true one, the
        true front is the same or deeper: a genotype that is no contender by its bound is none by its true loss. Nor
        does it dominate any contender, or that one would lie deeper still. So the survivors are those of exact losses
        once every contender's losses are exact.

        Args:
            losses: (asked, objectives), exact or lower bounds.
            violations: (asked, constraints); a genotype with one above 0 survives or not by violations alone.

        Returns:
            Rows of ``losses``.
        """
        rows = np.flatnonzero((violations <= 0).all(axis=1))
        parents = self._algorithm.pop
        if not self.ranks_by_dominance or parents is None or len(parents) == 0 or not len(rows):
            # The first population survives whole.
            return rows
        feasible = (
            np.flatnonzero((parents.get("G") <= 0).all(axis=1)) if violations.shape[1] else np.arange(len(parents))
        )
        everyone = np.concatenate([parents.get("F")[feasible], losses[rows]])
        fronts = NonDominatedSorting().do(everyone, n_stop_if_ranked=min(self.survivors, len(everyone)))
        reached = np.concatenate(fronts)
        chosen: IntArray = rows[np.sort(reached[reached >= len(feasible)] - len(feasible))]
        return chosen

    def tell(self, losses: FloatArray, violations: FloatArray) -> None:
        """Take the losses (asked, objectives) and violations (asked, constraints) of what ``ask`` gave.

        Raises:
            ValueError: one of them is not finite.
        """
        if not (np.isfinite(losses).all() and np.isfinite(violations).all()):
            raise ValueError("expected finite losses and violations, found others")
        values = {"F": losses, "G": violations} if violations.shape[1] else {"F": losses}
        Evaluator().eval(StaticProblem(self._problem, **values), self._asked)
        self._algorithm.tell(infills=self._asked)


def _make_algorithm(settings: EvolutionSettings, losses: int, start: Callable[[], IntArray] | None) -> Algorithm:
    survivors = settings.survivors
    # Operators are default arguments that all algorithms would share: fresh ones are passed.
    options: dict[str, Any] = {
        "n_offsprings": settings.offspring,
        "pop_size": survivors,
        "eliminate_duplicates": True,
        "sampling": FloatRandomSampling() if start is None else GivenSampling(start),
    }
    if settings.variation == "integer":
        options |= {"crossover": UniformCrossover(prob=0.9), "mutation": StepMutation()}
    else:
        options |= {"crossover": SBX(prob=0.9, eta=15), "mutation": PM(eta=20)}
    if settings.algorithm == "nsga3":
        directions = (
            get_reference_directions("das-dennis", losses, n_partitions=survivors - 1)
            if losses == 2
            else get_reference_directions("energy", losses, survivors, seed=settings.seed)
        )
        return NSGA3(directions, **options)
    if settings.algorithm == "sms-emoa":
        return SMSEMOA(**options)
    if settings.algorithm == "age-moea2":
        try:
            import numba  # noqa: F401 - pymoo's own error for its absence is no ImportError
        except ImportError:
            raise UserError("expected the package numba for age-moea2 (pip install numba), found none") from None
        from pymoo.algorithms.moo.age2 import AGEMOEA2

        return AGEMOEA2(**options)
    return NSGA2(**options)
