"""Symmetric uniform quantization of weights to integer codes and scales."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import torch
from torch import Tensor

from emomc.common.errors import require
from emomc.compression.widths import MAX_BITS, MIN_BITS

QuantizerMethod = Literal["absmax", "mse"]

# The clipping thresholds that `mse` tries, as fractions of the largest weight. The last one is absmax itself.
_CLIPS = 80
# Above this many bits the best clip is close to the largest weight, and each one tried costs 2^bits boundaries.
_FINE_BITS, _FINE_CLIPS, _FINE_LOWEST = 8, 10, 0.8


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
    weight: Tensor, bits: int, *, method: QuantizerMethod = "absmax", per_channel: bool = False
) -> QuantizedTensor:
    """Round weights to the grid of ``2^bits - 1`` equally spaced values around zero; zeros stay zero.

    Args:
        weight: float weights, output channels first, any shape; finite.
        bits: 2..12.
        method: how the step is chosen. ``absmax``: max|w| / (2^(bits-1) - 1), as the paper does. ``mse``: the clip in
            a grid up to max|w| that has the least squared error over the weights that are not zero; never worse than
            ``absmax`` in that error.
        per_channel: one step per output channel instead of one for the tensor.

    Raises:
        UserError: ``bits`` or ``method`` is out of range.
    """
    require(MIN_BITS <= bits <= MAX_BITS, f"{MIN_BITS}..{MAX_BITS} bits", bits)
    require(method in get_args(QuantizerMethod), f"a quantizer of {', '.join(get_args(QuantizerMethod))}", method)
    top = 2 ** (bits - 1) - 1
    rows = weight.detach().float().reshape(weight.shape[0] if per_channel else 1, -1)
    clip = rows.abs().amax(dim=1)
    if method == "mse":
        clip = clip * _best_clip(rows, bits)
    # A row of zeros has no step of its own; any positive one represents it.
    scale = torch.where(clip > 0, clip / top, torch.ones_like(clip))
    return QuantizedTensor(round_to_codes(rows, scale, bits).reshape(weight.shape), scale, bits)


def round_to_codes(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Return the code of the nearest value of the grid for each weight.

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


def dequantize(codes: Tensor, scale: Tensor) -> Tensor:
    """Return ``codes * scale`` in float32, one multiplication per weight.

    Args:
        codes: integers, output channels first.
        scale: float32, shape (1,) or (output channels,).
    """
    return codes.to(torch.float32) * scale.view(-1, *[1] * (codes.ndim - 1))


def _best_clip(rows: Tensor, bits: int) -> Tensor:
    """Return for each row the fraction of its largest magnitude at which clipping leaves the least squared error.

    With the magnitudes sorted and their sums and sums of squares accumulated, the error of a step s is the sum over
    the codes k of (sum w^2 - 2 k s sum w + k^2 s^2 count) between the boundaries (k - 1/2) s: no pass over the weights
    for each clip tried.
    """
    device = rows.device
    top = 2 ** (bits - 1) - 1
    magnitudes = rows.abs().double().sort(dim=1).values
    zero = magnitudes.new_zeros(len(rows), 1)
    sums = torch.cat([zero, magnitudes.cumsum(1)], 1)
    squares = torch.cat([zero, magnitudes.square().cumsum(1)], 1)
    if bits <= _FINE_BITS:
        fractions = torch.arange(1, _CLIPS + 1, device=device, dtype=torch.float64) / _CLIPS
    else:
        fractions = torch.linspace(_FINE_LOWEST, 1, _FINE_CLIPS, device=device, dtype=torch.float64)
    codes = torch.arange(top + 1, device=device, dtype=torch.float64)
    errors = []
    for fraction in fractions:
        step = (magnitudes[:, -1:] * fraction / top).float().double()
        edges = torch.searchsorted(magnitudes, (codes[1:] - 0.5) * step)
        edges = torch.cat([torch.zeros_like(edges[:, :1]), edges, torch.full_like(edges[:, :1], rows.shape[1])], 1)
        value = codes * step
        count = edges.diff(dim=1)
        error = squares.gather(1, edges).diff(dim=1) - 2 * value * sums.gather(1, edges).diff(dim=1) + value**2 * count
        errors.append(error.sum(1))
    # Of equal errors the largest clip: flip so that argmin meets it first.
    best = torch.stack(errors).flip(0).argmin(0)
    return fractions.flip(0)[best].float()
