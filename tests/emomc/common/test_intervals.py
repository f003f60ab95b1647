"""The Wilson interval: its definition, published values, and its coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.common.intervals import wilson_interval

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
