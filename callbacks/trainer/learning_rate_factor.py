"""Scale the learning rates of any LightningModule."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer


class LearningRateFactor(pl.Callback):
    """Multiplies every learning rate by a factor, in each step of each optimizer.

    Schedules of torch compute the next rate from the last one, or from rates that they have stored: whichever they do,
    they see their own rates, and the optimizer sees them scaled. A ``LearningRateMonitor`` logs the module's own rates.
    """

    def __init__(self, factor: float) -> None:
        """Set the factor, above 0."""
        self.factor = factor
        self._handles: list[Any] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Attach to the optimizers."""
        for optimizer in trainer.optimizers:
            rates: list[Any] = []
            self._handles.append(optimizer.register_step_pre_hook(self._scaling(rates)))
            self._handles.append(optimizer.register_step_post_hook(_restoring(rates)))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Detach from the optimizers."""
        self._detach()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Detach from the optimizers."""
        self._detach()

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _scaling(self, rates: list[Any]) -> Any:
        def scale(optimizer: Optimizer, *_: Any) -> None:
            rates[:] = [group["lr"] for group in optimizer.param_groups]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * self.factor

        return scale


def _restoring(rates: list[Any]) -> Any:
    def restore(optimizer: Optimizer, *_: Any) -> None:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    return restore
