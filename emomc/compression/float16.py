"""Scales and biases in float16: half the bytes, and an error of at most 1/2048, far below that of quantized weights."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emomc.common.errors import UserError

_TOP = 15
"""The largest number of a layer is from 2^14 to 2^15 in float16, so that it has 29 powers of two below it."""
EXPONENTS = range(-115, 115)
"""Powers of two that scales share, such that float32 holds all their products with float16 numbers."""


def round_scales(scales: Tensor) -> Tensor:
    """Round scales to float16 numbers times one power of two, which they share.

    Args:
        scales: float32, (channels,), finite.

    Returns:
        As ``scales``. What is below 2^-29 of the largest keeps fewer than 11 significant bits.
    """
    exponent = _exponent(scales)
    return torch.ldexp(torch.ldexp(scales, -exponent).half().float(), exponent)


def round_bias(bias: Tensor, layer: str) -> Tensor:
    """Round a bias to float16 numbers.

    Args:
        bias: float32, (channels,).
        layer: its layer, for the error.

    Raises:
        UserError: a number is too large for float16.
    """
    rounded = bias.half()
    if not bool(rounded.isfinite().all()):
        raise UserError(
            f"expected biases of {layer} of at most 65504, found {float(bias.abs().max()):g}: use --scales float32"
        )
    return rounded.float()


def split_scales(scales: NDArray[np.float32]) -> tuple[int, NDArray[np.float16]]:
    """Return the shared exponent e and the float16 numbers h of rounded scales, h * 2^e each.

    Raises:
        UserError: ``scales`` are not as ``round_scales`` makes them.
    """
    exponent = int(_exponent(torch.from_numpy(scales)))
    with np.errstate(over="ignore", under="ignore"):
        halves = np.ldexp(scales, -exponent).astype(np.float16)
    if not np.array_equal(join_scales(exponent, halves), scales):
        raise UserError("expected scales that are float16 numbers times one power of two, found others")
    return exponent, halves


def join_scales(exponent: int, halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return the scales h * 2^e, float32.

    Raises:
        UserError: the exponent is not one of ``EXPONENTS``.
    """
    if exponent not in EXPONENTS:
        raise UserError(f"expected a power of two of {EXPONENTS[0]} to {EXPONENTS[-1]}, found {exponent}")
    with np.errstate(over="ignore"):
        return np.ldexp(halves.astype(np.float32), exponent)


def _exponent(scales: Tensor) -> Tensor:
    """Return the power of two that scales share, int32 without dimensions."""
    largest = scales.abs().max()
    exponent = torch.frexp(largest).exponent.clamp(min=EXPONENTS[0] + _TOP) - _TOP
    # The largest may be rounded up to the next power of two.
    return exponent + (torch.ldexp(largest, -exponent).half() == 2**_TOP).int()
