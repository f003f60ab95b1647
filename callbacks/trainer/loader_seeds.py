"""Make the order and the augmentation of a user's training data depend on the seed, the epoch and the rank alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import DataLoader

from emomc.networks.interface import leaves
from emomc.runtime.seeds import derive_seed

_NUMPY_SEEDS = 1 << 32


class SeededGenerator(torch.Generator):
    """Random numbers that ``LoaderSeeds`` gave to a loader or sampler, which may live as long as the data module."""


class LoaderSeeds(pl.Callback):
    """Seeds the training loaders of a user's data module at the start of each epoch; see ``EpochSeed``.

    A Trainer that resumes makes the iterator of its first epoch before that epoch starts, and every other one after. So
    that both give the same samples, shuffling gets random numbers of its own, unless the user has given it some.
    """

    def __init__(self, *key: int | str) -> None:
        """Set the key of the run, such as (seed, stage)."""
        self.key = key
        self._generators: list[torch.Generator] = []
        self._own: Any = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let the data module return seeded loaders from now on."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._own = vars(data).get("train_dataloader")
        data.train_dataloader = self._seeded(trainer, data.train_dataloader)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the data module its own method back."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if self._own is None:
            del data.train_dataloader
        else:
            data.train_dataloader = self._own

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed the order of this epoch."""
        self._seed(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Seed torch before the first step, since loaders may have taken numbers of it or not."""
        if batch_idx == 0:
            torch.manual_seed(derive_seed(*self.key, "steps", trainer.current_epoch, trainer.global_rank))

    def _seeded(self, trainer: pl.Trainer, load: Callable[[], Any]) -> Callable[[], Any]:
        def loaders() -> Any:
            made = load()
            self._generators = [generator for loader in _data_loaders(made) for generator in _own_generators(loader)]
            self._seed(trainer)
            return made

        return loaders

    def _seed(self, trainer: pl.Trainer) -> None:
        where = trainer.current_epoch, trainer.global_rank
        for place, generator in enumerate(self._generators):
            generator.manual_seed(derive_seed(*self.key, "loader", place, *where))
        # Augmentation in this process takes the random numbers of any of these.
        seed = derive_seed(*self.key, "samples", *where)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % _NUMPY_SEEDS)


def _data_loaders(made: Any) -> Iterator[DataLoader[Any]]:
    """Yield the DataLoaders in what a data module returns."""
    for _, one in leaves(made):
        if isinstance(one, CombinedLoader):
            yield from _data_loaders(list(one.flattened))
        elif isinstance(one, DataLoader):
            yield one


def _own_generators(loader: DataLoader[Any]) -> Iterator[torch.Generator]:
    """Yield the generators of a loader and its samplers, each with one of its own where the user gave none."""
    batches = loader.batch_sampler
    owners: list[Any] = [loader, loader.sampler, batches, getattr(batches, "sampler", None)]
    for owner in owners:
        # A sampler of the user's own may have no generator at all.
        found = getattr(owner, "generator", owner)
        if found is None and owner is not None:
            owner.generator = found = SeededGenerator()
        if isinstance(found, SeededGenerator):
            yield found
