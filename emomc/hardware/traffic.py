"""Traffic between memories and processing elements, for a population of candidates."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from emomc.hardware.description import Memory

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Flow:
    """Bits of one operand that one memory reads and writes in one forward pass of one image."""

    memory: Memory
    operand: str
    """I, W or O."""
    read_bits: Array | float
    """Shape broadcastable to (n, calls)."""
    written_bits: Array | float = 0.0
    """Shape broadcastable to (n, calls)."""
    reads: Array | float = 0.0
    """Separate transfers that the reads take, whatever the width of the port; 0 for long streams. Same shape."""
    writes: Array | float = 0.0
    """The same for the writes."""

    def port_cycles(self, bits_per_cycle: Array | float) -> Array:
        """Return how long the port of the memory is busy: one transfer a cycle, of at most so many bits; same shape.

        Source: the ports of ZigZag's memories.
        """
        reading = np.maximum(self.read_bits / bits_per_cycle, self.reads)
        return np.asarray(reading + np.maximum(self.written_bits / bits_per_cycle, self.writes))

    @functools.cached_property
    def energy(self) -> Array | float:
        """Energy in the hardware's unit, same shape; a part of a word costs its fraction."""
        memory = self.memory
        read, write = (memory.r_cost or 0.0) / memory.word_bits, (memory.w_cost or 0.0) / memory.word_bits
        return self.read_bits * read + self.written_bits * write


class AccessProbability:
    """Probability that an access is needed if weights are zero at random and independently.

    An access that serves ``group`` weights is skipped if all of them are zero: its probability is 1 - (1 - p)^group at
    density p.

    Args:
        density: fraction of weights that are not zero, in [0, 1], shape (n, calls).

    Source: the pruning factors of the EMOMC paper's energy formulas, for any group size.
    """

    def __init__(self, density: Array) -> None:
        self._density = density
        with np.errstate(divide="ignore"):
            self._log_zero = np.log1p(-density)

    def of(self, group: Array | float) -> Array:
        """Return the probability for groups of shape (calls,), or the same group everywhere; 1 for infinite groups.

        Returns:
            array of shape (n, calls), or one that broadcasts to it.
        """
        if np.all(group == 1.0):
            return self._density
        if np.all(np.isinf(group)):
            return np.ones_like(group)
        # expm1 keeps the digits of small probabilities, which 1 - (1 - p)^group loses.
        with np.errstate(invalid="ignore"):
            probability = self._log_zero * group
            np.expm1(probability, out=probability)
        np.negative(probability, out=probability)
        # Also at density 0.
        probability[..., np.isinf(group)] = 1.0
        return probability
