"""What an accelerator makes of zero weights and zero inputs: how it is described, and what it saves.

Source of the probabilities: the pruning factors of the EMOMC paper's energy formulas, for any group of weights. Source
of the kinds: Sze, Chen, Yang, Emer, "Efficient Processing of Deep Neural Networks", 2020, chapter 8: gating saves
energy, skipping saves energy and time.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from emomc.common.fields import FieldError, Problems, check_choice, show
from emomc.compression.levels import parse_block, parse_n_m
from emomc.compression.pattern_counts import any_of, most_in_group
from emomc.hardware.traffic import AccessProbability

Array = npt.NDArray[np.float64]

NONE, GATED, SKIPPED, STRUCTURED = "none", "gated", "skipped", "structured"
WEIGHT_KINDS = (NONE, GATED, SKIPPED, STRUCTURED)
INPUT_KINDS = (NONE, GATED, SKIPPED)
CHANNELS = "channels"


@dataclasses.dataclass(frozen=True)
class ZeroSkipping:
    """What the array does with a zero operand.

    ``none``: it computes as with any other number. ``gated``: it spends no energy on the multiply-accumulate and in the
    PE's own memories, but the cycle. ``skipped``: neither, and shared memories are not read for it. ``structured``: as
    skipped, for zeros that follow a pattern.
    """

    W: str = SKIPPED
    """Zero weights: none, gated, skipped or structured."""
    I: str = NONE  # noqa: E741  (the operand's name in hardware descriptions)
    """Zero inputs: none, gated or skipped."""
    pattern: str | None = None
    """The pattern of ``structured``: N:M, such as 2:4 (of each M weights at most N are not zero), block:RxC, such as
    block:4x1 (output channels x inputs), or channels."""

    def __post_init__(self) -> None:
        problems = Problems()
        problems.of(check_choice, self, "W", WEIGHT_KINDS)
        problems.of(check_choice, self, "I", INPUT_KINDS)
        problems.of(self._check_pattern)
        problems.end()

    def _check_pattern(self) -> None:
        found = self.pattern
        if self.W != STRUCTURED:
            if found is not None:
                raise FieldError("pattern", f"expected no pattern without W: structured, found {show(found)}")
            return
        known = isinstance(found, str) and (found == CHANNELS or parse_n_m(found) or parse_block(found))
        if not known:
            expected = "channels, N:M with N < M such as '2:4', or block:RxC such as 'block:4x1'"
            raise FieldError("pattern", f"expected {expected}, found {show(found)}")

    def pattern_density(self, nonzero: npt.NDArray[np.bool_]) -> float:
        """Return the density of a layer's weights in the pattern: what ``structured_share`` takes, 0..1.

        Args:
            nonzero: which weights are not zero, (outputs, inputs of a group, positions of the kernel).
        """
        if self.pattern == CHANNELS:
            outputs, inputs = nonzero.any((1, 2)).mean(), nonzero.any((0, 2)).mean()
            return float(outputs * inputs)
        if numbers := parse_n_m(str(self.pattern)):
            # A layer with fewer inputs than a group has no groups.
            return most_in_group(nonzero, numbers[1]) / min(numbers[1], nonzero.shape[1])
        rows, columns = parse_block(str(self.pattern)) or (1, 1)
        return float(any_of(any_of(nonzero, rows, 0), columns, 1).mean())

    def structured_share(self, density: Array | None) -> Array | float:
        """Return the share of the MACs that structured zeros leave.

        Args:
            density: of the weights in the pattern, 0..1; None: the zeros follow no pattern.

        Returns:
            Of the same shape, or 1. With N:M a layer gains the whole factor N / M if its pattern is at least that
            sparse, and nothing otherwise. Source: the sparse tensor cores of NVIDIA's A100 whitepaper, 2020. Blocks and
            channels that are zero cost nothing. Source: Gray, Radford, Kingma, "GPU Kernels for Block-Sparse Weights",
            2017.
        """
        if density is None or self.W != STRUCTURED:
            return 1.0
        numbers = parse_n_m(str(self.pattern))
        if numbers is None:
            return density
        few, many = numbers
        return np.where(density <= few / many, few / many, 1.0)


SKIPS_WEIGHTS = ZeroSkipping()
"""The meaning of a description that says nothing of zeros."""


@dataclasses.dataclass(frozen=True)
class Zeros:
    """What the zeros of a population save on one accelerator: shares of what a dense network would need, 0..1.

    Every share has a shape that broadcasts to (n, calls), and never falls as a density rises.
    """

    skipping: ZeroSkipping
    weights: AccessProbability
    """Of the nonzero weights."""
    inputs: AccessProbability
    """Of the nonzero inputs."""
    structured: Array | float = 1.0
    """Share of the MACs that structured zeros leave."""

    def in_pe(self, group: Array | float = 1.0) -> Array | float:
        """Return the share of MACs made, or of accesses in a PE that serve ``group`` MACs, shape (calls,)."""
        share = self.structured
        if self.skipping.W in (GATED, SKIPPED):
            share = share * self.weights.of(group)
        if self.skipping.I != NONE:
            share = share * self.inputs.of(group)
        return share

    def shared(self, group: Array) -> Array | float:
        """Return the share of accesses of inputs and outputs in shared memories that serve ``group`` MACs."""
        if self.skipping.W == SKIPPED:
            return self.weights.of(group)
        return self.structured if self.skipping.pattern == CHANNELS else 1.0

    def steps(self, weights: Array, inputs: Array) -> Array | float:
        """Return the share of steps made, each of which uses so many weights and inputs, shape (calls,).

        A step is made if it has a nonzero weight and a nonzero input; that both meet is not asked, so this is an upper
        bound.
        """
        share = self.structured
        if self.skipping.W == SKIPPED:
            share = share * self.weights.of(weights)
        if self.skipping.I == SKIPPED:
            share = share * self.inputs.of(inputs)
        return share
