"""Training a network to classify images."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torchmetrics.classification import MulticlassAccuracy

from emomc.common.errors import UserError
from emomc.data.splits import check_batch, check_labels

Batch = tuple[Tensor, Tensor]
OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["one_cycle", "cosine", "halving"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the weights of a network are fitted in one run of a Trainer."""

    learning_rate: float
    """Largest learning rate of the run."""
    optimizer: OptimizerName = "adamw"
    """``sgd`` is with Nesterov momentum 0.9."""
    weight_decay: float = 0.01
    schedule: ScheduleName = "one_cycle"
    """``one_cycle`` rises and falls once; ``cosine`` falls from the start; ``halving`` halves every 30 epochs."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes, 0..1."""
    channels_last: bool = True
    """Keep weights and images channels last, the faster layout on CPUs and tensor cores."""
    warmup_fraction: float = 0.3
    """Share of a one-cycle run in which the learning rate rises."""


class Classifier(pl.LightningModule):
    """Cross-entropy training of any network that maps images to class scores.

    Logs ``train/loss`` per step and ``val/loss``, ``val/accuracy``, ``test/accuracy`` (micro, 0..1) per epoch.
    """

    def __init__(self, network: nn.Module, num_classes: int, recipe: Recipe) -> None:
        """Take the network as it is.

        Args:
            network: maps float images (n, channels, height, width) to scores (n, num_classes).
            num_classes: 2 or more.
            recipe: optimizer, learning rate and schedule.
        """
        super().__init__()
        memory_format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.network = network.to(memory_format=memory_format)
        self.recipe = recipe
        self.num_classes = num_classes
        self._memory_format = memory_format
        self._finite = torch.ones((), dtype=torch.bool)
        self._loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        # The default average of torchmetrics is over classes; accuracy here is over images.
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores (n, classes) for normalised images (n, channels, height, width)."""
        scores: Tensor = self.network(images.contiguous(memory_format=self._memory_format))
        return scores

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Refuse labels that name no class while they lie in main memory; a GPU would end the process over them.

        Raises:
            UserError: a label is outside 0..num_classes-1.
        """
        labels = batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else None
        if isinstance(labels, Tensor) and len(labels) and not labels.is_floating_point():
            check_labels(labels, self.num_classes, "train" if self.trainer.training else "validation")
        return batch

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of one batch of (images, labels)."""
        images, labels = check_batch(batch, "train")
        loss: Tensor = self._loss(self(images), labels)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Expect finite scores."""
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
        """End a training that went astray, before it is kept.

        Raises:
            UserError: a score was not finite.
        """
        if not self._finite:
            raise UserError(
                f"expected finite class scores after epoch {self.current_epoch + 1}, found a NaN or an infinity: "
                f"a lower learning rate may help"
            )

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Add one batch to the test accuracy."""
        images, labels = batch
        self.test_accuracy(self(images), labels)
        self.log("test/accuracy", self.test_accuracy)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer and the schedule, which moves at every step."""
        recipe = self.recipe
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer = _make_optimizer(self.network, recipe)
        scheduler = _make_schedule(optimizer, recipe, steps, max(1, steps // max(1, self.trainer.max_epochs or 1)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    # Norm parameters and biases are not decayed.
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=recipe.learning_rate)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def _make_schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int, steps_per_epoch: int
) -> lr_scheduler.LRScheduler:
    if recipe.schedule == "one_cycle":
        # One step more than is taken: the schedule refuses to be asked beyond its end.
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=recipe.learning_rate,
            total_steps=steps + 1,
            pct_start=max(recipe.warmup_fraction, 1.5 / (steps + 1)),
            cycle_momentum=False,
        )
    if recipe.schedule == "cosine":
        return lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1))))
    return lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 ** (step // steps_per_epoch // 30))
