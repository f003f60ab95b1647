"""The bytes of a compressed network by one rule for every tool.

What a decoder needs, before any entropy coding: the code of each kept weight, the scales and zero points, a bias for
each output channel, and what rounds the activations. Where weights are zero, a layer may be stored with a bit for
each weight that says whether it is kept, and the codes of those that are; each layer takes the shorter way,
whichever tool made it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

FLOAT_BYTES = 4
"""Of a scale and of a bias."""
ZERO_POINT_BYTES = 1
GRID_BYTES = FLOAT_BYTES + ZERO_POINT_BYTES
"""Scale and zero point of the activations that a layer reads or writes."""


@dataclasses.dataclass(frozen=True)
class StoredLayer:
    """What is stored of a layer."""

    weights: int
    """All of them, those that are zero included."""
    kept: int
    """Those that are not zero."""
    bits: int
    """Of a code, 1..32."""
    biases: int
    """One for each output channel, folded norms included."""
    scales: int = 0
    zero_points: int = 0

    @property
    def code_bits(self) -> int:
        """Bits of the weights: all codes, or one bit for each weight and the codes of those that are kept."""
        return min(self.weights * self.bits, self.weights + self.kept * self.bits)

    @property
    def bytes(self) -> int:
        """Bytes of the layer."""
        return -(-self.code_bits // 8) + FLOAT_BYTES * (self.scales + self.biases) + ZERO_POINT_BYTES * self.zero_points


def network_bytes(layers: Sequence[StoredLayer], grids: int = 0) -> int:
    """Return the bytes of a network whose activations have so many grids."""
    return sum(layer.bytes for layer in layers) + GRID_BYTES * grids
