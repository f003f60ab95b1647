"""A dataset of training and test images, and the split that holds out validation images."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from emomc.common.errors import UserError
from emomc.data.images import Images


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """Images to train, validate and test with, and facts about them."""

    train: Images
    test: Images | None
    """None: there are none."""
    class_names: tuple[str, ...]
    mean: tuple[float, ...] | None
    """Per channel, of pixels in 0..1; None: the images are floats, for a network as they are."""
    std: tuple[float, ...] | None
    """Per channel, of pixels in 0..1; None: as for ``mean``."""
    validation_fraction: float = 0.1
    """Share of the training images to hold out if the user gives none."""
    validation: Images | None = None
    """None: they are held out of the training images."""

    @property
    def is_colour(self) -> bool:
        """Whether the images have three channels."""
        return self.train.image_shape[0] == 3


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Hold out the same share of every class.

    Args:
        labels: int64, shape (n,).
        fraction: share to hold out, above 0 and below 1. Of every class at least one image is held out and at least one
            is kept. Where this needs no correction, the number held out differs from the share by less than one in
            every class and is exact (rounded) in total.
        seed: decides which images are held out.

    Returns:
        The indices kept and the indices held out, int64, in ascending order.

    Raises:
        UserError: a class has fewer than two images.
    """
    classes, counts = np.unique(labels.numpy(), return_counts=True)
    if counts.min() < 2:
        smallest = classes[counts.argmin()]
        raise UserError(f"expected at least 2 training images of every class, found 1 of class {smallest}")
    # The largest remainder method: whole numbers that add up to the rounded share of all images.
    quota = fraction * counts
    held = np.floor(quota).astype(int)
    left = max(0, round(fraction * len(labels)) - int(held.sum()))
    held[np.argsort(held - quota, kind="stable")[:left]] += 1
    held = np.clip(held, 1, counts - 1)
    held_out = np.zeros(len(labels), dtype=bool)
    for label, count in zip(classes, held, strict=True):
        members = np.flatnonzero(labels.numpy() == label)
        held_out[np.random.default_rng([seed, int(label)]).permutation(members)[:count]] = True
    return torch.from_numpy(np.flatnonzero(~held_out)), torch.from_numpy(np.flatnonzero(held_out))
