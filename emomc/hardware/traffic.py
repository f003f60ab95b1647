"""What moves between memories and processing elements, for a whole population."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from emomc.hardware.description import Memory

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Flow:
    """Bits that one operand moves at one memory, in one forward pass of one image."""

    memory: Memory
    operand: str
    """I, W or O."""
    read_bits: Array | float
    """Shape broadcastable to (n, calls)."""
    written_bits: Array | float = 0.0
    """Shape broadcastable to (n, calls)."""

    @property
    def energy(self) -> Array | float:
        """Energy in the hardware's unit, same shape; part of a word costs its share."""
        per_read_bit = self.memory.r_cost / self.memory.word_bits
        if isinstance(self.written_bits, float) and self.written_bits == 0.0:
            return self.read_bits * per_read_bit
        return self.read_bits * per_read_bit + self.written_bits * (self.memory.w_cost / self.memory.word_bits)


class AccessProbability:
    """Chance that an access is needed when each weight is zero at random, independent of the others.

    An access that serves ``group`` weights is left out when all of them are zero: the chance of an access is
    1 - (1 - p)^group at density p.

    Args:
        density: fraction of weights that are not zero, in [0, 1], shape (n, calls).

    Source: the pruning factors of the EMOMC paper's energy formulas, for any group.
    """

    def __init__(self, density: Array) -> None:
        self._density = density
        with np.errstate(divide="ignore"):
            self._log_zero = np.log1p(-density)

    def of(self, group: Array) -> Array:
        """Return the chance for groups of shape (calls,); infinite groups are always accessed.

        Returns:
            array of shape (n, calls), or one that broadcasts to it.
        """
        if np.all(group == 1.0):
            return self._density
        if np.all(np.isinf(group)):
            return np.ones_like(group)
        always = np.isinf(group)
        # expm1 keeps the digits of small chances, which 1 - (1 - p)^group loses.
        with np.errstate(invalid="ignore"):
            chance = self._log_zero * np.where(always, 0.0, group)
            np.expm1(chance, out=chance)
        np.negative(chance, out=chance)
        if always.any():
            chance[..., always] = 1.0
        return chance
