"""Bits of weights and activations: the ranges that searches choose from, and what counts as uncompressed."""

from __future__ import annotations

MIN_BITS, MAX_BITS = 2, 12
"""Bits of a quantized weight."""
UNCOMPRESSED_BITS = 32
"""Bits of a weight that is left as it is, in float32."""
MIN_ACTIVATION_BITS = 2
"""Fewest bits of a layer's input."""
FULL_ACTIVATION_BITS = 16
"""Activations of this many bits, the paper's, are not rounded in evaluation: it would change no figure."""
