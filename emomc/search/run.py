"""The search: which networks of a library trade accuracy against cost best."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric import Fabric
from torch import Tensor, nn

from emomc.candidates.calibration import FOLDER as CALIBRATION
from emomc.candidates.calibration import calibrate
from emomc.candidates.compressed_networks import CompressedNetworks, Quantizer
from emomc.candidates.cost_model import CostModel
from emomc.candidates.evaluation_log import LOG, EvaluationLog
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.candidates.finetuned_weights import FOLDER as TUNED
from emomc.candidates.genotype import SearchSpace
from emomc.candidates.image_order import load_image_order
from emomc.common.errors import UserError
from emomc.common.files import folder_lock, read_json, remove_leftovers, write_json
from emomc.common.user_code import names_user_code
from emomc.common.versions import versions
from emomc.compression.widths import FULL_ACTIVATION_BITS
from emomc.data.config import DataConfig
from emomc.data.splits import build_data, load_split, names_users_data
from emomc.hardware.description import load_hardware
from emomc.library.library import Library
from emomc.networks.zoo import build_network
from emomc.runtime.determinism import deterministic_algorithms
from emomc.runtime.digests import tensor_digest
from emomc.runtime.interrupts import deferred_interrupt
from emomc.runtime.journal import open_journal
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig
from emomc.search.finetuning import Finetuning, finetune_front
from emomc.search.loop import SearchLoop
from emomc.search.observer import SearchCallback, tell
from emomc.search.state import Search

SETTINGS = "config.json"


def run_search(
    library: Library | Path | str,
    config: SearchConfig,
    callbacks: Sequence[SearchCallback] = (),
    *,
    name: str = "default",
    network: nn.Module | None = None,
    data: pl.LightningDataModule | None = None,
    fabric: Fabric | None = None,
    early_rejection: bool = True,
    max_minutes: float | None = None,
    finetuning: Finetuning | None = None,
    deterministic: bool = False,
    overwrite: bool = False,
) -> Search:
    """Search a library for the networks that trade accuracy against cost best.

    A search that was stopped goes on where it was: it runs again from its seed, and what the logs of this library's
    searches hold is not measured again. Ctrl-C ends it after the candidate at hand, with the front so far.

    Args:
        library: the library or its path.
        config: what is searched.
        callbacks: who watches.
        name: of the search; it lives in ``search/NAME`` beside the library.
        network: the library's network, where it is not one of the project's own.
        data: the data the library was made on, where its manifest does not lead to it.
        fabric: the devices that share the candidates; one, chosen by Lightning, if None. The front does not depend on
            how many there are. Who launched several processes ends them with
            ``torch.distributed.destroy_process_group()``, as ``emomc-search`` does.
        early_rejection: stop evaluating candidates that can no longer matter; the front is the same without.
        max_minutes: stop after so much time, as Ctrl-C does; the first process's clock decides for all.
        finetuning: how to tune the points of the final front, if at all; those that pay join it.
        deterministic: same bits each time on a GPU too; on a CPU they are the same without.
        overwrite: begin anew where another search of that name was.

    Returns:
        The search at its end: its ``front``, and every candidate.

    Raises:
        UserError: the library, the data or a setting does not fit.
    """
    if name in ("", ".", "..") or Path(name).name != name:
        raise UserError(f"expected a name for a folder, found {name!r}")
    if max_minutes is not None and not 0 < max_minutes < math.inf:
        raise UserError(f"expected a max_time above 0 minutes, found {max_minutes}")
    library = library if isinstance(library, Library) else Library.open(library)
    fabric = fabric or Fabric(accelerator="auto", devices=1)
    network = network or build_own_network(library)
    data = data or build_own_data(library)
    folder = library.path.parent / "search" / name
    with quiet_lightning(), deterministic_algorithms(deterministic):
        search = _begin(library, config, folder, network, data, fabric)
        networks = search.cost_model.networks
        observers = callbacks if fabric.is_global_zero else ()
        images, labels = load_split(data, "validation")
        with _search_folder(search, fabric, overwrite=overwrite):
            order = load_image_order(library, network, images, labels, fabric)
            evaluator = _evaluator(networks, images[order], labels[order], config)
            conditions = _conditions(evaluator, config, images[order], labels[order])
            if deterministic:
                conditions["deterministic"] = True
            log = EvaluationLog(
                folder / LOG,
                library,
                conditions,
                versions(),
                others=sorted(folder.parent.glob(f"*/{LOG}")),
                write=fabric.is_global_zero,
            )
            with log, deferred_interrupt() as interrupted:
                deadline = time.monotonic() + 60 * max_minutes if max_minutes and fabric.is_global_zero else math.inf

                def stopped() -> bool:
                    return interrupted() or time.monotonic() > deadline

                journal = open_journal(fabric)
                loop = SearchLoop(
                    search, evaluator, log, observers, fabric, journal, stopped, early_rejection=early_rejection
                )
                tell(observers, "on_search_start", search)
                search.finished = loop.run()
                if finetuning and search.finished:
                    search.finished = finetune_front(search, evaluator, data, finetuning, conditions, fabric, loop.stop)
                loop.test(_evaluator(networks, *load_split(data, "test"), config))
                search.interrupted = interrupted()
                tell(observers, "on_search_end", search)
            fabric.barrier()
    return search


def _begin(
    library: Library,
    config: SearchConfig,
    folder: Path,
    network: nn.Module,
    data: pl.LightningDataModule,
    fabric: Fabric,
) -> Search:
    """Return a search without candidates, whose settings, levels and network were found to fit."""
    hardware = load_hardware(config.hardware)
    space = _space(library, config)
    # A damaged level is found now, not when the search comes to it.
    for percent in space.levels:
        library.check_file(percent)
    narrow = config.activation_bits < FULL_ACTIVATION_BITS
    calibrated = narrow or config.bias_correction
    inputs = calibrate(library, network, data, fabric, space.levels) if calibrated else None
    networks = CompressedNetworks(
        library,
        network,
        Quantizer(config.quantizer, config.per_channel, config.bias_correction),
        device=fabric.device,
        inputs=inputs,
        tuned_folder=folder / TUNED,
        activation_bits=config.activation_bits,
    )
    cost_model = CostModel(
        networks,
        hardware,
        dataflow=config.dataflow,
        coding=config.coding,
        accounting=config.accounting,
        activation_bits=config.activation_bits if narrow else None,
    )
    search = Search(library, config, folder, space, cost_model)
    search.inputs = inputs
    return search


def build_own_network(library: Library) -> nn.Module:
    """Return the network of a library, if it is one of the project's own.

    Raises:
        UserError: it is a user's, whose code runs only when the user names it.
    """
    manifest = library.manifest
    if names_user_code(manifest.network):
        raise UserError(f"expected --network {manifest.network}, whose code made this library, found no --network")
    return build_network(
        manifest.network,
        in_channels=manifest.input_shape[0],
        num_classes=manifest.num_classes,
        network_args=manifest.network_args,
    )


def build_own_data(library: Library) -> pl.LightningDataModule:
    """Return the data of a library, if it is one of the project's own datasets.

    Raises:
        UserError: it is a user's, whose code runs only when the user names it.
    """
    config = DataConfig.from_dict(library.manifest.data)
    if names_users_data(config.dataset):
        raise UserError(f"expected --dataset {config.dataset}, whose code gives the images, found no --dataset")
    return build_data(config)


def _space(library: Library, config: SearchConfig) -> SearchSpace:
    levels = [percent for percent in library.percents if config.lowest_level <= percent <= config.highest_level]
    if not levels:
        raise UserError(
            f"expected levels of {config.lowest_level}..{config.highest_level} % among those of the library, "
            f"found {', '.join(map(str, library.percents))}"
        )
    layers = tuple(layer.name for layer in library.manifest.compressed_layers)
    return SearchSpace(tuple(sorted(levels)), layers, config.min_bits, config.max_bits)


def _evaluator(
    networks: CompressedNetworks, images: Tensor, labels: Tensor, config: SearchConfig
) -> CandidateEvaluator:
    batch_size = networks.library.manifest.evaluation_batch_size
    return CandidateEvaluator(networks, images, labels, batch_size=batch_size, precision=config.precision)


def _conditions(evaluator: CandidateEvaluator, config: SearchConfig, images: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return what an evaluation depends on besides the level's weights and the bits."""
    return {
        "images": tensor_digest(images, labels),
        "quantizer": dataclasses.asdict(evaluator.networks.quantizer),
        "calibration": evaluator.networks.inputs.digest if evaluator.networks.inputs else None,
        "activation_bits": config.activation_bits,
        "precision": evaluator.precision,
        "memory_format": "channels_last",
        "batch_size": evaluator.batch_size,
        "device": evaluator.networks.device.type,
    }


