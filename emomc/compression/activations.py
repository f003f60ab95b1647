"""Simulating narrow activations: the inputs of layers are rounded to a grid that calibration chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

Range = tuple[float, float]


def round_activations(values: Tensor, bits: int, low: float, high: float) -> Tensor:
    """Return the nearest values of a grid that holds zero; gradients pass within the range.

    Args:
        values: float, any shape.
        bits: 2..15.
        low: least value seen in calibration. From zero on, codes are 0..2^bits - 1; below, the grid is symmetric with
            codes -(2^(bits-1) - 1)..2^(bits-1) - 1.
        high: largest value seen.
    """
    top = 2**bits - 1 if low >= 0 else 2 ** (bits - 1) - 1
    # A layer that saw nothing but zeros has no step of its own; any positive one represents them.
    step = max(-low, high) / top or 1.0
    clipped = values.clamp(0.0 if low >= 0 else -top * step, top * step)
    rounded = (clipped / step).round() * step
    return clipped + (rounded - clipped).detach() if torch.is_grad_enabled() else rounded


class ActivationRounding:
    """Rounds what the layers of one network are given, once it is told the ranges."""

    def __init__(self, network: nn.Module, layers: tuple[str, ...], bits: int) -> None:
        """Watch the inputs of the named layers; nothing is rounded before ``use``."""
        self._rounders = {name: _Rounder(bits) for name in layers}
        for name, rounder in self._rounders.items():
            network.get_submodule(name).register_forward_pre_hook(rounder)

    def use(self, ranges: Mapping[str, Range] | None) -> None:
        """Round to these ranges (layer name -> least and largest input), or not at all."""
        for name, rounder in self._rounders.items():
            rounder.range = None if ranges is None else ranges[name]


class _Rounder:
    """A hook of one layer; an object, so that a copy of the network has its own."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.range: Range | None = None

    def __call__(self, layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.range is None:
            return arguments
        return (round_activations(arguments[0], self.bits, *self.range), *arguments[1:])
