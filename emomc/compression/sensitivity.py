"""Measuring how much the answers of a network change when a layer loses weights, and sharing the weights out by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from emomc.compression.allocation import cheapest_allocations
from emomc.compression.pruning import LAYER_MINIMUM, Percent, keep_largest, remaining_count

FloatArray = NDArray[np.float64]
Scores = Callable[[Mapping[str, Tensor]], Tensor]

STEPS = 12
"""Numbers of weights that are tried in each layer, besides all of them."""
# The change where the scores are not finite, nats.
_BEYOND = 1e9
# Numbers of weights between which the allocation chooses, in each layer.
_CHOICES = 400


def counts_by_sensitivity(
    scores: Scores,
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    percent: Percent,
    macs: Mapping[str, int],
) -> dict[str, int]:
    """Return how many weights of each layer remain, so that the answers of the network change least for what is saved.

    Each layer alone loses its smallest weights, step by step, and the change of the answers is measured. The changes of
    several layers are taken to add up. A weight costs the mean of its share of the network's weights, which stands for
    the size, and its share of the network's MACs, which stands for the energy. Every layer keeps at least a fifth of
    ``percent``.

    Args:
        scores: layer name -> weights to use instead of the layer's own; returns class scores (n, classes).
        weights: layer name -> weights of any shape.
        masks: layer name -> boolean tensor, true where the weight remains so far.
        percent: weights remaining in all layers together, above 0 and up to 100.
        macs: layer name -> MACs of one image.

    Returns:
        Layer name -> number of weights, 1 or more.
    """
    alive = {name: int(mask.sum()) for name, mask in masks.items()}
    tried = {name: _tried(alive[name], weights[name].numel(), percent) for name in weights}
    changes = pruning_changes(scores, weights, masks, tried)
    sizes = {name: weight.numel() for name, weight in weights.items()}
    prices = {name: macs[name] / sum(macs.values()) / sizes[name] / 2 + 1 / sum(sizes.values()) / 2 for name in weights}
    wanted = remaining_count(sum(sizes.values()), percent)
    return share_out(tried, changes, prices, wanted)


@torch.no_grad()
def pruning_changes(
    scores: Scores, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], counts: Mapping[str, list[int]]
) -> dict[str, list[float]]:
    """Return how much the answers change when one layer alone keeps some of its weights, the largest.

    Args:
        scores: layer name -> weights to use instead of the layer's own; returns class scores (n, classes).
        weights: layer name -> weights of any shape.
        masks: layer name -> boolean tensor, true where the weight remains so far.
        counts: layer name -> numbers of weights to try, descending.

    Returns:
        Layer name -> for each count, the Kullback-Leibler divergence of the answers from those of the whole network,
        mean over the images, nats, 0 or more; no smaller than that of a larger count.
    """
    before = scores({}).log_softmax(1)
    changes: dict[str, list[float]] = {}
    for name, weight in weights.items():
        largest = 0.0
        changes[name] = []
        for count in counts[name]:
            kept = keep_largest({name: weight}, {name: count}, {name: masks[name]})[name]
            if not torch.equal(kept, masks[name]):
                after = scores({name: weight * kept}).log_softmax(1)
                divergence = functional.kl_div(after, before, reduction="batchmean", log_target=True).item()
                largest = max(largest, divergence if math.isfinite(divergence) else _BEYOND)
            changes[name].append(largest)
    return changes


def share_out(
    counts: Mapping[str, list[int]], changes: Mapping[str, list[float]], prices: Mapping[str, float], wanted: int
) -> dict[str, int]:
    """Return numbers of weights whose changes are the least for what they cost, and that add up to ``wanted``.

    Args:
        counts: layer name -> numbers of weights, descending.
        changes: layer name -> change of the answers for each of them, ascending.
        prices: layer name -> cost of one weight, above 0.
        wanted: weights in all layers together; bounded by the sums of the largest and of the smallest numbers.
    """
    names = list(counts)
    most, least = (np.array([counts[name][end] for name in names]) for end in (0, -1))
    choices = np.rint(np.geomspace(most, least, _CHOICES).T).astype(int)
    noise = np.array(
        [np.interp(choices[row], counts[name][::-1], changes[name][::-1]) for row, name in enumerate(names)]
    )
    cost = choices * np.array([[prices[name]] for name in names])
    # From most weights to fewest: every layer's number only falls as the price of noise falls.
    steps = np.array([most, *choices[np.arange(len(names)), cheapest_allocations(noise, cost)], least])
    below = int(np.argmax(steps.sum(axis=1) <= max(wanted, least.sum())))
    chosen = _filled_up(steps[below], steps[max(0, below - 1)], wanted)
    return dict(zip(names, chosen.tolist(), strict=True))


def _tried(alive: int, size: int, percent: Percent) -> list[int]:
    least = min(alive, max(1, remaining_count(size, percent * LAYER_MINIMUM)))
    return sorted({int(count) for count in np.rint(np.geomspace(alive, least, STEPS + 1))}, reverse=True)


def _filled_up(counts: NDArray[np.int64], most: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Add what is missing to ``wanted``, to each layer in proportion to what it lacks to ``most``."""
    room = most - counts
    missing = max(0, min(wanted - int(counts.sum()), int(room.sum())))
    shares = np.floor(missing * room / max(1, room.sum())).astype(int)
    # What rounding leaves, one weight each to the layers with the most room.
    left = missing - int(shares.sum())
    order = np.argsort(-(room - shares), kind="stable")
    shares[order[:left]] += 1
    filled: NDArray[np.int64] = counts + shares
    return filled
