"""Measuring the inputs of layers: the mean input under the kernel, the range, and how inputs vary together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from emomc.common.errors import UserError
from emomc.compression.input_products import InputProducts
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph_layers import MATRIX_PRODUCTS
from emomc.networks.layers import LayerShape, output_first


@dataclasses.dataclass(frozen=True)
class LayerInputs:
    """Statistics of the inputs of a convolution or linear layer, over images, output positions and calls."""

    mean_patch: Tensor
    """float64, (groups, inputs per group, *kernel): mean input under the kernel, padding included."""
    low: float
    """Smallest input."""
    high: float
    """Largest input."""
    covariance: Tensor | None = None
    """float32, (blocks, n, n): of the inputs under the kernel, within the blocks of ``InputProducts``; None: not
    measured."""

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest input."""
        return self.low, self.high

    @property
    def mean_square(self) -> float:
        """Mean square of the inputs; where the covariance was not measured, the mean of the squared means: less."""
        total = self.mean_patch.square().sum()
        if self.covariance is not None:
            total = total + self.covariance.diagonal(dim1=1, dim2=2).double().sum()
        return float(total) / self.mean_patch.numel()

    def products(self, *, centred: bool) -> Tensor:
        """Return the mean products of the inputs in each block, float64, (blocks, n, n).

        Args:
            centred: of the differences from the mean input, whose effect a correction of the bias takes away.
        """
        if self.covariance is None:
            raise ValueError("expected inputs whose covariance was measured")
        mean = self.mean_patch.reshape(len(self.covariance), -1)
        return self.covariance.double() + (0 if centred else mean[:, :, None] * mean[:, None, :])


@torch.no_grad()
def measure_inputs(
    network: FoldedNetwork, batches: Iterable[Tensor], *, covariances: bool = False
) -> dict[str, LayerInputs]:
    """Run images through a network and return the statistics of the inputs of its layers that have weights.

    Args:
        network: without rounding of activations.
        batches: images, float, (n, channels, height, width), on the network's device.
        covariances: whether to measure them too.

    Raises:
        UserError: there are no images.
    """
    recorder = _InputRecorder(network, covariances)
    for images in batches:
        recorder.run(images)
    if not all(record.sums for record in recorder.records.values()):
        raise UserError("expected images to measure the inputs of layers on, found none")
    return {name: record.statistics() for name, record in recorder.records.items()}


class _InputRecorder(fx.Interpreter):
    """Runs a network and shows each call of a layer to the layer's record."""

    def __init__(self, network: FoldedNetwork, covariances: bool) -> None:
        super().__init__(network.module)
        self.records = {
            layer.name: _InputRecord(layer, network.module.get_parameter(layer.weight_key), covariances)
            for layer in network.layers
        }
        self._records = {
            node: self.records[layer.name] for layer in network.layers for node in network.calls[layer.name]
        }

    def run_node(self, n: fx.Node) -> Any:
        record = self._records.get(n)
        if record is not None:
            record.add(n, self.env[n.args[0]])  # type: ignore[index]
        return super().run_node(n)


class _InputRecord:
    """The range of the inputs of one layer, and their sums over images and calls, one for each shape of the inputs."""

    def __init__(self, layer: LayerShape, weight: Tensor, covariances: bool) -> None:
        self.layer = layer
        self.weight = weight
        self.sums: dict[tuple[fx.Node, tuple[int, ...]], Tensor] = {}
        self.counts: dict[tuple[fx.Node, tuple[int, ...]], int] = {}
        self.low, self.high = float("inf"), float("-inf")
        self.products = InputProducts(layer, weight.shape[2:]) if covariances else None

    def add(self, node: fx.Node, inputs: Tensor) -> None:
        key = node, tuple(inputs.shape[1:])
        total = inputs.sum(0, keepdim=True).double()
        self.sums[key] = self.sums[key] + total if key in self.sums else total
        self.counts[key] = self.counts.get(key, 0) + len(inputs)
        self.low, self.high = min(self.low, float(inputs.min())), max(self.high, float(inputs.max()))
        if self.products is not None:
            self.products.add(node, inputs)

    def statistics(self) -> LayerInputs:
        """Return the statistics.

        The sum of a layer's outputs is linear in its weights, and its derivative by a weight is the sum of the inputs
        that this weight is multiplied with.
        """
        weight = torch.zeros_like(self.weight, dtype=torch.float64)
        patch_sum = torch.zeros_like(weight)
        positions = 0.0
        for key, total in self.sums.items():
            node = key[0]
            with torch.enable_grad():
                tracked = weight.clone().requires_grad_(True)
                outputs = _outputs(self.layer, node, total, tracked)
                (gradient,) = torch.autograd.grad(outputs.sum(), tracked)
            patch_sum += gradient
            positions += self.counts[key] * (outputs.numel() // self.layer.out_channels)
        ordered = output_first(patch_sum, self.layer)
        groups, channels = self.layer.groups, self.layer.out_channels
        # All output channels of a group have the same inputs.
        patch = ordered.reshape(groups, channels // groups, *ordered.shape[1:])[:, 0] / positions
        covariance = None if self.products is None else self.products.covariance(patch)
        return LayerInputs(patch, self.low, self.high, covariance)


def _outputs(layer: LayerShape, node: fx.Node, inputs: Tensor, weight: Tensor) -> Tensor:
    """Return what a call of a layer gives for other inputs and weights, without a bias."""
    if node.target in MATRIX_PRODUCTS:
        return inputs @ (weight if layer.input_first else weight.T)
    arguments = [inputs, weight, *node.args[2:]]
    if len(arguments) > 2:
        arguments[2] = None
    rest = {key: value for key, value in node.kwargs.items() if key != "bias"}
    outputs: Tensor = node.target(*arguments, **rest)  # type: ignore[operator]
    return outputs
