"""Screening: of many offspring, only the most promising are evaluated."""

from __future__ import annotations

from typing import Any

from pymoo.core.infill import InfillCriterion
from pymoo.core.population import Population
from pymoo.core.problem import Problem

from emomc.candidates.genotype import Genotype, SearchSpace
from emomc.search.forecast import Forecast

# More do not make a better front; the time to tell them apart grows with their square.
_OFFSPRING = 1000


class Screening(InfillCriterion):
    """Lets another criterion make many more offspring than are wanted, and keeps the most promising.

    It keeps no genotype that lies in a population that it was given, or that it kept before.
    """

    def __init__(self, making: InfillCriterion, space: SearchSpace, forecast: Forecast) -> None:
        """Set how offspring are made, what their genes mean, and what tells how promising they are."""
        super().__init__()
        self._making = making
        self._space = space
        self._forecast = forecast
        self._old: set[Genotype] = set()

    def do(self, problem: Problem, pop: Population, n_offsprings: int, **options: Any) -> Population:
        """Return at most ``n_offsprings`` offspring of a population, fewer if no more are found."""
        self._old.update(self._space.decode(genes) for genes in pop.get("X"))
        made = self._making.do(problem, pop, max(n_offsprings, _OFFSPRING), n_max_iterations=1, **options)
        rows: dict[Genotype, int] = {}
        for row, offspring in enumerate(made):
            rows.setdefault(self._space.decode(offspring.X), row)
        new = [genotype for genotype in rows if genotype not in self._old]
        kept = [new[number] for number in self._forecast.most_promising(new, n_offsprings)]
        self._old.update(kept)
        return made[[rows[genotype] for genotype in kept]]
