"""Fronts against brute force, Monte Carlo and pymoo's own hypervolume."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pymoo.indicators.hv import HV

from emomc.common.pareto import ParetoFront, hypervolume, knee, most_volume, non_dominated

SETTINGS = settings(max_examples=60, deadline=None)


def matrices(min_columns=1, max_columns=4, min_rows=0, max_rows=12):
    """Small matrices of small whole numbers, so that ties and duplicates are common."""
    shape = st.tuples(st.integers(min_rows, max_rows), st.integers(min_columns, max_columns))
    return shape.flatmap(lambda s: hnp.arrays(np.float64, s, elements=st.integers(0, 6).map(float)))


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def inclusion_exclusion(points, reference):
    """The volume by inclusion-exclusion over all subsets: slow, and independent of the tested algorithm."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for subset in itertools.combinations(points, size):
            sides = np.maximum(reference - np.max(subset, axis=0), 0)
            total += (-1) ** (size + 1) * float(np.prod(sides))
    return total


class TestNonDominated:
    @SETTINGS
    @given(matrices())
    def test_is_what_no_point_dominates(self, points):
        expected = [not any(dominates(other, point) for other in points) for point in points]
        assert non_dominated(points).tolist() == expected

    @SETTINGS
    @given(matrices())
    def test_first_only_keeps_one_of_equal_points_and_the_first(self, points):
        every = np.flatnonzero(non_dominated(points))
        first = np.flatnonzero(non_dominated(points, first_only=True))
        seen: dict[tuple, int] = {}
        for row in every:
            seen.setdefault(tuple(points[row]), row)
        assert sorted(seen.values()) == first.tolist()

    @SETTINGS
    @given(matrices(), st.randoms(use_true_random=False))
    def test_order_of_rows_does_not_matter(self, points, random):
        order = list(range(len(points)))
        random.shuffle(order)
        np.testing.assert_array_equal(non_dominated(points[order]), non_dominated(points)[order])

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_refuses_what_is_not_finite_and_names_the_row(self, bad):
        with pytest.raises(ValueError, match="row 1"):
            non_dominated([[1.0, 2.0], [bad, 0.0]])

    @pytest.mark.parametrize("points", [[1.0, 2.0], [[[1.0]]], np.empty((3, 0))])
    def test_refuses_other_shapes(self, points):
        with pytest.raises(ValueError, match="shape"):
            non_dominated(points)

    def test_ten_thousand_points_take_seconds_at_most(self):
        points = np.random.default_rng(0).random((10_000, 2))
        start = time.perf_counter()
        non_dominated(points)
        assert time.perf_counter() - start < 5


class TestHypervolume:
    @SETTINGS
    @given(matrices(max_rows=7), st.integers(1, 8))
    def test_equals_inclusion_exclusion(self, points, corner):
        reference = np.full(points.shape[1], float(corner))
        assert hypervolume(points, reference) == pytest.approx(inclusion_exclusion(points, reference))

    @pytest.mark.parametrize("columns", [1, 2, 3, 4])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_equals_pymoo(self, columns, seed):
        generator = np.random.default_rng(seed)
        points = generator.random((40, columns)) ** 2
        reference = np.linspace(0.8, 1.1, columns)
        assert hypervolume(points, reference) == pytest.approx(float(HV(ref_point=reference)(points)), rel=1e-9)

    def test_agrees_with_monte_carlo_on_a_sphere(self):
        generator = np.random.default_rng(3)
        points = np.abs(generator.normal(size=(60, 3)))
        points = 1 - points / np.linalg.norm(points, axis=1, keepdims=True)
        sample = generator.random((200_000, 3))
        hit = np.zeros(len(sample), dtype=bool)
        for point in points:
            hit |= (sample >= point).all(axis=1)
        # Four standard deviations of a share of 200,000 samples.
        assert hypervolume(points, np.ones(3)) == pytest.approx(hit.mean(), abs=4 * 0.5 / math.sqrt(len(sample)))

    @SETTINGS
    @given(matrices(min_rows=1), st.data())
    def test_never_shrinks_with_another_point(self, points, data):
        reference = np.full(points.shape[1], 5.0)
        fewer = points[: data.draw(st.integers(0, len(points)))]
        assert hypervolume(points, reference) >= hypervolume(fewer, reference) - 1e-12

    def test_points_at_or_beyond_the_reference_count_nothing(self):
        assert hypervolume([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]], [1.0, 1.0]) == 0.0

    def test_no_points_cover_nothing(self):
        assert hypervolume([], [1.0, 1.0]) == 0.0
        assert hypervolume(np.empty((0, 3)), [1.0, 1.0, 1.0]) == 0.0

    def test_known_staircase(self):
        assert hypervolume([[1, 3], [2, 2], [3, 1]], [4, 4]) == 6.0

    @pytest.mark.parametrize("reference", [[1.0], [1.0, math.nan], [[1.0, 1.0]]])
    def test_refuses_a_reference_that_does_not_fit(self, reference):
        with pytest.raises(ValueError, match="reference"):
            hypervolume([[0.0, 0.0]], reference)

    @pytest.mark.parametrize("columns", [2, 3, 4])
    def test_fast_enough_for_every_generation(self, columns):
        points = np.abs(np.random.default_rng(0).normal(size=(200, columns)))
        points = 1 - points / np.linalg.norm(points, axis=1, keepdims=True)
        start = time.perf_counter()
        hypervolume(points, np.ones(columns))
        assert time.perf_counter() - start < 3


