"""What layers see: the mean input under the kernel and the range of the inputs."""

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
    """The inputs of one convolution or linear layer, over images, output positions and calls."""

    mean_patch: Tensor
    """float64, (groups, inputs per group, *kernel): mean input under the kernel, padding included."""
    low: float
    """Least input."""
    high: float
    """Largest input."""

    @property
    def range(self) -> tuple[float, float]:
        """Least and largest input."""
        return self.low, self.high


@torch.no_grad()
def measure_inputs(network: nn.Module, layers: Iterable[str], batches: Iterable[Tensor]) -> dict[str, LayerInputs]:
    """Run images through a network and return what its layers see.

    Args:
        network: in eval mode.
        layers: names of convolutions and linear layers.
        batches: images, float, (n, channels, height, width), on the network's device.

    Raises:
        UserError: a layer is not called.
    """
    watched = {name: _Watched(network.get_submodule(name)) for name in layers}
    with ExitStack() as hooks:
        for watch in watched.values():
            handle = watch.layer.register_forward_pre_hook(watch.look)
            hooks.callback(handle.remove)
        for images in batches:
            network(images)
    silent = [name for name, watch in watched.items() if not watch.sums]
    if silent:
        raise UserError(f"expected every layer to be called, found that {silent[0]} is not")
    return {name: watch.inputs() for name, watch in watched.items()}


class _Watched:
    """Sums what one layer is given, over images and over calls with inputs of one shape."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.sums: dict[tuple[int, ...], Tensor] = {}
        self.counts: dict[tuple[int, ...], int] = {}
        self.low, self.high = float("inf"), float("-inf")

    def look(self, layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        given = arguments[0]
        shape = tuple(given.shape[1:])
        total = given.sum(0, keepdim=True).double()
        self.sums[shape] = self.sums[shape] + total if shape in self.sums else total
        self.counts[shape] = self.counts.get(shape, 0) + len(given)
        self.low, self.high = min(self.low, float(given.min())), max(self.high, float(given.max()))

    def inputs(self) -> LayerInputs:
        """The sum of a layer's outputs is linear in its weights; the derivative is the sum of the inputs they meet."""
        weight = torch.zeros_like(self.layer.get_parameter("weight"), dtype=torch.float64)
        groups = int(getattr(self.layer, "groups", 1))
        met = torch.zeros_like(weight)
        positions = 0
        for shape, total in self.sums.items():
            with torch.enable_grad():
                tracked = weight.clone().requires_grad_(True)
                outputs = self._outputs(tracked, total)
                (gradient,) = torch.autograd.grad(outputs.sum(), tracked)
            met += gradient
            positions += self.counts[shape] * (outputs.numel() // len(weight))
        # Every output channel of a group meets the same inputs.
        patch = met.reshape(groups, len(weight) // groups, *weight.shape[1:])[:, 0] / positions
        return LayerInputs(patch, self.low, self.high)

    def _outputs(self, weight: Tensor, given: Tensor) -> Tensor:
        parameters: dict[str, Tensor | None] = {"weight": weight}
        if self.layer.bias is not None:
            parameters["bias"] = weight.new_zeros(len(weight))
        outputs: Tensor = torch.func.functional_call(self.layer, parameters, (given,))  # type: ignore[arg-type]
        return outputs
