"""The images of a split, held in memory for many evaluations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from emomc.runtime.digests import TensorDigest

# Images that are made floats at once for a digest.
_PART = 1024


class HeldImages:
    """Labelled images in memory: floats as a network takes them or, where those would take too much, pixels.

    Args:
        images: float32, or uint8 with ``prepare``, shape (n, channels, height, width).
        labels: int64, shape (n,).
        prepare: makes normalised float32 images of uint8 ones, image by image; None: ``images`` are floats.
    """

    def __init__(self, images: Tensor, labels: Tensor, prepare: Callable[[Tensor], Tensor] | None = None) -> None:
        self.images = images
        self.labels = labels
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.labels)

    def floats(self, first: int, end: int) -> Tensor:
        """Return some images as a network takes them, float32, shape (end - first, channels, height, width)."""
        part = self.images[first:end]
        return part if self.prepare is None else self.prepare(part)

    def ordered(self, order: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> HeldImages:
        """Return the images in another order, int64 (n,), and memory format."""
        return HeldImages(self.images[order].contiguous(memory_format=memory_format), self.labels[order], self.prepare)

    def digest(self) -> str:
        """Return the ``tensor_digest`` of the floats and the labels; it is the same however they are held."""
        digest = TensorDigest()
        digest.begin(tuple(self.images.shape), torch.float32)
        for first in range(0, len(self), _PART):
            digest.add(self.floats(first, first + _PART))
        digest.begin(tuple(self.labels.shape), self.labels.dtype)
        digest.add(self.labels)
        return digest.hex()
