"""Counts of a layer's codes; these and the bits determine the length of a coded stream."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from emomc.compression.pattern_counts import PatternCounts, count_patterns, shape_of


@dataclasses.dataclass(frozen=True, eq=False)
class CodeCounts:
    """Counts of the codes of one layer; to be counted once per (level, layer, bits)."""

    weights: int
    """Number of weights."""
    nonzeros: int
    """Number of nonzero codes."""
    overflows: NDArray[np.int64]
    """Sum over the gaps g of floor(g / 2^r), for r of 0, 1, ... bits up to the first with none; shape (1..32,).

    A gap is the number of zeros before a nonzero code, since the last one. These are the fillers of csr with an index
    of r bits, and the leading zeros of all gaps in huffman.
    """
    magnitudes: NDArray[np.int64]
    """Number of codes with the magnitude 0, 1, ... up to the largest."""
    nonzero: NDArray[np.bool_]
    """Which codes are not zero, (outputs, inputs, positions of the kernel)."""

    @functools.cached_property
    def patterns(self) -> PatternCounts:
        """Counts of groups and blocks; made when first needed."""
        return count_patterns(self.nonzero)


def count_codes(codes: NDArray[np.integer]) -> CodeCounts:
    """Count the magnitudes of the codes, and the overflows of their gaps for each number of index bits.

    Args:
        codes: integer codes of one layer, output channels first; of one dimension: inputs of one output.
    """
    flat = codes.reshape(-1)
    nonzero = (codes != 0).reshape(shape_of(codes.shape))
    positions = np.flatnonzero(nonzero)
    gaps = np.diff(positions, prepend=-1) - 1
    occurrences = np.bincount(gaps) if len(gaps) else np.zeros(1, np.int64)
    lengths = np.flatnonzero(occurrences)
    occurrences = occurrences[lengths]
    widths = int(lengths[-1]).bit_length() + 1 if len(lengths) else 1
    overflows = [int(((lengths >> width) * occurrences).sum()) for width in range(widths)]
    magnitudes = np.bincount(np.abs(flat[positions].astype(np.int32)), minlength=1)
    magnitudes[0] = len(flat) - len(positions)
    return CodeCounts(len(flat), len(positions), np.array(overflows, np.int64), magnitudes, nonzero)


def csr_index_bits(counts: CodeCounts, bits: int) -> int:
    """Return the index width that makes the csr stream shortest; ties: the narrowest."""
    widths = np.arange(len(counts.overflows))
    return int(np.argmin((counts.nonzeros + counts.overflows) * (widths + bits)))


def position_bits(weights: int) -> int:
    """Return the bits of a coo position, ceil(log2(weights))."""
    return (weights - 1).bit_length()
