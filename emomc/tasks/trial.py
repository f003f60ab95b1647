"""Trying out a user's task before anything is written: its validation, its training, and its network as a graph."""

from __future__ import annotations

import copy
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from emomc.common.errors import UserError
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import NetworkGraph
from emomc.networks.state import unique_state
from emomc.runtime.seeds import derive_seed
from emomc.runtime.trainers import quiet_trainer
from emomc.tasks.logged_metric import logged_metric
from emomc.tasks.network_calls import NetworkCalls
from emomc.tasks.own_process import in_own_process
from emomc.tasks.users_task import UsersTask, errors_of
from emomc.tasks.validation import TaskValidation, has_test_data

SAMPLES = 512
"""Inputs of the network that are kept of the training data; all if there are fewer."""
# Batches of validation that a trial runs, and of training at least.
_BATCHES = 2
_CHECKED = 64
# How far the metric of the exported graph may be from that of the module, as a fraction.
_TOLERANCE = 1e-3
_CPU = torch.device("cpu")
# Validation at the end of the epoch, since a schedule may read what it logs.
_SHORT: dict[str, Any] = {"max_epochs": 1, "limit_val_batches": _BATCHES, "num_sanity_val_steps": 0}


def try_validation(task: UsersTask) -> Tensor:
    """Run some batches of validation and, if there is one, of the test; return inputs of the network, (n, ...).

    The task learns what its network takes and returns, and what the metric is.

    Raises:
        UserError: a step fails, the metric is not logged, or the network is called with something else than tensors.
    """
    _refuse_unusual(task)
    try:
        with NetworkCalls(task.network, _CHECKED) as calls, logged_metric(task.module, task.monitor) as logged:
            TaskValidation(task, "validation", _CPU, limit_val_batches=_BATCHES).run()
    except UserError as error:
        raise _better(error, task) from None
    if has_test_data(task):
        TaskValidation(task, "test", _CPU, limit_val_batches=_BATCHES, limit_test_batches=_BATCHES).run()
    joined = calls.inputs()
    task.learn(calls.interface(), logged[-1])
    return joined


def training_inputs(task: UsersTask, seed: int, samples: int = SAMPLES) -> list[Tensor]:
    """Train a copy of the module for some batches, and return what its network got, (n, ...) for each batch.

    The inputs are those of training, augmented as there.

    Args:
        task: its module is not changed.
        seed: of the order of the data and of the augmentation.
        samples: to return, or all if there are fewer.

    Raises:
        UserError: the training fails.
    """
    module, data = _detached_copy(task), copy.copy(task.data)
    with NetworkCalls(module.get_submodule(task.attribute), samples) as calls:
        trainer = quiet_trainer(_CPU, "32-true", [_Enough(calls)], **_SHORT)
        with (
            torch.random.fork_rng(devices=[]),
            torch.inference_mode(False),
            torch.enable_grad(),
            errors_of(f"{task.name} to train on its first batches"),
            in_own_process(module, data),
        ):
            torch.manual_seed(derive_seed(seed, "inputs"))
            trainer.fit(module, datamodule=data)
    calls.inputs()  # or it was never called
    return calls.batches


def check_exported(task: UsersTask, graph: NetworkGraph) -> None:
    """Check that the module gives the same metric with the exported graph in place of its network.

    Raises:
        UserError: it gives another, or it fails, since it calls parts of its network.
    """
    what = "let its steps call the network as a whole, and nothing inside it"
    folded = FoldedNetwork(graph).to(_CPU)
    folded.load(folded.fold(unique_state(task.network)))
    validation = TaskValidation(task, "validation", _CPU, limit_val_batches=_BATCHES)
    own = validation.run()
    with task.with_network(folded.module):
        try:
            exported = validation.run()
        except UserError as error:
            reason = error.__cause__ or error
            raise UserError(
                f"expected {task.name} to run with the exported graph of its network, found: {reason}; {what}"
            ) from None
    if abs(exported - own) > _TOLERANCE * max(abs(own), 1e-3):
        raise UserError(
            f"expected {task.name} to log the same {task.monitor} with the exported graph of its network, found "
            f"{exported:g} in place of {own:g}: {what}"
        )


def _refuse_unusual(task: UsersTask) -> None:
    """Refuse a module whose validation or training is not its own.

    Raises:
        UserError: it has no such step.
    """
    for name in ("training_step", "validation_step", "configure_optimizers"):
        if getattr(type(task.module), name) is getattr(pl.LightningModule, name):
            raise UserError(f"expected {task.name} to have a {name}, found none")


def _better(error: UserError, task: UsersTask) -> UserError:
    """Return an error that says so if the metric that validation lacks is logged in training."""
    if "to log" not in str(error):
        return error
    module, data = _detached_copy(task), copy.copy(task.data)
    trainer = quiet_trainer(_CPU, "32-true", limit_train_batches=_BATCHES, **_SHORT)
    what = f"{task.name} to train on its first batches"
    with errors_of(what), torch.enable_grad(), in_own_process(module, data):
        trainer.fit(module, datamodule=data)
    if task.monitor not in trainer.callback_metrics:
        return error
    return UserError(
        f"expected {task.name} to log {task.monitor!r} in its validation, found that it logs it in training alone"
    )


def _detached_copy(task: UsersTask) -> pl.LightningModule:
    """Return a copy of the module that no Trainer has."""
    try:
        trainer: pl.Trainer | None = task.module.trainer
    except RuntimeError:  # it has none
        return copy.deepcopy(task.module)
    task.module.trainer = None
    try:
        return copy.deepcopy(task.module)
    finally:
        task.module.trainer = trainer


class _Enough(pl.Callback):
    """Ends a training once enough inputs were kept, and lets none of validation be kept."""

    def __init__(self, calls: NetworkCalls) -> None:
        self._calls = calls

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Stop after some batches at least."""
        trainer.should_stop = trainer.should_stop or (self._calls.left <= 0 and batch_idx + 1 >= _BATCHES)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep nothing until validation ends."""
        self._calls.paused = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on."""
        self._calls.paused = False
