"""Counts of weights whose zeros follow a pattern: N of each M inputs, and blocks of outputs x inputs.

Both see the weights of a layer as outputs x inputs x positions of the kernel. M, and the sides of a block, are powers
of two up to 16: those that make the stream shortest.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]

MOST_DOUBLINGS = 4
"""M, and a side of a block, are at most two to the power of this."""
GROUP_BITS = range(1, MOST_DOUBLINGS + 1)
"""Bits of an index in a group of M inputs."""
_DOUBLINGS = range(MOST_DOUBLINGS + 1)
BLOCK_BITS = tuple(8 * rows + columns for rows in _DOUBLINGS for columns in _DOUBLINGS if rows + columns)
"""What stands for the sides of a block: 8 log2(rows) + log2(columns); a block has two weights or more."""

Shape = tuple[int, int, int]
"""Outputs, inputs of a group, positions of the kernel."""


def shape_of(sizes: int | Sequence[int]) -> Shape:
    """Return the shape of a layer whose weights have these sizes; a number: so many inputs of one output."""
    if isinstance(sizes, int) or len(sizes) < 2:
        return 1, sizes if isinstance(sizes, int) else math.prod(sizes), 1
    return int(sizes[0]), int(sizes[1]), math.prod(map(int, sizes[2:]))


def group_entries(shape: Shape, few: int, index_bits: int) -> int:
    """Return the entries of a stream with ``few`` of each 2^index_bits inputs; a last group may have fewer inputs."""
    outputs, inputs, taps = shape
    groups, left = divmod(inputs, 1 << index_bits)
    return outputs * taps * (groups * few + min(few, left))


@dataclasses.dataclass(frozen=True)
class PatternCounts:
    """What the lengths of the streams depend on."""

    groups: dict[int, int]
    """Bits of an index -> entries."""
    blocks: dict[int, tuple[int, int]]
    """Bits for the sides -> blocks, and weights in those that are not all zero."""


def count_patterns(nonzero: Bits) -> PatternCounts:
    """Count groups and blocks.

    Args:
        nonzero: which codes are not zero, (outputs, inputs, positions).
    """
    shape: Shape = nonzero.shape
    counts, groups = nonzero.view(np.uint8), {}
    for index_bits in GROUP_BITS:
        counts = _halved(counts, 1, np.add)
        groups[index_bits] = group_entries(shape, int(counts.max()), index_bits)
    blocks, by_rows = {}, nonzero
    for rows in _DOUBLINGS:
        by_rows = _halved(by_rows, 0, np.logical_or) if rows else by_rows
        found = by_rows
        for columns in _DOUBLINGS:
            found = _halved(found, 1, np.logical_or) if columns else found
            if rows + columns:
                heights, widths = sides_of(shape[0], 1 << rows), sides_of(shape[1], 1 << columns)
                stored = heights @ found.sum(axis=2, dtype=np.int64) @ widths
                blocks[8 * rows + columns] = found.size, int(stored)
    return PatternCounts(groups, blocks)


def _halved(values: NDArray[Any], axis: int, combine: Callable[..., NDArray[Any]]) -> NDArray[Any]:
    """Return neighbours along an axis combined in pairs; the last may have no neighbour."""
    first = values[::2] if axis == 0 else values[:, ::2]
    second = values[1::2] if axis == 0 else values[:, 1::2]
    combined = first.copy()
    paired = combined[: len(second)] if axis == 0 else combined[:, : second.shape[1]]
    combine(paired, second, out=paired)
    return combined


def n_m_bits(counts: PatternCounts, bits: int) -> int:
    """Return the bits of the shortest stream of groups."""
    return min(entries * (bits + index_bits) for index_bits, entries in counts.groups.items())


def block_bits(counts: PatternCounts, bits: int) -> int:
    """Return the bits of the shortest stream of blocks."""
    return min(blocks + stored * bits for blocks, stored in counts.blocks.values())


def any_of(nonzero: Bits, size: int, axis: int) -> Bits:
    """Return whether any of each ``size`` values along an axis is set."""
    return np.logical_or.reduceat(nonzero, np.arange(0, nonzero.shape[axis], size), axis)


def sides_of(extent: int, size: int) -> NDArray[np.int64]:
    """Return the side of each block along an axis; the last may be smaller."""
    return np.minimum(size, extent - np.arange(0, extent, size))


def most_in_group(nonzero: Bits, size: int) -> int:
    """Return the most values that are set in a group of ``size`` along the inputs."""
    counts = np.add.reduceat(nonzero, np.arange(0, nonzero.shape[1], size), axis=1, dtype=np.uint8)
    return int(counts.max())
