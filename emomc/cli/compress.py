"""All commands in one call, for a LightningModule and its data at hand."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
from safetensors.torch import save_file

from emomc.callbacks.search.front_lines import FrontLines
from emomc.callbacks.search.front_writer import FrontWriter
from emomc.callbacks.search.tensorboard_front_logger import TensorBoardFrontLogger
from emomc.callbacks.trainer.epoch_lines import EpochLines
from emomc.candidates.objectives import known_costs
from emomc.candidates.packing import pack_candidate
from emomc.cli.export_run import point_network
from emomc.common.errors import UserError
from emomc.common.metric import Mode
from emomc.common.run_folder import RunFolder, SearchFolder
from emomc.data.config import DataConfig
from emomc.export.formats import FORMATS, ExportOptions, FormatName, export_network
from emomc.export.task_verification import verify_task
from emomc.export.verification import EvaluationConditions
from emomc.fronts.front_file import read_front
from emomc.fronts.pick_rules import DEFAULT_PICK, check_pick, parse_pick
from emomc.fronts.picks import PickedPoint, pick_point
from emomc.hardware.description import load_target
from emomc.library.library import Library
from emomc.networks.state import unique_state
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare_task import prepare_task_library
from emomc.runtime.devices import Devices
from emomc.runtime.launch import make_fabric
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig, check_known_costs
from emomc.search.options import RunOptions
from emomc.search.run import run_search
from emomc.tasks.config import TaskConfig
from emomc.tasks.users_task import UsersTask

_SEARCH = "compress"
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class CompressOptions:
    """What ``compress`` leaves as it is by default."""

    folder: str | Path = "runs/compress"
    """Folder of the run. A run that was stopped goes on there."""
    pretraining: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of ``PretrainingConfig``, such as ``pre_train_epochs`` and ``pre_prune_step``."""
    search: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of ``SearchConfig``, such as ``objectives`` and ``number_generations``."""
    task: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further fields of ``TaskConfig``, such as ``metric_range`` and ``network_attribute``."""
    devices: Devices | None = None
    """Where to train and evaluate; None: Lightning chooses. Candidates are evaluated on one device."""
    trained: bool = False
    """The module is trained already: its network is the dense one. Its ``metric_range`` must be given."""
    overwrite: bool = False
    """Replace an earlier run in the folder."""


@dataclasses.dataclass(frozen=True)
class CompressedTask:
    """A front, and what is needed to ship a point of it."""

    front: Mapping[str, Any]
    """The content of front.json: ``points``, ``baseline``, ..."""
    picked: PickedPoint
    """The point that the budget picks."""
    files: SearchFolder
    """The report, the tables and the log of the search."""
    _task: UsersTask
    _library: Library

    @property
    def points(self) -> Sequence[Mapping[str, Any]]:
        """The points of the front, the best by the metric first."""
        points: Sequence[Mapping[str, Any]] = self.front["points"]
        return points

    def export(self, path: Path | str, format: FormatName = "emomc", *, index: int | None = None) -> list[str]:
        """Write a point, and run it by the module's own validation and test before the file takes its name.

        Args:
            path: the file to write.
            format: emomc, onnx, c or torch.
            index: of the point; None: the picked one.

        Returns:
            What was read back, a line for each split.

        Raises:
            UserError: there is no such point, the network cannot be written, or the file gives another metric.
        """
        position = self.picked.position if index is None else pick_point(f"index:{index}", self.front).position
        point, network = self.points[position], self._task.network
        networks, genotype = point_network(self._library, network, self.front, point, self.files)
        packed = pack_candidate(networks, genotype)
        size = self._library.manifest.evaluation_batch_size
        conditions = EvaluationConditions(size, str(self.front["settings"]["precision"]), networks.memory_format)
        lines: list[str] = []

        def verify(written: Path) -> None:
            exported = FORMATS[format].running(written, packed, network)
            exact = FORMATS[format].exact
            lines.extend(verify_task(self._task, exported, self.front, point, conditions, exact=exact))

        options = ExportOptions(self.front["coding"])
        with quiet_lightning():
            export_network(Path(path), packed, format, options=options, network=network, verify=verify)
        return lines


