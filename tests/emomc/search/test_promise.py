"""Which candidates are fine-tuned next: what is learned from those before, and what would add most to the front."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emomc.candidates.evaluation import Evaluation
from emomc.candidates.genotype import Genotype
from emomc.search.promise import Promise, most_promising
from emomc.search.state import Candidate

accuracies = st.floats(0, 1)


class TestPromise:
    def test_at_first_four_fifths_of_the_loss_come_back(self):
        found = Promise().predict(np.array([0.99, 0.9, 0.8]), np.array([0.89, 0.9, 0.85]))
        assert found == pytest.approx([0.97, 0.9, 0.8])

    @given(st.lists(st.tuples(accuracies, accuracies, accuracies), max_size=6), accuracies, accuracies, accuracies)
    def test_is_an_accuracy_and_no_lower_for_what_lost_less(self, learned, level, one, other):
        promise = Promise()
        for triple in learned:
            promise.learn(*triple)
        low, high = promise.predict(np.array([level, level]), np.sort([one, other]))
        assert 0 <= low <= high <= 1

    @pytest.mark.parametrize(("offset", "slope"), [(0.0, 0.6), (-0.02, 0.1), (0.01, 0.0)])
    def test_learns_what_fine_tuning_gives(self, offset, slope):
        promise = Promise()
        generator = np.random.default_rng(0)
        for lost in generator.uniform(0, 0.5, 60):
            promise.learn(0.9, 0.9 - lost, 0.9 + offset - slope * lost)
        before = np.array([0.9, 0.7, 0.5])
        expected = 0.9 + offset - slope * (0.9 - before)
        assert promise.predict(np.full(3, 0.9), before) == pytest.approx(expected, abs=0.01)


def _evaluation(accuracy):
    return Evaluation(round(1e6 * accuracy), 10**6, 10**6)


class FewCandidates:
    """What ``most_promising`` reads of a search: (level, accuracy, cost) of each candidate."""

    def __init__(self, rows, levels, front):
        self.levels = levels
        self.candidates = [
            Candidate(
                index,
                1,
                Genotype(level, (index,)),
                {"cost": cost},
                0.0,
                Evaluation(round(1e6 * accuracy), 10**6, 10**6),
            )
            for index, (level, accuracy, cost) in enumerate(rows)
        ]
        self.front = [self.candidates[index] for index in front]

    def level_accuracy(self, percent):
        return self.levels[percent]

    def normalised_losses(self, candidates):
        rows = [[1 - candidate.accuracy, candidate.costs["cost"]] for candidate in candidates]
        return np.array(rows, dtype=float).reshape(len(candidates), 2)


def indices(found):
    return [candidate.index for candidate in found]


class TestMostPromising:
    def test_a_dominated_candidate_of_a_good_level_goes_before_the_front(self):
        # The second one is worse than the first in everything but what its level could give.
        search = FewCandidates([(20, 0.90, 0.30), (50, 0.70, 0.35), (20, 0.88, 0.2)], {20: 0.90, 50: 0.99}, [0, 2])
        assert indices(most_promising(search, Promise(), [], 1)) == [1]

    def test_nothing_twice_and_nothing_that_adds_nothing(self):
        rows = [(20, 0.90, 0.30), (20, 0.85, 0.40), (20, 0.5, 0.2)]
        search = FewCandidates(rows, {20: 0.90}, [0, 2])
        assert indices(most_promising(search, Promise(), [], 5)) == [2]
        assert most_promising(search, Promise(), [search.candidates[2]], 5) == []

    def test_the_second_is_chosen_as_if_the_first_had_kept_its_promise(self):
        # Two alike: the second adds nothing once the first is there.
        rows = [(20, 0.6, 0.5), (50, 0.70, 0.30), (50, 0.70, 0.31), (40, 0.5, 0.1)]
        search = FewCandidates(rows, {20: 0.6, 50: 0.99, 40: 0.8}, [1, 3])
        assert indices(most_promising(search, Promise(), [], 2)) == [1, 3]

    def test_neither_what_violates_a_constraint_nor_what_is_finetuned(self):
        search = FewCandidates([(20, 0.5, 0.5), (20, 0.5, 0.2), (20, 0.5, 0.1)], {20: 0.9}, [2])
        search.candidates[1].violation = 0.1
        search.candidates[2].genotype = dataclasses.replace(search.candidates[2].genotype, finetuned="x")
        assert 1 not in indices(most_promising(search, Promise(), [], 3))
        assert 2 not in indices(most_promising(search, Promise(), [], 3))

    def test_without_candidates(self):
        assert most_promising(types.SimpleNamespace(candidates=[]), Promise(), [], 3) == []
