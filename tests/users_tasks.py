"""Small tasks as users write them: a module, its data, and the ways in which they can be wrong."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanSquaredError, MetricCollection, R2Score
from torchmetrics.classification import BinaryAccuracy

FEATURES = 6


class Points(pl.LightningDataModule):
    """A smooth function of six numbers."""

    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.set_up_for: list[str] = []
        self.scale = 1.0

    def prepare_data(self) -> None:
        """Nothing to download, but Lightning makes processes wait for each other here."""

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


class LogsAccuracy(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.near = BinaryAccuracy()

    def measure(self, batch: Any, split: str) -> None:
        answers, targets = self.net(batch[0]), batch[1]
        self.near(answers > 0, targets > 0)
        self.log_dict({f"{split}/near": self.near})


class WithCallbacks(Regressor):
    """A schedule that reads a metric of validation, callbacks of its own, and metrics that it sums up itself."""

    def __init__(self) -> None:
        super().__init__()
        self.errors = MetricCollection({"mse": MeanSquaredError(), "r2": R2Score()}, prefix="val/")

    def validation_step(self, batch: Any, index: int) -> None:
        self.errors.update(self.net(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.errors.compute())
        self.errors.reset()

    def configure_callbacks(self) -> list[pl.Callback]:
        return [EarlyStopping("val/mse", patience=1, min_delta=10.0), ModelCheckpoint(monitor="val/mse")]

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "val/mse"},
        }


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


class TakesWholeNumbers(Regressor):
    def measure(self, batch: Any, split: str) -> None:
        self.log(f"{split}/mse", self.net(batch[0].long()).square().mean())


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


class SceneNetwork(nn.Module):
    """Takes an image and, by keyword, numbers; returns a map and, nested, two answers of different shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.numbers = nn.Sequential(nn.Linear(3, 6), nn.ReLU())
        self.map = nn.Conv2d(6, 1, 1)
        self.direction = nn.Linear(12, 2)
        self.total = nn.Linear(12, 1)

    def forward(self, image: Tensor, *, numbers: Tensor) -> dict[str, Any]:
        features = self.body(image)
        both = torch.cat([features.mean((2, 3)), self.numbers(numbers)], 1)
        return {"map": self.map(features), "heads": (self.direction(both), self.total(both)[:, 0])}


class Scene(pl.LightningModule):
    """A network of several inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SceneNetwork()

    def error(self, batch: Any) -> Tensor:
        found = self.net(batch["image"], numbers=batch["numbers"])
        direction, total = found["heads"]
        errors = (
            found["map"] - batch["image"].relu(),
            direction - batch["numbers"][:, :2],
            total - batch["image"].mean((1, 2, 3)) - batch["numbers"][:, 2],
        )
        return sum(error.square().mean() for error in errors)

    def training_step(self, batch: Any, index: int) -> Tensor:
        return self.error(batch)

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val/mse", self.error(batch))

    def test_step(self, batch: Any, index: int) -> None:
        self.log("test/mse", self.error(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.02)


class Scenes(pl.LightningDataModule):
    """Images of 8x8 with three numbers each."""

    def loader(self, seed: int, count: int) -> DataLoader:
        generator = torch.Generator().manual_seed(seed)
        images, numbers = torch.randn(count, 1, 8, 8, generator=generator), torch.randn(count, 3, generator=generator)
        pairs = zip(images, numbers, strict=True)
        return DataLoader([{"image": image, "numbers": three} for image, three in pairs], 16, shuffle=seed == 0)

    def train_dataloader(self) -> DataLoader:
        return self.loader(0, 96)

    def val_dataloader(self) -> DataLoader:
        return self.loader(1, 48)

    def test_dataloader(self) -> DataLoader:
        return self.loader(2, 48)
