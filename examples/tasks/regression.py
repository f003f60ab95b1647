"""Regression: how far diabetes has gone a year later, from ten measurements; the data come with scikit-learn."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanAbsoluteError


class Data(pl.LightningDataModule):
    """Ten measurements of 442 patients, and the progression of the disease in units of 100."""

    def setup(self, stage: str) -> None:
        measurements, progression = load_diabetes(return_X_y=True)
        order = torch.randperm(len(progression), generator=torch.Generator().manual_seed(0))
        inputs = torch.tensor(measurements, dtype=torch.float32)[order] * 20
        targets = torch.tensor(progression, dtype=torch.float32)[order] / 100
        parts = zip(inputs.split([262, 90, 90]), targets.split([262, 90, 90]), strict=True)
        self.train, self.validation, self.test = (TensorDataset(*part) for part in parts)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, 32, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.validation, 90)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.test, 90)


class Regressor(pl.LightningModule):
    """Logs ``val/mae`` and ``test/mae``, the mean absolute error; smaller is better."""

    def __init__(self, width: int = 32, learning_rate: float = 3e-3) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.network = nn.Sequential(
            nn.Linear(10, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )
        self.error = MeanAbsoluteError()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs)[:, 0]

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        inputs, targets = batch
        loss = nn.functional.mse_loss(self(inputs), targets)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.error(self(batch[0]), batch[1])
        self.log("val/mae", self.error)

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.error(self(batch[0]), batch[1])
        self.log("test/mae", self.error)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.learning_rate)
