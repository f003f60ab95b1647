"""Segmentation: which pixels of a photograph were written over by hand, found by a small U-Net.

Handwritten digits are laid over cutouts of a photograph; both come with scikit-learn.
"""

import numpy as np
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

SIDE, DIGIT = 32, 16


class Data(pl.LightningDataModule):
    """Images (1, 32, 32) and masks of the same shape: 960 to train on, 240 to validate, 240 to test."""

    def __init__(self, batch_size: int = 40) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        random = np.random.default_rng(0)
        photograph = load_sample_images().images[0].mean(2) / 255
        digits = torch.tensor(load_digits().images / 16, dtype=torch.float32)[:, None]
        digits = functional.interpolate(digits, size=DIGIT, mode="bilinear")[:, 0].numpy()
        images, masks = [], []
        for digit in digits[random.permutation(len(digits))[:1440]]:
            top, left = (random.integers(0, side - SIDE) for side in photograph.shape)
            image = photograph[top : top + SIDE, left : left + SIDE].copy()
            row, column = random.integers(0, SIDE - DIGIT + 1, 2)
            place = np.s_[row : row + DIGIT, column : column + DIGIT]
            image[place] += random.choice([-0.4, 0.4]) * digit
            mask = np.zeros((SIDE, SIDE))
            mask[place] = digit > 0.4
            images.append(image)
            masks.append(mask)
        pairs = [torch.tensor(np.array(part), dtype=torch.float32)[:, None] for part in (images, masks)]
        self.parts = [TensorDataset(*(part[rows] for part in pairs)) for rows in np.split(np.arange(1440), [960, 1200])]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[0], self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[1], self.batch_size)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[2], self.batch_size)


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Return a convolution with its norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    """Two scales down and up again, with skips."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(block(1, width), block(width, width))
        self.middle = block(width, 2 * width)
        self.coarse = nn.Sequential(block(2 * width, 4 * width), block(4 * width, 4 * width))
        self.up_middle = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.join_middle = block(4 * width, 2 * width)
        self.up_fine = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.join_fine = block(2 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(images)
        middle = self.middle(functional.max_pool2d(fine, 2))
        coarse = self.coarse(functional.max_pool2d(middle, 2))
        middle = self.join_middle(torch.cat([middle, self.up_middle(coarse)], 1))
        return self.head(self.join_fine(torch.cat([fine, self.up_fine(middle)], 1)))


class Segmenter(pl.LightningModule):
    """Logs ``val/iou`` and ``test/iou``: intersection over union, the mean over images."""

    def __init__(self, width: int = 8, learning_rate: float = 0.02) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = UNet(width)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, masks = batch
        scores = self.network(images)
        shares = scores.sigmoid()
        overlap = (shares * masks).sum((1, 2, 3)) / (shares + masks).sum((1, 2, 3)).clamp(min=1)
        loss = functional.binary_cross_entropy_with_logits(scores, masks) + 1 - 2 * overlap.mean()
        self.log("train/loss", loss)
        return loss

    def iou(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, masks = batch
        found, masks = self.network(images) > 0, masks > 0
        return ((found & masks).sum((1, 2, 3)) / (found | masks).sum((1, 2, 3)).clamp(min=1)).mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.log("val/iou", self.iou(batch))

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.log("test/iou", self.iou(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), self.hparams.learning_rate)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.hparams.learning_rate, steps + 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
