"""Estimate the size of the weights of a population of compressed networks by the paper's formulas.

The exact size of a file is counted in ``emomc.packed_file.size``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emomc.common.errors import UserError
from emomc.compression.codings import CODINGS, PAPER_CODINGS
from emomc.hardware.workload import Workload

Array = npt.NDArray[np.float64]

BITS_PER_KIB = 8192


def estimate_size(workload: Workload, *, coding: str) -> Array:
    """Return the size of the weights by the paper's formulas, shape (n,), in KiB of 8192 bits.

    Args:
        workload: the candidates.
        coding: one of ``PAPER_CODINGS``.

    Raises:
        UserError: the paper has no formula for the coding.
    """
    return estimate_size_bits(workload, coding=coding).sum(axis=1) / BITS_PER_KIB


def estimate_size_bits(workload: Workload, *, coding: str) -> Array:
    """Return the bits of each layer's weights by the paper's formulas, shape (n, layers); see ``estimate_size``."""
    formula = CODINGS[coding].paper_bits if coding in PAPER_CODINGS else None
    if formula is None:
        raise UserError(f"expected a coding with a formula in the paper ({', '.join(PAPER_CODINGS)}), found {coding!r}")
    return formula(workload.weights, workload.bits, workload.density)
