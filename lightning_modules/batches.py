"""Which images make up each batch, and loaders over images in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from emomc.lightning_modules.images import Images


class EpochBatches(DistributedSampler[Tensor]):
    """Yields the indices of one batch after another.

    Shuffled, the order is a function of the seed and the epoch alone, and an epoch is cut into batches whose sizes differ
    by at most one: no small last batch disturbs BatchNorm. In order, every batch is full but the last.

    It is a ``DistributedSampler`` so that Lightning calls ``set_epoch`` and puts no sampler of its own in its place.

    Args:
        indices: int64, shape (n,): the images to draw from.
        batch_size: most images in a batch.
        shuffle: a new order for every epoch, or the order of ``indices``.
        seed: decides the orders.
        rank: number of this device among all.
        world_size: number of devices. All get equally many images; to make up the number, up to ``world_size - 1`` images
            are seen twice in an epoch.
    """

    def __init__(
        self, indices: Tensor, batch_size: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(indices, num_replicas=world_size, rank=rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self.indices = indices
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(math.ceil(len(self.indices) / self.num_replicas) / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        share = self._share()
        if not self.shuffle:
            yield from self.indices[share].split(self.batch_size)
        elif len(share):
            yield from self.indices[share].tensor_split(len(self))

    def _share(self) -> Tensor:
        """Positions, among all indices, of this device's images."""
        images = len(self.indices)
        order = (
            np.random.default_rng([self.seed, self.epoch]).permutation(images) if self.shuffle else np.arange(images)
        )
        per_device = math.ceil(images / self.num_replicas)
        return torch.from_numpy(np.resize(order, per_device * self.num_replicas)[self.rank :: self.num_replicas].copy())


class ResidentLoader:
    """Iterates over batches of images in memory: (uint8 images of shape (n, c, h, w), int64 labels of shape (n,)).

    Lightning takes any iterable object with a length as one loader; it looks for ``sampler`` to tell the epoch.
    """

    def __init__(self, images: Images, sampler: EpochBatches) -> None:
        self.images = images
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for indices in self.sampler:
            yield self.images[indices]
