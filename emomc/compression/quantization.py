"""Symmetric uniform quantization of weights to integer codes and scales."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from emomc.common.errors import require
from emomc.compression.quantizers import QUANTIZERS
from emomc.compression.widths import MAX_BITS, MIN_BITS


@dataclasses.dataclass(frozen=True)
class QuantizedTensor:
    """Integer codes and the scales that turn them back into weights."""

    codes: Tensor
    """int8 up to 8 bits, else int16; the weight's shape; values in -(2^(bits-1) - 1) .. 2^(bits-1) - 1."""
    scale: Tensor
    """float32, shape (1,) per tensor or (output channels,) per channel; positive."""
    bits: int

    def dequantize(self) -> Tensor:
        """Return the weights in float32: codes times scale."""
        return dequantize(self.codes, self.scale)


def quantize_symmetric(
    weight: Tensor, bits: int, *, method: str = "absmax", per_channel: bool = False
) -> QuantizedTensor:
    """Round weights to the grid of ``2^bits - 1`` equally spaced values around zero; zeros stay zero.

    Args:
        weight: float weights, output channels first, any shape; finite.
        bits: 2..12.
        method: how the step is chosen, a name of ``QUANTIZERS``: the step is its clip / (2^(bits-1) - 1).
        per_channel: one step per output channel instead of one for the tensor.

    Raises:
        UserError: ``bits`` is out of range or ``method`` is unknown.
    """
    require(MIN_BITS <= bits <= MAX_BITS, f"{MIN_BITS}..{MAX_BITS} bits", bits)
    require(method in QUANTIZERS, f"a quantizer of {', '.join(QUANTIZERS)}", method)
    top = 2 ** (bits - 1) - 1
    rows = weight.detach().float().reshape(weight.shape[0] if per_channel else 1, -1)
    clip = QUANTIZERS[method].clip(rows, bits)
    # Any positive step represents a row of zeros.
    scale = torch.where(clip > 0, clip / top, torch.ones_like(clip))
    return QuantizedTensor(round_to_codes(rows, scale, bits).reshape(weight.shape), scale, bits)


def round_to_codes(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Return the code of the nearest grid value for each weight.

    Args:
        weight: float32, output channels first.
        scale: float32, shape (1,) or (output channels,); positive.
        bits: 2..12.

    Returns:
        int8 up to 8 bits, else int16; the weight's shape.
    """
    top = 2 ** (bits - 1) - 1
    codes = (weight / scale.view(-1, *[1] * (weight.ndim - 1))).round_().clamp_(-top, top)
    return codes.to(torch.int8 if bits <= 8 else torch.int16)


def weight_of_codes(weight: Tensor, quantized: QuantizedTensor) -> Tensor:
    """Return weights whose nearest codes are the given ones: the weights themselves where that is so already.

    Args:
        weight: float32, output channels first.
        quantized: of the same shape.
    """
    nearest = round_to_codes(weight, quantized.scale, quantized.bits) == quantized.codes
    return torch.where(nearest, weight, quantized.dequantize())


def dequantize(codes: Tensor, scale: Tensor) -> Tensor:
    """Return ``codes * scale`` in float32, one multiplication per weight.

    Args:
        codes: integers, output channels first.
        scale: float32, shape (1,) or (output channels,).
    """
    return codes.to(torch.float32) * scale.view(-1, *[1] * (codes.ndim - 1))
