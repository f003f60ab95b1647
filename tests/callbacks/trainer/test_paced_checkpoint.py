"""A checkpoint for the resume that costs at most about a tenth of the time."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from emomc.callbacks.trainer.paced_checkpoint import PacedCheckpoint
from emomc.lightning_modules.classifier import Classifier
from emomc.runtime.recipe import Recipe


@pytest.fixture
def train(tmp_path, monkeypatch):
    def run(epochs, seconds_of_writing=0.0):
        """Train a small network; return the epochs after which its checkpoint was written."""
        written = []
        save = pl.Trainer.save_checkpoint

        def slow(trainer, path, *more, **options):
            save(trainer, path, *more, **options)
            written.append(trainer.current_epoch)
            time.sleep(seconds_of_writing)

        monkeypatch.setattr(pl.Trainer, "save_checkpoint", slow)
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        data = DataLoader(TensorDataset(torch.randn(8, 1, 2, 2), torch.arange(8) % 2), 8)
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            callbacks=[PacedCheckpoint(tmp_path / "last.ckpt")],
        )
        trainer.fit(Classifier(network, 2, Recipe(0.1)), data, data)
        assert [file.name for file in tmp_path.rglob("*.ckpt")] == ["last.ckpt"]
        return written

    return run


def test_slow_writing_leaves_epochs_out(train):
    assert train(6, seconds_of_writing=2.0) == [0]


def test_it_is_written_again_once_it_is_due(train, monkeypatch):
    clock = SimpleNamespace(monotonic=map(float, range(0, 1000, 2)).__next__)
    monkeypatch.setattr("emomc.callbacks.trainer.paced_checkpoint.time", clock)
    # Each look at the clock takes 2 s, so writing takes 2 s, and the next is due after 18 s more.
    assert train(12) == [0, 9]
