"""The levels of a memory hierarchy: between which two shared memories each operand travels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from emomc.hardware.description import OPERANDS, Hardware, Memory


@dataclasses.dataclass(frozen=True)
class Level:
    """A pair of neighbouring shared memories for each operand that has two; operands without a pair do not travel."""

    inner: Mapping[str, Memory]
    """Operand -> the memory that is nearer to the array."""
    outer: Mapping[str, Memory]
    """Operand -> the next memory that holds it."""

    def room(self, operand: str) -> float:
        """Return the bits of the inner memory of an operand; infinite where its size is not given."""
        size = self.inner[operand].size_bits
        return math.inf if size is None else float(size)

    @property
    def room_for_maps(self) -> float:
        """Bits of the inner memory if it holds inputs and outputs, so that a map can stay in it; otherwise 0."""
        inputs, outputs = self.inner.get("I"), self.inner.get("O")
        return self.room("I") if inputs is not None and inputs is outputs else 0.0


def levels_of(hardware: Hardware) -> tuple[Level, ...]:
    """Return the levels of shared memories, innermost first.

    The memories of an operand are counted from the outermost: inputs and weights that share DRAM, but not what lies
    before it, are on one level there.
    """
    chains = {
        operand: [memory for memory in hardware.memories if not memory.per_pe and operand in memory.operands][::-1]
        for operand in OPERANDS
    }
    depth = max(map(len, chains.values())) - 1
    levels = []
    for place in range(depth):
        there = {operand: chain for operand, chain in chains.items() if len(chain) > place + 1}
        inner = {operand: chain[place + 1] for operand, chain in there.items()}
        outer = {operand: chain[place] for operand, chain in there.items()}
        levels.append(Level(inner, outer))
    return tuple(levels[::-1])
