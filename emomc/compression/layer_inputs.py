"""Measuring the inputs of layers: the mean input under the kernel, and the range."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from emomc.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class LayerInputs:
    """Statistics of the inputs of a convolution or linear layer, over images, output positions and calls."""

    mean_patch: Tensor
    """float64, (groups, inputs per group, *kernel): mean input under the kernel, padding included."""
    low: float
    """Smallest input."""
    high: float
    """Largest input."""

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest input."""
        return self.low, self.high


@torch.no_grad()
def measure_inputs(network: nn.Module, layers: Iterable[str], batches: Iterable[Tensor]) -> dict[str, LayerInputs]:
    """Run images through a network and return the statistics of the inputs of its layers.

    Args:
        network: in eval mode.
        layers: names of convolutions and linear layers.
        batches: images, float, (n, channels, height, width), on the network's device.

    Raises:
        UserError: a layer is not called.
    """
    records = {name: _InputRecord(network.get_submodule(name)) for name in layers}
    with ExitStack() as hooks:
        for record in records.values():
            handle = record.layer.register_forward_pre_hook(record.add)
            hooks.callback(handle.remove)
        for images in batches:
            network(images)
    uncalled = [name for name, record in records.items() if not record.sums]
    if uncalled:
        raise UserError(f"expected every layer to be called, found that {uncalled[0]} is not")
    return {name: record.statistics() for name, record in records.items()}


class _InputRecord:
    """The range of the inputs of one layer, and their sums over images and calls, one for each shape of the inputs."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.sums: dict[tuple[int, ...], Tensor] = {}
        self.counts: dict[tuple[int, ...], int] = {}
        self.low, self.high = float("inf"), float("-inf")

    def add(self, layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        inputs = arguments[0]
        shape = tuple(inputs.shape[1:])
        total = inputs.sum(0, keepdim=True).double()
        self.sums[shape] = self.sums[shape] + total if shape in self.sums else total
        self.counts[shape] = self.counts.get(shape, 0) + len(inputs)
        self.low, self.high = min(self.low, float(inputs.min())), max(self.high, float(inputs.max()))

    def statistics(self) -> LayerInputs:
        """Return the statistics.

        The sum of a layer's outputs is linear in its weights, and its derivative by a weight is the sum of the inputs
        that this weight is multiplied with.
        """
        weight = torch.zeros_like(self.layer.get_parameter("weight"), dtype=torch.float64)
        groups = int(getattr(self.layer, "groups", 1))
        patch_sum = torch.zeros_like(weight)
        positions = 0
        for shape, total in self.sums.items():
            with torch.enable_grad():
                tracked = weight.clone().requires_grad_(True)
                outputs = self._outputs(tracked, total)
                (gradient,) = torch.autograd.grad(outputs.sum(), tracked)
            patch_sum += gradient
            positions += self.counts[shape] * (outputs.numel() // len(weight))
        # All output channels of a group have the same inputs.
        patch = patch_sum.reshape(groups, len(weight) // groups, *weight.shape[1:])[:, 0] / positions
        return LayerInputs(patch, self.low, self.high)

    def _outputs(self, weight: Tensor, inputs: Tensor) -> Tensor:
        parameters: dict[str, Tensor | None] = {"weight": weight}
        if self.layer.bias is not None:
            parameters["bias"] = weight.new_zeros(len(weight))
        outputs: Tensor = torch.func.functional_call(self.layer, parameters, (inputs,))  # type: ignore[arg-type]
        return outputs
