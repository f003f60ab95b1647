"""Quantized weights in training: rounded in the forward pass, gradients unchanged in the backward pass."""

from __future__ import annotations

from torch import Tensor

from emomc.compression.quantization import quantize_symmetric


def fake_quantize(weight: Tensor, bits: int, *, method: str = "absmax", per_channel: bool = True) -> Tensor:
    """Return weights rounded to a grid, with the gradient of weights that are not rounded.

    Args:
        weight: float weights, output channels first, any shape; finite.
        bits: 2..12.
        method: how the step is chosen, a name of ``QUANTIZERS``.
        per_channel: one step per output channel instead of one for the tensor.

    Returns:
        float, the weight's shape.

    Source: Bengio, Leonard, Courville, arXiv 1308.3432 (straight-through estimator).
    """
    rounded = quantize_symmetric(weight, bits, method=method, per_channel=per_channel).dequantize()
    return weight + (rounded - weight).detach()
