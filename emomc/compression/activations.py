"""Simulating activations of few bits by rounding the inputs of layers to a grid chosen by calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from emomc.common.errors import UserError
from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.widths import MIN_ACTIVATION_BITS
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

    def __init__(self, network: FoldedNetwork, *, optional: bool = False) -> None:
        """Put a rounding before each layer that has weights; nothing is rounded before ``use``.

        Args:
            network: the network, changed in place.
            optional: whether some layers may have no grid while others have one.
        """
        device = next(network.module.parameters()).device
        self._names = insert_before_layers(network, lambda layer: _Rounder(device, optional), "rounding")
        self._module = network.module
        self._optional = optional

    def use(self, grids: Mapping[str, ActivationGrid] | None) -> None:
        """Set the grids (layer name -> grid of its inputs, which are not rounded without one); None: round none.

        Raises:
            UserError: a layer has none, and it is not optional.
        """
        missing = [layer for layer in self._names if grids is not None and layer not in grids]
        if missing and not self._optional:
            raise UserError(f"expected a grid for the inputs of every layer, found none for {missing[0]}")
        for layer, name in self._names.items():
            rounder = cast(_Rounder, self._module.get_submodule(name))
            rounder.use(None if grids is None else grids.get(layer), active=grids is not None)


class _Rounder(nn.Module):
    """Rounds what it is given; a module, so that a copy of the network gets a copy of it."""

    numbers: Tensor
    rounds: Tensor

    def __init__(self, device: torch.device, optional: bool) -> None:
        super().__init__()
        self.active = False
        self.optional = optional
        # The grid, and whether there is one, are tensors: a compiled network is the same for all of them.
        self.register_buffer("numbers", torch.zeros(3, device=device), persistent=False)
        self.register_buffer("rounds", torch.zeros((), dtype=torch.bool, device=device), persistent=False)

    def use(self, grid: ActivationGrid | None, *, active: bool) -> None:
        self.active = active
        self.rounds.fill_(grid is not None)
        # Any grid does for values that stay as they are.
        self.numbers.copy_(_numbers(grid or ActivationGrid.of_range(MIN_ACTIVATION_BITS, 0, 1)))

    def forward(self, values: Tensor) -> Tensor:
        if not self.active:
            return values
        rounded = _rounded(values, self.numbers)
        return torch.where(self.rounds, rounded, values) if self.optional else rounded
