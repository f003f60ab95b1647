"""The training stages of a user's own task."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from emomc.callbacks.trainer.learning_rate_factor import LearningRateFactor
from emomc.callbacks.trainer.loader_seeds import LoaderSeeds
from emomc.callbacks.trainer.module_pruning import ModulePruning, PrunedNetwork
from emomc.callbacks.trainer.pruning_schedule import PruningSchedule
from emomc.callbacks.trainer.random_bits import RandomBits
from emomc.common.errors import UserError
from emomc.common.run_folder import RunFolder
from emomc.compression.levels import Level, LevelName
from emomc.library.library import Library
from emomc.library.manifest import DENSE, metric_of
from emomc.networks.joined import one_tensor_network
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.stages import StageTraining, stage_of
from emomc.runtime.devices import Devices
from emomc.tasks.own_process import without_callbacks
from emomc.tasks.users_task import UsersTask
from emomc.tasks.validation import TaskValidation, finite_or_worst


class TaskStages(StageTraining):
    """Trains the levels of a user's own task: its module's steps and optimizers, with callbacks that prune."""

    def __init__(
        self,
        config: PretrainingConfig,
        task: UsersTask,
        inputs: Sequence[Tensor],
        library: Library,
        run: RunFolder,
        devices: Devices,
        callbacks: Callable[[str], Sequence[pl.Callback]],
    ) -> None:
        """Set the task, the library and the settings.

        Args:
            config: the settings of the levels.
            task: its module is trained in place by every stage.
            inputs: of the network in training, (n, ...) each, that the statistics of BatchNorms are taken from.
            library: receives the trained levels.
            run: folder of checkpoints and logs.
            devices: where to train.
            callbacks: returns further callbacks for the Trainer of a stage.
        """
        super().__init__(config, task.data, task.network, library, run, devices, callbacks)
        self.task = task
        self._inputs = inputs

    def _dense_module(self) -> pl.LightningModule:
        return self.task.module

    def _level_module(
        self, level: LevelName, masks: Mapping[str, Tensor]
    ) -> tuple[pl.LightningModule, PruningSchedule, list[pl.Callback]]:
        layers = self.library.manifest.compressed_layers
        macs = {layer.name: layer.macs for layer in layers}
        pruned = PrunedNetwork(self.network, layers, masks)
        config = self.config
        percents, structure = self._percents(Level.of(level).percent), self._structure(Level.of(level))
        schedule = ModulePruning(pruned, percents, config.criterion, macs, structure)
        further: list[pl.Callback] = [LearningRateFactor(self.task.config.learning_rate_factor)]
        if config.robust:
            further.append(RandomBits(self.network, layers))
        return self.task.module, schedule, further

    def _loader_callbacks(self, stage: str) -> list[pl.Callback]:
        return [LoaderSeeds(self.config.seed, stage)]

    def _training_of(self, module: pl.LightningModule, stage: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if stage == stage_of(DENSE) else without_callbacks(module)

    def _reestimate_norms(self, trainer: pl.Trainer, module: pl.LightningModule, seed: int) -> None:
        device = trainer.strategy.root_device
        network = one_tensor_network(self.network.to(device), self.library.manifest.form)
        update_bn((batch.to(device) for batch in self._inputs), network, device=device)

    def _measure(self, trainer: pl.Trainer, module: pl.LightningModule, level: LevelName) -> dict[str, float]:
        manifest = self.library.manifest
        if manifest.task is None:
            raise UserError(f"expected a library of a task of yours in {self.library.path}, found one of images")
        device = trainer.strategy.root_device
        value = TaskValidation(self.task, "validation", device).run()
        dense = value if level == DENSE else manifest.levels[0].metric
        metric = metric_of(manifest.task, dense)
        value = finite_or_worst(value, metric.worst)
        return {"validation_accuracy": metric.quality(value), "metric": value}


def untrained_value(task: UsersTask) -> float:
    """Return the metric of the network as it is, before its training, over all validation data."""
    return TaskValidation(task, "validation", torch.device("cpu")).run()
