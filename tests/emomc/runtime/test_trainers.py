"""Trainers for validation: quick to make, and still open to what installed packages add."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.connectors import callback_connector

from emomc.runtime import trainers
from emomc.runtime.trainers import ValidationTrainers


def test_writes_nothing_and_has_the_callbacks_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    callback = pl.Callback()
    trainer = ValidationTrainers(torch.device("cpu"), "bf16-mixed").make([callback])
    assert trainer.callbacks == [callback]
    assert trainer.precision == "bf16-mixed"
    assert trainer.logger is None
    assert not list(tmp_path.iterdir())


def test_lightning_looks_for_callbacks_again_afterwards():
    look = callback_connector._load_external_callbacks
    ValidationTrainers(torch.device("cpu"), "32-true").make()
    assert callback_connector._load_external_callbacks is look


def test_callbacks_of_installed_packages_are_kept(tmp_path, monkeypatch):
    package = tmp_path / "adds_callbacks-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: adds-callbacks\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[{trainers._CALLBACKS_OF_PACKAGES}]\nadds = adds_callbacks:make\n")
    (tmp_path / "adds_callbacks.py").write_text(
        "import pytorch_lightning as pl\n\ndef make():\n    return pl.Callback()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert len(ValidationTrainers(torch.device("cpu"), "32-true").make().callbacks) == 1
