"""Running a user's validation or test on held batches, and reading the metric."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch

from emomc.common.errors import UserError
from emomc.lightning_modules.candidate import Stopped
from emomc.runtime.trainers import quiet_trainer
from emomc.tasks.held_batches import HeldBatches, with_held
from emomc.tasks.own_process import in_own_process
from emomc.tasks.users_task import UsersTask, errors_of

_SEED = 0


class TaskValidation:
    """Runs the module of a task on its validation or test data, with whatever network is in it, and reads its metric.

    The batches are held in memory, so that every network sees the same. Steps find the user's data module as
    ``self.trainer.datamodule``.
    """

    def __init__(
        self, task: UsersTask, split: str, device: torch.device, precision: str = "32-true", **options: Any
    ) -> None:
        """Prepare; nothing is loaded yet.

        Args:
            task: the module and its data.
            split: ``validation``, or ``test`` for the module's ``test_step``; a module without one validates on the
                test data.
            device: where to run.
            precision: Lightning's name of the arithmetic.
            options: further arguments of the Trainer.
        """
        self.task = task
        self.stopped: Callable[[], bool] = lambda: False
        """Asked before each batch; once it returns True, ``Stopped`` is raised."""
        self.logged: tuple[str, ...] = ()
        """Names of the metrics that the last run logged."""
        self._tests = split == "test" and has_test_step(task)
        self._data, self._held = with_held(
            task.data,
            "test_dataloader" if self._tests else "val_dataloader",
            "test_dataloader" if split == "test" else "val_dataloader",
        )
        self._trainer = quiet_trainer(device, precision, [_StopBetweenBatches(self)], **options)
        self._device = device

    @property
    def batches(self) -> HeldBatches:
        """The batches; they are known after the first run."""
        return self._held[0]

    def run(self, positions: Sequence[int] | None = None) -> float:
        """Return the metric over all batches, or over those at some positions, in this order.

        Raises:
            UserError: the module fails, or logs no such metric.
            Stopped: ``stopped`` returned True.
        """
        if self._held:
            self.batches.choose(positions)
        metrics = self._run()
        names = [name for name in self.names if name in metrics]
        self.logged = tuple(metrics)
        if not names:
            raise missing_metric(self.task, self.names, metrics, "test" if self._tests else "validation")
        value = metrics[names[0]]
        if not isinstance(value, (int, float, torch.Tensor)) or torch.as_tensor(value).numel() != 1:
            raise UserError(f"expected one number as {names[0]} of {self.task.name}, found {type(value).__name__}")
        return float(value)

    @property
    def names(self) -> tuple[str, ...]:
        """Names that the metric may have, the first one first."""
        config, monitor = self.task.config, self.task.monitor
        if not self._tests:
            return (monitor,)
        if config.test_monitor is not None:
            return (config.test_monitor,)
        return (name_in_test(monitor), monitor)

    def _run(self) -> dict[str, Any]:
        module, run = self.task.module, self._trainer.test if self._tests else self._trainer.validate
        step = "test_step" if self._tests else "validation_step"
        self.task.prepare_data()
        with contextlib.ExitStack() as stack:
            stack.enter_context(in_own_process(module, self._data))
            # Steps may draw random numbers: every network gets the same.
            stack.enter_context(torch.random.fork_rng(devices=[]))
            stack.enter_context(_kept_on_device(module, self._device))
            stack.enter_context(errors_of(f"{step} of {self.task.name} to run on its batches"))
            torch.manual_seed(_SEED)
            run(module, datamodule=self._data, verbose=False)
        return dict(self._trainer.callback_metrics)


def finite_or_worst(value: float, worst: float) -> float:
    """Return a value, or the worst one in place of a NaN or an infinity, as a broken network may give."""
    return value if math.isfinite(value) else worst


def has_test_step(task: UsersTask) -> bool:
    """Return whether the module has a ``test_step`` of its own."""
    return type(task.module).test_step is not pl.LightningModule.test_step


def has_test_data(task: UsersTask) -> bool:
    """Return whether the data module has test data."""
    own = getattr(task.data.test_dataloader, "__func__", task.data.test_dataloader)
    return own is not pl.LightningDataModule.test_dataloader


def name_in_test(monitor: str) -> str:
    """Return the name of a validation metric with test in place of val."""
    for word in ("validation", "valid", "val"):
        if monitor.startswith(word):
            return f"test{monitor.removeprefix(word)}"
    return monitor


def missing_metric(
    task: UsersTask, names: Sequence[str], logged: Sequence[str] | dict[str, Any], split: str
) -> UserError:
    """Return the error for a metric that is not logged."""
    known = ", ".join(sorted(logged)) or "nothing"
    return UserError(f"expected {task.name} to log {names[0]!r} in its {split}, found that it logs {known} there")


@contextlib.contextmanager
def _kept_on_device(module: pl.LightningModule, device: torch.device) -> Any:
    """Let a Trainer leave a module on a GPU after its run; it would move it to the CPU and back for the next."""
    if device.type == "cpu":
        yield
        return
    module.cpu = lambda: module  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.cpu


class _StopBetweenBatches(pl.Callback):
    """Ends a validation or test without a result once it is stopped from outside."""

    def __init__(self, validation: TaskValidation) -> None:
        self._validation = validation

    def on_validation_batch_start(self, *_: Any) -> None:
        """Raise ``Stopped`` if the validation must end."""
        if self._validation.stopped():
            raise Stopped

    def on_test_batch_start(self, *_: Any) -> None:
        """Raise ``Stopped`` if the test must end."""
        if self._validation.stopped():
            raise Stopped
