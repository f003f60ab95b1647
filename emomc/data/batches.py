"""The image indices of each batch, and a loader of images in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from emomc.data.images import Images


class EpochBatches(DistributedSampler[Tensor]):
    """Yields the image indices of one batch after another.

    With ``shuffle``, the order depends only on the seed and the epoch, and the sizes of batches differ by at most one,
    since a small last batch would disturb BatchNorm. Without it, every batch but the last is full.

    It is a ``DistributedSampler`` so that Lightning calls ``set_epoch`` and does not replace it by its own sampler.

    Args:
        count: number of images.
        batch_size: largest number of images in a batch.
        shuffle: whether every epoch has a new random order; otherwise the order is 0, 1, 2, ...
        seed: decides the random orders.
        rank: rank of this device, 0..world_size-1.
        world_size: number of devices. All get the same number of images, so up to ``world_size - 1`` images occur twice
            in an epoch.
    """

    def __init__(
        self, count: int, batch_size: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(range(count), world_size, rank, shuffle, seed)  # type: ignore[arg-type]
        self.count = count
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(math.ceil(self.count / self.num_replicas) / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        share = self._share()
        if not self.shuffle:
            yield from share.split(self.batch_size)
        elif len(share):
            yield from share.tensor_split(len(self))

    def _share(self) -> Tensor:
        """Indices of this device's images."""
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(self.count) if self.shuffle else np.arange(self.count)
        per_device = math.ceil(self.count / self.num_replicas)
        return torch.from_numpy(np.resize(order, per_device * self.num_replicas)[self.rank :: self.num_replicas].copy())


class ResidentLoader:
    """Yields batches of images in memory: (uint8 images of shape (n, c, h, w), int64 labels of shape (n,)).

    They are on the device of the images.

    Lightning accepts any iterable object with a length as a loader. It calls ``set_epoch`` of its ``sampler``, and then
    also expects a ``batch_sampler``.
    """

    batch_sampler = None

    def __init__(self, images: Images, sampler: EpochBatches) -> None:
        self.images = images
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for indices in self.sampler:
            yield self.images[indices]
