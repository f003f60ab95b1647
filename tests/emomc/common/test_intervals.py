"""The Wilson interval and the bound of a loss: their definitions, published values, and their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.common.intervals import loss_bound, wilson_interval

COUNTS = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(max_examples=100, deadline=None)
@given(COUNTS)
def test_ends_are_where_the_score_test_just_accepts(counts):
    correct, images = counts
    for end in wilson_interval(correct, images):
        if 0 < end < 1:
            score = (correct / images - end) / math.sqrt(end * (1 - end) / images)
            assert abs(score) == pytest.approx(1.959964, abs=1e-4)


@settings(max_examples=100, deadline=None)
@given(COUNTS)
def test_contains_the_share_and_mirrors(counts):
    correct, images = counts
    low, high = wilson_interval(correct, images)
    assert 0 <= low <= correct / images <= high <= 1
    assert low < high
    mirrored = wilson_interval(images - correct, images)
    assert mirrored == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(
    ("correct", "images", "expected"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", Stat. Med. 17, 1998, table I.
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_published_values(correct, images, expected):
    assert wilson_interval(correct, images) == pytest.approx(expected, abs=5e-5)


def test_more_images_narrow_it_and_more_confidence_widens_it():
    def width(ends):
        return ends[1] - ends[0]

    assert width(wilson_interval(9_900, 10_000)) < width(wilson_interval(99, 100))
    assert width(wilson_interval(99, 100, confidence=0.99)) > width(wilson_interval(99, 100))


def test_contains_the_truth_about_as_often_as_it_says():
    truth, images = 0.97, 360
    draws = np.random.default_rng(0).binomial(images, truth, size=4000)
    hits = [low <= truth <= high for low, high in (wilson_interval(int(draw), images) for draw in draws)]
    assert 0.93 < np.mean(hits) < 0.975


@pytest.mark.parametrize(("correct", "images"), [(-1, 10), (11, 10), (0, 0)])
def test_refuses_impossible_counts(correct, images):
    with pytest.raises(ValueError, match="correct"):
        wilson_interval(correct, images)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_refuses_an_impossible_confidence(confidence):
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence=confidence)


class TestLossBound:
    def test_by_hand(self):
        # Lost 10 of 1,000; at most 20 + 30 differ: (10 + sqrt(50 + 1 - 100 / 1002)) / 1002.
        assert loss_bound(980, 970, 1000) == pytest.approx((10 + math.sqrt(51 - 100 / 1002)) / 1002)
        # Of 4 networks, each must hold with 0.8413 ** (1 / 4) = 0.9577: 1.725 standard errors.
        assert loss_bound(980, 970, 1000, compared=4) == pytest.approx((10 + 1.725 * 7.1344) / 1002, abs=1e-5)

    def test_few_images_without_an_error_are_not_certain(self):
        assert loss_bound(10, 10, 10) == pytest.approx(1 / 12)

    @settings(max_examples=100, deadline=None)
    @given(COUNTS, st.data())
    def test_is_above_the_loss_and_grows_with_it_and_with_the_networks(self, counts, data):
        before, images = counts
        after = data.draw(st.integers(0, images))
        found = loss_bound(before, after, images)
        assert found > (before - after) / (images + 2)
        assert loss_bound(before, after, images, compared=9) > found
        # Of a network that is wrong more often than not, fewer right answers leave less room for others that differ.
        if 2 * (after - 1) >= images:
            assert loss_bound(before, after - 1, images, compared=9) > loss_bound(before, after, images, compared=9)

    def test_holds_for_the_best_of_several_about_as_often_as_it_says(self):
        """Networks that lose two points in truth, measured on the same images; the luckiest of them is looked at."""
        generator = np.random.default_rng(0)
        held = []
        for _ in range(300):
            easy = generator.random(800)
            right_before = easy < 0.95
            # Right less often, on images that are the same for all; each of eight has a luck of its own besides.
            right_after = [right_before & (generator.random(800) < 0.93 / 0.95) for _ in range(8)]
            bounds = [loss_bound(int(right_before.sum()), int(r.sum()), 800, compared=8) for r in right_after]
            held.append(min(bounds) >= 0.02)
        assert np.mean(held) >= 0.84

    @pytest.mark.parametrize("counts", [(-1, 0, 1, 1), (2, 0, 1, 1), (0, 2, 1, 1), (0, 0, 0, 1), (0, 0, 1, 0)])
    def test_refuses_impossible_counts(self, counts):
        before, after, images, compared = counts
        with pytest.raises(ValueError, match="expected counts"):
            loss_bound(before, after, images, compared=compared)
