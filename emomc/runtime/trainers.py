"""The Trainers of this project: one that trains on the user's devices, and two that use a single device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.plugins.environments import LightningEnvironment

from emomc.common.errors import require
from emomc.runtime.checkpoint_io import WholeCheckpointIO
from emomc.runtime.devices import Devices
from emomc.runtime.gpu import KeptMemoryAccelerator
from emomc.runtime.launch import launcher_devices
from emomc.runtime.lightning_refusals import lightning_refusals


def training_trainer(devices: Devices, *, enable_progress_bar: bool, **more: Any) -> pl.Trainer:
    """Return a Trainer on the user's devices.

    Args:
        devices: devices to train on, and further arguments of the Trainer.
        enable_progress_bar: whether to show progress, unless ``devices.trainer`` sets it.
        more: further arguments of the Trainer; none of them may be in ``devices.trainer``.

    Raises:
        UserError: Lightning refuses a setting, or ``cuda_graphs`` is set for other devices than one GPU.
    """
    count, num_nodes = launcher_devices(devices.devices, devices.num_nodes, "auto")
    options: dict[str, Any] = {
        "accelerator": devices.accelerator,
        "devices": count,
        "num_nodes": num_nodes,
        "strategy": devices.strategy,
        "precision": devices.precision,
        "enable_model_summary": False,
        "enable_progress_bar": enable_progress_bar,
        "num_sanity_val_steps": 0,
        "plugins": [WholeCheckpointIO()],
        # A level of a small network takes only a dozen steps.
        "log_every_n_steps": 5,
    }
    with lightning_refusals():
        trainer = pl.Trainer(**{**options, **devices.trainer}, **more)
    used = f"{trainer.world_size} of kind {trainer.strategy.root_device.type}"
    require(not devices.cuda_graphs or used == "1 of kind cuda", "one CUDA GPU for cuda_graphs", used)
    return trainer


def validation_trainer(device: torch.device, precision: str, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    """Return a Trainer that validates on one device, independently of other processes, and writes nothing.

    Args:
        device: device to run on.
        precision: Lightning's name of the arithmetic, such as ``32-true`` or ``bf16-mixed``.
        callbacks: callbacks of the Trainer.
    """
    return pl.Trainer(**_single_device_options(device, precision, callbacks))


def finetuning_trainer(
    device: torch.device, precision: str, callbacks: Sequence[pl.Callback], *, epochs: int
) -> pl.Trainer:
    """Return a Trainer that trains on one device, independently of other processes, and writes nothing.

    It does not validate.

    Args:
        device: device to run on.
        precision: Lightning's name of the arithmetic.
        callbacks: callbacks of the Trainer.
        epochs: passes over the training images.
    """
    options = _single_device_options(device, precision, callbacks)
    return pl.Trainer(**options, max_epochs=epochs, limit_val_batches=0, gradient_clip_val=1.0)


def quiet_trainer(
    device: torch.device, precision: str, callbacks: Sequence[pl.Callback] = (), **more: Any
) -> pl.Trainer:
    """Return a Trainer for a user's LightningModule: on one device, independently of other processes; writes nothing.

    The module has a logger that drops what it is given, since its steps may use one.

    Args:
        device: device to run on.
        precision: Lightning's name of the arithmetic.
        callbacks: callbacks of the Trainer.
        more: further arguments of the Trainer.
    """
    options = {
        "logger": DummyLogger(),
        # A training could not change tensors that the module makes in inference mode, such as sums of its metrics.
        "inference_mode": False,
    }
    return pl.Trainer(**{**_single_device_options(device, precision, callbacks), **options, **more})


def _single_device_options(device: torch.device, precision: str, callbacks: Sequence[pl.Callback]) -> dict[str, Any]:
    return {
        "accelerator": KeptMemoryAccelerator() if device.type == "cuda" else device.type,
        "devices": 1 if device.type == "cpu" else [device.index or 0],
        "precision": precision,
        # The Trainer must use its own process only, even if a launcher started several.
        "plugins": [LightningEnvironment()],
        "callbacks": list(callbacks),
        # Algorithms chosen by time could be others in the next run, and round otherwise.
        "benchmark": False,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
