"""Simulating activations of few bits by rounding the inputs of layers to a grid chosen by calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from emomc.common.errors import require
from emomc.networks.folding import FoldedNetwork

Range = tuple[float, float]


def round_activations(values: Tensor, bits: int, low: float, high: float) -> Tensor:
    """Round values to a grid that contains zero; gradients pass unchanged within its range.

    Args:
        values: float, any shape.
        bits: 2..15.
        low: smallest value in calibration. If it is 0 or more, the codes are 0 .. 2^bits - 1; if it is negative, they
            are symmetric, -(2^(bits-1) - 1) .. 2^(bits-1) - 1.
        high: largest value in calibration.
    """
    return _rounded(values, _grid(bits, low, high).to(values.device))


def _grid(bits: int, low: float, high: float) -> Tensor:
    """Return the smallest and the largest value of a grid, and its step, float32."""
    top = 2**bits - 1 if low >= 0 else 2 ** (bits - 1) - 1
    # If all inputs were zero, any positive step represents them.
    step = max(-low, high) / top or 1.0
    return torch.tensor([0.0 if low >= 0 else -top * step, top * step, step])


def _rounded(values: Tensor, grid: Tensor) -> Tensor:
    least, most, step = grid.unbind()
    clipped = values.clamp(least, most)
    rounded = (clipped / step).round() * step
    return clipped + (rounded - clipped).detach() if torch.is_grad_enabled() else rounded


class ActivationRounding:
    """Rounds the inputs of the layers of one network, once their ranges are set."""

    def __init__(self, network: FoldedNetwork, bits: int) -> None:
        """Put a rounding before each layer that has weights; nothing is rounded before ``use``."""
        module = network.module
        device = next(module.parameters()).device
        self._names: dict[str, str] = {}
        for number, layer in enumerate(network.layers):
            self._names[layer.name] = name = f"rounding_{number}"
            module.add_module(name, _Rounder(bits, device))
            for node in network.calls[layer.name]:
                with module.graph.inserting_before(node):
                    rounded = module.graph.call_module(name, (node.args[0],))
                node.update_arg(0, rounded)
        module.recompile()
        self._module = module

    def use(self, ranges: Mapping[str, Range] | None) -> None:
        """Set the ranges (layer name -> smallest and largest input); None: do not round.

        Raises:
            UserError: a layer has none, or its smallest input is above its largest.
        """
        for layer in self._names:
            low, high = (0.0, 0.0) if ranges is None else ranges.get(layer, (1.0, 0.0))
            require(low <= high, f"the smallest and the largest input of {layer} as its range", (low, high))
        for layer, name in self._names.items():
            cast(_Rounder, self._module.get_submodule(name)).use(None if ranges is None else ranges[layer])


class _Rounder(nn.Module):
    """Rounds what it is given; a module, so that a copy of the network gets a copy of it."""

    grid: Tensor

    def __init__(self, bits: int, device: torch.device) -> None:
        super().__init__()
        self.bits = bits
        self.active = False
        # The grid is a tensor, so that a compiled network is the same for every range.
        self.register_buffer("grid", torch.zeros(3, device=device), persistent=False)

    def use(self, range_: Range | None) -> None:
        self.active = range_ is not None
        if range_ is not None:
            self.grid.copy_(_grid(self.bits, *range_))

    def forward(self, values: Tensor) -> Tensor:
        return _rounded(values, self.grid) if self.active else values
