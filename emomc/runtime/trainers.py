"""Trainers that validate one network, many times over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.trainer.connectors import callback_connector

_CALLBACKS_OF_PACKAGES = "pytorch_lightning.callbacks_factory"


class ValidationTrainers:
    """Makes Trainers that validate on one device, alone whatever processes run beside it, and write nothing."""

    def __init__(self, device: torch.device, precision: str) -> None:
        """Choose what all of them have in common.

        Args:
            device: where they run.
            precision: Lightning's name of the arithmetic, such as ``32-true`` or ``bf16-mixed``.
        """
        self._device = device
        self._precision = precision
        self._packages_add_callbacks = bool(entry_points(group=_CALLBACKS_OF_PACKAGES))

    def make(self, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
        """Return a Trainer with these callbacks."""
        with contextlib.nullcontext() if self._packages_add_callbacks else _packages_not_searched():
            return pl.Trainer(
                accelerator=self._device.type,
                devices=1 if self._device.type == "cpu" else [self._device.index or 0],
                precision=self._precision,  # type: ignore[arg-type]
                plugins=[LightningEnvironment()],
                callbacks=list(callbacks),
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )


@contextlib.contextmanager
def _packages_not_searched() -> Iterator[None]:
    """Keep Lightning from reading the entry points of all installed packages for a Trainer.

    It looks for callbacks there whenever one is made: 3 to 9 ms, a twentieth of a small network's validation.
    """
    look = callback_connector._load_external_callbacks
    callback_connector._load_external_callbacks = lambda group: []
    try:
        yield
    finally:
        callback_connector._load_external_callbacks = look
