"""Fine-tuning of a network at one level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from emomc.compression.channel_options import TAYLOR
from emomc.compression.channels import IMPORTANCES, ChannelPruning, Scores, Values
from emomc.lightning_modules.classifier import Classifier
from emomc.networks.answer import select_answer
from emomc.networks.replacement import run_with
from emomc.runtime.recipe import Recipe


class PrePruningClassifier(Classifier):
    """A classifier with masks of its remaining weights.

    The masks are buffers, so a checkpoint has them; ``emomc.callbacks.PruningSchedule`` sets them and keeps the removed
    weights at zero. Logs ``density`` (fraction of the compressible weights that remain).
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        recipe: Recipe,
        masks: Mapping[str, Tensor],
        *,
        weight_keys: Mapping[str, str] | None = None,
        output: str | None = None,
    ) -> None:
        """Take the network and the masks to start from.

        Args:
            network: as for ``Classifier``.
            num_classes: 2 or more.
            recipe: optimizer, learning rate and schedule.
            masks: name of each compressible layer -> boolean tensor of its weights' shape.
            weight_keys: layer name -> name of the parameter with its weights; ``NAME.weight`` where not given.
            output: as for ``Classifier``.
        """
        super().__init__(network, num_classes, recipe, output)
        self._weight_keys = {name: (weight_keys or {}).get(name, f"{name}.weight") for name in masks}
        self._epoch_density = 1.0
        # Names of modules may have dots, which names of buffers must not have.
        for index, mask in enumerate(masks.values()):
            self.register_buffer(f"mask_{index}", mask.clone())

    @property
    def masks(self) -> dict[str, Tensor]:
        """Layer name -> boolean tensor, true where the weight remains."""
        return {name: self.get_buffer(f"mask_{index}") for index, name in enumerate(self._weight_keys)}

    @property
    def weights(self) -> dict[str, Tensor]:
        """Layer name -> the layer's weights."""
        return {name: self.network.get_parameter(key) for name, key in self._weight_keys.items()}

    @property
    def density(self) -> float:
        """Fraction of the compressible weights that remain, 0..1."""
        masks = self.masks.values()
        return sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)

    def scores_with(self, weights: Mapping[str, Tensor], batches: Iterable[Tensor]) -> Tensor:
        """Return class scores (n, classes) with other weights for some layers.

        Args:
            weights: layer name -> weights to use instead of the layer's own.
            batches: images, (n, channels, height, width), normalised, on the module's device.
        """
        replaced = {self._weight_keys[name]: weight for name, weight in weights.items()}
        outputs = (run_with(self.network, replaced, self._arranged(images)) for images in batches)
        return torch.cat([select_answer(output, self.output) for output in outputs])

    def channel_scores(self, channels: ChannelPruning) -> Scores:
        """Return the importance of each label of the network's channels, (labels,)."""
        gradients: dict[str, Tensor] = {}
        if channels.importance == TAYLOR:
            gradients = self._gradients(channels.batches)
        with torch.no_grad():
            parameters = dict(self.network.named_parameters())
            return IMPORTANCES[channels.importance](channels.groups, Values(parameters, gradients))

    def _gradients(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Return the mean gradient of the loss of some batches by name of the weights, in eval mode."""
        training = self.training
        self.eval()
        with torch.inference_mode(False), torch.enable_grad():
            losses = [self.loss(images.to(self.device), labels.to(self.device)) for images, labels in batches]
            weights = {key: self.network.get_parameter(key) for key in self._weight_keys.values()}
            found = torch.autograd.grad(torch.stack(losses).mean(), list(weights.values()))
        self.train(training)
        return dict(zip(weights, found, strict=True))

    def set_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Replace the masks and set the removed weights to zero."""
        for name, mask in self.masks.items():
            mask.copy_(masks[name])
        self.apply_masks()

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Set the removed weights to zero."""
        masks = self.masks
        for name, weight in self.weights.items():
            weight.mul_(masks[name])

    def on_train_epoch_start(self) -> None:
        """Compute the density; masks change only before this, at the start of an epoch."""
        self._epoch_density = self.density

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        """Log the density."""
        if self._is_step_to_log:
            self.log("density", self._epoch_density, prog_bar=True, rank_zero_only=True)
