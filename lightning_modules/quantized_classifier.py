"""Fine-tuning a compressed network: weights that are rounded in every forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from emomc.compression.quantization import QuantizedTensor, dequantize, round_to_codes
from emomc.lightning_modules.classifier import Classifier
from emomc.runtime.recipe import Recipe


class QuantizedClassifier(Classifier):
    """A classifier whose layers' weights are codes times scales; what is trained lies behind the rounding.

    Masks and bits are fixed. Rounding passes gradients on unchanged within the grid (straight-through estimator); the
    steps learn too, as factors of what they were. The network stays in eval mode: norms keep their statistics.
    """

    def __init__(
        self, network: nn.Module, num_classes: int, recipe: Recipe, weights: Mapping[str, FakeQuantizedWeight]
    ) -> None:
        """Take a network and how its weights are made.

        Args:
            network: folded; the weight of each layer of ``weights`` is the trained one, before its BatchNorm was
                folded in. It is changed in place.
            num_classes: 2 or more.
            recipe: optimizer, learning rate and schedule.
            weights: layer name -> how its weight is rounded.
        """
        super().__init__(network, num_classes, recipe)
        self._weights = dict(weights)
        for name, weight in weights.items():
            parametrize.register_parametrization(network.get_submodule(name), "weight", weight)

    def on_train_epoch_start(self) -> None:
        """Keep what the network evaluates with: no dropout, norms with the statistics they have."""
        self.network.eval()

    @torch.no_grad()
    def quantized(self) -> dict[str, QuantizedTensor]:
        """Return layer name -> codes and steps as they are now, before any BatchNorm is folded in."""
        return {
            name: weight.quantize(self.network.get_parameter(f"{name}.parametrizations.weight.original"))
            for name, weight in self._weights.items()
        }

    def rest(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Return the named other entries of the network's state dict, such as biases."""
        state: dict[str, Tensor] = self.network.state_dict()
        return {name: state[name].clone() for name in names}


class FakeQuantizedWeight(nn.Module):
    """Turns trained weights into codes times scales, and lets gradients through."""

    mask: Tensor
    start: Tensor
    factor: Tensor

    def __init__(self, mask: Tensor, start: QuantizedTensor, factor: Tensor | None) -> None:
        """Take what is fixed and where the steps start.

        Args:
            mask: true where the weight remains.
            start: the layer's quantized weights before tuning.
            factor: float32 (output channels,), of the folded BatchNorm; None without.
        """
        super().__init__()
        self.bits = start.bits
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("start", start.scale, persistent=False)
        self.register_buffer("factor", torch.ones(1) if factor is None else factor, persistent=False)
        self.folded = factor is not None
        # The logarithm: steps stay positive, and one learning rate suits steps of any size.
        self.log_growth = nn.Parameter(torch.zeros_like(start.scale))

    @property
    def scale(self) -> Tensor:
        """The steps as they are now, as ``QuantizedTensor.scale``."""
        return self.start * self.log_growth.exp()

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weights that the network runs with."""
        scale = self.scale
        codes: Tensor = _Codes.apply(weight * self.mask, scale, self.bits)
        return dequantize(codes, scale * self.factor if self.folded else scale)

    def quantize(self, weight: Tensor) -> QuantizedTensor:
        """Return the codes and steps of trained weights."""
        return QuantizedTensor(round_to_codes(weight * self.mask, self.scale, self.bits), self.scale, self.bits)


class _Codes(torch.autograd.Function):
    """The codes as floats; backward as if they were not rounded, only clipped.

    Source: Bengio, Leonard, Courville, arXiv 1308.3432 (straight-through); Esser et al., "Learned Step Size
    Quantization", ICLR 2020 (the gradient of the step).
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor, bits: int) -> Tensor:
        ctx.save_for_backward(weight, scale)
        ctx.top = 2 ** (bits - 1) - 1
        return round_to_codes(weight, scale, bits).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, scale = ctx.saved_tensors
        step = scale.view(-1, *[1] * (weight.ndim - 1))
        exact = weight / step
        within = gradients[0] * (exact.abs() <= ctx.top)
        of_scale = -(within * exact).flatten(1).sum(1) / scale
        return within / step, of_scale.sum(0, keepdim=True) if len(scale) == 1 else of_scale, None
