"""Simulating activations of few bits by rounding the inputs of layers to a grid chosen by calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from emomc.common.errors import UserError
from emomc.compression.activation_grid import ActivationGrid
from emomc.networks.folding import FoldedNetwork
from emomc.networks.layers import LayerShape


def round_activations(values: Tensor, grid: ActivationGrid) -> Tensor:
    """Round values to a grid; gradients pass unchanged within its range.

    Args:
        values: float, any shape.
        grid: the grid.
    """
    return _rounded(values, _numbers(grid).to(values.device))


def _numbers(grid: ActivationGrid) -> Tensor:
    """Return the smallest and the largest value of a grid, and its step, float32."""
    return torch.tensor([grid.lowest * grid.step, grid.highest * grid.step, grid.step])


def _rounded(values: Tensor, numbers: Tensor) -> Tensor:
    least, most, step = numbers.unbind()
    clipped = values.clamp(least, most)
    rounded = (clipped / step).round() * step
    return clipped + (rounded - clipped).detach() if torch.is_grad_enabled() else rounded


def integer_bias(bias: Tensor, scale: Tensor, grid: ActivationGrid) -> Tensor:
    """Round a bias to whole multiples of the step of a layer's sums, as arithmetic of integers adds it.

    Args:
        bias: float, (output channels,).
        scale: float32, (1,) or (output channels,): by which the codes of the weights are multiplied.
        grid: of the inputs.

    Returns:
        As ``bias``; unchanged where the scale is 0, and where the multiple would not fit into 32 bits.
    """
    step = (grid.step * scale.abs()).double().expand(bias.shape)
    codes = (bias.double() / step).round()
    fits = (step > 0) & (codes.abs() < 2**31)
    return torch.where(fits, codes * step, bias.double()).to(bias.dtype)


def insert_before_layers(network: FoldedNetwork, make: Callable[[LayerShape], nn.Module], name: str) -> dict[str, str]:
    """Put a module on the input of each call of the layers that have weights, in place.

    Args:
        network: the network.
        make: makes the module of a layer; all calls of the layer share it.
        name: what the modules are called, followed by a number.

    Returns:
        Layer name -> the name of its module.
    """
    module = network.module
    names = {}
    for number, layer in enumerate(network.layers):
        names[layer.name] = own = f"{name}_{number}"
        module.add_module(own, make(layer))
        for node in network.calls[layer.name]:
            with module.graph.inserting_before(node):
                replaced = module.graph.call_module(own, (node.args[0],))
            node.update_arg(0, replaced)
    module.recompile()
    return names


class ActivationRounding:
    """Rounds the inputs of the layers of one network, once their grids are set."""

    def __init__(self, network: FoldedNetwork) -> None:
        """Put a rounding before each layer that has weights; nothing is rounded before ``use``."""
        device = next(network.module.parameters()).device
        self._names = insert_before_layers(network, lambda layer: _Rounder(device), "rounding")
        self._module = network.module

    def use(self, grids: Mapping[str, ActivationGrid] | None) -> None:
        """Set the grids (layer name -> grid of its inputs); None: do not round.

        Raises:
            UserError: a layer has none.
        """
        missing = [layer for layer in self._names if grids is not None and layer not in grids]
        if missing:
            raise UserError(f"expected a grid for the inputs of every layer, found none for {missing[0]}")
        for layer, name in self._names.items():
            cast(_Rounder, self._module.get_submodule(name)).use(None if grids is None else grids[layer])


class _Rounder(nn.Module):
    """Rounds what it is given; a module, so that a copy of the network gets a copy of it."""

    numbers: Tensor

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.active = False
        # The grid is a tensor, so that a compiled network is the same for every range.
        self.register_buffer("numbers", torch.zeros(3, device=device), persistent=False)

    def use(self, grid: ActivationGrid | None) -> None:
        self.active = grid is not None
        if grid is not None:
            self.numbers.copy_(_numbers(grid))

    def forward(self, values: Tensor) -> Tensor:
        return _rounded(values, self.numbers) if self.active else values
