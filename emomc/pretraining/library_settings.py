"""Build the manifest of a library, and check that a library on disk was made with the same settings."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from emomc.common.errors import UserError
from emomc.common.files import existing_file, sha256_of_file
from emomc.common.run_folder import RunFolder
from emomc.common.user_code import names_user_code, source_sha256
from emomc.compression.levels import CHANNEL
from emomc.data.config import DataConfig
from emomc.data.image_folder import FOLDER_PREFIX
from emomc.data.splits import DataFacts
from emomc.library.data_sources import data_source_sha256
from emomc.library.library import Library
from emomc.library.manifest import MANIFEST, Manifest, TaskRecord
from emomc.library.network_sources import has_comparable_digest
from emomc.networks.build import network_source_sha256
from emomc.networks.graph import NetworkGraph
from emomc.networks.layers import LayerShape
from emomc.pretraining.config import PretrainingConfig
from emomc.tasks.build import A_MODULE
from emomc.tasks.users_task import UsersTask

CHANNEL_SETTINGS = ("channel_importance", "channel_multiple")
"""Settings that levels of channels alone depend on: a library has them once it has such levels."""

# Fields of a DataConfig that do not change the images.
_DATA_ACCESS = ("data_dir", "cache", "num_workers", "class_map")
# The network is compared by its computation; levels and the batch size of evaluations may change.
_NOT_COMPARED = (
    "levels",
    "evaluation_batch_size",
    "network_source_sha256",
    "graph_sha256",
    "torch_version",
    "layers",
    "images_sha256",
    "given_in",
)


def manifest_of(
    config: PretrainingConfig, data: DataConfig, facts: DataFacts, graph: NetworkGraph, run: RunFolder
) -> Manifest:
    """Return the manifest, without levels, of the library of a run with the given settings.

    Raises:
        UserError: the network does not give one score per class, or ``exclude_layers`` matches no layer or all layers.
    """
    if graph.output_shape != (facts.num_classes,):
        raise UserError(
            f"expected {config.network} to give {facts.num_classes} class scores, found an output of shape "
            f"{graph.output_shape} for an image: let its constructor take num_classes, or set --network_args"
        )
    facts_of = {
        "network_args": dict(config.network_args),
        "network_source_sha256": network_source_sha256(config.network),
        "input_shape": facts.input_shape,
        "class_names": facts.class_names,
        "mean": facts.mean,
        "std": facts.std,
    }
    return _manifest_of(config, data, graph, run, facts_of)


def task_manifest(
    config: PretrainingConfig,
    task: UsersTask,
    data: DataConfig,
    graph: NetworkGraph,
    run: RunFolder,
    record: TaskRecord,
    shape: tuple[int, ...],
) -> Manifest:
    """Return the manifest, without levels, of the library of a user's own task.

    Args:
        config: the settings; ``config.network`` names the module.
        task: the task.
        data: settings of the data.
        graph: of the network.
        run: of the library.
        record: what the library says of the task.
        shape: of one input of the network.

    Raises:
        UserError: ``exclude_layers`` matches no layer or all layers.
    """
    named = names_user_code(config.network)
    facts_of = {
        "network_args": dict(task.config.module_args),
        "network_source_sha256": source_sha256(config.network, A_MODULE) if named else None,
        "input_shape": shape,
        "class_names": (),
        "mean": None,
        "std": None,
        "task": record,
    }
    manifest = _manifest_of(config, data, graph, run, facts_of)
    settings = {**manifest.settings, "learning_rate_factor": task.config.learning_rate_factor}
    return dataclasses.replace(manifest, settings=settings)


def _manifest_of(
    config: PretrainingConfig, data: DataConfig, graph: NetworkGraph, run: RunFolder, facts: Mapping[str, Any]
) -> Manifest:
    settings = dataclasses.asdict(config)
    # Without the bounds of the levels, so that levels can be added to a library.
    patterns = ("pattern", *(CHANNEL_SETTINGS if CHANNEL not in config.pattern else ()))
    bounds = ("pre_prune_upper_bound", "pre_prune_lower_bound", "pre_prune_step", "pre_prune_ratio")
    # The batch size of evaluations can be changed later; it is a field of the manifest.
    for name in (
        *patterns,
        *bounds,
        "network",
        "network_args",
        "network_output",
        "keep_front",
        "evaluation_batch_size",
    ):
        del settings[name]
    if config.weights is not None:
        settings["weights"] = sha256_of_file(existing_file(Path(config.weights), "trained weights"))
    return Manifest(
        network=config.network,
        data=dataclasses.asdict(data),
        layers=graph.layers,
        excluded_layers=_excluded(graph.layers, config.exclude_layers),
        evaluation_batch_size=config.evaluation_batch_size,
        settings=settings,
        network_output=config.network_output,
        graph_sha256=graph.digest,
        torch_version=torch.__version__,
        data_source_sha256=data_source_sha256(data.dataset),
        given_in=_given_in(data, run),
        **facts,
    )


def _given_in(data: DataConfig, run: RunFolder) -> str | None:
    """Return the working directory relative to a run's library; None if no path of the data starts from it.

    A library without one is the same wherever it is made.
    """
    if data.dataset == "digits":
        return None
    path = data.dataset.removeprefix(FOLDER_PREFIX) if data.dataset.startswith(FOLDER_PREFIX) else data.data_dir
    if Path(path).expanduser().is_absolute():
        return None
    return os.path.relpath(Path.cwd(), run.library.resolve())


def _excluded(layers: Sequence[LayerShape], patterns: Sequence[str]) -> tuple[str, ...]:
    names = [layer.name for layer in layers if layer.stored]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise UserError(f"expected exclude_layers to match a layer of {', '.join(names)}, found {pattern!r}")
    excluded = tuple(name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
    if len(excluded) == len(names):
        raise UserError(f"expected at least one layer to compress, found all {len(names)} excluded")
    return excluded


def _check_same_network(library: Library, manifest: Manifest) -> None:
    """Check that the network is the library's; its source may differ where its computation does not.

    Raises:
        UserError: it is another.
    """
    key = "graph_sha256" if has_comparable_digest(library.manifest) else "network_source_sha256"
    if getattr(manifest, key) != getattr(library.manifest, key) or manifest.layers != library.manifest.layers:
        raise UserError(
            f"expected the network that made the library {library.path}, found {manifest.network} with another "
            f"{'computation' if key == 'graph_sha256' else 'source'}: take another --output, or --overwrite"
        )


def open_or_create(run: RunFolder, manifest: Manifest) -> Library:
    """Open a run's library if it was made with the same settings; create it if there is none or it is empty.

    Raises:
        UserError: it was made with other settings; the message names the first difference.
    """
    path = run.library
    if not (path / MANIFEST).exists():
        return Library.create(path, manifest)
    library = Library.open(path)
    if not library.levels and not run.has_checkpoints():
        return Library.create(path, manifest)
    library = open_library(run, manifest)
    asked = {key: manifest.settings[key] for key in CHANNEL_SETTINGS if key in manifest.settings}
    if any(library.manifest.settings.get(key) != value for key, value in asked.items()):
        library.add_settings(asked)
    if library.manifest.evaluation_batch_size != manifest.evaluation_batch_size:
        library.change_evaluation_batch_size(manifest.evaluation_batch_size)
    return library


def open_library(run: RunFolder, manifest: Manifest) -> Library:
    """Open a run's library if it was made with the same settings; nothing is written.

    Raises:
        UserError: it was made with other settings; the message names the first difference.
    """
    path = run.library
    library = Library.open(path)
    for field in dataclasses.fields(Manifest):
        found, asked = getattr(library.manifest, field.name), getattr(manifest, field.name)
        if field.name == "data":
            # A library made before a setting existed has the default.
            found, asked = (dataclasses.asdict(DataConfig.from_dict(part)) for part in (found, asked))
            found, asked = ({key: part[key] for key in part if key not in _DATA_ACCESS} for part in (found, asked))
        if field.name == "settings":
            found = {key: value for key, value in found.items() if key != "evaluation_batch_size"}
            # Settings that libraries did not always have, as they were made then.
            found, asked = _without_channels(library, found, asked)
            found = {"weights_strict": False, "robust": False, "distillation": 0.5, "pruning_cost": "both", **found}
        if field.name not in _NOT_COMPARED and found != asked:
            raise UserError(
                f"expected the library {path} to be made with {_difference(field.name, asked, found)}: "
                f"take another --output, or --overwrite"
            )
    _check_same_network(library, manifest)
    return library


def _without_channels(library: Library, *settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return settings without those of channels that may differ: not all have them, or no level depends on them."""
    bound = any(record.pattern == CHANNEL for record in library.manifest.levels)
    free = [key for key in CHANNEL_SETTINGS if not bound or any(key not in part for part in settings)]
    return [{key: value for key, value in part.items() if key not in free} for part in settings]


def _difference(name: str, asked: Any, found: Any) -> str:
    if isinstance(asked, dict) and isinstance(found, dict):
        for key in sorted({*asked, *found}):
            if asked.get(key) != found.get(key):
                return _difference(key, asked.get(key), found.get(key))
    return f"{name} = {asked!r}, found {found!r}"
