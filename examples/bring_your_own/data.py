"""Data as any Lightning project has it: a LightningDataModule. EMOMC asks for nothing more than ``num_classes``."""

import numpy as np
import torch
from make_images import CLASSES, draw
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset


class Shapes(LightningDataModule):
    """The images of ``make_images.py``, drawn in memory: 100 of each class to train on, 40 to validate, 40 to test.

    EMOMC fills in ``batch_size`` and ``seed`` because the constructor names them.
    """

    num_classes = len(CLASSES)
    class_names = CLASSES  # optional
    mean, std = (0.5,) * 3, (0.25,) * 3  # optional: how pixels in 0..1 are normalised, noted in an exported network

    def __init__(self, batch_size: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.seed = seed

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return batches of (float images of shape (n, 3, 32, 32), labels)."""
        return DataLoader(self._images(100, part=0), self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return batches of validation images."""
        return DataLoader(self._images(40, part=1), self.batch_size)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return batches of test images."""
        return DataLoader(self._images(40, part=2), self.batch_size)

    def _images(self, per_class: int, part: int) -> TensorDataset:
        random = np.random.default_rng([self.seed, part])
        pixels = np.stack([draw(name, 32, random) for name in CLASSES for _ in range(per_class)])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
        labels = torch.arange(self.num_classes).repeat_interleave(per_class)
        return TensorDataset((images - 0.5) / 0.25, labels)