@contextmanager
def _search_folder(search: Search, fabric: Fabric, *, overwrite: bool) -> Iterator[None]:
    """Hold the search's folder; refuse one that holds another search."""
    if not fabric.is_global_zero:
        fabric.barrier()
        yield
        return
    with folder_lock(search.folder):
        library = search.library.path
        for folder in (search.folder, library, library.parent / CALIBRATION):
            remove_leftovers(folder)
        settings = json.loads(json.dumps(dataclasses.asdict(search.config)))
        if overwrite:
            for file in search.folder.iterdir():
                if file.is_file() and file.name != ".lock":
                    file.unlink()
        path = search.folder / SETTINGS
        if path.exists():
            _refuse_other_settings(path, settings)
        else:
            write_json(path, settings)
        fabric.barrier()
        yield


def _refuse_other_settings(path: Path, settings: dict[str, Any]) -> None:
    found = read_json(path, "the settings of a search")
    if not isinstance(found, dict):
        raise UserError(f"expected the settings of a search at {path}, found a {type(found).__name__}")
    for key in sorted({*found, *settings}):
        if found.get(key) != settings.get(key):
            raise UserError(
                f"expected a search with {key} = {settings.get(key)!r} in {path.parent}, "
                f"found one with {found.get(key)!r}: take another --name, or --overwrite"
            )
