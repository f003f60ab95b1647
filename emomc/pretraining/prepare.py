"""Stage I: train a network, then prune and fine-tune it level by level into a library."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.tensorboard.writer import SummaryWriter

from emomc.common.errors import UserFact, UserNote
from emomc.common.files import folder_lock, remove_leftovers, shared_lock, write_text
from emomc.common.run_folder import RunFolder
from emomc.compression.levels import UNSTRUCTURED
from emomc.data.config import DataConfig
from emomc.data.splits import DataFacts, Split, describe_data, has_test_images, hold_split
from emomc.library.data_sources import build_data
from emomc.library.figure import library_figure
from emomc.library.library import Library
from emomc.library.manifest import DENSE, MANIFEST, Manifest
from emomc.lightning_modules.image_data import ImageDataModule
from emomc.networks.build import build_network
from emomc.networks.graph import NetworkWarning, trace_network
from emomc.networks.preparation import initialise, make_plain
from emomc.networks.weights import load_weights
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.given_weights import doubt_of_given_weights, given_weights_line
from emomc.pretraining.layer_sensitivity import measure_layers
from emomc.pretraining.library_settings import manifest_of, open_library, open_or_create
from emomc.pretraining.sensitivity_page import sensitivity_page, sensitivity_table
from emomc.pretraining.stages import StageTraining
from emomc.pretraining.trial import trains, try_out
from emomc.runtime.determinism import deterministic_algorithms
from emomc.runtime.devices import Devices
from emomc.runtime.interrupts import interrupts_of_trainers
from emomc.runtime.launch import launched, make_fabric
from emomc.runtime.notices import quiet_lightning
from emomc.runtime.seeds import derive_seed
from emomc.runtime.trainers import training_trainer

# Weights that do not fit are named up to this many.
_SHOWN = 4


def prepare_library(
    config: PretrainingConfig,
    data: DataConfig | ImageDataModule,
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
        data: settings of the data, whose seed decides the split, or a module made with them, which may already have
            decoded its images.
        folder: run folder; Lightning's checkpoints and TensorBoard logs are written beside the library.
        devices: where to train; None: Lightning chooses.
        network: used instead of the network that ``config.network`` names; the library still records that name.
        callbacks: returns further callbacks for the Trainer of a stage, such as "dense" or "level 075".
        overwrite: first delete the library, checkpoints and logs in the folder.

    Returns:
        The library, with the dense network and all of ``config.levels``.

    Raises:
        UserError: a setting, the data or the network is not valid, or the library there has other settings.
        ProcessLost: another process ended before all had started.
    """
    run = RunFolder(Path(folder))
    devices = devices or Devices()
    # Before anything is written: Lightning raises here if it does not accept a setting.
    fabric = make_fabric(devices.accelerator, devices.devices, devices.num_nodes)
    training_trainer(devices, enable_progress_bar=False, max_epochs=1, logger=False)
    data_config = data.config if isinstance(data, ImageDataModule) else data
    data_module = data if isinstance(data, ImageDataModule) else build_data(data)
    facts = describe_data(data_module)
    if network is None:
        torch.manual_seed(derive_seed(config.seed, "start"))
        network = build_network(
            config.network,
            in_channels=facts.input_shape[0],
            num_classes=facts.num_classes,
            network_args=config.network_args,
            input_shape=facts.input_shape,
        )
    initialise(network, facts.input_shape)
    # Before the weights get other names.
    training, unfit = load_given_weights(config, network)
    graph = trace_network(make_plain(network, facts.input_shape), facts.input_shape, config.network_output)
    manifest = manifest_of(config, data_config, facts, graph, run)
    training, format_note = _with_memory_format(training, network, facts)
    if overwrite or not has_levels(run):
        try_out(network, graph, data_module, training)
        splits: tuple[Split, ...] = ("validation", "test") if has_test_images(data_module) else ("validation",)
        digests: dict[str, str] = {split: hold_split(data_module, split).digest() for split in splits}
        if "test" not in digests:
            warnings.warn("there are no test images: searches will have validation accuracies alone", UserNote, 2)
        manifest = dataclasses.replace(manifest, images_sha256=digests)
    with (
        quiet_lightning(),
        launched(fabric, devices.worker_timeout),
        opened_library(run, manifest, fabric, overwrite=overwrite) as library,
        interrupts_of_trainers(),
    ):
        for note in (*unfit, *graph.notes, *format_note):
            warnings.warn(note, NetworkWarning, stacklevel=2)
        stages = StageTraining(training, data_module, network, library, run, devices, callbacks)
        with deterministic_algorithms(devices.deterministic):
            stages.make_dense()
            if config.weights is not None and not unfit and fabric.is_global_zero:
                accuracy = library.record(DENSE).validation_accuracy
                warnings.warn(given_weights_line(accuracy, data_config, facts), UserFact, stacklevel=2)
                doubt = doubt_of_given_weights(network, accuracy, data_module, facts, config.network_output)
                if doubt is not None:
                    warnings.warn(doubt, UserNote, stacklevel=2)
            for level in config.levels:
                stages.make_level(level)
        if fabric.is_global_zero:
            log_library(library, run)
            if not run.sensitivity_page.exists():
                _write_sensitivity(library, network, data_module, run, channels_last=training.channels_last)
    return library


