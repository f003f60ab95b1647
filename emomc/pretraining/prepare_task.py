"""Stage I of a user's own task: train its module, then prune and fine-tune its network level by level."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytorch_lightning as pl

from emomc.common.errors import UserError, UserFact
from emomc.common.run_folder import RunFolder
from emomc.compression.channel_options import TAYLOR
from emomc.compression.criteria import SENSITIVITY
from emomc.data.config import DataConfig
from emomc.library.library import Library
from emomc.library.manifest import Manifest, TaskRecord
from emomc.networks.equivalence import checked_graph
from emomc.networks.graph import NetworkGraph, NetworkWarning, trace_network
from emomc.networks.preparation import make_plain
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.library_settings import task_manifest
from emomc.pretraining.prepare import has_levels, load_given_weights, log_library, opened_library
from emomc.pretraining.task_stages import TaskStages, untrained_value
from emomc.runtime.determinism import deterministic_algorithms
from emomc.runtime.devices import Devices
from emomc.runtime.interrupts import interrupts_of_trainers
from emomc.runtime.launch import launched, make_fabric
from emomc.runtime.notices import quiet_lightning
from emomc.runtime.trainers import training_trainer
from emomc.tasks.own_process import has_callbacks
from emomc.tasks.trial import check_exported, training_inputs, try_validation
from emomc.tasks.users_task import UsersTask

_OF_THE_MODULE = (
    "network_args",
    "network_output",
    "learning_rate",
    "optimizer",
    "weight_decay",
    "schedule",
    "label_smoothing",
    "distillation",
    "pre_prune_learning_rate",
    "channels_last",
    "keep_front",
)
"""Settings that a user's module decides, or that are for classifiers alone."""
_CHECKED_INPUTS = 16
_CALLBACKS = (
    "The callbacks that {} configures are used when its dense network is trained; for levels and candidates they are "
    "left out."
)


def prepare_task_library(
    config: PretrainingConfig,
    task: UsersTask,
    data: DataConfig,
    folder: Path | str,
    *,
    devices: Devices | None = None,
    callbacks: Callable[[str], Sequence[pl.Callback]] = lambda stage: (),
    overwrite: bool = False,
) -> Library:
    """Make the library ``folder/library`` of a user's own task, or its missing levels; see ``prepare_library``.

    Args:
        config: how many epochs and levels; ``config.network`` is the name that the library records.
        task: the module, which is trained in place, and its data.
        data: settings of the data, for the record.
        folder: run folder.
        devices: where to train; None: Lightning chooses.
        callbacks: returns further callbacks for the Trainer of a stage.
        overwrite: first delete the library, checkpoints and logs in the folder.

    Raises:
        UserError: a setting has no effect on a module, or the module cannot be validated, trained or exported.
        ProcessLost: another process ended before all had started.
    """
    run, devices = RunFolder(Path(folder)), devices or Devices()
    _check_settings(config, devices)
    fabric = make_fabric(devices.accelerator, devices.devices, devices.num_nodes)
    training_trainer(devices, enable_progress_bar=False, max_epochs=1, logger=False)
    with quiet_lightning():
        example = try_validation(task)
        shape, form = tuple(example.shape[1:]), task.interface
        make_plain(task.network, shape, form)
        inputs = training_inputs(task, config.seed)
        graph = trace_network(task.network, shape, form)
        check_exported(task, checked_graph(graph, task.network, example[:_CHECKED_INPUTS], form))
        manifest = _manifest(config, task, data, graph, run, shape)
        training, unfit = load_given_weights(config, task.network)
    with (
        quiet_lightning(),
        launched(fabric, devices.worker_timeout),
        opened_library(run, manifest, fabric, overwrite=overwrite) as library,
        interrupts_of_trainers(),
    ):
        for note in (*unfit, *graph.notes):
            warnings.warn(note, NetworkWarning, stacklevel=2)
        if has_callbacks(task.module):
            warnings.warn(_CALLBACKS.format(task.name), UserFact, stacklevel=2)
        stages = TaskStages(training, task, inputs, library, run, devices, callbacks)
        with deterministic_algorithms(devices.deterministic):
            stages.make_dense()
            for level in config.levels:
                stages.make_level(level)
        if fabric.is_global_zero:
            log_library(library, run)
    return library


def _check_settings(config: PretrainingConfig, devices: Devices) -> None:
    """Refuse settings that would have no effect.

    Raises:
        UserError: one is set.
    """
    defaults = {field.name: field for field in dataclasses.fields(PretrainingConfig)}
    for name in _OF_THE_MODULE:
        given, default = getattr(config, name), defaults[name].default
        if given not in (default, {}):
            raise UserError(
                f"expected no {name} for a LightningModule of yours, which trains as its own steps and "
                f"configure_optimizers say, found {name} = {given!r}"
            )
    if config.criterion == SENSITIVITY:
        raise UserError(
            "expected a criterion of layerwise, global, lamp or macs for a LightningModule of yours, found "
            "sensitivity, which compares class scores"
        )
    if config.channel_importance == TAYLOR:
        raise UserError(
            f"expected a channel_importance of weights or BatchNorms for a LightningModule of yours, found {TAYLOR}, "
            f"which needs the loss of a classifier"
        )
    if devices.cuda_graphs:
        raise UserError("expected no cuda_graphs for a LightningModule of yours, found cuda_graphs = True")


def _manifest(
    config: PretrainingConfig,
    task: UsersTask,
    data: DataConfig,
    graph: NetworkGraph,
    run: RunFolder,
    shape: tuple[int, ...],
) -> Manifest:
    settings = task.config
    untrained = _untrained(task, run)
    record = TaskRecord(
        attribute=task.attribute,
        monitor=task.monitor,
        mode=settings.mode or "max",
        untrained=untrained,
        metric_range=settings.metric_range,
        mean_of_samples=bool(settings.mean_of_samples),
        test_monitor=settings.test_monitor,
        interface=task.interface,
    )
    return task_manifest(config, task, data, graph, run, record, shape)


def _untrained(task: UsersTask, run: RunFolder) -> float:
    if has_levels(run):
        found = Library.open(run.library).manifest.task
        if found is not None:
            return found.untrained
    value = untrained_value(task)
    if not math.isfinite(value):
        if task.config.metric_range is None:
            raise UserError(
                f"expected a finite {task.monitor} of the untrained network, an end of its range, found {value}: name "
                f"the range with --metric_range"
            )
        value = 0.0
    return value
