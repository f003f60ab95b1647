"""How the huffman coding stores one layer, and in how many bits: chosen from counts, without encoding."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from emomc.compression.code_counts import CodeCounts
from emomc.compression.huffman_code import code_lengths

IntArray = NDArray[np.int64]

NO_GAPS = 31
"""In place of the bits of a gap's remainder: zeros are symbols like the other magnitudes."""
GAP_BITS = (*range(29), NO_GAPS)
"""What those bits may be; a gap is less than 2^28."""
MAX_SPLIT = 7
SPLIT_BITS, COUNT_BITS, LENGTH_BITS = 4, 8, 4
"""Bits of the split, of the number of symbols, and of each symbol's code length, at the begin of a stream."""


@dataclasses.dataclass(frozen=True, eq=False)
class HuffmanPlan:
    """How one layer is stored."""

    gap_bits: int
    """Bits of a gap's remainder in its Rice code, or ``NO_GAPS``."""
    split: int
    """Values below 2^split have a symbol each; the others share one with all of their bit length."""
    lengths: IntArray
    """Bits of each symbol's code, up to the last symbol used; shape (symbols,)."""
    bits: int
    """Bits of the stream."""


def header_bits(symbols: int) -> int:
    """Return the bits of a stream before its first entry."""
    return SPLIT_BITS + COUNT_BITS + LENGTH_BITS * symbols


def most_symbols(split: int, bits: int) -> int:
    """Return the most symbols that codes of ``bits`` bits can need."""
    return (1 << split) + bits - 1 - split


def extra_bits(split: int, symbols: int) -> IntArray:
    """Return the bits that follow each symbol's code and say which of its values is meant, shape (symbols,)."""
    return np.maximum(np.arange(symbols) - (1 << split) + split, 0) * (np.arange(symbols) >= 1 << split)


def plan_huffman(counts: CodeCounts, bits: int) -> HuffmanPlan:
    """Return the shortest way to store a layer.

    Args:
        counts: of the layer's codes.
        bits: bits of a code, 2..16.
    """
    if not counts.nonzeros:
        return HuffmanPlan(0, 0, np.zeros(0, np.int64), 0)
    widths = np.arange(len(counts.overflows))
    sizes = counts.overflows + counts.nonzeros * (1 + widths)
    best = int(np.argmin(sizes))
    plans = _plans(best, int(sizes[best]), counts.magnitudes[1:], counts.nonzeros, bits)
    # With more zeros than other codes, the code of a zero would have 1 bit: this is a gap without a remainder.
    if 2 * counts.nonzeros > counts.weights:
        plans += _plans(NO_GAPS, 0, counts.magnitudes, counts.nonzeros, bits)
    return min(plans, key=lambda plan: plan.bits)


def _plans(gap_bits: int, gaps: int, values: IntArray, signs: int, bits: int) -> list[HuffmanPlan]:
    """Return the plan of each split.

    Args:
        gap_bits: of each plan.
        gaps: bits of all gaps.
        values: occurrences of the values 0, 1, ... up to the largest.
        signs: bits of all signs.
        bits: bits of a code.
    """
    largest = (len(values) - 1).bit_length()
    by_length = np.add.reduceat(values, [0, *(1 << np.arange(largest))])
    plans = []
    for split in range(min(MAX_SPLIT, bits - 1, largest) + 1):
        symbols = np.concatenate([values[: 1 << split], by_length[split + 1 :]])
        lengths = code_lengths(symbols)
        coded = int((symbols * (lengths + extra_bits(split, len(symbols)))).sum())
        plans.append(HuffmanPlan(gap_bits, split, lengths, header_bits(len(symbols)) + gaps + coded + signs))
    return plans