def compress(
    module: pl.LightningModule,
    datamodule: pl.LightningDataModule,
    monitor: str,
    mode: Mode = "max",
    *,
    hardware: str = "emomc_fpga",
    budget: str | None = None,
    options: CompressOptions | None = None,
) -> CompressedTask:
    """Train, prune, quantize and search the network inside a LightningModule; return the front.

    Epochs and generations are printed as they end.

    Args:
        module: its own steps train and validate; its network is trained in place.
        datamodule: its data.
        monitor: name of the validation metric that the module logs, such as ``val/iou``.
        mode: whether a larger (max) or a smaller (min) value is better.
        hardware: name of a shipped accelerator, or a YAML file that describes one.
        budget: what the picked point may cost, such as ``size_kib=20`` or ``energy_mj=10%`` of the uncompressed
            network's; None: the cheapest that loses at most a hundredth of the metric's range.
        options: folder, settings of both stages, devices; None: as they are by default.

    Raises:
        UserError: a setting is wrong, the module does not fit, or no point is within the budget.
    """
    options = options or CompressOptions()
    name = type(module).__name__
    described = {"module": name, "monitor": monitor, "mode": mode, **options.task}
    task = UsersTask(module, datamodule, _settings(TaskConfig, "task", described))
    config = _settings(PretrainingConfig, "pretraining", {"network": name, **options.pretraining})
    search = _settings(SearchConfig, "search", {"hardware": hardware, **options.search})
    run, devices = RunFolder(Path(options.folder)), options.devices or Devices()
    how = RunOptions(name=_SEARCH, task=task, overwrite=options.overwrite)
    pick = DEFAULT_PICK if budget is None else f"budget:{budget}"
    _check_choice(search, pick, how)
    if options.trained:
        config = dataclasses.replace(config, weights=str(_written(task, run)))
    with quiet_lightning():
        library = prepare_task_library(
            config,
            task,
            DataConfig(dataset=type(datamodule).__name__),
            run.path,
            devices=devices,
            callbacks=lambda stage: [EpochLines(stage, monitor=monitor)],
            overwrite=options.overwrite,
        )
        fabric = make_fabric(devices.accelerator, 1, 1)
        observers = [FrontWriter(), TensorBoardFrontLogger(), FrontLines()]
        run_search(library, search, observers, dataclasses.replace(how, fabric=fabric))
    files = run.search(_SEARCH)
    front = read_front(files.front)
    return CompressedTask(front, pick_point(pick, front), files, task, library)


def _settings(kind: type[T], option: str, values: Mapping[str, Any]) -> T:
    """Return settings made of values by name.

    Raises:
        UserError: there is no such setting, or a value is wrong.
    """
    dataclass: Any = kind
    known = [field.name for field in dataclasses.fields(dataclass)]
    unknown = [name for name in values if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"; {near[0]} is one" if near else ""
        raise UserError(f"expected fields of {kind.__name__} in the option {option}, found {unknown[0]!r}{hint}")
    return kind(**values)


def _check_choice(search: SearchConfig, pick: str, how: RunOptions) -> None:
    """Check the hardware and the budget before the work.

    Raises:
        UserError: there is no such hardware, or the points will lack a cost that is asked for.
    """
    target = load_target(search.hardware)
    check_known_costs(search, target)
    check_pick(parse_pick(pick), known_costs(target), how.most_candidates(search))


def _written(task: UsersTask, run: RunFolder) -> Path:
    """Write the weights of a trained network, from which the dense one is made.

    Raises:
        UserError: the range of the metric would follow from a training that there is none of.
    """
    if task.config.metric_range is None:
        raise UserError("expected a metric_range for a module that is trained already, found none")
    path = run.path / "given.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in unique_state(task.network).items()}, path)
    return path
