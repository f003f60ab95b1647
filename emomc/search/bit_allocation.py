"""Choosing the bits of each layer by noise and cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def cheapest_allocations(noise: FloatArray, cost: FloatArray) -> IntArray:
    """Return allocations (one option per layer) on the convex hull of noise and cost.

    Each minimises noise + price * cost for some price; for a fixed price, every layer is minimised independently
    (Shoham and Gersho, "Efficient Bit Allocation for an Arbitrary Set of Quantizers", IEEE TASSP 36(9), 1988).

    Args:
        noise: shape (layers, options), 0 or more.
        cost: shape (layers, options).

    Returns:
        Options, shape (n, layers), sorted by noise, the least noise first.
    """
    # The allocation changes only at prices where two options of a layer are equal: one price per interval is enough.
    more_noise = noise[:, :, None] - noise[:, None, :]
    less_cost = cost[:, None, :] - cost[:, :, None]
    trades = (more_noise > 0) & (less_cost > 0)
    switches = np.unique(more_noise[trades] / less_cost[trades])
    edges = np.concatenate([switches[:1] / 4, switches, 4 * switches[-1:]])
    prices = np.sqrt(edges[:-1] * edges[1:]) if len(switches) else np.ones(1)
    allocations: IntArray = np.unique([np.argmin(noise + price * cost, axis=1) for price in prices], axis=0)
    return allocations[np.argsort(noise[np.arange(len(noise)), allocations].sum(axis=1))]
