"""Fine-tuning of a level that will be quantized: random bits in every batch, and a teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emomc.compression.fake_quantization import fake_quantize
from emomc.lightning_modules.distillation import distillation_loss
from emomc.lightning_modules.pre_pruning import PrePruningClassifier
from emomc.networks.answer import select_answer
from emomc.networks.layers import LayerShape, as_stored, output_first
from emomc.networks.replacement import run_with
from emomc.runtime.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Teaching:
    """What a pruned network is taught by, and which bits it is taught to stand."""

    teacher: nn.Module
    """A network of the same kind, in eval mode; it is not changed."""
    distillation: float
    """Share of the loss that is the divergence from the teacher's answers, 0..1."""
    bits: tuple[int, int] = (2, 8)
    """Fewest and most bits of a layer, 2..12."""


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
        teaching: Teaching,
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
            teaching: the teacher, the share of its loss, and the bits; the teacher is not part of a checkpoint.
            output: as for ``Classifier``.
        """
        keys = {layer.name: layer.weight_key for layer in layers}
        super().__init__(network, num_classes, recipe, masks, weight_keys=keys, output=output)
        self._layers = tuple(layers)
        # Not a module itself, so that the teacher's weights are not weights of this module.
        self._teaching = teaching

    def on_fit_start(self) -> None:
        """Move the teacher to the device of this module."""
        self._teaching.teacher.to(self.device, memory_format=self._memory_format)  # type: ignore[call-overload]

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean of the losses of the weights as they are and of quantized ones."""
        with torch.no_grad():
            answers = select_answer(self._teaching.teacher(self._arranged(images)), self.output)
        plain = self._taught_loss(self._outputs(images), labels, answers)
        return 0.5 * (plain + self._taught_loss(self._quantized_outputs(images), labels, answers))

    def _taught_loss(self, outputs: Any, labels: Tensor, answers: Tensor) -> Tensor:
        of_labels, share = self._loss_of(outputs, labels), self._teaching.distillation
        return distillation_loss(select_answer(outputs, self.output), answers, of_labels, share)

    def _quantized_outputs(self, images: Tensor) -> Any:
        """Run the network with a random number of bits in each layer; its norms keep their running statistics."""
        fewest, most = self._teaching.bits
        drawn = torch.randint(fewest, most + 1, (len(self._layers),)).tolist()
        weights = {
            layer.weight_key: as_stored(
                fake_quantize(output_first(self.network.get_parameter(layer.weight_key), layer), bits), layer
            )
            for layer, bits in zip(self._layers, drawn, strict=True)
        }
        # In-place changes of these copies do not reach the network.
        buffers = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        return run_with(self.network, {**buffers, **weights}, self._arranged(images))
