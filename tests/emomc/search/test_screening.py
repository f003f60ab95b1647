"""Screening: many are made, few are kept, none twice."""

from __future__ import annotations

import numpy as np
import pytest
from pymoo.core.infill import InfillCriterion
from pymoo.core.population import Population
from pymoo.core.problem import Problem

from emomc.candidates.genotype import SearchSpace
from emomc.search.screening import Screening

SPACE = SearchSpace((20, 50, 80), ("a", "b"), 2, 6)
PROBLEM = Problem(n_var=3, n_obj=2, xl=SPACE.lower, xu=SPACE.upper)


class Maker(InfillCriterion):
    """Makes random genotypes, each perhaps several times."""

    def __init__(self, most=2000):
        super().__init__()
        self.made, self.most = [], most

    def do(self, problem, pop, n_offsprings, *, random_state, **options):
        assert options == {"n_max_iterations": 1, "algorithm": "it"}
        genes = random_state.integers(problem.xl, problem.xu, (min(n_offsprings, self.most), 3), endpoint=True)
        self.made.append(genes)
        return Population.new(X=genes.astype(float))


class Cheapest:
    """Promises most of the fewest bits."""

    def __init__(self):
        self.offered = []

    def most_promising(self, genotypes, count):
        self.offered.append(genotypes)
        return sorted(range(len(genotypes)), key=lambda row: sum(genotypes[row].bits))[:count]


def population(*genes):
    return Population.new(X=np.array(genes, float))


def screen(screening, parents, count, seed=0):
    kept = screening.do(PROBLEM, parents, count, random_state=np.random.default_rng(seed), algorithm="it")
    return [SPACE.decode(genes) for genes in kept.get("X")] if len(kept) else []


@pytest.mark.parametrize(("count", "many"), [(1, 1000), (5, 1000), (20, 1000), (1500, 1500)])
def test_keeps_the_most_promising_of_many_more(count, many):
    maker, forecast = Maker(), Cheapest()
    kept = screen(Screening(maker, SPACE, forecast), population([0, 6, 6]), count)
    assert [len(made) for made in maker.made] == [many]
    (offered,) = forecast.offered
    made = {SPACE.decode(genes) for genes in maker.made[0]} - {SPACE.decode(np.array([0, 6, 6]))}
    assert len(offered) == len(set(offered))
    assert set(offered) == made
    assert len(kept) == min(count, len(made))
    assert max(sum(one.bits) for one in kept) <= min((sum(one.bits) for one in made - set(kept)), default=99)


def test_keeps_nothing_twice_and_none_of_its_parents_and_ends_when_all_are_known():
    screening, parents = Screening(Maker(), SPACE, Cheapest()), population([0, 2, 2], [1, 2, 2])
    ever = [SPACE.decode(genes) for genes in parents.get("X")]
    for seed in range(60):
        kept = screen(screening, parents, 3, seed)
        ever += kept
        parents = population(*[SPACE.encode(one) for one in kept or ever[-2:]])
    assert len(ever) == len(set(ever)) == SPACE.size
    assert kept == []


def test_nothing_made_is_nothing_kept():
    assert screen(Screening(Maker(most=0), SPACE, Cheapest()), population([0, 2, 2]), 3) == []
