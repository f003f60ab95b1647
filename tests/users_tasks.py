"""Small tasks as users write them: a module, its data, and the ways in which they can be wrong."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanSquaredError

FEATURES = 6


class Points(pl.LightningDataModule):
    """A smooth function of six numbers."""

    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.set_up_for: list[str] = []
        self.scale = 1.0

    def setup(self, stage: str) -> None:
        self.set_up_for.append(stage)
        inputs = torch.randn(192, FEATURES, generator=torch.Generator().manual_seed(0))
        targets = torch.tanh(inputs[:, :1] + inputs[:, 1:2] * inputs[:, 2:3])
        self.parts = [TensorDataset(inputs[rows], targets[rows]) for rows in torch.arange(192).split([96, 48, 48])]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[0], self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[1], self.batch_size)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[2], self.batch_size)


class Regressor(pl.LightningModule):
    """Logs ``val/mse`` of torchmetrics, and ``val/close``: the share of answers that are near, a mean of samples."""

    def __init__(self, width: int = 12, learning_rate: float = 0.02) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.net = nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.net.append(nn.Linear(width, 1))
        self.error = MeanSquaredError()

    def training_step(self, batch: Any, index: int) -> Tensor:
        inputs, targets = batch
        loss = nn.functional.mse_loss(self.net(inputs), targets)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.measure(batch, "val")

    def test_step(self, batch: Any, index: int) -> None:
        self.measure(batch, "test")

    def measure(self, batch: Any, split: str) -> None:
        answers, targets = self.net(batch[0]), batch[1]
        self.error(answers, targets)
        self.log(f"{split}/mse", self.error)
        self.log(f"{split}/close", ((answers - targets).abs() < 0.3).float().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), self.learning_rate)


class LogsInTrainingAlone(Regressor):
    def training_step(self, batch: Any, index: int) -> Tensor:
        loss = super().training_step(batch, index)
        self.log("val/other", loss)
        return loss


class TwoOptimizers(Regressor):
    """Lightning refuses it: several optimizers need manual optimization."""

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.net[0].parameters(), 0.1), torch.optim.SGD(self.net[2].parameters(), 0.1)]


class ManualOptimization(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, index: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, index))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.net[:2].parameters(), 0.1), torch.optim.SGD(self.net[2:].parameters(), 0.1)]


class NeedsItsData(Regressor):
    """Its validation asks for the user's data module."""

    def measure(self, batch: Any, split: str) -> None:
        self.scale = self.trainer.datamodule.scale
        super().measure(batch, split)


class CallsParts(Regressor):
    """Its validation calls a part of the network."""

    def measure(self, batch: Any, split: str) -> None:
        self.net(batch[0])
        self.log(f"{split}/mse", self.net[0](batch[0]).square().mean())


class TwoNetworks(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(2, 2)


class TrainsMore(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))


class WithoutLayers(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.ReLU())


class TwoInputs(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Bilinear(FEATURES, FEATURES, 1)
        self.net.layer = nn.Linear(1, 1)

    def training_step(self, batch: Any, index: int) -> Tensor:
        return self.net(batch[0], batch[0]).square().mean()

    def measure(self, batch: Any, split: str) -> None:
        self.log(f"{split}/mse", self.net(batch[0], batch[0]).square().mean())


class Breaks(Regressor):
    def validation_step(self, batch: Any, index: int) -> None:
        raise RuntimeError("the wheels came off")


class Signal(pl.LightningModule):
    """Convolutions over time of inputs (n, channels, time)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(2, 6, 5, padding=2), nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 6, 3))
        self.body.extend([nn.ReLU(), nn.ConvTranspose1d(6, 1, 3)])

    def training_step(self, batch: Any, index: int) -> Tensor:
        return (self.body(batch["signal"]) - batch["target"]).square().mean()

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val/mse", (self.body(batch["signal"]) - batch["target"]).square().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.01)


class Signals(pl.LightningDataModule):
    """Batches as mappings; no test data."""

    def train_dataloader(self) -> DataLoader:
        signals = torch.randn(64, 2, 24, generator=torch.Generator().manual_seed(0))
        return DataLoader([{"signal": one, "target": one.sum(0, keepdim=True)} for one in signals], 16, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        signals = torch.randn(32, 2, 24, generator=torch.Generator().manual_seed(1))
        return DataLoader([{"signal": one, "target": one.sum(0, keepdim=True)} for one in signals], 16)
