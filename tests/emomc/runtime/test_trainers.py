"""Trainers that use a single device."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from emomc.runtime.trainers import validation_trainer


def test_writes_nothing_and_has_the_callbacks_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    callback = pl.Callback()
    trainer = validation_trainer(torch.device("cpu"), "bf16-mixed", [callback])
    assert trainer.callbacks == [callback]
    assert trainer.precision == "bf16-mixed"
    assert trainer.logger is None
    assert not list(tmp_path.iterdir())


def test_callbacks_of_installed_packages_are_kept(tmp_path, monkeypatch):
    package = tmp_path / "adds_callbacks-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: adds-callbacks\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[pytorch_lightning.callbacks_factory]\nadds = adds_callbacks:make\n")
    (tmp_path / "adds_callbacks.py").write_text(
        "import pytorch_lightning as pl\n\ndef make():\n    return pl.Callback()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert len(validation_trainer(torch.device("cpu"), "32-true").callbacks) == 1
