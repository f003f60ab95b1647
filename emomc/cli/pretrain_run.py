"""The work of ``emomc-pretrain``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from emomc.callbacks.trainer.epoch_lines import EpochLines
from emomc.callbacks.trainer.stage_progress_bar import StageProgressBar
from emomc.cli.command import stdout_is_terminal
from emomc.common.run_folder import RunFolder
from emomc.data.config import DataConfig
from emomc.library.manifest import DENSE
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare import prepare_library
from emomc.pretraining.stages import stage_of
from emomc.runtime.devices import Devices
from emomc.runtime.notices import quiet_lightning
from emomc.runtime.process_group import process_group_left


def pretrain(config: PretrainingConfig, data: DataConfig, folder: Path, devices: Devices, *, overwrite: bool) -> None:
    """Make the library of a run, show the progress and print the levels.

    Args:
        config: how to train and prune.
        data: the data to train on.
        folder: of the run.
        devices: the devices to train on.
        overwrite: replace an earlier library.
    """
    with quiet_lightning(), process_group_left():
        _print(f"Library: {folder / 'library'}")
        library = prepare_library(
            config, data, folder, devices=devices, callbacks=_progress(config), overwrite=overwrite
        )
        for record in library.manifest.levels:
            _print(f"  level {record.level.label:>5}: validation accuracy {100 * record.validation_accuracy:6.2f} %")
        _print(f"How sensitive each layer is: {RunFolder(folder).sensitivity_page}")
        _print(f"Next: emomc-search --library {library.path}")


@rank_zero_only
def _print(line: str) -> None:
    """Print a line, on the first process alone."""
    print(line)


def _progress(config: PretrainingConfig) -> Callable[[str], list[pl.Callback]]:
    """Return a function from the name of a stage to its progress display, which knows how many epochs follow."""
    stages = [stage_of(DENSE), *map(stage_of, config.levels)]

    def make(stage: str) -> list[pl.Callback]:
        number = stages.index(stage)
        epochs_after = (len(stages) - 1 - number) * config.pre_prune_epochs
        name = f"{stage} ({number + 1} of {len(stages)})"
        return [(StageProgressBar if stdout_is_terminal() else EpochLines)(name, epochs_after)]

    return make
