"""Sharing weights out by measured sensitivity: what is measured, the sums, and the price of a weight."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from emomc.compression.pruning import LAYER_MINIMUM, keep_largest, remaining_count
from emomc.compression.sensitivity import counts_by_sensitivity, pruning_changes, share_out, weight_prices


def two_layers(seed=0):
    """Weights and scores of a network of two linear layers, whose second one matters far less."""
    generator = torch.Generator().manual_seed(seed)
    weights = {
        "first": torch.randn(12, 8, generator=generator),
        "second": torch.randn(5, 12, generator=generator),
        "idle": torch.randn(5, 8, generator=generator),
    }
    images = torch.randn(40, 8, generator=generator)

    def scores(replaced):
        used = {**weights, **replaced}
        return (images @ used["first"].T).relu() @ used["second"].T / 4 + 1e-4 * images @ used["idle"].T

    return weights, scores


def whole(weights):
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}


SIZES = {"first": 96, "second": 60, "idle": 40}
BY_WEIGHT = weight_prices(SIZES, SIZES, "weights")


class TestPrices:
    macs = {"first": 300, "second": 60, "idle": 40}  # noqa: RUF012 - not changed

    @pytest.mark.parametrize("cost", ["both", "macs", "weights"])
    def test_the_whole_network_costs_one(self, cost):
        prices = weight_prices(SIZES, self.macs, cost)
        assert sum(prices[name] * size for name, size in SIZES.items()) == pytest.approx(1)

    def test_by_hand(self):
        assert weight_prices(SIZES, self.macs, "weights") == dict.fromkeys(SIZES, 1 / 196)
        assert weight_prices(SIZES, self.macs, "macs")["first"] == pytest.approx(300 / 400 / 96)
        assert weight_prices(SIZES, self.macs, "both")["idle"] == pytest.approx((1 / 400 + 1 / 196) / 2)


class TestChanges:
    def test_are_the_divergence_of_the_answers_when_one_layer_is_cut(self):
        weights, scores = two_layers()
        found = pruning_changes(scores, weights, whole(weights), {name: [10] for name in weights})
        for name, weight in weights.items():
            kept = keep_largest({name: weight}, {name: 10}, {name: torch.ones_like(weight, dtype=torch.bool)})[name]
            before, after = scores({}).softmax(1), scores({name: weight * kept}).softmax(1)
            divergence = (before * (before / after).log()).sum(1).mean()
            assert found[name] == [pytest.approx(divergence.item(), rel=1e-4, abs=1e-7)]

    def test_never_fall_as_weights_are_lost_and_are_zero_while_none_is(self):
        weights, scores = two_layers()
        masks = whole(weights)
        masks["first"][:6] = False
        counts = {name: list(range(int(masks[name].sum()), 0, -3)) for name in weights}
        changes = pruning_changes(scores, weights, masks, counts)
        for name in weights:
            assert changes[name][0] == 0
            assert changes[name] == sorted(changes[name])
            assert changes[name][-1] > 0

    def test_scores_that_are_not_finite_are_a_large_change(self):
        weights = {"layer": torch.tensor([2.0, 1.0])}

        def scores(replaced):
            return torch.tensor([[1.0, 2.0]]) / replaced.get("layer", weights["layer"])

        changes = pruning_changes(scores, weights, whole(weights), {"layer": [2, 1]})
        assert changes["layer"][0] == 0
        assert 1e6 < changes["layer"][1] < float("inf")


class TestShareOut:
    rows = st.lists(
        st.tuples(st.integers(1, 300), st.floats(0.1, 10), st.lists(st.floats(0, 5), min_size=5, max_size=5)),
        min_size=1,
        max_size=4,
    )

    @settings(max_examples=150, deadline=None)
    @given(rows, st.floats(0, 1))
    def test_costs_what_is_allowed_within_the_bounds(self, rows, share):
        counts, changes, prices = {}, {}, {}
        for number, (alive, price, noise) in enumerate(rows):
            counts[str(number)] = sorted({max(1, alive * part // 5) for part in range(1, 6)}, reverse=True)
            changes[str(number)] = sorted(noise)[: len(counts[str(number)])]
            prices[str(number)] = price
        most, least = (sum(prices[name] * values[end] for name, values in counts.items()) for end in (0, -1))
        allowed = least + share * (most - least)
        found = share_out(counts, changes, prices, allowed)
        # Each layer rounds to whole weights.
        assert sum(prices[name] * count for name, count in found.items()) == pytest.approx(
            allowed, abs=sum(prices.values()) / 2 + 1e-6
        )
        assert all(values[-1] <= found[name] <= values[0] for name, values in counts.items())

    def test_beyond_the_bounds_gives_the_bounds(self):
        counts, changes, prices = {"a": [9, 4]}, {"a": [0.0, 1.0]}, {"a": 1.0}
        assert share_out(counts, changes, prices, 100) == {"a": 9}
        assert share_out(counts, changes, prices, 1) == {"a": 4}

    def test_the_layer_that_matters_less_loses_more(self):
        counts = {name: [100, 50, 10] for name in ("deep", "shallow")}
        changes = {"deep": [0.0, 1.0, 5.0], "shallow": [0.0, 0.1, 0.5]}
        found = share_out(counts, changes, {"deep": 1.0, "shallow": 1.0}, 120)
        assert found["deep"] > found["shallow"]

    def test_the_layer_of_dear_weights_loses_more(self):
        counts = {name: [100, 50, 10] for name in ("dear", "cheap")}
        changes = {name: [0.0, 1.0, 5.0] for name in counts}
        found = share_out(counts, changes, {"dear": 3.0, "cheap": 1.0}, 120)
        assert found["dear"] < found["cheap"]

    def test_close_to_the_best_of_all_allocations(self):
        counts = {name: [40, 30, 20, 10] for name in "abc"}
        changes = {"a": [0, 1.0, 3.0, 9.0], "b": [0, 0.2, 1.0, 4.0], "c": [0, 2.0, 6.0, 20.0]}
        found = share_out(counts, changes, dict.fromkeys("abc", 1.0), 70)

        def change(chosen):
            total = 0.0
            for name, count in chosen.items():
                # Linear between the measured numbers.
                position = (40 - count) / 10
                low = min(int(position), 2)
                total += changes[name][low] + (position - low) * (changes[name][low + 1] - changes[name][low])
            return total

        best = min(
            change(dict(zip("abc", chosen, strict=True)))
            for chosen in itertools.product(range(10, 41), repeat=3)
            if sum(chosen) == 70
        )
        assert sum(found.values()) == pytest.approx(70, abs=1)
        assert change(found) <= 1.15 * best


class TestCountsBySensitivity:
    @pytest.mark.parametrize("cost", ["both", "macs", "weights"])
    @pytest.mark.parametrize("percent", [1, 7, 30, 80, 100])
    def test_keep_the_share_of_the_cost_and_a_fifth_of_it_in_each_layer(self, percent, cost):
        weights, scores = two_layers()
        prices = weight_prices(SIZES, {"first": 300, "second": 60, "idle": 40}, cost)
        found = counts_by_sensitivity(scores, weights, whole(weights), percent, prices)
        least = {name: max(1, remaining_count(size, percent * LAYER_MINIMUM)) for name, size in SIZES.items()}
        floor = sum(prices[name] * count for name, count in least.items())
        assert sum(prices[name] * count for name, count in found.items()) == pytest.approx(
            max(percent / 100, floor), abs=sum(prices.values()) / 2 + 1e-6
        )
        assert all(least[name] <= count <= SIZES[name] for name, count in found.items())

    def test_a_layer_that_changes_nothing_keeps_the_least(self):
        weights, scores = two_layers()
        found = counts_by_sensitivity(scores, weights, whole(weights), 50, BY_WEIGHT)
        shares = {name: found[name] / weights[name].numel() for name in weights}
        assert shares["idle"] < 0.2 < 0.4 < min(shares["first"], shares["second"])

    def test_no_more_than_remain_so_far(self):
        weights, scores = two_layers()
        masks = whole(weights)
        masks["first"][3:] = False
        found = counts_by_sensitivity(scores, weights, masks, 60, BY_WEIGHT)
        assert found["first"] <= 24

    def test_the_layer_of_dear_weights_keeps_less(self):
        weights, scores = two_layers()
        dear = {**BY_WEIGHT, "first": 5 * BY_WEIGHT["first"]}
        shares = []
        for prices in (BY_WEIGHT, dear):
            found = counts_by_sensitivity(scores, weights, whole(weights), 40, prices)
            shares.append(found["first"] / found["second"])
        assert shares[1] < 0.9 * shares[0]

    def test_the_answers_change_less_than_with_the_same_share_in_every_layer(self):
        weights, scores = two_layers(3)

        def change(counts):
            masks = keep_largest(weights, counts, whole(weights))
            after = scores({name: weight * masks[name] for name, weight in weights.items()}).log_softmax(1)
            return functional.kl_div(after, scores({}).log_softmax(1), log_target=True, reduction="batchmean").item()

        measured = counts_by_sensitivity(scores, weights, whole(weights), 60, BY_WEIGHT)
        even = {name: remaining_count(weight.numel(), 60) for name, weight in weights.items()}
        assert sum(measured.values()) == pytest.approx(sum(even.values()), abs=2)
        assert change(measured) < 0.7 * change(even)
