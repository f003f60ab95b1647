"""The mutation: one gene of each row, by whole steps, within its bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymoo.core.problem import Problem

from emomc.search.operators import StepMutation


def mutated(genes, lower, upper, seed=0):
    problem = Problem(n_var=genes.shape[1], n_obj=2, xl=np.array(lower), xu=np.array(upper))
    return StepMutation()._do(problem, genes, random_state=np.random.default_rng(seed))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 10), st.integers(0, 99))
def test_changes_at_most_one_gene_of_a_row_and_stays_in_the_bounds(rows, columns, width, seed):
    lower, upper = np.full(columns, 2), np.full(columns, 2 + width)
    genes = np.random.default_rng(seed).integers(lower, upper, size=(rows, columns), endpoint=True)
    before = genes.copy()
    after = mutated(genes, lower, upper, seed)
    assert (genes == before).all()
    assert ((after != genes).sum(axis=1) <= 1).all()
    assert ((lower <= after) & (after <= upper)).all()
    assert (after == np.rint(after)).all()


class Draws:
    """Random numbers that are chosen: the second gene moves by so many steps, or is drawn from its range."""

    def __init__(self, steps, direction, share=0.2):
        self.steps, self.direction, self.share = steps, direction, share

    def integers(self, low, high=None, size=None, endpoint=False):
        return np.full(size, 1) if high is None else np.broadcast_to(high if endpoint else high - 1, size)

    def geometric(self, chance, size):
        return np.full(size, self.steps)

    def choice(self, values, size):
        return np.full(size, values[self.direction])

    def random(self, size):
        return np.full(size, self.share)


def moved(gene, lower, upper, steps, direction, share=0.2):
    problem = Problem(n_var=2, n_obj=2, xl=np.array([0, lower]), xu=np.array([9, upper]))
    first, second = StepMutation()._do(problem, np.array([[4, gene]]), random_state=Draws(steps, direction, share))[0]
    assert first == 4
    return second


@pytest.mark.parametrize("gene", range(2, 8))
@pytest.mark.parametrize("direction", [0, 1])
def test_steps_over_a_bound_come_back_from_it(gene, direction):
    lower, upper = 2, 7
    for steps in range(1, 6):
        straight = gene + (steps if direction else -steps)
        back = 2 * (upper if direction else lower) - straight
        assert moved(gene, lower, upper, steps, direction) == (straight if lower <= straight <= upper else back)


def test_steps_over_both_bounds():
    # Down from 3 by 6 is -3, back up from 2 is 7, back down from 5 is 3.
    assert moved(3, 2, 5, steps=6, direction=0) == 3
    # Down by 9 is -6, back up is 10, back down is 0: past the lower bound again.
    assert moved(3, 2, 5, steps=9, direction=0) == 2
    # Up by 9 is 12, back down is -2.
    assert moved(3, 2, 5, steps=9, direction=1) == 2
    # Nowhere to go.
    assert moved(3, 3, 3, steps=1, direction=1) == 3


def test_one_in_five_is_drawn_from_the_whole_range():
    assert moved(3, 2, 9, steps=1, direction=1, share=0.19) == 9
    assert moved(3, 2, 9, steps=1, direction=1, share=0.2) == 4


def test_every_gene_mutates_as_often_and_mostly_to_a_neighbour():
    genes = np.full((20_000, 5), 7)
    moves = mutated(genes, [2] * 5, [12] * 5) - genes
    changed = (moves != 0).sum(axis=0)
    assert changed == pytest.approx(np.full(5, changed.mean()), rel=0.06)
    steps = moves[moves != 0]
    # A geometric number of steps, each as likely as not the last, four times of five; else one of the 11 values.
    assert np.mean(np.abs(steps) == 1) == pytest.approx((0.8 / 2 + 0.2 * 2 / 11) / (0.8 + 0.2 * 10 / 11), abs=0.02)
    assert steps.mean() == pytest.approx(0, abs=0.05)
    assert set(steps) == set(range(-5, 6)) - {0}
