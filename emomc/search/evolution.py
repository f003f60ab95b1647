"""Evolutionary algorithms over integer genes, with an ask-and-tell interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.core.algorithm import Algorithm
from pymoo.core.duplicate import NoDuplicateElimination
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
from emomc.search.forecast import Forecast
from emomc.search.operators import GivenSampling, StepMutation
from emomc.search.screening import Screening

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Evolution:
    """The evolving population: ``ask`` returns the genotypes of a generation, ``tell`` takes their losses."""

    def __init__(
        self,
        space: SearchSpace,
        settings: EvolutionSettings,
        *,
        losses: int,
        constraints: int,
        start: Callable[[], IntArray] | None = None,
        forecast: Forecast | None = None,
    ) -> None:
        """Prepare the first generation.

        Args:
            space: the levels and bits to choose from.
            settings: how to evolve.
            losses: number of objectives, each minimised.
            constraints: number of constraints, each met at 0 or below.
            start: returns the genes of the first population, shape (``settings.survivors``, 1 + layers); called by the
                first ``ask``. If None, they are drawn at random.
            forecast: chooses among many offspring those to evaluate; if None, all that are made are evaluated.

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
        self._parents: FloatArray | None = None
        """Losses of the population that meet the constraints, (n, objectives); None before the first ``tell``."""
        self._genotypes: list[Genotype] = []
        """Those of the population that was asked for last."""
        self._forecast = forecast
        if forecast is not None:
            # Screening leaves equal ones out, and need not compare all pairs of the many that are made.
            self._algorithm.mating.eliminate_duplicates = NoDuplicateElimination()
            self._algorithm.mating = Screening(self._algorithm.mating, space, forecast)

    def ask(self) -> list[Genotype] | None:
        """Return the genotypes of the next generation; None after the last one, or if no new genotype is left."""
        self._asked = self._algorithm.ask() if self._algorithm.has_next() else None
        if self._asked is None:
            return None
        self._genotypes = [self.space.decode(genes) for genes in self._asked.get("X")]
        return self._genotypes

    @property
    def ranks_by_dominance(self) -> bool:
        """Whether ``contenders`` is valid: survival depends on a candidate's front and, within it, on that front alone.

        NSGA-III and similar algorithms normalise by the extremes of the whole population, so that a bound in place of a
        loss could change the survivors.
        """
        return isinstance(self._algorithm, NSGA2)

    def contenders(self, losses: FloatArray, violations: FloatArray) -> IntArray:
        """Return which of the asked genotypes could survive, given exact losses or lower bounds of them.

        NSGA-II sorts parents and offspring into fronts, keeps whole fronts, and a part of the first front that does not
        fit. Candidates in later fronts do not survive. With its true loss instead of a lower bound, a candidate lies in
        the same front or a later one: if it is no contender by its bound, it is none by its true loss. Nor does it
        dominate a contender, because a dominated candidate lies in a later front. So once the losses of all contenders
        are exact, the survivors are the same as with exact losses everywhere.

        Args:
            losses: (asked, objectives), exact or lower bounds.
            violations: (asked, constraints); the losses of a genotype with a violation above 0 are not used.

        Returns:
            Indices of the contenders, rows of ``losses``.
        """
        rows = np.flatnonzero((violations <= 0).all(axis=1))
        if not self.ranks_by_dominance or self._parents is None or not len(rows):
            # The whole first population survives.
            return rows
        everyone = np.concatenate([self._parents, losses[rows]])
        fronts = NonDominatedSorting().do(everyone, n_stop_if_ranked=min(self.survivors, len(everyone)))
        reached = np.concatenate(fronts)
        chosen: IntArray = rows[np.sort(reached[reached >= len(self._parents)] - len(self._parents))]
        return chosen

    def tell(self, losses: FloatArray, violations: FloatArray) -> None:
        """Take the losses (asked, objectives) and violations (asked, constraints) of the genotypes from ``ask``.

        Raises:
            ValueError: one of them is not finite.
        """
        if not (np.isfinite(losses).all() and np.isfinite(violations).all()):
            raise ValueError("expected finite losses and violations, found NaN or infinity")
        if self._forecast is not None:
            # Contenders are the same, and have exact losses, whether or not the others have.
            contenders = self.contenders(losses, violations)
            self._forecast.learn([self._genotypes[row] for row in contenders], losses[contenders, 0])
        Evaluator().eval(StaticProblem(self._problem, F=losses, G=violations), self._asked)
        self._algorithm.tell(infills=self._asked)
        population = self._algorithm.pop
        self._parents = population.get("F")[(population.get("G") <= 0).all(axis=1)]


def _make_algorithm(settings: EvolutionSettings, losses: int, start: Callable[[], IntArray] | None) -> Algorithm:
    survivors = settings.survivors
    # pymoo's default operators are objects shared by all algorithms: pass new ones.
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
            import numba  # noqa: F401 - without it pymoo raises another error than ImportError
        except ImportError:
            raise UserError("expected the package numba for age-moea2 (pip install numba), found none") from None
        from pymoo.algorithms.moo.age2 import AGEMOEA2

        return AGEMOEA2(**options)
    return NSGA2(**options)