@contextlib.contextmanager
def opened_library(run: RunFolder, manifest: Manifest, fabric: Fabric, *, overwrite: bool) -> Iterator[Library]:
    """Open or make the library of a run on all processes.

    The first process locks and cleans the folder; the others open what it has made.
    """
    if not fabric.is_global_zero:
        fabric.barrier()
        yield open_library(run, manifest)
        return
    with folder_lock(run.path), contextlib.ExitStack() as stack:
        # Keep searches of a library away that is replaced.
        if overwrite:
            stack.enter_context(shared_lock(run.library_lock, exclusive=True, holder="a search of its library"))
        remove_leftovers(run.path)
        if overwrite:
            for part in (run.library, run.checkpoints, run.logs):
                shutil.rmtree(part, ignore_errors=True)
            for file in (run.sensitivity_table, run.sensitivity_page):
                file.unlink(missing_ok=True)
        library = open_or_create(run, manifest)
        fabric.barrier()
        yield library


def has_levels(run: RunFolder) -> bool:
    """Return whether a run has a library with a level."""
    return (run.library / MANIFEST).exists() and bool(Library.open(run.library).levels)


def load_given_weights(config: PretrainingConfig, network: nn.Module) -> tuple[PretrainingConfig, list[str]]:
    """Load the user's weights, if any.

    Returns:
        Settings that train the dense network no further if all weights fit; else a note of those that do not.
    """
    if config.weights is None:
        return config, []
    left = load_weights(network, Path(config.weights), strict=config.weights_strict)
    if not left:
        return dataclasses.replace(config, pre_train_epochs=0), []
    shown = ", ".join(left[:_SHOWN]) + (f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else "")
    return config, [
        f"{config.weights} does not fit in all weights, so the network is trained for {config.pre_train_epochs} "
        f"epochs: {shown}"
    ]


def _with_memory_format(
    config: PretrainingConfig, network: nn.Module, facts: DataFacts
) -> tuple[PretrainingConfig, list[str]]:
    """Return settings with a memory format that the network can be trained in, and a note if it is another."""
    contiguous = dataclasses.replace(config, channels_last=False)
    if not config.channels_last or trains(network, config, facts) or not trains(network, contiguous, facts):
        return config, []
    return contiguous, [
        "the network is trained in contiguous memory format: in channels-last, which is faster, it fails or gives "
        "other scores"
    ]


def log_library(library: Library, run: RunFolder) -> None:
    """Log the levels to TensorBoard: accuracy by level, and a figure of accuracy over density."""
    with SummaryWriter(str(run.logs / "library")) as writer:
        name = library.manifest.metric().name
        for record in library.manifest.levels:
            value = record.validation_accuracy if record.metric is None else record.metric
            tag = "" if record.pattern == UNSTRUCTURED else f"_{record.pattern.replace(':', '_')}"
            writer.add_scalar(f"library/validation_{name}{tag}", value, record.percent)
        writer.add_figure("library/accuracy_over_density", library_figure(library))


def _write_sensitivity(
    library: Library, network: nn.Module, data: pl.LightningDataModule, run: RunFolder, *, channels_last: bool
) -> None:
    """Write the table and the page of how sensitive each layer is; the page last, as the sign that both are there."""
    found = measure_layers(library, network, data, channels_last=channels_last)
    write_text(run.sensitivity_table, sensitivity_table(found))
    title = f"{library.manifest.network} on {library.manifest.data['dataset']}"
    write_text(run.sensitivity_page, sensitivity_page(found, title))
