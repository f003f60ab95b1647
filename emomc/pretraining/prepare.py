"""Stage I: train a network, then prune and fine-tune it level by level into a library."""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import nn
from torch.utils.tensorboard.writer import SummaryWriter

from emomc.common.files import folder_lock, remove_leftovers
from emomc.common.run_folder import RunFolder
from emomc.data.config import DataConfig
from emomc.data.splits import describe_data
from emomc.library.figure import library_figure
from emomc.library.library import Library
from emomc.library.manifest import MANIFEST
from emomc.library.sources import build_data
from emomc.networks.build import build_network
from emomc.networks.tracing import NetworkWarning, trace_network
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.library_settings import manifest_of, open_or_create
from emomc.pretraining.stages import StageTraining
from emomc.pretraining.trial import try_out
from emomc.runtime.determinism import deterministic_algorithms
from emomc.runtime.devices import Devices
from emomc.runtime.interrupts import interrupts_of_trainers
from emomc.runtime.notices import quiet_lightning
from emomc.runtime.seeds import derive_seed
from emomc.runtime.trainers import training_trainer


def prepare_library(
    config: PretrainingConfig,
    data_config: DataConfig,
    folder: Path | str,
    *,
    devices: Devices | None = None,
    network: nn.Module | None = None,
    callbacks: Callable[[str], Sequence[pl.Callback]] = lambda stage: (),
    overwrite: bool = False,
) -> Library:
    """Make the library ``folder/library``, or its missing levels.

    A level in the library is never trained again; an unfinished level resumes from its last epoch.

    Args:
        config: how to train and prune.
        data_config: the data; its seed decides the split.
        folder: run folder; Lightning's checkpoints and TensorBoard logs are written beside the library.
        devices: where to train; None: Lightning chooses.
        network: used instead of the network that ``config.network`` names; the library still records that name.
        callbacks: returns further callbacks for the Trainer of a stage, such as "dense" or "level 075".
        overwrite: first delete the library, checkpoints and logs in the folder.

    Returns:
        The library, with the dense network and all of ``config.levels``.

    Raises:
        UserError: a setting, the data or the network is not valid, or the library there has other settings.
    """
    run = RunFolder(Path(folder))
    devices = devices or Devices()
    # Before anything is written: Lightning raises here if it does not accept a setting.
    training_trainer(devices, enable_progress_bar=False, max_epochs=1, logger=False)
    data = build_data(data_config)
    facts = describe_data(data)
    if network is None:
        torch.manual_seed(derive_seed(config.seed, "start"))
        network = build_network(
            config.network,
            in_channels=facts.input_shape[0],
            num_classes=facts.num_classes,
            network_args=config.network_args,
        )
    trace = trace_network(network, facts.input_shape)
    manifest = manifest_of(config, data_config, facts, trace)
    if not (run.library / MANIFEST).exists():
        try_out(network, data)
    for note in trace.notes():
        warnings.warn(note, NetworkWarning, stacklevel=2)
    # Only the first process locks and cleans the folder; Lightning starts the others.
    first = getattr(rank_zero_only, "rank", 0) == 0
    with quiet_lightning(), folder_lock(run.path) if first else contextlib.nullcontext(), interrupts_of_trainers():
        if first:
            remove_leftovers(run.path)
        if overwrite and first:
            for part in (run.library, run.checkpoints, run.logs):
                shutil.rmtree(part, ignore_errors=True)
        library = open_or_create(run, manifest)
        stages = StageTraining(config, data, network, library, run, devices, callbacks)
        with deterministic_algorithms(devices.deterministic):
            stages.make_dense()
            for percent in config.levels:
                stages.make_level(percent)
        if first:
            _log_library(library, run)
    return library


def _log_library(library: Library, run: RunFolder) -> None:
    """Log the levels to TensorBoard: accuracy by level, and a figure of accuracy over density."""
    with SummaryWriter(str(run.logs / "library")) as writer:
        for record in library.manifest.levels:
            writer.add_scalar("library/validation_accuracy", record.validation_accuracy, record.percent)
        writer.add_figure("library/accuracy_over_density", library_figure(library))
