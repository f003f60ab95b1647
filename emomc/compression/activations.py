"""Simulating activations of few bits by rounding the inputs of layers to a grid chosen by calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

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
    top = 2**bits - 1 if low >= 0 else 2 ** (bits - 1) - 1
    # If all inputs were zero, any positive step represents them.
    step = max(-low, high) / top or 1.0
    clipped = values.clamp(0.0 if low >= 0 else -top * step, top * step)
    rounded = (clipped / step).round() * step
    return clipped + (rounded - clipped).detach() if torch.is_grad_enabled() else rounded


class ActivationRounding:
    """Rounds the inputs of the layers of one network, once their ranges are set."""

    def __init__(self, network: nn.Module, layers: tuple[str, ...], bits: int) -> None:
        """Add a hook to each of the named layers; nothing is rounded before ``use``."""
        self._rounders = {name: _Rounder(bits) for name in layers}
        for name, rounder in self._rounders.items():
            network.get_submodule(name).register_forward_pre_hook(rounder)

    def use(self, ranges: Mapping[str, Range] | None) -> None:
        """Set the ranges (layer name -> smallest and largest input); None: do not round."""
        for name, rounder in self._rounders.items():
            rounder.range = None if ranges is None else ranges[name]


class _Rounder:
    """A hook of one layer; an object, not a function, so that a copy of the network gets a copy of it."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.range: Range | None = None

    def __call__(self, layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.range is None:
            return arguments
        return (round_activations(arguments[0], self.bits, *self.range), *arguments[1:])
