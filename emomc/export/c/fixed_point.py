"""Fixed-point numbers: factors and biases as integers, for arithmetic without floats.

The C function ``rounded_shift`` computes (sum * multiplier + offset) / 2^shift from them, to the nearest integer and,
half-way between two, to the even one. This is how Jacob et al., "Quantization and training of neural networks for
efficient integer-arithmetic-only inference" (CVPR 2018), section 2.2, rescale, but for halves.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_MULTIPLIER_BITS = 31
_MOST_SHIFT = 62
_MOST_PRODUCT = float(1 << 61)
"""Of the largest multiplier and sum, and of an offset: both together stay below 2^63."""
MOST_SUM = (1 << 31) - 1
"""Largest magnitude of the sum of a layer."""


@dataclasses.dataclass(frozen=True)
class FixedPoint:
    """Factors as ``multipliers / 2^shifts``."""

    multipliers: IntArray
    """(n,), magnitudes below 2^31."""
    shifts: IntArray
    """(n,), 1..62."""


def fixed_point(factors: FloatArray) -> FixedPoint:
    """Return factors as integers.

    Args:
        factors: (n,), of any sign. A magnitude below 2^-32 loses bits, and below 2^-63 it becomes 0; one of 2^30 or
            more becomes 2^30, which takes every sum but 0 out of the range of codes.

    Returns:
        Multipliers of 31 bits, so that the relative error is at most 2^-31.
    """
    mantissas, exponents = np.frexp(np.abs(factors))
    multipliers = np.rint(np.ldexp(mantissas, _MULTIPLIER_BITS))
    # A mantissa close to 1 is rounded up to it.
    carried = multipliers == 1 << _MULTIPLIER_BITS
    multipliers = np.where(carried, multipliers / 2, multipliers)
    shifts = _MULTIPLIER_BITS - exponents - carried
    over = shifts - _MOST_SHIFT
    multipliers = np.where(over > 0, np.rint(np.ldexp(multipliers, -np.maximum(over, 0))), multipliers)
    multipliers = np.where(shifts < 1, float((1 << _MULTIPLIER_BITS) - 1), multipliers)
    signed = np.where(factors < 0, -multipliers, multipliers)
    return FixedPoint(signed.astype(np.int64), np.clip(shifts, 1, _MOST_SHIFT).astype(np.int64))


@dataclasses.dataclass(frozen=True)
class Rescaling:
    """How the sums of a layer become its outputs, for each channel: (sum * multiplier + offset) / 2^shift."""

    biases: IntArray
    """(channels,): where the sums begin."""
    factors: FixedPoint
    offsets: IntArray
    """(channels,): the biases that do not fit among the sums; mostly zeros."""


def rescaling(unit: FloatArray, biases: FloatArray, sums: IntArray, step: float) -> Rescaling:
    """Return how a layer's sums of products of codes become integers on the step of its outputs.

    Args:
        unit: (channels,), what 1 in a sum is; of any sign, or 0.
        biases: (channels,).
        sums: (channels,), the largest magnitude of a sum without its bias, below 2^31.
        step: of the outputs, above 0.
    """
    found = fixed_point(unit / step)
    usable = unit != 0
    codes = np.rint(np.divide(biases, unit, out=np.zeros_like(biases), where=usable))
    fits = usable & (np.abs(codes) + sums <= MOST_SUM)
    multipliers, shifts = found.multipliers.copy(), found.shifts.copy()
    offsets = np.zeros(len(unit), np.int64)
    for channel in np.flatnonzero(~fits & (biases != 0)):
        # What is larger than any output stays so.
        target = float(np.clip(biases[channel] / step, -(2.0**32), 2.0**32))
        if multipliers[channel] == 0:
            shifts[channel] = _MOST_SHIFT
        while abs(target) * 2.0 ** shifts[channel] > _MOST_PRODUCT and shifts[channel] > 1:
            shifts[channel] -= 1
            multipliers[channel] = round(multipliers[channel] / 2)
        offsets[channel] = round(target * 2.0 ** shifts[channel])
    return Rescaling(np.where(fits, codes, 0).astype(np.int64), FixedPoint(multipliers, shifts), offsets)
