"""Which weights remain: counts in whole numbers, nesting, and every criterion against a plain re-implementation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.compression.pruning import prune_by_magnitude, remaining_count

SETTINGS = settings(max_examples=30, deadline=None)
CRITERIA = ("layerwise", "global", "lamp", "macs")
PERCENTS = st.integers(1, 100)


@st.composite
def networks(draw, max_layers=4, max_side=9, ties=True):
    """Layers whose weights are small whole numbers, so that ties and zeros are common."""
    layers = {}
    for index in range(draw(st.integers(1, max_layers))):
        shape = (draw(st.integers(1, max_side)), draw(st.integers(1, max_side)))
        size = shape[0] * shape[1]
        if ties:
            values = draw(st.lists(st.integers(-5, 5), min_size=size, max_size=size))
        else:
            generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
            values = torch.randn(size, generator=generator).tolist()
        layers[f"layer{index}"] = torch.tensor(values, dtype=torch.float32).reshape(shape)
    return layers


def macs_of(weights):
    return {name: weight.numel() * (7 * index + 1) for index, (name, weight) in enumerate(weights.items())}


def prune(weights, percent, criterion, masks=None):
    return prune_by_magnitude(weights, percent, criterion=criterion, masks=masks, macs=macs_of(weights))


class TestCount:
    @SETTINGS
    @given(st.integers(0, 10**12), st.integers(0, 100))
    def test_rounds_half_up_in_whole_numbers(self, weights, percent):
        assert remaining_count(weights, percent) == (weights * percent + 50) // 100

    @pytest.mark.parametrize(("weights", "percent", "count"), [(10, 25, 3), (10, 35, 4), (2, 25, 1), (150, 1, 2)])
    def test_halves_go_up(self, weights, percent, count):
        # Python's round would give 2, 4, 0 and 2: halves to even.
        assert remaining_count(weights, percent) == count

    def test_large_layers_do_not_lose_digits(self):
        # 0.07 * 10^17 is not a whole number in binary floating point.
        assert remaining_count(10**17 + 100, 7) == 7 * 10**15 + 7

    def test_fractions_of_a_percent(self):
        assert remaining_count(1000, Fraction(1, 3)) == 3
        assert remaining_count(1000, 0.25) == 3


class TestEveryCriterion:
    @pytest.mark.parametrize("criterion", CRITERIA)
    @SETTINGS
    @given(networks(), st.lists(PERCENTS, min_size=2, max_size=6, unique=True))
    def test_masks_are_nested_along_a_descending_chain(self, criterion, weights, percents):
        masks = None
        for percent in sorted(percents, reverse=True):
            lower = prune(weights, percent, criterion, masks)
            if masks is not None:
                assert all(bool((lower[name] <= masks[name]).all()) for name in weights)
            masks = lower
            # Fine-tuning changes the weights between levels; removed weights must stay removed.
            weights = {name: (weight.flip(0) + 1) * masks[name] for name, weight in weights.items()}

    @pytest.mark.parametrize("criterion", CRITERIA)
    @SETTINGS
    @given(networks(), st.integers(20, 100))
    def test_no_layer_dies(self, criterion, weights, percent):
        masks = prune(weights, percent, criterion)
        for name, mask in masks.items():
            least = 1 if criterion == "layerwise" else max(1, remaining_count(mask.numel(), Fraction(percent, 5)))
            assert int(mask.sum()) >= least, name

    @pytest.mark.parametrize("criterion", CRITERIA)
    @pytest.mark.parametrize("percent", [1, 2, 5])
    @pytest.mark.parametrize("shape", [(1, 1), (3, 4), (7, 7)])
    def test_every_layer_keeps_a_weight_at_the_lowest_levels(self, criterion, percent, shape):
        weights = {"small": torch.rand(shape) + 0.1, "large": torch.rand(40, 40) + 5}
        masks = prune(weights, percent, criterion)
        assert all(bool(mask.any()) for mask in masks.values())

    @pytest.mark.parametrize("criterion", CRITERIA)
    @SETTINGS
    @given(networks(), PERCENTS)
    def test_masks_look_like_the_weights_and_follow_from_them(self, criterion, weights, percent):
        before = {name: weight.clone() for name, weight in weights.items()}
        masks = prune(weights, percent, criterion)
        assert list(masks) == list(weights)
        for name, mask in masks.items():
            assert mask.dtype is torch.bool
            assert mask.shape == weights[name].shape
            assert torch.equal(weights[name], before[name])
        again = prune(weights, percent, criterion)
        assert all(torch.equal(masks[name], again[name]) for name in masks)

    @pytest.mark.parametrize("criterion", CRITERIA)
    @SETTINGS
    @given(networks())
    def test_all_remain_at_100_percent(self, criterion, weights):
        assert all(bool(mask.all()) for mask in prune(weights, 100, criterion).values())

    @pytest.mark.parametrize("criterion", CRITERIA)
    @SETTINGS
    @given(networks(ties=False), PERCENTS)
    def test_within_a_layer_the_largest_remain(self, criterion, weights, percent):
        for name, mask in prune(weights, percent, criterion).items():
            magnitude = weights[name].abs()
            if bool(mask.any()) and not bool(mask.all()):
                assert magnitude[mask].min() >= magnitude[~mask].max()

    @pytest.mark.parametrize("criterion", CRITERIA)
    def test_masks_do_not_depend_on_the_memory_format(self, criterion):
        weight = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
        plain = prune({"conv": weight}, 30, criterion)["conv"]
        other = prune({"conv": weight.contiguous(memory_format=torch.channels_last)}, 30, criterion)["conv"]
        assert torch.equal(plain, other)


class TestLayerwise:
    @SETTINGS
    @given(networks(), PERCENTS)
    def test_keeps_exactly_the_rounded_share_of_each_layer(self, weights, percent):
        for name, mask in prune(weights, percent, "layerwise").items():
            count = (mask.numel() * percent + 50) // 100
            assert int(mask.sum()) == max(1, count), name

    @SETTINGS
    @given(networks(), PERCENTS)
    def test_of_equal_weights_the_first_stay(self, weights, percent):
        for name, mask in prune(weights, percent, "layerwise").items():
            flat = weights[name].abs().flatten().tolist()
            order = sorted(range(len(flat)), key=lambda index: (-flat[index], index))
            expected = set(order[: int(mask.sum())])
            assert {index for index, kept in enumerate(mask.flatten().tolist()) if kept} == expected


def brute_force(weights, percent, score):
    """Rank all weights in plain Python, after each layer has kept its minimum."""
    total = sum(weight.numel() for weight in weights.values())
    budget = (total * percent + 50) // 100
    entries, kept = [], set()
    for position, (name, weight) in enumerate(weights.items()):
        scores = score(name, weight.flatten().abs().tolist())
        ranked = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
        # Half up of n * percent / 500.
        minimum = max(1, math.floor(Fraction(len(scores) * percent, 500) + Fraction(1, 2)))
        kept |= {(name, index) for index in ranked[:minimum]}
        entries += [(-scores[index], position, index, name) for index in range(len(scores))]
    for _, _, index, name in sorted(entries):
        if len(kept) >= budget:
            break
        kept.add((name, index))
    return kept


def lamp_scores(name, values):
    squares = [value * value for value in values]
    # The sum over the weights that are not smaller; of equal ones, those that stand before.
    order = sorted(range(len(squares)), key=lambda index: (-squares[index], index))
    sums = dict(zip(order, itertools.accumulate(squares[index] for index in order), strict=True))
    return [square / sums[index] if square else 0.0 for index, square in enumerate(squares)]


class TestTogether:
    def check(self, weights, percent, criterion, score):
        masks = prune(weights, percent, criterion)
        found = {
            (name, index) for name, mask in masks.items() for index, kept in enumerate(mask.flatten().tolist()) if kept
        }
        assert found == brute_force(weights, percent, score)

    @SETTINGS
    @given(networks(), PERCENTS)
    def test_global_is_one_ranking_by_magnitude(self, weights, percent):
        self.check(weights, percent, "global", lambda name, values: values)

    @SETTINGS
    @given(networks(ties=False), PERCENTS)
    def test_lamp_is_one_ranking_by_its_score(self, weights, percent):
        # The scores are in double precision; without ties, single precision ranks them the same.
        self.check(weights, percent, "lamp", lamp_scores)

    @SETTINGS
    @given(networks(ties=False), PERCENTS)
    def test_macs_ranks_by_error_per_saved_work(self, weights, percent):
        macs = macs_of(weights)

        def score(name, values):
            return [value / math.sqrt(macs[name] / weights[name].numel()) for value in values]

        self.check(weights, percent, "macs", score)

    @pytest.mark.parametrize("criterion", ["global", "lamp", "macs"])
    @SETTINGS
    @given(networks(), PERCENTS)
    def test_keeps_the_share_of_all_weights(self, criterion, weights, percent):
        masks = prune(weights, percent, criterion)
        total = sum(weight.numel() for weight in weights.values())
        minimum = sum(
            max(1, math.floor(Fraction(weight.numel() * percent, 500) + Fraction(1, 2))) for weight in weights.values()
        )
        kept = sum(int(mask.sum()) for mask in masks.values())
        assert kept == max((total * percent + 50) // 100, minimum)

    @pytest.mark.parametrize("criterion", ["global", "macs"])
    @pytest.mark.parametrize(("percent", "least"), [(50, 10), (20, 4), (12, 2), (13, 3), (1, 1)])
    def test_a_layer_of_small_weights_keeps_a_fifth_of_the_share(self, criterion, percent, least):
        masks = prune({"small": torch.rand(10, 10) * 1e-6, "large": torch.rand(50, 50) + 1}, percent, criterion)
        assert int(masks["small"].sum()) == least

    def test_a_removed_weight_does_not_take_the_place_of_one_that_remains(self):
        masks = {"a": torch.tensor([[False, True, True, True]])}
        found = prune({"a": torch.tensor([[9.0, 3.0, 2.0, 1.0]])}, 50, "layerwise", masks)
        assert found["a"].tolist() == [[False, True, True, False]]

    def test_a_layer_with_much_work_is_thinned_first(self):
        weight = torch.randn(50, 50, generator=torch.Generator().manual_seed(1))
        weights = {"heavy": weight, "light": weight.clone()}
        masks = prune_by_magnitude(weights, 40, criterion="macs", macs={"heavy": 10**6, "light": 10**4})
        assert int(masks["heavy"].sum()) < int(masks["light"].sum())


class TestRefusals:
    @pytest.mark.parametrize("percent", [0, -1, 100.5, math.nan])
    def test_percentages_out_of_range(self, percent):
        with pytest.raises(ValueError, match="above 0 and up to 100"):
            prune_by_magnitude({"a": torch.ones(2, 2)}, percent)

    def test_unknown_criterion(self):
        with pytest.raises(ValueError, match="found 'globl'"):
            prune_by_magnitude({"a": torch.ones(2, 2)}, 50, criterion="globl")

    def test_work_that_is_not_given(self):
        with pytest.raises(ValueError, match="expected the MACs"):
            prune_by_magnitude({"a": torch.ones(2, 2)}, 50, criterion="macs")
