"""Re-estimate the BatchNorm statistics of a pruned network."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from emomc.data.splits import as_transferred

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def reestimate_norms(trainer: pl.Trainer, module: pl.LightningModule, data: pl.LightningDataModule, seed: int) -> None:
    """Average the statistics of every BatchNorm again over the training images, after the last pruning.

    The images are augmented as in training.

    Args:
        trainer: the Trainer of the module.
        module: a classifier, changed in place.
        data: the data it was trained on.
        seed: seed of the augmentation.
    """
    if not any(isinstance(part, _BATCH_NORMS) for part in module.modules()):
        return
    torch.manual_seed(seed)
    # A Trainer leaves its module on the CPU.
    device = trainer.strategy.root_device
    module.to(device)
    # Data modules augment only while their Trainer trains; with 0 epochs they have no Trainer yet.
    data.trainer = trainer
    trainer.training = True
    update_bn(
        (as_transferred(data, batch, device, "train") for batch in data.train_dataloader()), module, device=device
    )
    trainer.training = False
