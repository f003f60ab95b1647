"""Training of an image classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from emomc.common.errors import UserError
from emomc.data.pairs import pair_of
from emomc.data.splits import check_batch, check_labels
from emomc.networks.answer import auxiliary_answers, select_answer
from emomc.runtime.optimizers import make_optimizer, make_schedule
from emomc.runtime.recipe import Recipe

Batch = tuple[Tensor, Tensor]

AUXILIARY_WEIGHT = 0.3
"""Weight of the loss of an auxiliary head."""


class Classifier(pl.LightningModule):
    """Trains any network that maps images to class scores, with the cross-entropy loss.

    Logs ``train/loss`` at the steps that the Trainer logs, ``val/loss`` and ``val/accuracy`` (micro, 0..1) per epoch.
    """

    def __init__(self, network: nn.Module, num_classes: int, recipe: Recipe, output: str | None = None) -> None:
        """Take the network as it is.

        Args:
            network: maps float images (n, channels, height, width) to scores (n, num_classes), or to several outputs.
            num_classes: 2 or more.
            recipe: optimizer, learning rate and schedule.
            output: which of several outputs has the scores; see ``select_answer``.
        """
        super().__init__()
        memory_format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.network = network.to(memory_format=memory_format)
        self.recipe = recipe
        self.output = output
        self.num_classes = num_classes
        self._memory_format = memory_format
        self.run_in_training: Callable[[Tensor], Any] | None = None
        """What runs the network in training, such as a ``GraphedNetwork``; None: it runs itself."""
        self._finite = torch.ones((), dtype=torch.bool)
        self._loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        # The default average of torchmetrics is over classes; accuracy here is over images.
        # The labels are checked before.
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores (n, classes) for normalised images (n, channels, height, width)."""
        return select_answer(self._outputs(images), self.output)

    def _outputs(self, images: Tensor) -> Any:
        run = self.run_in_training if self.training else None
        return (run or self.network)(self._arranged(images))

    def _arranged(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=self._memory_format)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch: of the scores, and 0.3 times that of each auxiliary head.

        Source of the weight: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 5.
        """
        return self._loss_of(self._outputs(images), labels)

    def _loss_of(self, outputs: Any, labels: Tensor) -> Tensor:
        scores = select_answer(outputs, self.output)
        loss: Tensor = self._loss(scores, labels)
        for auxiliary in auxiliary_answers(outputs, scores):
            loss = loss + AUXILIARY_WEIGHT * self._loss(auxiliary, labels)
        return loss

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check the labels before they are moved to the device; a wrong label would abort the process on a GPU.

        Labels on a GPU are not checked, since that would wait for the batches before.

        Raises:
            UserError: a label is outside 0..num_classes-1.
        """
        _, labels = pair_of(batch) or (None, None)
        if not isinstance(labels, Tensor) or labels.device.type != "cpu":
            return batch
        if len(labels) and not labels.is_floating_point():
            check_labels(labels, self.num_classes, "train" if self.trainer.training else "validation")
        return batch

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of one batch of (images, labels)."""
        images, labels = check_batch(batch, "train")
        loss = self.loss(images, labels)
        if self._is_step_to_log:
            self.log("train/loss", loss, prog_bar=True)
        return loss

    @property
    def _is_step_to_log(self) -> bool:
        """Whether the logger takes this step, or it ends an epoch: a Trainer takes long to note what it then drops."""
        trainer = self.trainer
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a part of the Trainer
        return trainer.is_last_batch or (every > 0 and (trainer.global_step + 1) % every == 0)

    def on_validation_epoch_start(self) -> None:
        """Reset the check for finite scores."""
        self._finite = torch.ones((), dtype=torch.bool, device=self.device)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Add one batch to the validation accuracy."""
        images, labels = check_batch(batch, "validation")
        scores = self(images)
        self._finite &= scores.isfinite().all()
        self.val_accuracy(scores, labels)
        self.log("val/loss", nn.functional.cross_entropy(scores, labels), sync_dist=True)
        self.log("val/accuracy", self.val_accuracy, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        """Stop a training that has diverged, before its network is saved.

        Raises:
            UserError: a score was not finite.
        """
        if not self._finite:
            raise UserError(
                f"expected finite class scores after epoch {self.current_epoch + 1}, found a NaN or an infinity: "
                f"a lower learning rate may help"
            )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer and the schedule, which advances at every step."""
        recipe = self.recipe
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer = make_optimizer(self.network, recipe)
        scheduler = make_schedule(optimizer, recipe, steps, max(1, steps // max(1, self.trainer.max_epochs or 1)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
