"""Batches and blocks of images in device memory, without copies."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class ResidentBatches:
    """The batches of images in device memory."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        """Split the images into batches.

        Args:
            images: float, (n, channels, height, width), normalised.
            labels: int64, (n,).
            batch_size: images per batch; the last may have fewer.
            memory_format: of the batches.
        """
        batches = zip(images.split(batch_size), labels.split(batch_size), strict=True)
        self._batches = [(part.contiguous(memory_format=memory_format), label) for part, label in batches]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self._batches)


class ResidentBlocks:
    """A loader of blocks of whole batches, which can be stopped after any block.

    The overhead of a Trainer per block is about the time of a small batch, so there are few blocks: only one, unless
    the iteration may be stopped. Then the first block has one batch, since early images decide most often, and the
    others have two.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        """Store the images.

        Args:
            images: float, (n, channels, height, width), normalised.
            labels: int64, (n,).
            batch_size: images per batch; the last may have fewer.
            memory_format: of the blocks.
        """
        self._images = images.contiguous(memory_format=memory_format)
        self._labels = labels
        self._batch_size = batch_size
        self.begin(0, stoppable=True)

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        first = self._first
        for end in self._ends:
            if self._stopped:
                return
            yield self._images[first:end], self._labels[first:end]
            first = end

    def begin(self, seen: int, *, stoppable: bool) -> None:
        """Prepare the next iteration.

        Args:
            seen: images to leave out at the start, whole batches.
            stoppable: whether the iteration may be stopped before its end.
        """
        images = len(self._labels)
        self._first = seen
        self._stopped = False
        steps = range(seen + self._batch_size, images, 2 * self._batch_size) if stoppable else []
        self._ends = [*steps, images]

    def stop(self) -> None:
        """End the current iteration before its next block."""
        self._stopped = True