class TestMostVolume:
    @SETTINGS
    @given(matrices(min_rows=1, max_rows=9), st.integers(0, 10), st.integers(0, 3))
    def test_is_what_trying_all_of_them_each_time_chooses(self, points, count, given):
        reference = np.full(points.shape[1], 6.0)
        known, left = points[:given], [*range(len(points) - given)]
        points, expected, there = points[given:], [], [*points[:given]]
        while left and len(expected) < count:
            best = max(left, key=lambda row: hypervolume([*there, points[row]], reference))
            left.remove(best)
            expected.append(best)
            there.append(points[best])
        assert most_volume(points, count, reference, known=known).tolist() == expected

    def test_by_hand(self):
        points = [[0.5, 0.5], [0.0, 0.9], [0.9, 0.0], [0.5, 0.5], [0.6, 0.6], [0.4, 0.45]]
        # 0.33; then 0.045 for one end and 0.04 for the other; then nothing for any of the rest.
        assert most_volume(points, 5, [1, 1]).tolist() == [5, 2, 1, 0, 3]
        # 0.01 for either end.
        assert most_volume(points, 2, [1, 1], known=[[0.1, 0.1]]).tolist() == [1, 2]

    def test_of_no_points_is_none(self):
        assert most_volume(np.zeros((0, 2)), 3, [1, 1]).tolist() == []
        assert most_volume([[0, 0]], 0, [1, 1]).tolist() == []

    @pytest.mark.parametrize("reference", [[1.0], [1.0, math.nan]])
    def test_refuses_a_reference_that_does_not_fit(self, reference):
        with pytest.raises(ValueError, match="reference"):
            most_volume([[0.0, 0.0]], 1, reference)

    def test_refuses_what_is_not_finite(self):
        with pytest.raises(ValueError, match="finite objectives"):
            most_volume([[math.nan, 0]], 1, [1, 1])


class TestKnee:
    def test_is_farthest_from_the_line_between_the_ends(self):
        front = np.array([[0.0, 10.0], [1.0, 2.0], [5.0, 1.0], [9.0, 0.0]])
        start, end = front[0] / [9, 10], front[-1] / [9, 10]
        line = (end - start) / np.linalg.norm(end - start)
        offsets = front / [9, 10] - start
        distances = np.abs(line[0] * offsets[:, 1] - line[1] * offsets[:, 0])
        assert knee(front) == int(np.argmax(distances)) == 1

    @SETTINGS
    @given(matrices(min_columns=2, min_rows=1), st.integers(-3, 3), st.integers(1, 9))
    def test_does_not_depend_on_units(self, points, shift, scale):
        assert knee(points) == knee(points * scale * 0.125 + shift)

    @SETTINGS
    @given(matrices(min_columns=2, min_rows=1), st.data())
    def test_with_a_span_is_the_least_weighted_sum_and_ends_do_not_matter(self, points, data):
        span = np.array([data.draw(st.integers(1, 5)) for _ in points.T], dtype=float)
        sums = (points / span).sum(axis=1)
        found = knee(points, span)
        assert sums[found] == pytest.approx(sums.min())
        worse = np.vstack([points, points.max(axis=0) + 100.0])
        assert knee(worse, span) == found

    @pytest.mark.parametrize("span", [[1.0], [1.0, 0.0], [1.0, math.inf]])
    def test_refuses_a_span_that_does_not_fit(self, span):
        with pytest.raises(ValueError, match="span of 2"):
            knee([[0.0, 1.0]], span)

    def test_one_point_and_equal_points(self):
        assert knee([[3.0, 4.0]]) == 0
        assert knee([[1.0, 1.0], [1.0, 1.0]]) == 0

    def test_refuses_nothing(self):
        with pytest.raises(ValueError, match="empty"):
            knee(np.empty((0, 2)))


