"""The settings of stage I: their ranges, and the levels that they ask for."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.common.errors import UserError
from emomc.pretraining.config import PretrainingConfig


class TestConfig:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"pre_train_epochs": -1}, r"pre_train_epochs of 0\.\.1000000, found -1"),
            ({"pre_train_epochs": 0}, "at least 1, or --weights, found 0"),
            ({"pre_prune_epochs": -1}, r"pre_prune_epochs of 0\.\."),
            ({"pre_prune_lower_bound": 0}, "1 <= pre_prune_lower_bound"),
            ({"pre_prune_upper_bound": 101}, "<= 100"),
            ({"pre_prune_lower_bound": 90}, "found 90 and 80"),
            ({"pre_prune_step": 0}, "pre_prune_step of at least 1 percent, found 0"),
            ({"pre_prune_ratio": 1.0}, "a pre_prune_ratio above 0 and below 1, found 1.0"),
            ({"pre_prune_ratio": math.nan}, "a pre_prune_ratio above 0"),
            ({"pre_prune_ratio": 0.8, "pre_prune_step": 10}, "pre_prune_step or pre_prune_ratio .*, found 10 and 0.8"),
            ({"distillation": 1.1}, r"a distillation of 0\.\.1, found 1.1"),
            ({"learning_rate": math.nan}, "a learning_rate above 0 and up to 1000, found nan"),
            ({"learning_rate": 0.0}, "a learning_rate above 0"),
            ({"learning_rate": math.inf}, "a learning_rate above 0"),
            ({"pre_prune_learning_rate": -1.0}, "a pre_prune_learning_rate above 0"),
            ({"weight_decay": -0.1}, "weight_decay"),
            ({"weight_decay": math.nan}, "weight_decay"),
            ({"label_smoothing": 1.5}, r"label_smoothing of 0\.\.1"),
            ({"evaluation_batch_size": 0}, r"evaluation_batch_size of 1\.\."),
            ({"seed": -1}, r"seed of 0\.\."),
            ({"seed": 10**30}, r"seed of 0\.\."),
            ({"evaluation_batch_size": 10**30}, r"evaluation_batch_size of 1\.\."),
            ({"learning_rate": 1e38}, "a learning_rate above 0 and up to 1000"),
        ],
    )
    def test_out_of_range(self, settings, words):
        with pytest.raises(UserError, match=words):
            PretrainingConfig(**settings)

    def test_levels_go_down_from_the_upper_bound(self):
        def levels(upper, lower, step):
            return PretrainingConfig(
                pre_prune_upper_bound=upper, pre_prune_lower_bound=lower, pre_prune_step=step
            ).levels

        assert levels(80, 20, 5) == (80, 75, 70, 65, 60, 55, 50, 45, 40, 35, 30, 25, 20)
        assert len(levels(80, 20, 1)) == 61
        assert levels(100, 2, 49) == (51, 2)
        assert levels(80, 30, 40) == (80, 40)
        assert levels(5, 5, 1) == (5,)

    @settings(max_examples=200, deadline=None)
    @given(st.tuples(st.integers(1, 100), st.integers(1, 100)).map(sorted), st.floats(0.01, 0.999))
    def test_levels_in_equal_ratios_go_from_bound_to_bound(self, bounds, ratio):
        lower, upper = bounds
        levels = PretrainingConfig(
            pre_prune_upper_bound=upper, pre_prune_lower_bound=lower, pre_prune_ratio=ratio
        ).levels
        whole = [upper, *levels] if upper == 100 else levels
        assert (whole[0], whole[-1]) == (upper, lower)
        for higher, level in pairwise(whole):
            # Rounded to a percent, but always lower.
            assert level < higher
            assert level == lower or level == min(higher - 1, round(higher * ratio))

    def test_levels_in_equal_ratios_by_hand(self):
        config = PretrainingConfig(pre_prune_upper_bound=80, pre_prune_lower_bound=2, pre_prune_ratio=0.6)
        assert config.levels == (80, 48, 29, 17, 10, 6, 4, 2)
