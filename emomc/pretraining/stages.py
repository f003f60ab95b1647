"""The training stages of a library: the dense network, then one level after another."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from emomc.callbacks.trainer.epoch_seed import EpochSeed
from emomc.callbacks.trainer.paced_checkpoint import PacedCheckpoint
from emomc.callbacks.trainer.pareto_checkpoint import ParetoCheckpoint
from emomc.callbacks.trainer.pruning_schedule import PruningSchedule
from emomc.common.files import read_json, write_json
from emomc.common.run_folder import RunFolder, stage_slug
from emomc.compression.channel_options import TAYLOR
from emomc.compression.channels import ChannelPruning
from emomc.compression.criteria import SENSITIVITY
from emomc.compression.levels import CHANNEL, Level, LevelName
from emomc.compression.patterns import Structure
from emomc.data.splits import load_some
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.lightning_modules.classifier import Classifier
from emomc.networks.channels import find_channels
from emomc.networks.graph import trace_network
from emomc.networks.state import load_unique, unique_state
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.measured_images import images_to_measure
from emomc.pretraining.modules import dense_module, level_module
from emomc.pretraining.norms import reestimate_norms
from emomc.runtime.checkpoint_io import check_checkpoint
from emomc.runtime.devices import Devices
from emomc.runtime.gpu import GraphedNetwork
from emomc.runtime.memory import memory_for
from emomc.runtime.seeds import derive_seed
from emomc.runtime.trainers import training_trainer


def stage_of(level: LevelName) -> str:
    """Return the name of the stage that makes a level: ``dense`` or, say, ``level 075``."""
    return "dense" if level == DENSE else f"level {Level.of(level).slug}"


class StageTraining:
    """Trains the missing levels of a library, one stage at a time."""

    def __init__(
        self,
        config: PretrainingConfig,
        data: pl.LightningDataModule,
        network: nn.Module,
        library: Library,
        run: RunFolder,
        devices: Devices,
        callbacks: Callable[[str], Sequence[pl.Callback]],
    ) -> None:
        """Set the network, the data, the library and the settings.

        Args:
            config: the settings.
            data: training and validation images.
            network: trained in place by every stage.
            library: receives the trained levels.
            run: folder of checkpoints and logs.
            devices: where to train.
            callbacks: returns further callbacks for the Trainer of a stage.
        """
        self.config = config
        self.data = data
        self.network = network
        self.library = library
        self.run = run
        self.devices = devices
        self.callbacks = callbacks
        self.front = front_of_checkpoints(run) if config.keep_front else None

    def make_dense(self) -> None:
        """Train the dense network and add it to the library."""
        if DENSE in self.library.levels:
            self._drop_checkpoint(DENSE)
            return
        epochs = self.config.pre_train_epochs
        module = self._dense_module()
        trainer = self._trainer(stage_of(DENSE), epochs, [])
        self._fit(trainer, module, stage_of(DENSE))
        masks = {
            layer.name: torch.ones_like(self.network.get_parameter(layer.weight_key), dtype=torch.bool)
            for layer in self.library.manifest.compressed_layers
        }
        self._keep(DENSE, trainer, module, masks, epochs)

    def make_level(self, level: LevelName) -> None:
        """Prune and fine-tune one level, and add it to the library."""
        if level in self.library.levels:
            self._drop_checkpoint(level)
            return
        config = self.config
        epochs = config.pre_prune_epochs
        start = self._level_above(level) if config.pre_prune_schedule == "chain" else DENSE
        state = self.library.load_state(start)
        load_unique(self.network, state)
        module, schedule, further = self._level_module(level, self.library.load_masks(start, state))
        stage = stage_of(level)
        trainer = self._trainer(stage, epochs, [schedule, *further, *([self.front] if self.front else [])])
        if not epochs:
            schedule.prune(trainer, module, schedule.percents[-1])
        self._fit(trainer, module, stage)
        self._reestimate_norms(trainer, module, derive_seed(config.seed, stage, "norms"))
        # Each process averaged over its own part of the images: all take the statistics of the first.
        self.network.load_state_dict(trainer.strategy.broadcast(self.network.state_dict()))
        self._keep(level, trainer, module, schedule.masks_of(module), epochs)

    def _dense_module(self) -> pl.LightningModule:
        """Return the module that trains the dense network."""
        return dense_module(self.config, self.network, self.library.manifest.num_classes)

    def _level_module(
        self, level: LevelName, masks: Mapping[str, Tensor]
    ) -> tuple[pl.LightningModule, PruningSchedule, list[pl.Callback]]:
        """Return the module that fine-tunes a level, the callback that prunes it, and further callbacks.

        Args:
            level: its name.
            masks: of the level that it starts from.
        """
        manifest = self.library.manifest
        dense = self.library.load_state(DENSE) if self.config.robust else {}
        classes, layers = manifest.num_classes, manifest.compressed_layers
        module = level_module(self.config, self.network, classes, layers, masks, dense)
        return module, self._pruning(Level.of(level)), []

    def _reestimate_norms(self, trainer: pl.Trainer, module: pl.LightningModule, seed: int) -> None:
        """Average the statistics of every BatchNorm again, after the last pruning."""
        reestimate_norms(trainer, module, self.data, seed)

    def _measure(self, trainer: pl.Trainer, module: pl.LightningModule, level: LevelName) -> dict[str, float]:
        """Return the results of a trained network under their names in ``Library.add_level``."""
        results = trainer.validate(module, datamodule=self.data, verbose=False)[0]
        return {"validation_accuracy": results["val/accuracy"]}

    def _level_above(self, level: LevelName) -> LevelName:
        """Return the level of the library that a level starts from: the next one of its chain, or the dense network."""
        made = Level.of(level)
        chain = [one for one in map(Level.of, self.library.levels) if one.chain == made.chain]
        above = [one for one in chain if one.percent > made.percent]
        return min(above, key=lambda one: one.order).name if above else DENSE

    def _pruning(self, level: Level) -> PruningSchedule:
        """Return the callback that prunes to a level."""
        criterion, cost = self.config.criterion, self.config.pruning_cost
        macs = {layer.name: layer.macs for layer in self.library.manifest.compressed_layers}
        batches = None
        if criterion == SENSITIVITY:
            images, _ = load_some(self.data, "train", images_to_measure(len(macs)))
            batches = images.split(self.library.manifest.data["batch_size"])
        percents, structure = self._percents(level.percent), self._structure(level)
        return PruningSchedule(percents, criterion, macs, batches, cost, structure)

    def _structure(self, level: Level) -> Structure:
        """Return the pattern of a level, and what must be known of the network to prune by it."""
        return Structure(level.pattern, self.library.manifest.compressed_layers, self._channels(level))

    def _channels(self, level: Level) -> ChannelPruning | None:
        """Return what is known of the network's channels, for a level of them."""
        if level.pattern != CHANNEL:
            return None
        config, manifest = self.config, self.library.manifest
        batches: list[tuple[Tensor, Tensor]] = []
        if config.channel_importance == TAYLOR:
            images, labels = load_some(self.data, "train", images_to_measure(len(manifest.compressed_layers)))
            size = manifest.data["batch_size"]
            batches = list(zip(images.split(size), labels.split(size), strict=True))
        graph = trace_network(self.network, manifest.input_shape, manifest.form)
        groups = find_channels(graph, manifest.input_shape, manifest.excluded_layers)
        return ChannelPruning(groups, config.channel_importance, config.channel_multiple, batches)

    def _percents(self, percent: int) -> list[Fraction]:
        """Return the weights remaining in each epoch of a level, percent."""
        epochs = max(1, self.config.pre_prune_epochs)
        if self.config.pre_prune_schedule == "chain":
            return [Fraction(percent)] * epochs
        steps = [Fraction(100 * (percent / 100) ** (step / epochs)) for step in range(1, epochs)]
        return [*steps, Fraction(percent)]

    def _trainer(self, stage: str, epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
        checkpoint = PacedCheckpoint(self.run.checkpoint(stage))
        logger = TensorBoardLogger(self.run.path, name=self.run.logs.name, version=stage_slug(stage))
        standard = [EpochSeed(self.config.seed, stage), checkpoint, LearningRateMonitor("step")]
        further = list(self.callbacks(stage))
        return training_trainer(
            self.devices,
            enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in further),
            max_epochs=epochs,
            logger=logger,
            callbacks=[*self._loader_callbacks(stage), *callbacks, *standard, *further],
        )

    def _loader_callbacks(self, stage: str) -> list[pl.Callback]:
        """Return the callbacks that the data need in a stage: none for images, whose order follows from the epoch."""
        return []

    def _training_of(self, module: pl.LightningModule, stage: str) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the Trainer of a stage runs a module."""
        return contextlib.nullcontext()

    def _fit(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        if trainer.max_epochs:
            checkpoint = self.run.checkpoint(stage)
            begun = checkpoint if checkpoint.exists() else None
            if begun is not None:
                check_checkpoint(begun, "deleting it loses the epochs of this level alone")
            if self.devices.cuda_graphs and isinstance(module, Classifier):
                module.run_in_training = GraphedNetwork(self.network)
            with self._memory(), self._training_of(module, stage):
                trainer.fit(module, datamodule=self.data, ckpt_path=begun, weights_only=True)
            if isinstance(module, Classifier):
                module.run_in_training = None
            if trainer.interrupted:
                raise KeyboardInterrupt

    def _keep(
        self,
        level: LevelName,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        masks: Mapping[str, Tensor],
        epochs: int,
    ) -> None:
        """Validate the trained network, add it to the library and delete its checkpoint."""
        with self._memory():
            measured = self._measure(trainer, module, level)
        if trainer.is_global_zero:
            # Before the level is added: a level in the library is not made again.
            if self.front is not None:
                write_json(self.run.state_of_front_of_checkpoints, self.front.state_dict())
            state = unique_state(self.network)
            self.library.add_level(level, state, masks, epochs=epochs, **measured)
            self._drop_checkpoint(level)
        trainer.strategy.barrier()
        self.library.reread()

    def _drop_checkpoint(self, level: LevelName) -> None:
        """Delete the checkpoint of a level that is in the library."""
        shutil.rmtree(self.run.checkpoint(stage_of(level)).parent, ignore_errors=True)

    def _memory(self) -> contextlib.AbstractContextManager[None]:
        size = self.library.manifest.data["batch_size"]
        return memory_for(f"training with batches of {size} images", "lower --batch_size")


def front_of_checkpoints(run: RunFolder) -> ParetoCheckpoint:
    """Return the callback that keeps checkpoints on the front, with those kept at earlier levels.

    Raises:
        UserError: the list of those kept cannot be read.
    """
    front = ParetoCheckpoint(
        {"val/accuracy": "max", "density": "min"},
        dirpath=run.front_of_checkpoints,
        filename="{density:.3f}-{val/accuracy:.4f}",
        own_folder=True,
    )
    state = run.state_of_front_of_checkpoints
    if state.exists():
        front.load_state_dict(read_json(state, "the front of checkpoints"))
    return front
