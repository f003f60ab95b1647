"""A training that goes on from a checkpoint sees the same samples in the same order as one that was not stopped."""

import random

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from emomc.callbacks.trainer.loader_seeds import LoaderSeeds


class Drawn(Dataset):
    """Samples that are augmented by the random numbers of Python and torch."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index, random.random(), float(torch.rand(()))])


class Data(pl.LightningDataModule):
    def __init__(self, **options) -> None:
        super().__init__()
        self.options = options

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Drawn(), 4, **self.options)


class Records(pl.LightningModule):
    """Keeps what it sees in each epoch, and a random number that a step draws."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.seen: dict[int, list] = {}

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        self.seen.setdefault(self.current_epoch, []).append([*batch.flatten().tolist(), float(torch.rand(()))])
        return (batch * self.weight).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("options", [{"shuffle": True}, {"sampler": WeightedRandomSampler([1.0] * 12, 12)}])
def test_a_resumed_training_sees_the_same_samples(tiny_trainer, tmp_path, options):
    def trained(epochs: int, checkpoint=None) -> Records:
        torch.manual_seed(epochs)
        random.seed(epochs)
        module, data = Records(), Data(**options)
        trainer = tiny_trainer(max_epochs=epochs, callbacks=[LoaderSeeds(3, "level")])
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        if checkpoint is None:
            trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        assert "train_dataloader" not in vars(data)
        return module

    trained(1)
    whole, rest = trained(3), trained(3, tmp_path / "1.ckpt")
    assert rest.seen.keys() == {1, 2}
    assert {epoch: whole.seen[epoch] for epoch in (1, 2)} == rest.seen
    assert whole.seen[0] != whole.seen[1]
