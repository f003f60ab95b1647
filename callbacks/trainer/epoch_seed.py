"""Make the random state depend on the seed, the epoch and the rank alone."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from emomc.runtime.seeds import derive_seed


class EpochSeed(pl.Callback):
    """Seeds torch at the start of each epoch, so that a resumed run draws the same random numbers."""

    def __init__(self, *key: int | str) -> None:
        """Set the key of the run, such as (seed, stage)."""
        self.key = key

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed from the key, the epoch and the rank, so that ranks augment differently."""
        torch.manual_seed(derive_seed(*self.key, trainer.current_epoch, trainer.global_rank))
