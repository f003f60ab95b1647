"""Allowed bits of weights and activations, and the bits of uncompressed ones."""

from __future__ import annotations

MIN_BITS, MAX_BITS = 2, 12
"""Bits of a quantized weight."""
UNCOMPRESSED_BITS = 32
"""Bits of an uncompressed weight, float32."""
MIN_ACTIVATION_BITS = 2
"""Fewest bits of a layer's input."""
FULL_ACTIVATION_BITS = 16
"""Bits of activations in the paper; they are not rounded in evaluations, since this would not change the results."""
