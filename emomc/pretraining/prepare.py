"""Stage I: train a network, then prune and fine-tune it level by level into a library."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import fnmatch
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.tensorboard.writer import SummaryWriter

from emomc.callbacks.trainer.epoch_seed import EpochSeed
from emomc.callbacks.trainer.pareto_checkpoint import ParetoCheckpoint
from emomc.callbacks.trainer.pruning_schedule import PruningSchedule
from emomc.common.errors import UserError, first_line
from emomc.common.files import existing_file, folder_lock, read_json, remove_leftovers, sha256_of_file, write_json
from emomc.data.config import DataConfig
from emomc.data.splits import (
    DataFacts,
    ImageDataModule,
    Split,
    build_data,
    data_source_sha256,
    describe_data,
    load_some,
)
from emomc.library.figure import library_figure
from emomc.library.library import DENSE, MANIFEST, Library, Manifest
from emomc.lightning_modules.classifier import Classifier
from emomc.lightning_modules.pre_pruning import PrePruningClassifier
from emomc.networks.layers import LayerShape
from emomc.networks.tracing import NetworkTrace, NetworkWarning, trace_network
from emomc.networks.weights import load_weights
from emomc.networks.zoo import build_network, network_source_sha256
from emomc.pretraining.config import PreparationConfig
from emomc.runtime.determinism import deterministic_algorithms
from emomc.runtime.devices import Devices
from emomc.runtime.interrupts import interrupts_of_trainers
from emomc.runtime.memory import memory_for
from emomc.runtime.seeds import derive_seed

CHECKPOINT = "last.ckpt"
FRONT_STATE = "checkpoints/front.json"

# What a network and its data are tried with before anything is written.
_TRIED_SPLITS: tuple[Split, ...] = ("train", "validation")
_TRIED_IMAGES = 64

# Fields of a DataConfig that do not change which images there are.
_WHERE_DATA_LIES = ("data_dir", "cache", "num_workers")


def prepare_library(
    config: PreparationConfig,
    data_config: DataConfig,
    folder: Path | str,
    *,
    devices: Devices | None = None,
    network: nn.Module | None = None,
    callbacks: Callable[[str], Sequence[pl.Callback]] = lambda stage: (),
    overwrite: bool = False,
) -> Library:
    """Make the library ``folder/library``, or what is missing of it.

    A level that stands in the library is never trained again; a level that was begun goes on from its last epoch.

    Args:
        config: how to train and prune.
        data_config: the data; its seed decides the split.
        folder: of the run; Lightning's checkpoints and TensorBoard logs lie beside the library.
        devices: where to train; what Lightning chooses, if None.
        network: the network, instead of the one that ``config.network`` names; it is then found again by that name.
        callbacks: makes further callbacks for the Trainer of a stage, "dense" or "level 075".
        overwrite: begin anew where another library was.

    Returns:
        The library, with the dense network and all of ``config.levels``.

    Raises:
        UserError: a setting, the data or the network does not fit, or the library there was made otherwise.
    """
    folder = Path(folder)
    devices = devices or Devices()
    # Before anything is written, so that a setting that Lightning refuses leaves nothing behind.
    devices.make_trainer(enable_progress_bar=False, max_epochs=1, logger=False)
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
    manifest = _manifest(config, data_config, facts, trace)
    if not (folder / "library" / MANIFEST).exists():
        _try_out(network, data)
    for note in trace.notes():
        warnings.warn(note, NetworkWarning, stacklevel=2)
    # Of several processes that train together the first keeps the folder; Lightning starts the others.
    first = getattr(rank_zero_only, "rank", 0) == 0
    with folder_lock(folder) if first else contextlib.nullcontext(), interrupts_of_trainers():
        if first:
            remove_leftovers(folder)
        if overwrite and first:
            for part in ("library", "checkpoints", "logs"):
                shutil.rmtree(folder / part, ignore_errors=True)
        library = _open_or_create(folder / "library", manifest)
        stage_one = _StageOne(config, data, facts, trace, network, library, folder, devices, callbacks)
        with deterministic_algorithms(devices.deterministic):
            stage_one.make_dense()
            for percent in config.levels:
                stage_one.make_level(percent)
        if first:
            _log_library(library, folder)
    return library


def _try_out(network: nn.Module, data: pl.LightningDataModule) -> None:
    """Run some images through the network before anything is written.

    Raises:
        UserError: images cannot be loaded, or the network fails on one or gives scores that are no finite numbers.
    """
    if isinstance(data, ImageDataModule):
        data.load_resident()
    name = type(network).__name__
    tried = copy.deepcopy(network).eval()
    for split in _TRIED_SPLITS:
        images, _ = load_some(data, split, _TRIED_IMAGES)
        try:
            with torch.no_grad():
                scores = tried(images[:1])
        except Exception as error:
            raise UserError(
                f"expected a network that takes {split} images of shape {tuple(images.shape[1:])}, found that {name} "
                f"fails on one: {first_line(error)}"
            ) from error
        if not scores.is_floating_point() or not bool(scores.isfinite().all()):
            raise UserError(f"expected finite class scores from {name}, found {scores.dtype} {scores[0].tolist()}")


class _StageOne:
    """One run of stage I."""

    def __init__(
        self,
        config: PreparationConfig,
        data: pl.LightningDataModule,
        facts: DataFacts,
        trace: NetworkTrace,
        network: nn.Module,
        library: Library,
        folder: Path,
        devices: Devices,
        callbacks: Callable[[str], Sequence[pl.Callback]],
    ) -> None:
        self.config = config
        self.data = data
        self.num_classes = facts.num_classes
        self.layers = library.manifest.compressed_layers
        self.network = network
        self.library = library
        self.folder = folder
        self.devices = devices
        self.callbacks = callbacks
        self.front = _front_of_checkpoints(folder) if config.keep_front else None

    def make_dense(self) -> None:
        """Train the network, or take the user's weights, and put it into the library."""
        if DENSE in self.library.percents:
            self._drop_checkpoint(DENSE)
            return
        config = self.config
        epochs = config.pre_train_epochs
        if config.weights is not None:
            load_weights(self.network, Path(config.weights))
            epochs = 0
        module = Classifier(self.network, self.num_classes, config.training_recipe)
        trainer = self._trainer("dense", epochs, [])
        self._fit(trainer, module, "dense")
        masks = {layer.name: torch.ones_like(self._weight(layer.name), dtype=torch.bool) for layer in self.layers}
        self._keep(DENSE, trainer, module, masks, epochs)

    def make_level(self, percent: int) -> None:
        """Prune and fine-tune one level from the one it starts from, and put it into the library."""
        if percent in self.library.percents:
            self._drop_checkpoint(percent)
            return
        config = self.config
        epochs = config.pre_prune_epochs
        above = [level for level in self.library.percents if level > percent]
        start = min(above) if config.pre_prune_schedule == "chain" else DENSE
        state = self.library.load_state(start)
        self.network.load_state_dict(state)
        module = PrePruningClassifier(
            self.network, self.num_classes, config.fine_tuning_recipe, self.library.load_masks(start, state)
        )
        macs = {layer.name: layer.macs for layer in self.layers}
        schedule = PruningSchedule(self._percents(percent), config.criterion, macs)
        stage = f"level {percent:03d}"
        trainer = self._trainer(stage, epochs, [schedule, *([self.front] if self.front else [])])
        if not epochs:
            schedule.prune(module, percent)
        self._fit(trainer, module, stage)
        _reestimate_norms(trainer, module, self.data, derive_seed(config.seed, stage, "norms"))
        # Each of several processes averaged over its own share of the images: the first one's statistics hold.
        module.load_state_dict(trainer.strategy.broadcast(module.state_dict()))
        self._keep(percent, trainer, module, module.masks, epochs)

    def _percents(self, percent: int) -> list[Fraction]:
        """Return the weights remaining in each epoch of a level, percent."""
        epochs = max(1, self.config.pre_prune_epochs)
        if self.config.pre_prune_schedule == "chain":
            return [Fraction(percent)] * epochs
        steps = [Fraction(100 * (percent / 100) ** (step / epochs)) for step in range(1, epochs)]
        return [*steps, Fraction(percent)]

    def _trainer(self, stage: str, epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
        slug = stage.replace(" ", "_")
        checkpoint = ModelCheckpoint(
            self.folder / "checkpoints" / slug,
            filename=CHECKPOINT.removesuffix(".ckpt"),
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        logger = TensorBoardLogger(self.folder, name="logs", version=slug)
        standard = [EpochSeed(self.config.seed, stage), checkpoint, LearningRateMonitor("step")]
        further = list(self.callbacks(stage))
        return self.devices.make_trainer(
            enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in further),
            max_epochs=epochs,
            logger=logger,
            callbacks=[*callbacks, *standard, *further],
        )

    def _fit(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        if trainer.max_epochs:
            checkpoint = self.folder / "checkpoints" / stage.replace(" ", "_") / CHECKPOINT
            begun = checkpoint if checkpoint.exists() else None
            with self._memory():
                trainer.fit(module, datamodule=self.data, ckpt_path=begun, weights_only=True)
            if trainer.interrupted:
                raise KeyboardInterrupt

    def _keep(
        self, percent: int, trainer: pl.Trainer, module: pl.LightningModule, masks: Mapping[str, Tensor], epochs: int
    ) -> None:
        """Validate what was trained, write it into the library, and drop its checkpoint."""
        with self._memory():
            accuracy = trainer.validate(module, datamodule=self.data, verbose=False)[0]["val/accuracy"]
        if trainer.is_global_zero:
            # First what a level that stands in the library is not asked for again.
            if self.front is not None:
                write_json(self.folder / FRONT_STATE, self.front.state_dict())
            state = self.network.state_dict()
            self.library.add_level(percent, state, masks, validation_accuracy=accuracy, epochs=epochs)
            self._drop_checkpoint(percent)
        trainer.strategy.barrier()
        self.library.reread()

    def _drop_checkpoint(self, percent: int) -> None:
        """Remove the checkpoint of a level that stands in the library."""
        stage = "dense" if percent == DENSE else f"level_{percent:03d}"
        shutil.rmtree(self.folder / "checkpoints" / stage, ignore_errors=True)

    def _memory(self) -> contextlib.AbstractContextManager[None]:
        size = self.library.manifest.data["batch_size"]
        return memory_for(f"training with batches of {size} images", "lower --batch_size")

    def _weight(self, layer: str) -> Tensor:
        return self.network.get_parameter(f"{layer}.weight")


def _reestimate_norms(trainer: pl.Trainer, module: pl.LightningModule, data: pl.LightningDataModule, seed: int) -> None:
    """Average the statistics of every BatchNorm anew over the training images, now that the last mask stands.

    The images are augmented, as those were that the weights are used to.
    """
    if not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules()):
        return
    torch.manual_seed(seed)
    device = module.device
    batches = ((images.to(device), labels) for images, labels in data.train_dataloader())
    # Data modules augment while a Trainer trains; no Trainer has met these data where no epoch was asked for.
    data.trainer = trainer
    trainer.training = True
    update_bn((data.on_after_batch_transfer(batch, 0) for batch in batches), module, device=device)
    trainer.training = False


def _front_of_checkpoints(folder: Path) -> ParetoCheckpoint:
    """Return the callback that keeps checkpoints on the front, with what it kept at the levels before."""
    front = ParetoCheckpoint(
        {"val/accuracy": "max", "density": "min"},
        dirpath=folder / "checkpoints" / "front",
        filename="{density:.3f}-{val/accuracy:.4f}",
        own_folder=True,
    )
    if (folder / FRONT_STATE).exists():
        front.load_state_dict(read_json(folder / FRONT_STATE, "the front of checkpoints"))
    return front


def _log_library(library: Library, folder: Path) -> None:
    """Show the levels in TensorBoard: accuracy by level, and as a figure over density."""
    with SummaryWriter(str(folder / "logs" / "library")) as writer:
        for record in library.manifest.levels:
            writer.add_scalar("library/validation_accuracy", record.validation_accuracy, record.percent)
        writer.add_figure("library/accuracy_over_density", library_figure(library))


def _manifest(config: PreparationConfig, data: DataConfig, facts: DataFacts, trace: NetworkTrace) -> Manifest:
    if trace.output_shape != (facts.num_classes,):
        raise UserError(
            f"expected {config.network} to give {facts.num_classes} class scores, found an output of shape "
            f"{trace.output_shape}"
        )
    settings = dataclasses.asdict(config)
    # The levels say for themselves which bounds they were made with, so levels can be added to a library.
    bounds = ("pre_prune_upper_bound", "pre_prune_lower_bound", "pre_prune_step")
    # How many images an evaluation takes at once can be changed later; the manifest has it for itself.
    for name in (*bounds, "network", "network_args", "keep_front", "evaluation_batch_size"):
        del settings[name]
    if config.weights is not None:
        settings["weights"] = sha256_of_file(existing_file(Path(config.weights), "trained weights"))
    return Manifest(
        network=config.network,
        network_args=dict(config.network_args),
        network_source_sha256=network_source_sha256(config.network),
        data=dataclasses.asdict(data),
        input_shape=facts.input_shape,
        class_names=facts.class_names,
        mean=facts.mean,
        std=facts.std,
        layers=trace.layers,
        excluded_layers=_excluded(trace.layers, config.exclude_layers),
        evaluation_batch_size=config.evaluation_batch_size,
        settings=settings,
        data_source_sha256=data_source_sha256(data.dataset),
    )


def _excluded(layers: Sequence[LayerShape], patterns: Sequence[str]) -> tuple[str, ...]:
    names = [layer.name for layer in layers]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise UserError(f"expected exclude_layers to match a layer of {', '.join(names)}, found {pattern!r}")
    excluded = tuple(name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
    if len(excluded) == len(names):
        raise UserError(f"expected a layer left to compress, found all {len(names)} excluded")
    return excluded


def _open_or_create(path: Path, manifest: Manifest) -> Library:
    """Open the library if it was made with the same settings; make it if there is none, or nothing in it."""
    if not (path / MANIFEST).exists():
        return Library.create(path, manifest)
    library = Library.open(path)
    if not library.percents and not any((path.parent / "checkpoints").glob(f"*/{CHECKPOINT}")):
        return Library.create(path, manifest)
    for field in dataclasses.fields(Manifest):
        found, asked = getattr(library.manifest, field.name), getattr(manifest, field.name)
        if field.name == "data":
            # A library that was made before a setting came up has its default.
            found, asked = ({**dataclasses.asdict(DataConfig()), **part} for part in (found, asked))
            found, asked = ({key: part[key] for key in part if key not in _WHERE_DATA_LIES} for part in (found, asked))
        if field.name == "settings":
            found = {key: value for key, value in found.items() if key != "evaluation_batch_size"}
        if field.name not in ("levels", "evaluation_batch_size") and found != asked:
            raise UserError(
                f"expected the library {path} to be made with {_difference(field.name, asked, found)}: "
                f"take another --output, or --overwrite"
            )
    if library.manifest.evaluation_batch_size != manifest.evaluation_batch_size:
        library.change_evaluation_batch_size(manifest.evaluation_batch_size)
    return library


def _difference(name: str, asked: Any, found: Any) -> str:
    if isinstance(asked, dict) and isinstance(found, dict):
        for key in sorted({*asked, *found}):
            if asked.get(key) != found.get(key):
                return _difference(key, asked.get(key), found.get(key))
    return f"{name} = {asked!r}, found {found!r}"
