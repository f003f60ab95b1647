"""Fine-tuning of a compressed network, whose weights are quantized in every forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from emomc.compression.quantization import QuantizedTensor, dequantize, round_to_codes
from emomc.lightning_modules.classifier import Classifier
from emomc.lightning_modules.distillation import Teacher
from emomc.networks.answer import select_answer
from emomc.networks.layers import LayerShape, as_stored, output_first
from emomc.runtime.recipe import Recipe


class QuantizedClassifier(Classifier):
    """A classifier that trains float weights and runs with their quantized values, codes times scales.

    Masks and bits are fixed. Rounding passes gradients unchanged within the grid (straight-through estimator). The
    steps are trained too, as factors of their start values. The network stays in eval mode: norms keep their
    statistics.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        recipe: Recipe,
        weights: Mapping[str, FakeQuantizedWeight],
        *,
        teacher: Teacher | None = None,
    ) -> None:
        """Take the network, the quantizers of its weights and the teacher.

        Args:
            network: folded; the weight of each layer of ``weights`` is the trained one, before its BatchNorm was
                folded in. It is changed in place.
            num_classes: 2 or more.
            recipe: optimizer, learning rate and schedule.
            weights: layer name -> quantizer of its weight.
            teacher: on the device of the training; None: no teacher.
        """
        super().__init__(network, num_classes, recipe)
        self._teacher = teacher
        self._weights = dict(weights)
        quantize_in_training(network, weights)

    def on_train_epoch_start(self) -> None:
        """Keep the network in eval mode: no dropout, and norms keep their statistics."""
        self.network.eval()

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch, of which a share is the divergence from the teacher's answers."""
        if self._teacher is None:
            return super().loss(images, labels)
        answers = self._teacher.answers(self._arranged(images))
        outputs = self._outputs(images)
        return self._teacher.loss(select_answer(outputs, self.output), answers, self._loss_of(outputs, labels))

    @torch.no_grad()
    def quantized(self) -> dict[str, QuantizedTensor]:
        """Return layer name -> current codes and steps, without the factors of folded BatchNorms."""
        return quantized_weights(self.network, self._weights)

    def rest(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Return copies of the named entries of the network's state dict, such as biases."""
        return rest_of(self.network, names)


def quantize_in_training(network: nn.Module, weights: Mapping[str, FakeQuantizedWeight]) -> None:
    """Let a network run with quantized weights: layer name -> quantizer of its weight; it is changed in place."""
    for weight in weights.values():
        folder, _, parameter = weight.layer.weight_key.rpartition(".")
        parametrize.register_parametrization(network.get_submodule(folder), parameter, weight)


@torch.no_grad()
def quantized_weights(network: nn.Module, weights: Mapping[str, FakeQuantizedWeight]) -> dict[str, QuantizedTensor]:
    """Return layer name -> current codes and steps, without the factors of folded BatchNorms."""
    return {name: weight.quantize(network.get_parameter(weight.original)) for name, weight in weights.items()}


def rest_of(network: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Return copies of the named entries of a network's state dict, such as biases."""
    state: dict[str, Tensor] = network.state_dict()
    return {name: state[name].clone() for name in names}


class FakeQuantizedWeight(nn.Module):
    """Turns trained weights into codes times scales, and passes gradients to them."""

    mask: Tensor
    start: Tensor
    factor: Tensor

    def __init__(self, layer: LayerShape, mask: Tensor, start: QuantizedTensor, factor: Tensor | None) -> None:
        """Take the fixed values and the start values of the steps.

        Args:
            layer: whose weights they are.
            mask: true where the weight remains, output channels first.
            start: the layer's quantized weights before fine-tuning.
            factor: float32 (output channels,), of the folded BatchNorm; None if there is none.
        """
        super().__init__()
        self.layer = layer
        self.bits = start.bits
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("start", start.scale, persistent=False)
        self.register_buffer("factor", torch.ones(1) if factor is None else factor, persistent=False)
        self.folded = factor is not None
        # A logarithm, so that steps stay positive and one learning rate suits steps of any size.
        self.log_growth = nn.Parameter(torch.zeros_like(start.scale))

    @property
    def original(self) -> str:
        """Name of the trained weights in the network."""
        folder, _, parameter = self.layer.weight_key.rpartition(".")
        return f"{folder}.parametrizations.{parameter}.original".removeprefix(".")

    @property
    def scale(self) -> Tensor:
        """The current steps, as ``QuantizedTensor.scale``."""
        return self.start * self.log_growth.exp()

    def forward(self, weight: Tensor) -> Tensor:
        """Return the quantized weights, with the factor of the folded BatchNorm."""
        scale = self.scale
        codes: Tensor = _Codes.apply(output_first(weight, self.layer) * self.mask, scale, self.bits)
        return as_stored(dequantize(codes, scale * self.factor if self.folded else scale), self.layer)

    def quantize(self, weight: Tensor) -> QuantizedTensor:
        """Return the codes and steps of trained weights."""
        ordered = output_first(weight, self.layer) * self.mask
        return QuantizedTensor(round_to_codes(ordered, self.scale, self.bits), self.scale, self.bits)


class _Codes(torch.autograd.Function):
    """The codes as floats; the backward pass ignores the rounding but not the clipping.

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
