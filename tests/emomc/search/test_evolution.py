"""The evolution: size of the generations, and equal survivors with lower bounds of the losses."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from emomc.candidates.genotype import SearchSpace
from emomc.common.errors import UserError
from emomc.search.config import EvolutionSettings
from emomc.search.evolution import Evolution

SPACE = SearchSpace((20, 35, 50, 65, 80), ("a", "b", "c"))


def landscape(genotypes, objectives, seed):
    """Losses as in a real search: the error in whole images, costs in whole units, many ties."""
    rows = []
    for genotype in genotypes:
        weight = genotype.level * sum(genotype.bits)
        noise = np.random.default_rng([seed, genotype.level, *genotype.bits])
        error = min(1.0, max(0.0, (40 / weight * 10 + noise.normal() * 0.1)))
        rows.append([round(error * 50) / 50, float(weight), float(genotype.level * genotype.bits[0])][:objectives])
    return np.array(rows)


def violations_of(genotypes, bound):
    if bound is None:
        return np.zeros((len(genotypes), 0))
    return np.array([[genotype.level * genotype.bits[1] / bound - 1] for genotype in genotypes])


def survivors(evolution):
    """Genes of the survivors, in an order of their own, and the losses of those that meet the constraints."""
    population = evolution._algorithm.pop
    order = np.lexsort(population.get("X").T)
    feasible = (population.get("G") <= 0).all(axis=1)[order]
    return population.get("X")[order], population.get("F")[order][feasible]


def run(seed, *, objectives, bound, lazily, generations=12, slack_seed=0, forecast=None):
    """Evolve with exact losses, or with lower bounds that are made exact for contenders alone."""
    evolution = Evolution(
        SPACE,
        EvolutionSettings(offspring=8, generations=generations, seed=seed),
        losses=objectives,
        constraints=int(bound is not None),
        forecast=forecast,
    )
    history, spared = [], 0
    while (genotypes := evolution.ask()) is not None:
        exact = landscape(genotypes, objectives, seed)
        violations = violations_of(genotypes, bound)
        losses = exact.copy()
        if lazily:
            slack = np.random.default_rng([slack_seed, len(history)])
            unsure = slack.random(len(losses)) < 0.8
            # The error is a lower bound; the costs are exact.
            losses[:, 0] -= unsure * slack.random(len(losses)) * losses[:, 0] * 0.5
            # Candidates that violate a constraint are never evaluated on images.
            losses[(violations > 0).any(axis=1), 0] = 0.0
            while True:
                rows = evolution.contenders(losses, violations)
                if (losses[rows] == exact[rows]).all():
                    break
                losses[rows] = exact[rows]
            spared += int((losses != exact).any(axis=1).sum())
        evolution.tell(losses, violations)
        history.append((tuple(genotypes), survivors(evolution)))
    return history, spared


@pytest.mark.parametrize("objectives", [2, 3])
@pytest.mark.parametrize("bound", [None, 400.0, 150.0])
@pytest.mark.parametrize("seed", range(4))
def test_survivors_are_those_of_exact_losses(seed, objectives, bound):
    full, _ = run(seed, objectives=objectives, bound=bound, lazily=False)
    lazy, spared = run(seed, objectives=objectives, bound=bound, lazily=True, slack_seed=seed + 1)
    assert spared > 0
    assert len(full) == len(lazy)
    for (asked, survived), (asked_lazily, survived_lazily) in zip(full, lazy, strict=True):
        assert asked == asked_lazily
        for exact, lazily in zip(survived, survived_lazily, strict=True):
            np.testing.assert_array_equal(exact, lazily)


class Rememberer:
    """A forecast that prefers genotypes by what it was told last."""

    def __init__(self):
        self.told = []

    def learn(self, genotypes, errors):
        self.told.append((tuple(genotypes), errors.tolist()))

    def most_promising(self, genotypes, count):
        random = np.random.default_rng([len(self.told), *(int(1e6 * error) for error in self.told[-1][1])])
        return random.permutation(len(genotypes))[:count].tolist()


@pytest.mark.parametrize("bound", [None, 400.0])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_learned_is_the_same_with_lower_bounds(seed, bound):
    told = []
    for lazily in (False, True):
        forecast = Rememberer()
        history, spared = run(seed, objectives=2, bound=bound, lazily=lazily, slack_seed=seed, forecast=forecast)
        told.append((history[-1][0], forecast.told))
        assert len(forecast.told) == len(history) == 12
    assert spared > 0
    assert told[0] == told[1]
    # The first population is learned from as far as it meets the constraints.
    assert bound or len(told[0][1][0][0]) == 16


class TestContenders:
    def first_generation(self, constraints=0):
        evolution = Evolution(
            SPACE, EvolutionSettings(offspring=4, generations=5, seed=0), losses=2, constraints=constraints
        )
        return evolution, evolution.ask()

    def test_the_first_population_survives_whole(self):
        evolution, genotypes = self.first_generation()
        rows = evolution.contenders(landscape(genotypes, 2, 0), np.zeros((len(genotypes), 0)))
        assert rows.tolist() == list(range(len(genotypes)))

    def test_what_breaks_a_constraint_never_needs_its_accuracy(self):
        evolution, genotypes = self.first_generation(constraints=1)
        violations = np.full((len(genotypes), 1), 0.5)
        violations[2] = -0.1
        assert evolution.contenders(landscape(genotypes, 2, 0), violations).tolist() == [2]

    def test_the_hopeless_are_none_and_the_best_always_is(self):
        evolution, genotypes = self.first_generation()
        losses = landscape(genotypes, 2, 0)
        evolution.tell(losses, np.zeros((len(genotypes), 0)))
        asked = evolution.ask()
        bounds = np.tile([2.0, 1e6], (len(asked), 1))
        bounds[1] = [-1.0, 0.0]
        rows = evolution.contenders(bounds, np.zeros((len(asked), 0)))
        assert rows.tolist() == [1]

    @pytest.mark.parametrize("violation", [0.0, -1.0])
    def test_parents_that_meet_the_constraints_are_in_the_way(self, violation):
        evolution, genotypes = self.first_generation(constraints=1)
        evolution.tell(landscape(genotypes, 2, 0), np.full((len(genotypes), 1), violation))
        asked = evolution.ask()
        rows = evolution.contenders(np.tile([2.0, 1e6], (len(asked), 1)), np.zeros((len(asked), 1)))
        assert rows.tolist() == []

    def test_parents_that_do_not_are_not(self):
        evolution, genotypes = self.first_generation(constraints=1)
        evolution.tell(landscape(genotypes, 2, 0), np.full((len(genotypes), 1), 0.5))
        asked = evolution.ask()
        rows = evolution.contenders(np.tile([2.0, 1e6], (len(asked), 1)), np.zeros((len(asked), 1)))
        assert rows.tolist() == list(range(len(asked)))


class TestAlgorithms:
    def test_the_papers_operators(self):
        settings = EvolutionSettings(offspring=5, generations=3, seed=0, variation="real")
        mating = Evolution(SPACE, settings, losses=2, constraints=0)._algorithm.mating
        # Section 2 of the paper's method: SBX with probability 0.9 and index 15, polynomial mutation with index 20.
        assert (mating.crossover.prob.value, mating.crossover.eta.value, mating.mutation.eta.value) == (0.9, 15, 20)

    def test_a_package_that_is_missing_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "numba", None)
        settings = EvolutionSettings(offspring=5, generations=3, algorithm="age-moea2")
        with pytest.raises(UserError, match=r"the package numba for age-moea2 \(pip install numba\)"):
            Evolution(SPACE, settings, losses=2, constraints=0)

    def test_most_parents_cross_over(self):
        evolution = Evolution(SPACE, EvolutionSettings(offspring=5, generations=3), losses=2, constraints=0)
        assert evolution._algorithm.mating.crossover.prob.value == 0.9

    @pytest.mark.parametrize("algorithm", ["nsga3", "sms-emoa"])
    def test_those_that_need_every_loss_have_no_hopeless_candidates(self, algorithm):
        settings = EvolutionSettings(offspring=4, generations=5, seed=0, algorithm=algorithm)
        evolution = Evolution(SPACE, settings, losses=2, constraints=0)
        assert evolution.ranks_by_dominance is False
        genotypes = evolution.ask()
        evolution.tell(landscape(genotypes, 2, 0), np.zeros((len(genotypes), 0)))
        asked = evolution.ask()
        rows = evolution.contenders(np.tile([2.0, 1e6], (len(asked), 1)), np.zeros((len(asked), 0)))
        assert rows.tolist() == list(range(len(asked)))

    def test_nsga3_has_a_direction_for_each_survivor_evenly_from_objective_to_objective(self):
        settings = EvolutionSettings(offspring=5, generations=3, seed=0, algorithm="nsga3")
        evolution = Evolution(SPACE, settings, losses=2, constraints=0)
        first = np.sort(evolution._algorithm.ref_dirs[:, 0])
        np.testing.assert_allclose(first, np.linspace(0, 1, settings.survivors), atol=1e-12)


class TestAsk:
    def test_as_many_generations_as_wished_of_the_right_size(self, capsys):
        evolution = Evolution(SPACE, EvolutionSettings(offspring=6, generations=4, seed=3), losses=2, constraints=0)
        sizes = []
        while (genotypes := evolution.ask()) is not None:
            sizes.append(len(genotypes))
            evolution.tell(landscape(genotypes, 2, 0), np.zeros((len(genotypes), 0)))
        assert len(sizes) == 4
        assert sizes[0] <= 12
        assert sizes[1:] == [6, 6, 6]
        assert capsys.readouterr().out == ""

    def test_never_the_same_genotype_twice_within_a_generation_or_out_of_the_space(self):
        evolution = Evolution(SPACE, EvolutionSettings(offspring=10, generations=8, seed=1), losses=2, constraints=0)
        while (genotypes := evolution.ask()) is not None:
            assert len(set(genotypes)) == len(genotypes)
            for genotype in genotypes:
                assert genotype.level in SPACE.levels
                assert all(2 <= bits <= 12 for bits in genotype.bits)
            evolution.tell(landscape(genotypes, 2, 0), np.zeros((len(genotypes), 0)))

    def test_from_whole_genes_never_the_same_twice_even_where_there_is_little_choice(self):
        space = SearchSpace((20, 80), ("a", "b"), 2, 4)
        start = np.array([[level, *bits] for level in (0, 1) for bits in ((2, 2), (2, 3), (3, 2), (3, 3))])
        settings = EvolutionSettings(offspring=4, generations=3, seed=0)
        evolution = Evolution(space, settings, losses=2, constraints=0, start=lambda: start)
        while genotypes := evolution.ask():
            assert len(set(genotypes)) == len(genotypes)
            evolution.tell(
                np.array([[1 / g.level, float(sum(g.bits))] for g in genotypes]), np.zeros((len(genotypes), 0))
            )

    def test_a_space_smaller_than_the_population_ends_by_itself(self):
        space = SearchSpace((20, 80), ("a",), 2, 4)
        evolution = Evolution(space, EvolutionSettings(offspring=10, generations=50, seed=0), losses=2, constraints=0)
        seen = set()
        for _ in range(50):
            genotypes = evolution.ask()
            if not genotypes:
                break
            seen |= set(genotypes)
            losses = np.array([[1 / (g.level + g.bits[0]), float(g.level * g.bits[0])] for g in genotypes])
            evolution.tell(losses, np.zeros((len(genotypes), 0)))
        assert seen <= {space.decode(np.array([level, bits])) for level in (0, 1) for bits in (2, 3, 4)}
        assert len(seen) >= 4

    @pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
    def test_losses_that_are_not_finite_never_reach_a_front(self, wrong):
        evolution = Evolution(SPACE, EvolutionSettings(offspring=4, generations=5, seed=0), losses=2, constraints=0)
        losses = landscape(evolution.ask(), 2, 0)
        losses[3, 1] = wrong
        with pytest.raises(ValueError, match="expected finite losses"):
            evolution.tell(losses, np.zeros((len(losses), 0)))

    def test_two_evolutions_share_nothing(self):
        def course(disturbed):
            evolution = Evolution(SPACE, EvolutionSettings(offspring=6, generations=6, seed=5), losses=2, constraints=0)
            asked = []
            while (genotypes := evolution.ask()) is not None:
                asked.append(genotypes)
                if disturbed:
                    other = Evolution(
                        SPACE, EvolutionSettings(offspring=4, generations=3, seed=9), losses=2, constraints=0
                    )
                    other.tell(landscape(other.ask(), 2, 1), np.zeros((8, 0)))
                    other.ask()
                    np.random.rand(3)
                evolution.tell(landscape(genotypes, 2, 0), np.zeros((len(genotypes), 0)))
            return asked

        assert course(False) == course(True)

    def test_starts_from_the_genes_given(self):
        start = np.array([[0, 2, 2, 2], [4, 12, 12, 12], [2, 3, 9, 4], [1, 5, 5, 5]])
        evolution = Evolution(
            SPACE, EvolutionSettings(offspring=2, generations=3, seed=0), losses=2, constraints=0, start=lambda: start
        )
        assert evolution.ask() == [SPACE.decode(genes) for genes in start]
