"""Random state that depends on the seed and the epoch alone."""

from __future__ import annotations

import hashlib

import pytorch_lightning as pl
import torch


class EpochSeed(pl.Callback):
    """Seeds torch at the start of each epoch, so that a resumed run draws what it would have drawn."""

    def __init__(self, *key: int | str) -> None:
        """Take what names the run, such as (seed, level)."""
        self.key = key

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed from the key, the epoch and the rank: ranks must not augment alike."""
        torch.manual_seed(derive_seed(*self.key, trainer.current_epoch, trainer.global_rank))


def derive_seed(*key: int | str) -> int:
    """Return a seed in 0..2^63-1 that is a pure function of the key."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
