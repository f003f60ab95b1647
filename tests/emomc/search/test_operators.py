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
