"""Allocations on the convex hull of noise and cost: none is beaten, and both ends are there."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emomc.search.bit_allocation import cheapest_allocations


class TestCheapestAllocations:
    # Whole numbers: ties abound.
    tables = st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(
        lambda shape: st.tuples(*[arrays(np.int64, shape, elements=st.integers(0, 9))] * 2)
    )

    @settings(max_examples=150, deadline=None)
    @given(tables)
    def test_nothing_is_less_noisy_and_cheaper(self, tables):
        noise, cost = (table.astype(float) for table in tables)
        layers = np.arange(len(noise))
        every = np.array(list(itertools.product(range(noise.shape[1]), repeat=len(noise))))
        everything = np.stack([noise[layers, every].sum(axis=1), cost[layers, every].sum(axis=1)], axis=1)
        found = cheapest_allocations(noise, cost)
        totals = np.stack([noise[layers, found].sum(axis=1), cost[layers, found].sum(axis=1)], axis=1)
        for total in totals:
            better = (everything <= total).all(axis=1) & (everything < total).any(axis=1)
            assert not better.any()
        # Both ends are there, in order.
        assert totals[0].tolist() == min(everything.tolist())
        assert totals[-1].tolist() == min(everything.tolist(), key=lambda total: total[::-1])
        assert (np.diff(totals[:, 0]) >= 0).all()

    def test_by_hand(self):
        # The second layer saves more for as much noise, so it gives up bits first.
        noise = np.array([[4.0, 1.0, 0.0], [4.0, 1.0, 0.0]])
        cost = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
        assert cheapest_allocations(noise, cost).tolist() == [[2, 2], [2, 1], [2, 0], [1, 0], [0, 0]]
