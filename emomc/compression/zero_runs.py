"""Counts of the zeros in a layer's codes; these and the bits determine the length of a coded stream."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, eq=False)
class ZeroRuns:
    """Counts of the zeros in the codes of one layer; to be counted once per (level, layer, bits)."""

    weights: int
    """Number of weights."""
    nonzeros: int
    """Number of nonzero codes."""
    fillers: NDArray[np.int64]
    """csr fillers needed with an index of 0, 1, ... bits, up to the first width that needs none; shape (1..32,)."""


def count_zero_runs(codes: NDArray[np.integer]) -> ZeroRuns:
    """Count the nonzero codes, and the fillers that each csr index width needs, in one pass.

    Args:
        codes: integer codes of one layer, any shape.
    """
    flat = codes.reshape(-1)
    positions = np.flatnonzero(flat != 0)
    gaps = np.diff(positions, prepend=-1) - 1
    occurrences = np.bincount(gaps) if len(gaps) else np.zeros(1, np.int64)
    lengths = np.flatnonzero(occurrences)
    occurrences = occurrences[lengths]
    widths = int(lengths[-1]).bit_length() + 1 if len(lengths) else 1
    fillers = [int(((lengths >> width) * occurrences).sum()) for width in range(widths)]
    return ZeroRuns(len(flat), len(positions), np.array(fillers, np.int64))


def csr_index_bits(runs: ZeroRuns, bits: int) -> int:
    """Return the index width that makes the csr stream shortest; ties: the narrowest."""
    widths = np.arange(len(runs.fillers))
    return int(np.argmin((runs.nonzeros + runs.fillers) * (widths + bits)))


def position_bits(weights: int) -> int:
    """Return the bits of a coo position, ceil(log2(weights))."""
    return (weights - 1).bit_length()
