"""A signal over time: does a neuron fire within the next moments? A recording of a membrane comes with matplotlib."""

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib import cbook
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import BinaryAveragePrecision

WINDOW, AHEAD = 64, 24


class Data(pl.LightningDataModule):
    """Windows (1, 64) of the recording and whether a spike begins in the 24 samples after; blocks of time are split."""

    def __init__(self, batch_size: int = 128) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        with cbook.get_sample_data("membrane.dat") as file:
            signal = np.frombuffer(file.read(), np.float32)
        spikes = np.flatnonzero((signal[1:] > -0.2) & (signal[:-1] <= -0.2))
        starts = np.arange(0, len(signal) - WINDOW - AHEAD, 2)
        windows = np.stack([signal[start : start + WINDOW] for start in starts])
        ends = starts + WINDOW
        fires = np.searchsorted(spikes, ends) != np.searchsorted(spikes, ends + AHEAD)
        inputs = torch.tensor((windows - signal.mean()) / signal.std())[:, None]
        labels = torch.tensor(fires, dtype=torch.float32)
        # Every fifth block of time is for validation, and every fifth for the test.
        block = torch.tensor(starts // 400 % 5)
        self.parts = [TensorDataset(inputs[chosen], labels[chosen]) for chosen in (block < 3, block == 3, block == 4)]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[0], self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[1], self.batch_size)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[2], self.batch_size)


class Spotter(pl.LightningModule):
    """Logs ``val/ap`` and ``test/ap``, the average precision: a metric of all windows together."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv1d(1, width, 7, stride=2, padding=3),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, 2 * width, 5, stride=2, padding=2),
            nn.BatchNorm1d(2 * width),
            nn.ReLU(),
            nn.Conv1d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * width, 16),
            nn.ReLU(),
            nn.Linear(16, 1),
        )
        self.precision_of = nn.ModuleDict({"val_": BinaryAveragePrecision(), "test_": BinaryAveragePrecision()})

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        windows, fires = batch
        loss = nn.functional.binary_cross_entropy_with_logits(self.network(windows)[:, 0], fires)
        self.log("train/loss", loss)
        return loss

    def measure(self, batch: tuple[Tensor, Tensor], split: str) -> None:
        windows, fires = batch
        metric = self.precision_of[f"{split}_"]
        metric(self.network(windows)[:, 0], fires.int())
        self.log(f"{split}/ap", metric)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.measure(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.measure(batch, "test")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": schedule}
