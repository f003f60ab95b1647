"""The Trainers of this project: one that trains on the user's devices, and two that use one device alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment

from emomc.runtime.checkpoint_io import WholeCheckpointIO
from emomc.runtime.devices import Devices
from emomc.runtime.lightning_refusals import lightning_refusals


def training_trainer(devices: Devices, *, enable_progress_bar: bool, **more: Any) -> pl.Trainer:
    """Return a Trainer on the user's devices.

    Args:
        devices: where, and any other argument of the Trainer.
        enable_progress_bar: unless ``devices.trainer`` says otherwise.
        more: further arguments, which ``devices.trainer`` must not have.

    Raises:
        UserError: Lightning refuses a setting.
    """
    options: dict[str, Any] = {
        "accelerator": devices.accelerator,
        "devices": devices.devices,
        "num_nodes": devices.num_nodes,
        "strategy": devices.strategy,
        "precision": devices.precision,
        "enable_model_summary": False,
        "enable_progress_bar": enable_progress_bar,
        "num_sanity_val_steps": 0,
        "plugins": [WholeCheckpointIO()],
        # A level of a small network is over after a dozen steps.
        "log_every_n_steps": 5,
    }
    with lightning_refusals():
        return pl.Trainer(**{**options, **devices.trainer}, **more)


def validation_trainer(device: torch.device, precision: str, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    """Return a Trainer that validates one network on one device and writes nothing, whatever processes run beside it.

    Args:
        device: where it runs.
        precision: Lightning's name of the arithmetic, such as ``32-true`` or ``bf16-mixed``.
        callbacks: that it calls.
    """
    return pl.Trainer(**_alone_on(device, precision, callbacks))


def finetuning_trainer(
    device: torch.device, precision: str, callbacks: Sequence[pl.Callback], *, epochs: int
) -> pl.Trainer:
    """Return a Trainer that trains one network on one device, without validation, and writes nothing.

    Args:
        device: where it runs.
        precision: Lightning's name of the arithmetic.
        callbacks: that it calls.
        epochs: passes over the training images.
    """
    alone = _alone_on(device, precision, callbacks)
    return pl.Trainer(**alone, max_epochs=epochs, limit_val_batches=0, gradient_clip_val=1.0)


def _alone_on(device: torch.device, precision: str, callbacks: Sequence[pl.Callback]) -> dict[str, Any]:
    return {
        "accelerator": device.type,
        "devices": 1 if device.type == "cpu" else [device.index or 0],
        "precision": precision,
        # Even where a launcher started several processes, this Trainer knows of its own alone.
        "plugins": [LightningEnvironment()],
        "callbacks": list(callbacks),
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