CANDIDATES = {"accuracy": [0.90, 0.99, 0.95, 0.95, 0.80], "energy": [1.0, 9.0, 2.0, 2.0, 1.5]}


class TestParetoFront:
    def test_maximises_accuracy_and_minimises_the_rest(self):
        front = ParetoFront.of(CANDIDATES)
        assert front.directions == ("max", "min")
        assert front.rows.tolist() == [1, 2, 0]
        assert front.column("accuracy").tolist() == [0.99, 0.95, 0.90]
        assert len(front) == 3

    def test_can_keep_equal_candidates(self):
        assert ParetoFront.of(CANDIDATES, first_only=False).rows.tolist() == [1, 2, 3, 0]

    def test_directions_can_be_given(self):
        front = ParetoFront.of({"speed": [1.0, 2.0], "loss": [0.1, 0.2]}, directions={"speed": "max"})
        assert front.rows.tolist() == [1, 0]
        assert ParetoFront.of({"accuracy": [1.0, 2.0]}, directions={"accuracy": "min"}).rows.tolist() == [0]

    @SETTINGS
    @given(matrices(min_columns=2, max_columns=3, min_rows=1))
    def test_agrees_with_the_functions_on_losses(self, points):
        names = ["accuracy", "energy", "size"][: points.shape[1]]
        front = ParetoFront.of(dict(zip(names, points.T, strict=True)))
        losses = points * np.array([-1.0, 1.0, 1.0])[: points.shape[1]]
        assert sorted(front.rows.tolist()) == np.flatnonzero(non_dominated(losses, first_only=True)).tolist()
        np.testing.assert_array_equal(front.losses, losses[front.rows])
        worst = dict(zip(names, [-1.0, 7.0, 7.0], strict=False))
        expected = hypervolume(losses, [1.0, 7.0, 7.0][: points.shape[1]])
        assert front.hypervolume(worst) == pytest.approx(expected)
        assert front.knee() == knee(front.losses)
        assert front.knee(dict.fromkeys(names, 2.0)) == knee(front.losses, [2.0] * len(names))

    def test_empty(self):
        front = ParetoFront.of({"accuracy": [], "energy": []})
        assert len(front) == 0
        assert front.hypervolume({"accuracy": 0.0, "energy": 1.0}) == 0.0

    def test_cannot_be_changed(self):
        front = ParetoFront.of(CANDIDATES)
        with pytest.raises(ValueError, match="read-only"):
            front.values[0, 0] = 1.0

    @pytest.mark.parametrize(
        ("candidates", "directions", "words"),
        [
            ({}, None, "at least one objective"),
            ({"a": [1.0], "b": [1.0, 2.0]}, None, "one shape"),
            ({"a": [math.nan]}, None, "finite"),
            ({"a": [1.0]}, {"b": "max"}, "found b"),
            ({"a": [1.0]}, {"a": "up"}, "'min' or 'max'"),
        ],
    )
    def test_says_what_is_wrong(self, candidates, directions, words):
        with pytest.raises(ValueError, match=words):
            ParetoFront.of(candidates, directions=directions)

    def test_names_missing_references_and_columns(self):
        front = ParetoFront.of(CANDIDATES)
        with pytest.raises(ValueError, match="none for energy"):
            front.hypervolume({"accuracy": 0.0})
        with pytest.raises(ValueError, match="'size'"):
            front.column("size")
