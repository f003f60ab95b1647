"""BatchNorm statistics of a pruned network."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def reestimate_norms(trainer: pl.Trainer, module: pl.LightningModule, data: pl.LightningDataModule, seed: int) -> None:
    """Average the statistics of every BatchNorm anew over the training images, now that the last mask stands.

    The images are augmented, as those were that the weights were trained on.

    Args:
        trainer: that trained the module.
        module: a classifier, in place.
        data: it was trained on.
        seed: of the augmentation.
    """
    if not any(isinstance(part, _BATCH_NORMS) for part in module.modules()):
        return
    torch.manual_seed(seed)
    device = module.device
    batches = ((images.to(device), labels) for images, labels in data.train_dataloader())
    # Data modules augment while a Trainer trains; no Trainer has met these data where no epoch was asked for.
    data.trainer = trainer
    trainer.training = True
    update_bn((data.on_after_batch_transfer(batch, 0) for batch in batches), module, device=device)
    trainer.training = False
