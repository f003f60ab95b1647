"""Images that lie in memory on the device, given out without a copy."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class ResidentBatches:
    """The batches of a set of images."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int) -> None:
        """Cut the images into batches once.

        Args:
            images: float, (n, channels, height, width), normalised.
            labels: int64, (n,).
            batch_size: images per batch; the last may have fewer.
        """
        batches = zip(images.split(batch_size), labels.split(batch_size), strict=True)
        self._batches = [(part.contiguous(memory_format=torch.channels_last), label) for part, label in batches]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self._batches)


class ResidentBlocks:
    """A loader of blocks, each of whole batches, that can be told to stop after any of them.

    A block costs a Trainer about as much as a small batch costs the network, so there are no more of them than are of
    use: one, unless the iteration may be stopped. Then they have two batches each, but for the first, which has one:
    early images tell most.
    """

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int) -> None:
        """Lay the images out once.

        Args:
            images: float, (n, channels, height, width), normalised.
            labels: int64, (n,).
            batch_size: images per batch; the last may have fewer.
        """
        self._images = images.contiguous(memory_format=torch.channels_last)
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
            stoppable: whether there is a point in stopping before the end.
        """
        images = len(self._labels)
        self._first = seen
        self._stopped = False
        steps = range(seen + self._batch_size, images, 2 * self._batch_size) if stoppable else []
        self._ends = [*steps, images]

    def stop(self) -> None:
        """End the iteration under way before its next block."""
        self._stopped = True
