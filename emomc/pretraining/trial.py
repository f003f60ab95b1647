"""Try out a network and its data before anything is written."""

from __future__ import annotations

import copy

import pytorch_lightning as pl
import torch
from torch import nn

from emomc.common.errors import UserError, first_line
from emomc.data.splits import Split, load_some
from emomc.lightning_modules.image_data import ImageDataModule

_SPLITS: tuple[Split, ...] = ("train", "validation")
_IMAGES = 64


def try_out(network: nn.Module, data: pl.LightningDataModule) -> None:
    """Load some images of each split and run one of them through the network.

    Raises:
        UserError: images cannot be loaded, or the network fails on one or gives scores that are not finite floats.
    """
    if isinstance(data, ImageDataModule):
        data.load_resident()
    name = type(network).__name__
    tried = copy.deepcopy(network).eval()
    for split in _SPLITS:
        images, _ = load_some(data, split, _IMAGES)
        try:
            with torch.no_grad():
                scores = tried(images[:1])
        except Exception as error:
            raise UserError(
                f"expected a network that takes {split} images of shape {tuple(images.shape[1:])}, found that {name} "
                f"fails on one: {first_line(error)}"
            ) from error
        if not scores.is_floating_point() or not bool(scores.isfinite().all()):
            raise UserError(f"expected finite class scores from {name}, found {scores.dtype} {scores[0].tolist()}")
