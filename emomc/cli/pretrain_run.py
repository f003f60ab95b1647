"""The work of ``emomc-pretrain``."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from emomc.callbacks.trainer.epoch_lines import EpochLines
from emomc.callbacks.trainer.stage_progress_bar import StageProgressBar
from emomc.cli.command import stdout_is_terminal
from emomc.common.metric import Metric
from emomc.common.run_folder import RunFolder
from emomc.common.user_code import names_user_code
from emomc.data.config import DataConfig
from emomc.library.data_sources import build_data, names_users_data
from emomc.library.library import Library
from emomc.library.manifest import DENSE, LevelRecord
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare import prepare_library
from emomc.pretraining.prepare_task import prepare_task_library
from emomc.pretraining.stages import stage_of
from emomc.runtime.devices import Devices
from emomc.runtime.notices import quiet_lightning
from emomc.runtime.process_group import process_group_left
from emomc.runtime.seeds import derive_seed
from emomc.tasks.build import build_module
from emomc.tasks.config import TaskConfig
from emomc.tasks.users_task import UsersTask


def pretrain(
    config: PretrainingConfig, data: DataConfig, folder: Path, devices: Devices, task: TaskConfig, *, overwrite: bool
) -> None:
    """Make the library of a run, show the progress and print the levels.

    Args:
        config: how to train and prune.
        data: the data to train on.
        folder: of the run.
        devices: the devices to train on.
        task: a user's own task; without a module, the network classifies images.
        overwrite: replace an earlier library.
    """
    with quiet_lightning(), process_group_left():
        _print(f"Library: {folder / 'library'}")
        options: dict[str, Any] = {
            "devices": devices,
            "callbacks": _progress(config, task.monitor or "val/accuracy"),
            "overwrite": overwrite,
        }
        if task.module is None:
            library = prepare_library(config, data, folder, **options)
        else:
            library = prepare_task_library(config, _users_task(task, data, config.seed), data, folder, **options)
        metric = library.manifest.metric()
        for record in library.manifest.levels:
            _print(f"  level {record.level.label:>5}: validation {metric.name} {_value(metric, record):>8}")
        if RunFolder(folder).sensitivity_page.exists():
            _print(f"How sensitive each layer is: {RunFolder(folder).sensitivity_page}")
        _print(f"Next: {_next_command(library, config, data, task)}")


def _next_command(library: Library, config: PretrainingConfig, data: DataConfig, task: TaskConfig) -> str:
    """Return the command that searches a library, with all that names a user's code, for a shell."""
    words = ["emomc-search", "--library", str(library.path)]
    if task.module is not None:
        words += ["--module", task.module]
    elif names_user_code(config.network):
        words += ["--network", config.network]
    if names_users_data(data.dataset):
        words += ["--dataset", data.dataset]
    return shlex.join(words)


def _value(metric: Metric, record: LevelRecord) -> str:
    return metric.text(record.validation_accuracy)


def _users_task(task: TaskConfig, data: DataConfig, seed: int) -> UsersTask:
    torch.manual_seed(derive_seed(seed, "start"))
    return UsersTask(build_module(str(task.module), task.module_args), build_data(data), task)


@rank_zero_only
def _print(line: str) -> None:
    """Print a line, on the first process alone."""
    print(line)


def _progress(config: PretrainingConfig, monitor: str) -> Callable[[str], list[pl.Callback]]:
    """Return a function from the name of a stage to its progress display, which knows how many epochs follow."""
    stages = [stage_of(DENSE), *map(stage_of, config.levels)]

    def make(stage: str) -> list[pl.Callback]:
        number = stages.index(stage)
        epochs_after = (len(stages) - 1 - number) * config.pre_prune_epochs
        name = f"{stage} ({number + 1} of {len(stages)})"
        if stdout_is_terminal():
            return [StageProgressBar(name, epochs_after)]
        return [EpochLines(name, epochs_after, monitor)]

    return make
