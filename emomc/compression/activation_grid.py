"""The grid to which the inputs of a layer are rounded: what a search simulates and what an exported file stores."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import require
from emomc.compression.widths import FULL_ACTIVATION_BITS, MIN_ACTIVATION_BITS

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class ActivationGrid:
    """Equally spaced values that contain zero: whole codes times a step."""

    bits: int
    """2..15."""
    signed: bool
    """Whether codes are -(2^(bits-1) - 1) .. 2^(bits-1) - 1, symmetric around zero, or 0 .. 2^bits - 1."""
    step: float
    """Above 0; a float32 number."""

    def __post_init__(self) -> None:
        """Check the ranges, since a grid may come from a file.

        Raises:
            UserError: a number is out of its range.
        """
        require(MIN_ACTIVATION_BITS <= self.bits < FULL_ACTIVATION_BITS, "2..15 bits of an activation", self.bits)
        require(0 < self.step < float("inf"), "a finite step of activations above 0", self.step)

    @classmethod
    def of_range(cls, bits: int, low: float, high: float) -> ActivationGrid:
        """Return the grid for inputs of a range.

        Args:
            bits: 2..15.
            low: smallest value in calibration; if it is 0 or more, codes are not signed.
            high: largest value in calibration.
        """
        signed = low < 0
        top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        # If all inputs were zero, any positive step represents them.
        step = float(np.float32(max(-low, high) / top or 1.0))
        return cls(bits, signed, max(step, float(np.finfo(np.float32).tiny)))

    @property
    def lowest(self) -> int:
        """Smallest code."""
        return -self.highest if self.signed else 0

    @property
    def highest(self) -> int:
        """Largest code."""
        return int(2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1)


def grid_codes(values: NDArray[np.float32], grid: ActivationGrid) -> NDArray[np.int8] | NDArray[np.uint8]:
    """Return the codes of values on a grid of at most 8 bits, computed in float32 as an evaluation rounds.

    Args:
        values: float32, any shape.
        grid: the grid.
    """
    least, most = (np.float32(code * grid.step) for code in (grid.lowest, grid.highest))
    step = np.float32(grid.step)
    return np.rint(np.clip(values, least, most) / step).astype(np.int8 if grid.signed else np.uint8)
