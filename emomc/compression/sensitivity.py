"""Measuring how much the answers of a network change when a layer loses weights, and sharing the weights out by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from emomc.compression.criteria import PruningCost
from emomc.compression.pruning import LAYER_MINIMUM, Percent, keep_largest, remaining_count

Scores = Callable[[Mapping[str, Tensor]], Tensor]

STEPS = 12
"""Numbers of weights that are tried in each layer, besides all of them."""
# The change where the scores are not finite, nats.
_BEYOND = 1e9


def weight_prices(sizes: Mapping[str, int], macs: Mapping[str, int], cost: PruningCost) -> dict[str, float]:
    """Return layer name -> price of one weight, as a share of the whole network's cost.

    Args:
        sizes: layer name -> number of weights, 1 or more.
        macs: layer name -> MACs of one image.
        cost: ``weights`` (for size), ``macs`` (for energy), or ``both``: the mean of the two shares.
    """
    all_weights, all_macs = sum(sizes.values()), sum(macs[name] for name in sizes)
    by_weight = dict.fromkeys(sizes, 1 / all_weights)
    by_mac = {name: macs[name] / all_macs / size for name, size in sizes.items()}
    if cost == "both":
        return {name: (by_weight[name] + by_mac[name]) / 2 for name in sizes}
    return by_weight if cost == "weights" else by_mac


def counts_by_sensitivity(
    scores: Scores,
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    percent: Percent,
    prices: Mapping[str, float],
) -> dict[str, int]:
    """Return how many weights of each layer remain, so that the answers of the network change least for what is saved.

    Each layer alone loses its smallest weights, step by step, and the change of the answers is measured. The changes of
    several layers are taken to add up. Every layer keeps at least a fifth of ``percent`` of its weights.

    Args:
        scores: layer name -> weights to use instead of the layer's own; returns class scores (n, classes).
        weights: layer name -> weights of any shape.
        masks: layer name -> boolean tensor, true where the weight remains so far.
        percent: part of the cost that remains, above 0 and up to 100.
        prices: layer name -> cost of one weight, above 0.

    Returns:
        Layer name -> number of weights, 1 or more.
    """
    alive = {name: int(mask.sum()) for name, mask in masks.items()}
    tried = {name: _tried(alive[name], weights[name].numel(), percent) for name in weights}
    changes = pruning_changes(scores, weights, masks, tried)
    whole = sum(prices[name] * weight.numel() for name, weight in weights.items())
    return share_out(tried, changes, prices, float(percent) / 100 * whole)


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
    counts: Mapping[str, list[int]], changes: Mapping[str, list[float]], prices: Mapping[str, float], allowed: float
) -> dict[str, int]:
    """Return numbers of weights that cost what is allowed, to within a weight in each layer, and change least.

    Weights are taken away where the change per saved cost is the least, until the rest costs what is allowed (Shoham
    and Gersho, "Efficient Bit Allocation for an Arbitrary Set of Quantizers", IEEE TASSP 36(9), 1988). Between two
    numbers that were tried, the change is taken to be linear.

    Args:
        counts: layer name -> numbers of weights, descending.
        changes: layer name -> change of the answers for each of them, ascending.
        prices: layer name -> cost of one weight, above 0.
        allowed: cost of all layers together; bounded by what the largest and the smallest numbers cost.
    """
    chosen = {name: float(values[0]) for name, values in counts.items()}
    excess = sum(prices[name] * count for name, count in chosen.items()) - allowed
    losses = [
        (change / (prices[name] * lost), name, lost)
        for name in counts
        for change, lost in _convex_losses(counts[name], changes[name])
    ]
    # Within a layer each loss is dearer than the one before it: the order is kept.
    for _, name, lost in sorted(losses, key=lambda loss: loss[0]):
        if excess <= 0:
            break
        part = min(1.0, excess / (prices[name] * lost))
        chosen[name] -= part * lost
        excess -= part * prices[name] * lost
    return {name: round(count) for name, count in chosen.items()}


def _convex_losses(counts: list[int], changes: list[float]) -> list[tuple[float, int]]:
    """Return (change, lost weights) of each step along the convex hull of change over lost weights.

    Args:
        counts: numbers of weights, descending.
        changes: for each of them, ascending.
    """
    hull: list[tuple[float, int]] = []
    for step in range(1, len(counts)):
        change, lost = changes[step] - changes[step - 1], counts[step - 1] - counts[step]
        # A step that changes less for each weight than the one before it is one step with that.
        while hull and change * hull[-1][1] <= hull[-1][0] * lost:
            before, lost_before = hull.pop()
            change, lost = change + before, lost + lost_before
        hull.append((change, lost))
    return hull


def _tried(alive: int, size: int, percent: Percent) -> list[int]:
    least = min(alive, max(1, remaining_count(size, percent * LAYER_MINIMUM)))
    return sorted({int(count) for count in np.rint(np.geomspace(alive, least, STEPS + 1))}, reverse=True)
