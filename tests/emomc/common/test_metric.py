"""The metric: qualities run from the worst to the best end of its range, in either direction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emomc.common.errors import UserError
from emomc.common.metric import ACCURACY, Metric

values = st.floats(-1e6, 1e6)


@given(values, st.sampled_from(["max", "min"]))
def test_a_quality_gives_the_value_back(value, mode):
    metric = Metric("val/mae", mode, 0.5, 2.0)
    assert metric.value(metric.quality(value)) == pytest.approx(value, abs=1e-9, rel=1e-9)


@pytest.mark.parametrize(("mode", "worst", "best"), [("max", 0.5, 2.0), ("min", 2.0, 0.5)])
def test_the_ends_of_the_range_are_0_and_1(mode, worst, best):
    metric = Metric("val/mae", mode, 0.5, 2.0)
    assert (metric.quality(worst), metric.quality(best)) == (0, 1)
    assert metric.quality(best + 2 * (best - worst)) == 3


def test_an_accuracy_is_its_own_quality_and_shown_in_percent():
    assert ACCURACY.quality(0.9722) == 0.9722
    assert ACCURACY.text(0.9722) == "97.22 %"
    assert Metric("val/mae", "min", 0.5, 2.0).text(0.5) == "1.25"


def test_an_empty_range_is_refused():
    with pytest.raises(UserError, match="a range of val/iou with a lower and an upper end, found 1 and 1"):
        Metric("val/iou", "max", 1.0, 1.0)
