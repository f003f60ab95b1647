"""Fine-tuning of a level that will be quantized: random bits in every batch, and a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emomc.compression.fake_quantization import fake_quantize
from emomc.lightning_modules.distillation import Teacher
from emomc.lightning_modules.pre_pruning import PrePruningClassifier
from emomc.networks.answer import select_answer
from emomc.networks.layers import LayerShape, as_stored, output_first
from emomc.networks.replacement import run_with
from emomc.runtime.recipe import Recipe

FEWEST_BITS, MOST_BITS = 2, 8
"""Between which the bits of each layer are drawn."""


class RobustPrePruningClassifier(PrePruningClassifier):
    """Fine-tunes a pruned network so that it stays accurate when its weights are quantized afterwards.

    Every batch runs twice, as it is and with a random number of bits in each layer, and the loss is the mean of both.
    A part of either loss is the cross-entropy with the labels, the other the divergence from the teacher's answers.

    Source of random bits: Jin, Yang, Liao, "AdaBits: Neural Network Quantization with Adaptive Bit-Widths", CVPR 2020.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        recipe: Recipe,
        masks: Mapping[str, Tensor],
        layers: Sequence[LayerShape],
        teacher: Teacher,
        *,
        output: str | None = None,
    ) -> None:
        """Take the network, the masks to start from, and what they are taught by.

        Args:
            network: as for ``Classifier``.
            num_classes: 2 or more.
            recipe: optimizer, learning rate and schedule.
            masks: name of each compressible layer -> boolean tensor of its weights' shape.
            layers: the compressible layers.
            teacher: a network of the same kind, such as the dense one.
            output: as for ``Classifier``.
        """
        keys = {layer.name: layer.weight_key for layer in layers}
        super().__init__(network, num_classes, recipe, masks, weight_keys=keys, output=output)
        self._layers = tuple(layers)
        self._teacher = teacher

    def on_fit_start(self) -> None:
        """Move the teacher to the device of this module."""
        self._teacher.network.to(self.device, memory_format=self._memory_format)  # type: ignore[call-overload]

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean of the losses of the weights as they are and of quantized ones."""
        answers = self._teacher.answers(self._arranged(images))
        both = (self._outputs(images), self._quantized_outputs(images))
        plain, quantized = (
            self._teacher.loss(select_answer(outputs, self.output), answers, self._loss_of(outputs, labels))
            for outputs in both
        )
        return 0.5 * (plain + quantized)

    def _quantized_outputs(self, images: Tensor) -> Any:
        """Run the network with a random number of bits in each layer; its norms keep their running statistics."""
        drawn = torch.randint(FEWEST_BITS, MOST_BITS + 1, (len(self._layers),)).tolist()
        weights = {
            layer.weight_key: as_stored(
                fake_quantize(output_first(self.network.get_parameter(layer.weight_key), layer), bits), layer
            )
            for layer, bits in zip(self._layers, drawn, strict=True)
        }
        # In-place changes of these copies do not reach the network.
        buffers = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        return run_with(self.network, {**buffers, **weights}, self._arranged(images))
