"""Random state that depends on the seed and the epoch alone."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from emomc.runtime.seeds import derive_seed


class EpochSeed(pl.Callback):
    """Seeds torch at the start of each epoch, so that a resumed run draws what it would have drawn."""

    def __init__(self, *key: int | str) -> None:
        """Take what names the run, such as (seed, level)."""
        self.key = key

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed from the key, the epoch and the rank: ranks must not augment alike."""
        torch.manual_seed(derive_seed(*self.key, trainer.current_epoch, trainer.global_rank))
