"""Measuring how the inputs that a layer's kernel meets at one position vary together."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, fx

from emomc.networks.graph_layers import MATRIX_PRODUCTS, aten
from emomc.networks.layers import LayerShape, as_stored

MOST_INPUTS = 256
"""Inputs of a block at most: n inputs of a layer have at most 256 n products, 1 KiB in float32 for each input."""

# Bytes of inputs under the kernel at a time.
_TOGETHER = 64 << 20


def input_blocks(layer: LayerShape) -> int:
    """Return into how many blocks of equally many channels the inputs of a layer are split.

    A block lies within a group and is as large as ``MOST_INPUTS`` allows; 0 if one channel has more.
    """
    channels, taps = layer.in_channels // layer.groups, math.prod(layer.kernel_size)
    sizes = [size for size in range(1, channels + 1) if channels % size == 0 and size * taps <= MOST_INPUTS]
    return layer.in_channels // max(sizes) if sizes else 0


class InputProducts:
    """Sums of the products of any two inputs in a block, over images, output positions and calls."""

    def __init__(self, layer: LayerShape, kernel: torch.Size) -> None:
        """Start with no images.

        Args:
            layer: whose inputs they are.
            kernel: size of its kernel, as its weights have it: of no, one or two dimensions.
        """
        self._layer = layer
        self._kernel = kernel
        self._blocks = input_blocks(layer)
        self._sum: Tensor | None = None
        self._positions = 0

    def add(self, node: fx.Node, inputs: Tensor) -> None:
        """Add the inputs of a call, float, images first."""
        if not self._blocks:
            return
        layer = self._layer
        values = layer.in_channels * math.prod(self._kernel) * max(call.output_pixels for call in layer.calls)
        for some in inputs.split(max(1, _TOGETHER // (inputs.itemsize * values))):
            patches = self._patches(node, some)
            products = (patches @ patches.mT).double()
            self._sum = products if self._sum is None else self._sum + products
            self._positions += patches.shape[2]

    def covariance(self, mean_patch: Tensor) -> Tensor | None:
        """Return the covariance, float32, (blocks, n, n); None if a channel alone is too large for a block.

        Args:
            mean_patch: float64, (groups, inputs per group, *kernel): mean input under the kernel.
        """
        if self._sum is None:
            return None
        mean = mean_patch.reshape(self._blocks, -1)
        return (self._sum / self._positions - mean[:, :, None] * mean[:, None, :]).float()

    def _patches(self, node: fx.Node, inputs: Tensor) -> Tensor:
        """Return what the kernel meets at each position, (blocks, n, images * positions)."""
        if node.target in MATRIX_PRODUCTS or node.target is aten.linear.default:
            return inputs.reshape(-1, self._blocks, inputs.shape[-1] // self._blocks).permute(1, 2, 0)
        # The convolution whose every output is one input, with the padding, strides and so on of the layer.
        channels = self._layer.in_channels // self._blocks
        size = channels * math.prod(self._kernel)
        one = torch.eye(size, dtype=inputs.dtype, device=inputs.device).reshape(size, channels, *self._kernel)
        picking = dataclasses.replace(self._layer, out_channels=self._blocks * size, groups=self._blocks)
        weight = as_stored(one.repeat(self._blocks, *[1] * (one.ndim - 1)), picking)
        rest = {key: value for key, value in node.kwargs.items() if key != "bias"} | {"groups": self._blocks}
        if len(node.args) > 7:
            rest["dilation"] = node.args[7]
        outputs: Tensor = node.target(inputs, weight, None, *node.args[3:6], **rest)  # type: ignore[operator]
        return (
            outputs.reshape(-1, self._blocks, size, outputs.shape[-len(self._kernel) :].numel())
            .permute(1, 2, 0, 3)
            .flatten(2)
        )
