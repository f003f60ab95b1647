"""Correcting the biases for the mean error that quantized weights cause."""

from __future__ import annotations

from torch import Tensor


def mean_output_error(mean_patch: Tensor, weight: Tensor, quantized: Tensor) -> Tensor:
    """Return E[Wq x] - E[W x] of each output channel of a convolution or linear layer.

    The error is linear in the input, so the mean input under the kernel is enough. Subtracting the result from the bias
    makes the mean error zero over the images, output positions and calls that ``mean_patch`` was measured on.

    Args:
        mean_patch: float64, (groups, inputs per group, *kernel): mean input under the kernel.
        weight: (output channels, inputs per group, *kernel).
        quantized: of the same shape.

    Returns:
        float64, (output channels,).

    Source: Nagel, van Baalen, Blankevoort, Welling. "Data-Free Quantization Through Weight Equalization and Bias
    Correction", ICCV 2019, section 4.2; the means are measured here, as in its appendix D.
    """
    groups = len(mean_patch)
    error = (quantized.double() - weight.double()).reshape(groups, len(weight) // groups, -1)
    return (error * mean_patch.to(error.device).reshape(groups, 1, -1)).sum(2).flatten()
