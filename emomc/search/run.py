"""Entry point of a search: open the library, run all phases and notify the observers."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import CostModel
from emomc.candidates.evaluation import Evaluator
from emomc.candidates.evaluation_log import EvaluationLog
from emomc.candidates.genotype import SearchSpace
from emomc.common.errors import UserError
from emomc.common.files import folder_lock, read_json, remove_leftovers, shared_lock, write_json
from emomc.common.run_folder import RunFolder, SearchFolder
from emomc.common.schema import checked
from emomc.common.versions import versions
from emomc.compression.levels import Level
from emomc.hardware.description import load_target
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.library.network_sources import library_network
from emomc.networks.graph import NetworkGraph
from emomc.networks.preparation import plain_copy
from emomc.runtime.determinism import deterministic_algorithms
from emomc.runtime.interrupts import deferred_interrupt
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig, check_known_costs
from emomc.search.finetuning import FrontFinetuning
from emomc.search.image_task import ImageTask
from emomc.search.loop import SearchLoop
from emomc.search.module_task import ModuleTask
from emomc.search.observer import SearchCallback, notify, observed
from emomc.search.options import RunOptions
from emomc.search.processes import Processes
from emomc.search.searched_task import SearchedTask
from emomc.search.state import Phase, Search


def run_search(
    library: Library | Path | str,
    config: SearchConfig,
    callbacks: Sequence[SearchCallback] = (),
    run: RunOptions | None = None,
) -> Search:
    """Search a library for the Pareto front of accuracy and costs.

    A search that was stopped continues: it runs again from its seed, and takes the evaluations that are in the logs of
    this library's searches. Ctrl-C stops it within a batch and keeps the front so far, whose test accuracies the next
    run of the same search computes.

    Args:
        library: the library or its path.
        config: the settings that decide the front.
        callbacks: the observers.
        run: name, devices and other options; the defaults of ``RunOptions`` if None.

    Returns:
        The finished search, with its ``front`` and all ``candidates``.

    Raises:
        UserError: the library, the network, the data or a setting is wrong.
    """
    run = run or RunOptions()
    library = library if isinstance(library, Library) else Library.open(library)
    files = RunFolder.of_library(library.path).search(run.name)
    fabric = run.fabric or Fabric(accelerator="auto", devices=1)
    with quiet_lightning(), deterministic_algorithms(run.deterministic):
        hardware, space = load_target(config.hardware), search_space(library, config)
        check_known_costs(config, hardware)
        if not run.overwrite:
            _refuse_other_settings(files.settings, config)
        # Find a damaged level file now, not in the middle of the search.
        for level in space.levels:
            library.check_file(level)
        task = _searched_task(library, config, run, fabric)
        graph = task.checked_graph(_network(library, run))
        networks = _networks(library, config, files, task, graph, fabric, space)
        cost_model = CostModel(
            networks,
            hardware,
            dataflow=config.dataflow,
            coding=config.coding,
            accounting=config.accounting,
            count_ram=config.ram_constraint is not None,
            objectives=config.objectives,
        )
        search = Search(library, config, files, space, cost_model)
        search.dataset, search.images_sha256 = task.dataset, task.images_sha256
        search.finetuning = run.finetuning
        search.check_reachable(search.bounds, _constraints(config))
        if run.check is not None:
            run.check(search)
        observers = callbacks if fabric.is_global_zero else ()
        lock = shared_lock(files.run.library_lock, exclusive=False, holder="emomc-pretrain, which replaces the library")
        with lock, _search_folder(search, fabric, overwrite=run.overwrite):
            evaluator = task.evaluator(search, graph, fabric)
            conditions = _conditions(evaluator, config, task)
            # Logs that are older than these do not name them.
            conditions |= {"deterministic": True} if run.deterministic else {}
            conditions |= {"compiled": True} if search.compiled else {}
            log = EvaluationLog(
                files.log,
                library,
                conditions,
                versions(),
                images=evaluator.images,
                # Other searches may go on writing: one process reads their logs, so that all know the same.
                others=files.run.search_logs() if fabric.is_global_zero else (),
                write=fabric.is_global_zero,
            )
            log.learn(fabric.broadcast(log.learned))
            with log, deferred_interrupt() as interrupted, observed(observers, search):
                processes = Processes(fabric, _stopped(interrupted, run.max_minutes, fabric))
                early = run.early_rejection and task.bounds_are_known
                loop = SearchLoop(search, evaluator, log, observers, processes, early_rejection=early)
                search.finished = loop.run()
                if run.finetuning and search.finished:
                    _enter_phase(search, Phase.FINETUNING, observers)
                    tuning = FrontFinetuning(search, evaluator, task.finetune, run.finetuning, conditions, processes)
                    search.finished = tuning.run(loop.complete)
                loop.foresee_next_bits()
                if task.has_test_data:
                    _enter_phase(search, Phase.TESTING, observers)
                    loop.test(task.test_evaluator(search), interrupted)
                search.interrupted = interrupted()
                notify(observers, "on_search_end", search)
            fabric.barrier()
    return search


def _searched_task(library: Library, config: SearchConfig, run: RunOptions, fabric: Fabric) -> SearchedTask:
    if library.manifest.task is not None:
        return ModuleTask(library, run.task, fabric.device, config.precision)
    data = run.data or library_data(library)
    return ImageTask(library, data, named=run.dataset, trains=run.finetuning is not None)


def _network(library: Library, run: RunOptions) -> nn.Module:
    if run.task is not None:
        return run.task.network
    if run.network is None:
        return library_network(library)
    return plain_copy(run.network, library.manifest.input_shape, library.manifest.form)


def _networks(
    library: Library,
    config: SearchConfig,
    files: SearchFolder,
    task: SearchedTask,
    graph: NetworkGraph,
    fabric: Fabric,
    space: SearchSpace,
) -> CompressedNetworks:
    """Return the networks of candidates; layer inputs are measured first where they are needed."""
    quantizer = config.quantization
    return CompressedNetworks(
        library,
        graph,
        quantizer,
        device=fabric.device,
        inputs=task.calibrate(graph, fabric, space.levels, covariances=quantizer.needs_covariances)
        if quantizer.needs_layer_inputs
        else None,
        finetuned_folder=files.finetuned,
    )


def _constraints(config: SearchConfig) -> str:
    return " and ".join(f"a {cost}_constraint of {bound}" for cost, bound in config.constraints.items())


def search_space(library: Library, config: SearchConfig) -> SearchSpace:
    """Return what a search of a library searches.

    Raises:
        UserError: the library has none of the levels of the settings.
    """
    known = [record.level for record in library.manifest.levels]
    dense = Level.of(DENSE)
    for pattern in config.pattern or ():
        if all(level.pattern != pattern for level in known):
            patterns = ", ".join(dict.fromkeys(level.pattern for level in known))
            raise UserError(f"expected a pattern of the library, {patterns}, found {pattern}")
    levels = [
        level
        for level in known
        if config.lowest_level <= level.percent <= config.highest_level
        # The dense network is the beginning of every pattern.
        and (config.pattern is None or level == dense or level.pattern in config.pattern)
    ]
    if not levels:
        raise UserError(
            f"expected levels of {config.lowest_level}..{config.highest_level} % among those of the library, "
            f"found {', '.join(level.label for level in known)}"
        )
    layers = tuple(layer.name for layer in library.manifest.compressed_layers)
    inputs = config.layer_activation_bits
    names = tuple(level.name for level in sorted(levels, key=lambda level: level.order))
    return SearchSpace(names, layers, config.min_bits, config.max_bits, inputs)


def _conditions(evaluator: Evaluator, config: SearchConfig, task: SearchedTask) -> dict[str, Any]:
    """Return what an evaluation depends on besides the level's weights and the bits.

    Args:
        evaluator: of the candidates.
        config: the settings.
        task: what is evaluated.
    """
    inputs = evaluator.networks.inputs
    # Logs that are older than other roundings and scales name neither.
    rounding = {} if config.rounding == "nearest" else {"rounding": config.rounding}
    scales = {"scales": config.scales} if config.scales != "float32" else {}
    quantization = config.quantization
    biases = {"integer_biases": True} if quantization.rounds_inputs and quantization.integer_biases else {}
    activation_bits: dict[str, Any] = {"activation_bits": config.most_activation_bits}
    if config.layer_activation_bits:
        # Layers that are not searched have the most.
        activation_bits = {"activation_bits": "by layer", "other_activation_bits": config.most_activation_bits}
    return {
        **task.conditions(),
        "quantizer": {
            "method": config.quantizer,
            "per_channel": config.per_channel,
            "bias_correction": config.bias_correction,
            **rounding,
            **biases,
            **scales,
        },
        "calibration": inputs.digest if inputs else None,
        **activation_bits,
        "precision": evaluator.precision,
        "memory_format": str(evaluator.networks.memory_format).removeprefix("torch.").removesuffix("_format"),
        "batch_size": evaluator.batch_size,
        "device": evaluator.networks.device.type,
    }


def _stopped(interrupted: Callable[[], bool], max_minutes: float | None, fabric: Fabric) -> Callable[[], bool]:
    """Return whether this process must stop: after Ctrl-C or, on the first process, when the time is up."""
    deadline = time.monotonic() + 60 * max_minutes if max_minutes and fabric.is_global_zero else math.inf
    return lambda: interrupted() or time.monotonic() > deadline


def _enter_phase(search: Search, phase: Phase, observers: Sequence[SearchCallback]) -> None:
    search.phase = phase
    notify(observers, "on_phase_start", search)


@contextmanager
def _search_folder(search: Search, fabric: Fabric, *, overwrite: bool) -> Iterator[None]:
    """Lock the search's folder; refuse it if it holds a search with other settings."""
    if not fabric.is_global_zero:
        fabric.barrier()
        yield
        return
    with folder_lock(search.folder):
        for folder in (search.folder, search.library.path, search.files.run.calibration):
            remove_leftovers(folder)
        if overwrite:
            for file in search.folder.iterdir():
                if file.is_file() and file.name != ".lock":
                    file.unlink()
        _refuse_other_settings(search.files.settings, search.config)
        if not search.files.settings.exists():
            write_json(search.files.settings, dataclasses.asdict(search.config))
        fabric.barrier()
        yield


def _refuse_other_settings(path: Path, config: SearchConfig) -> None:
    """Refuse a folder that holds a search with other settings; a setting that an older search lacks has its default."""
    if not path.exists():
        return
    found, asked = dataclasses.asdict(read_settings(path)), dataclasses.asdict(config)
    for key in sorted(asked):
        if found[key] != asked[key]:
            raise UserError(
                f"expected a search with {key} = {asked[key]!r} in {path.parent}, "
                f"found one with {found[key]!r}: take another --name, or --overwrite"
            )


def read_settings(path: Path) -> SearchConfig:
    """Read the settings of a search; one without a rounding or scales is older, and had the nearest and float32.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    what = f"the settings of a search at {path}"
    found = read_json(path, "the settings of a search")
    if isinstance(found, dict):
        found = {"rounding": "nearest", "scales": "float32", **found}
    return checked(SearchConfig, found, what, known_only=True)
